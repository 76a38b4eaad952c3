//! Subscribers that follow the records through any member: they change members now and then and when a stream breaks, and go on
//! from where they were. What they were sent must never go back, and nothing that was acknowledged may be missing from it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::time::{Instant, timeout, timeout_at};
use vt_proto::wire::{self, RecordsUpdate};

use super::{
    MEMBERS,
    register::{Register, named},
};
use crate::{
    check::linearizable::{Answer, Call, History},
    sim::random::Random,
};

/// Watchers at once.
pub const WATCHERS: usize = 4;
/// How long one stays with a member, in milliseconds.
const STAY_MS: (u64, u64) = (500, 6_000);
/// A member that does not open a stream within this time is left.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Before another member is asked.
const AGAIN: Duration = Duration::from_millis(50);

/// A value that a record got, or that it was deleted.
type Value = Option<String>;

/// One of them.
pub struct Watcher {
    number: usize,
    random: Random,
    register: Register,
    /// It ends when it has come this far.
    until: Arc<AtomicU64>,
    seen: Seen,
}

/// What one was sent.
#[derive(Debug, Default)]
pub struct Seen {
    /// Everything up to this revision.
    position: u64,
    records: BTreeMap<String, (u64, Value)>,
    changes: BTreeMap<(u64, String), Value>,
    /// After the first revision and up to the second, only the outcome was sent.
    skipped: Vec<(u64, u64)>,
    /// Parts of a full state that is not complete yet.
    parts: BTreeMap<String, (u64, Value)>,
    wrong: Vec<String>,
}

impl Watcher {
    /// It goes on until it has everything up to `until`, which is known at the end only.
    pub fn new(number: usize, random: Random, register: Register, until: Arc<AtomicU64>) -> Self {
        Self {
            number,
            random,
            register,
            until,
            seen: Seen::default(),
        }
    }

    /// What it was sent, and by whom.
    pub async fn run(mut self) -> (usize, Seen) {
        while self.seen.position < self.until.load(Ordering::Relaxed) {
            self.stay().await;
            tokio::time::sleep(AGAIN).await;
        }
        (self.number, self.seen)
    }

    /// With one member, until it is time to go or the stream ends.
    async fn stay(&mut self) {
        let member = self.random.between(0, MEMBERS as u64 - 1) as usize;
        let stay = self.random.between(STAY_MS.0, STAY_MS.1);
        let end = Instant::now() + Duration::from_millis(stay);
        let request = wire::WatchRecordsRequest {
            cluster_id: String::new(),
            after_revision: self.seen.position,
            kinds: vec!["vschema".to_owned()],
        };
        let mut records = self.register.records(member);
        let Ok(Ok(stream)) = timeout(OPEN_TIMEOUT, records.watch(request)).await else {
            return;
        };
        let mut stream = stream.into_inner();
        self.seen.parts.clear();
        while let Ok(Ok(Some(update))) = timeout_at(end, stream.message()).await {
            self.seen.take(update);
            if self.seen.position >= self.until.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl Seen {
    fn take(&mut self, update: RecordsUpdate) {
        if update.revision < self.position {
            let (old, new) = (self.position, update.revision);
            self.wrong
                .push(format!("an update goes back from {old} to {new}"));
        }
        for bytes in &update.changes {
            match wire::Record::decode(bytes.clone()) {
                Ok(record) => self.change(&update, record),
                Err(error) => self.wrong.push(format!("a change cannot be read: {error}")),
            }
        }
        if update.more {
            return;
        }
        if update.full {
            self.skipped.push((self.position, update.revision));
            self.records = std::mem::take(&mut self.parts);
        }
        self.position = update.revision;
    }

    fn change(&mut self, update: &RecordsUpdate, record: wire::Record) {
        let revision = record.revision;
        let Some((name, found)) = named(record) else {
            return;
        };
        let value = found.map(|(_, value)| value);
        if update.full {
            self.parts.insert(name, (revision, value));
            return;
        }
        let before = self.records.get(&name).map_or(0, |(revision, _)| *revision);
        if revision <= before.max(self.position) || revision > update.revision {
            self.wrong.push(format!(
                "after {} and {name} at {before}, an update to {} has {name} at {revision}",
                self.position, update.revision
            ));
        }
        self.records.insert(name.clone(), (revision, value.clone()));
        self.changes.insert((revision, name), value);
    }

    /// What is wrong with it beside the history.
    pub fn judge(&self, history: &History) -> Vec<String> {
        let mut found = self.wrong.clone();
        for operation in history.operations() {
            let (Call::Write { changes }, Some((_, Answer::Written { revision }))) =
                (&operation.call, &operation.answer)
            else {
                continue;
            };
            let was_skipped = |(from, to): &(u64, u64)| from < revision && revision <= to;
            for change in changes {
                let sent = self.changes.get(&(*revision, change.record.clone()));
                let is_right = match sent {
                    Some(value) => *value == change.value,
                    None => self.skipped.iter().any(was_skipped),
                };
                if !is_right && *revision <= self.position {
                    found.push(format!("was sent {sent:?} of {operation}"));
                }
            }
        }
        found
    }

    /// How much it was sent.
    pub fn summary(&self) -> String {
        let (changes, skips) = (self.changes.len(), self.skipped.len());
        format!(
            "{changes} changes and {skips} full states up to {}",
            self.position
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::linearizable::Change;
    use crate::fire::register::wire_record;

    fn update(revision: u64, full: bool, records: &[(&str, u64, Option<&str>)]) -> RecordsUpdate {
        let encode = |(name, revision, value): &(&str, u64, Option<&str>)| {
            wire_record(name, *revision, *value).encode_to_vec().into()
        };
        RecordsUpdate {
            revision,
            full,
            more: false,
            changes: records.iter().map(encode).collect(),
        }
    }

    fn history(writes: &[(&str, u64, Option<&str>)]) -> History {
        let mut history = History::default();
        for (record, revision, value) in writes {
            let change = Change {
                record: (*record).to_owned(),
                expected: 0,
                value: value.map(str::to_owned),
            };
            let call = Call::Write {
                changes: vec![change],
            };
            let id = history.call(1, *revision, call);
            let revision = *revision;
            history.answer(id, revision, Answer::Written { revision });
        }
        history
    }

    #[test]
    fn what_is_missing_wrong_or_backwards_is_found() {
        let writes = [("a", 3, Some("x")), ("b", 4, None), ("a", 6, Some("y"))];
        let history = history(&writes);
        let complete = update(6, false, &writes);
        for (what, updates, wrong) in [
            ("all changes", vec![complete.clone()], 0),
            ("a full state", vec![update(6, true, &writes[2..])], 0),
            (
                "a full state, then changes",
                vec![
                    update(4, true, &writes[..1]),
                    update(6, false, &writes[2..]),
                ],
                0,
            ),
            (
                "a change is missing",
                vec![update(6, false, &writes[..2])],
                1,
            ),
            (
                "a wrong value",
                vec![update(
                    6,
                    false,
                    &[writes[0], writes[1], ("a", 6, Some("z"))],
                )],
                1,
            ),
            (
                "the same again",
                vec![complete.clone(), update(6, false, &writes[2..])],
                1,
            ),
            ("back", vec![complete, update(5, false, &[])], 1),
        ] {
            let mut seen = Seen::default();
            updates.into_iter().for_each(|update| seen.take(update));
            assert_eq!(seen.judge(&history).len(), wrong, "{what}: {seen:?}");
        }
    }
}
