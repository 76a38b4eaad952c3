//! What kinds of statements run, how often, and how long they take: texts without their literals, each with its figures.
//!
//! It never keeps a literal, so that what applications write into their statements does not come out here.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vt_planner::{LexOptions, append_key};

/// Kinds of statements that a thread tells apart; all others count as one, without a text.
const DIGESTS_MAX: usize = 2_000;
/// So much of a text is shown.
const TEXT_LENGTH_MAX: usize = 1_024;
/// Four for each doubling of the microseconds, up to a quarter of an hour.
const BUCKETS: usize = 120;

/// Names a kind of statement in one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestId(u64);

/// All that found no room.
const OTHERS: DigestId = DigestId(0);

/// The figures of all threads.
#[derive(Debug, Default)]
pub struct Digests {
    threads: Mutex<Vec<Arc<ThreadDigests>>>,
}

/// The figures of one thread, which alone writes them.
#[derive(Debug, Default)]
pub struct ThreadDigests {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    hasher: RandomState,
    digests: HashMap<DigestId, Digest>,
    /// The key of the text that is looked up, kept for its memory.
    key: Vec<u8>,
}

/// Whose statement it is, and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub user: String,
    pub database: String,
    pub text: Vec<u8>,
}

/// A kind of statement.
#[derive(Debug, Clone)]
struct Digest {
    name: Name,
    figures: Figures,
}

/// How often it ran, and with what outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub count: u64,
    pub errors: u64,
    pub rows: u64,
    pub affected_rows: u64,
    pub total: Duration,
    pub longest: Duration,
    latencies: [u32; BUCKETS],
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            count: 0,
            errors: 0,
            rows: 0,
            affected_rows: 0,
            total: Duration::ZERO,
            longest: Duration::ZERO,
            latencies: [0; BUCKETS],
        }
    }
}

/// One statement that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub elapsed: Duration,
    pub is_error: bool,
    pub rows: u64,
    pub affected_rows: u64,
}

impl Digests {
    /// A thread's own.
    pub fn join(&self) -> Arc<ThreadDigests> {
        let thread = Arc::new(ThreadDigests::default());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(Arc::clone(&thread));
        thread
    }

    /// What ran over all threads, for one user or for all, the most costly first.
    #[must_use]
    pub fn of_user(&self, user: Option<&str>) -> Vec<(Name, Figures)> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums: BTreeMap<Name, Figures> = BTreeMap::new();
        for thread in threads.iter() {
            let table = thread.lock();
            let is_asked = |it: &&Digest| user.is_none_or(|user| it.name.user == user);
            for digest in table.digests.values().filter(is_asked) {
                let sum = sums.entry(digest.name.clone()).or_default();
                sum.add(&digest.figures);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.total));
        sums
    }
}

impl ThreadDigests {
    /// Finds the kind of a text.
    pub fn find(&self, user: &str, database: &str, sql: &[u8], options: &LexOptions) -> DigestId {
        let mut table = self.lock();
        let table = &mut *table;
        table.key.clear();
        append_key(sql, options, &mut table.key);
        let hash = table.hasher.hash_one((user, database, &table.key, options));
        let id = DigestId(hash.max(1));
        if table.digests.contains_key(&id) {
            return id;
        }
        let text = match table.digests.len() < DIGESTS_MAX {
            true => table.key[..table.key.len().min(TEXT_LENGTH_MAX)].to_vec(),
            false if table.digests.contains_key(&OTHERS) => return OTHERS,
            false => Vec::new(),
        };
        let id = if text.is_empty() { OTHERS } else { id };
        let name = Name {
            user: user.to_owned(),
            database: database.to_owned(),
            text,
        };
        let figures = Figures::default();
        table.digests.insert(id, Digest { name, figures });
        id
    }

    /// Whose statement it is, and what it looks like without its literals.
    #[must_use]
    pub fn name(&self, id: DigestId) -> Option<Name> {
        let table = self.lock();
        table.digests.get(&id).map(|digest| digest.name.clone())
    }

    /// Counts a statement.
    pub fn record(&self, id: DigestId, outcome: Outcome) {
        if let Some(digest) = self.lock().digests.get_mut(&id) {
            digest.figures.record(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    fn record(&mut self, outcome: Outcome) {
        self.count += 1;
        self.errors += u64::from(outcome.is_error);
        self.rows += outcome.rows;
        self.affected_rows = self.affected_rows.saturating_add(outcome.affected_rows);
        self.total += outcome.elapsed;
        self.longest = self.longest.max(outcome.elapsed);
        let bucket = &mut self.latencies[bucket(outcome.elapsed)];
        *bucket = bucket.saturating_add(1);
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.rows += other.rows;
        self.affected_rows = self.affected_rows.saturating_add(other.affected_rows);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
        for (sum, more) in self.latencies.iter_mut().zip(other.latencies) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The time within which so many of a hundred ended, up to a quarter of it too long.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Duration {
        let mut left = (self.count * percent).div_ceil(100);
        for (bucket, count) in self.latencies.iter().enumerate() {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 {
                return end_of(bucket).min(self.longest);
            }
        }
        self.longest
    }
}

fn bucket(elapsed: Duration) -> usize {
    let microseconds = u64::try_from(elapsed.as_micros())
        .unwrap_or(u64::MAX)
        .max(4);
    let doublings = microseconds.ilog2();
    let quarter = (microseconds >> (doublings - 2)) & 3;
    (4 * (doublings as usize - 2) + quarter as usize).min(BUCKETS - 1)
}

fn end_of(bucket: usize) -> Duration {
    Duration::from_micros((5 + bucket as u64 % 4) << (bucket / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(milliseconds: u64) -> Outcome {
        Outcome {
            elapsed: Duration::from_millis(milliseconds),
            is_error: false,
            rows: 1,
            affected_rows: 0,
        }
    }

    #[test]
    fn literals_do_not_matter_and_are_not_kept() {
        let digests = Digests::default();
        let (one, other) = (digests.join(), digests.join());
        let options = LexOptions::default();
        for (thread, sql) in [
            (&one, "SELECT * FROM t WHERE name = 'secret'"),
            (&one, "SELECT * FROM t WHERE name='other'"),
            (
                &other,
                "SELECT * FROM t  WHERE name = 'third' /* comment */",
            ),
        ] {
            let id = thread.find("app", "shop", sql.as_bytes(), &options);
            thread.record(id, outcome(2));
        }
        let id = one.find("app", "shop", b"DELETE FROM t", &options);
        let failed = Outcome {
            is_error: true,
            ..outcome(1)
        };
        one.record(id, failed);
        one.record(
            one.find("app", "other", b"DELETE FROM t", &options),
            outcome(9),
        );
        one.record(
            one.find("root", "shop", b"DELETE FROM t", &options),
            outcome(9),
        );
        let found: Vec<_> = digests
            .of_user(Some("app"))
            .into_iter()
            .map(|(name, it)| {
                let text = String::from_utf8(name.text).unwrap();
                (name.database, text, it.count, it.errors, it.rows)
            })
            .collect();
        let expected = [
            ("other", "DELETE FROM t", 1, 0, 1),
            ("shop", "SELECT*FROM t WHERE name=?", 3, 0, 3),
            ("shop", "DELETE FROM t", 1, 1, 1),
        ];
        let expected = expected.map(|(database, text, count, errors, rows)| {
            (database.to_owned(), text.to_owned(), count, errors, rows)
        });
        assert_eq!(found, expected);
        assert_eq!(digests.of_user(None).len(), 4);
    }

    #[test]
    fn percentiles() {
        let mut figures = Figures::default();
        for milliseconds in 1..=100 {
            figures.record(outcome(milliseconds));
        }
        for (percent, exact) in [(50, 50), (95, 95), (99, 99), (100, 100)] {
            let found = figures.percentile(percent);
            let exact = Duration::from_millis(exact);
            assert!(
                found >= exact && found <= exact * 5 / 4,
                "{percent}: {found:?}"
            );
        }
        for microseconds in [0, 1, 4, 5, 7, 8, 1_000, 123_456, 900_000_000] {
            let elapsed = Duration::from_micros(microseconds);
            let end = end_of(bucket(elapsed));
            assert!(
                elapsed < end || bucket(elapsed) == BUCKETS - 1,
                "{elapsed:?} {end:?}"
            );
        }
    }

    #[test]
    fn what_finds_no_room_counts_as_one() {
        let digests = Digests::default();
        let thread = digests.join();
        for number in 0..DIGESTS_MAX + 10 {
            let sql = format!("SELECT column_{number} FROM t");
            let id = thread.find("app", "shop", sql.as_bytes(), &LexOptions::default());
            thread.record(id, outcome(1));
        }
        let found = digests.of_user(Some("app"));
        assert_eq!(found.len(), DIGESTS_MAX + 1);
        let others = found.iter().find(|(name, _)| name.text.is_empty()).unwrap();
        assert_eq!(others.1.count, 10);
    }
}
