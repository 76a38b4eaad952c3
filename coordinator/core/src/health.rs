//! What the leader has heard: the last report of every tablet, and since when it has heard nothing.
//!
//! Never in the log, never on disk, forgotten with leadership. It tells facts and ages; whether a primary is dead is concluded
//! in `failover/evidence.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use vt_proto::{
    ids::TabletAlias,
    report::{MysqldState, Replication, Report, ThreadState, WriteCause},
};

use crate::event::Now;

/// A report younger than this means that the tablet answers now. Agents report every 200 ms: five may be lost or late.
pub const ANSWER_AGE_MS: u64 = 1_000;
/// An agent that was not heard for so long is silent (class A). Less is eaten by scheduling stalls and one lost packet.
pub const SILENCE_MS: u64 = 1_000;
// Whoever is silent for long is known to the ticks as one who does not answer.
const _: () = assert!(SILENCE_MS >= ANSWER_AGE_MS);
/// Two ticks further apart than this mean that this coordinator itself stood still: what it did not hear proves nothing.
pub const OWN_STALL_MS: u64 = 300;
/// For how long an older report is taken for one that came late over a former stream, and not for a reinstalled host.
const LATE_REPORT_MS: u64 = 2_000;
/// Steps of replica lag that routers hear about; finer changes are not worth a snapshot.
const LAG_STEPS_MS: [u64; 8] = [100, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// What is known of one tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TabletHealth {
    pub report: Report,
    /// When the last report came.
    pub received_ms: u64,
    /// When this leader heard it first.
    pub first_ms: u64,
    /// Since when its mysqld is neither answering nor known to be gone.
    pub not_answering_since_ms: Option<u64>,
    /// Since when its mysqld is known to be gone.
    pub down_since_ms: Option<u64>,
    /// Since when it receives nothing from any source.
    pub deaf_since_ms: Option<u64>,
    /// Since when its own writes to mysqld hang, and not for want of acknowledgements.
    pub writes_hang_since_ms: Option<u64>,
    /// Since when its own writes to mysqld wait for acknowledgements.
    pub commits_wait_since_ms: Option<u64>,
    /// Since when its mysqld runs and does not hear its source.
    pub source_lost_since_ms: Option<u64>,
    /// Since when its own writes to mysqld's disk do not arrive there.
    pub bad_disk_since_ms: Option<u64>,
    /// Its stream has ended and no new one has brought a report.
    pub stream_ended: bool,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was made before the one that is known.
    Late,
    /// Routers need not hear of it.
    AsBefore,
    /// Routers may have to hear of it.
    Changed,
}

/// What routers can be told of one tablet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// mysqld runs and replicates without error.
    pub replicates: bool,
    /// mysqld is known not to run.
    pub down: bool,
    pub lag_ms: Option<u64>,
}

impl Service {
    fn in_steps(&self) -> (bool, bool, Option<usize>) {
        (self.replicates, self.down, lag_step(self.lag_ms))
    }
}

/// The step that a lag belongs to.
pub fn lag_step(lag_ms: Option<u64>) -> Option<usize> {
    lag_ms.map(|lag| LAG_STEPS_MS.iter().filter(|step| lag >= **step).count())
}

/// Everything that the leader has heard since it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    tablets: BTreeMap<TabletAlias, TabletHealth>,
    /// Silence is counted from here at the earliest: the start of leadership, or the end of an own stall.
    baseline_ms: u64,
    last_tick_ms: u64,
    /// When reports came, in this order; those that are too old for an answer have left. So it holds [`ANSWER_AGE_MS`] of reports.
    recent: VecDeque<(u64, TabletAlias)>,
    /// Who was heard once and does not answer now. It follows with the ticks.
    silent: BTreeSet<TabletAlias>,
}

impl Health {
    /// Forgets everything; silences count from now on, so that everybody has a full period to be heard.
    pub fn restart(&mut self, now: Now) {
        *self = Self {
            baseline_ms: now.monotonic_ms,
            last_tick_ms: now.monotonic_ms,
            ..Self::default()
        };
    }

    /// Notes that time passed, at every event: what waited while this coordinator stood still is handled before the next
    /// tick, and must not be judged by silences of that time. After an own stall, silences are counted anew.
    pub fn wake(&mut self, now: Now) {
        if now.monotonic_ms.saturating_sub(self.last_tick_ms) > OWN_STALL_MS {
            self.baseline_ms = now.monotonic_ms;
            for tablet in self.tablets.values_mut() {
                for since in [
                    &mut tablet.not_answering_since_ms,
                    &mut tablet.down_since_ms,
                    &mut tablet.deaf_since_ms,
                    &mut tablet.writes_hang_since_ms,
                    &mut tablet.commits_wait_since_ms,
                    &mut tablet.source_lost_since_ms,
                    &mut tablet.bad_disk_since_ms,
                ] {
                    *since = since.map(|_| now.monotonic_ms);
                }
            }
            self.last_tick_ms = now.monotonic_ms;
        }
    }

    /// A regular tick. Returns who has fallen silent.
    pub fn tick(&mut self, now: Now) -> Vec<TabletAlias> {
        self.wake(now);
        self.last_tick_ms = now.monotonic_ms;
        let mut fallen = Vec::new();
        let baseline_ms = self.baseline_ms;
        let is_old = |received_ms: u64| {
            now.monotonic_ms
                .saturating_sub(received_ms.max(baseline_ms))
                > ANSWER_AGE_MS
        };
        while let Some((received_ms, alias)) = self.recent.pop_front_if(|(at_ms, _)| is_old(*at_ms))
        {
            let is_newest = self
                .tablets
                .get(&alias)
                .is_some_and(|tablet| tablet.received_ms == received_ms);
            if is_newest && self.silent.insert(alias.clone()) {
                fallen.push(alias);
            }
        }
        fallen
    }

    /// Takes a report, unless it is older than what is known.
    pub fn report(&mut self, now: Now, report: Report) -> Heard {
        let alias = report.tablet.alias.clone();
        let before = self.tablets.get(&alias);
        if let Some(before) = before
            && is_late(before, &report, now)
        {
            return Heard::Late;
        }
        let answering = matches!(
            report.mysqld,
            MysqldState::Running | MysqldState::Exited { .. } | MysqldState::Held { .. }
        );
        let down = matches!(
            report.mysqld,
            MysqldState::Exited { .. } | MysqldState::Held { .. }
        );
        let since = |is: bool, known: fn(&TabletHealth) -> Option<u64>| {
            is.then(|| before.and_then(known).unwrap_or(now.monotonic_ms))
        };
        let tablet = TabletHealth {
            received_ms: now.monotonic_ms,
            first_ms: before.map_or(now.monotonic_ms, |before| before.first_ms),
            not_answering_since_ms: since(!answering, |before| before.not_answering_since_ms),
            down_since_ms: since(down, |before| before.down_since_ms),
            deaf_since_ms: since(!receives(&report), |before| before.deaf_since_ms),
            writes_hang_since_ms: since(writes_hang(&report), |before| before.writes_hang_since_ms),
            commits_wait_since_ms: since(commits_wait(&report), |before| {
                before.commits_wait_since_ms
            }),
            source_lost_since_ms: since(has_lost_source(&report), |before| {
                before.source_lost_since_ms
            }),
            bad_disk_since_ms: since(report.has_bad_disk(), |before| before.bad_disk_since_ms),
            stream_ended: false,
            report,
        };
        let old = before.map(|before| service(&before.report));
        let new = service(&tablet.report);
        let spoke = !self.silent.remove(&alias);
        self.recent.push_back((now.monotonic_ms, alias.clone()));
        self.tablets.insert(alias, tablet);
        match old {
            Some(old) if spoke && old.in_steps() == new.in_steps() => Heard::AsBefore,
            _ => Heard::Changed,
        }
    }

    /// Notes that a stream ended. It proves nothing alone, it only lets another host take the alias over.
    pub fn stream_ended(&mut self, alias: &TabletAlias) {
        if let Some(tablet) = self.tablets.get_mut(alias) {
            tablet.stream_ended = true;
        }
    }

    /// What is known of a tablet, however old.
    pub fn get(&self, alias: &TabletAlias) -> Option<&TabletHealth> {
        self.tablets.get(alias)
    }

    /// All that was heard of, in order of aliases.
    pub fn tablets(&self) -> impl Iterator<Item = (&TabletAlias, &TabletHealth)> {
        self.tablets.iter()
    }

    /// How old the last report is.
    pub fn age_ms(&self, alias: &TabletAlias, now: Now) -> Option<u64> {
        let tablet = self.tablets.get(alias)?;
        Some(now.monotonic_ms.saturating_sub(tablet.received_ms))
    }

    /// How long a tablet has been silent while this coordinator was able to hear it.
    pub fn silent_ms(&self, alias: &TabletAlias, now: Now) -> u64 {
        let heard_ms = self.tablets.get(alias).map_or(0, |t| t.received_ms);
        now.monotonic_ms
            .saturating_sub(heard_ms.max(self.baseline_ms))
    }

    /// The report of a tablet that answers now.
    pub fn answer(&self, alias: &TabletAlias, now: Now) -> Option<&Report> {
        let tablet = self.tablets.get(alias)?;
        (self.age_ms(alias, now)? <= ANSWER_AGE_MS).then_some(&tablet.report)
    }

    /// Whether a tablet was heard, and was not silent for long at the last tick.
    pub fn is_heard(&self, alias: &TabletAlias) -> bool {
        self.tablets.contains_key(alias) && !self.silent.contains(alias)
    }

    /// What routers can be told of a tablet; nothing if it was silent at the last tick. Told by the ticks alone and not by the age of the
    /// report, so that it changes only where [`Health::tick`] or [`Health::report`] says so.
    pub fn service(&self, alias: &TabletAlias) -> Option<Service> {
        let tablet = self.tablets.get(alias)?;
        (!self.silent.contains(alias)).then(|| service(&tablet.report))
    }
}

/// Whether a report was made before the one that is known: what only grows is smaller in it.
fn is_late(before: &TabletHealth, report: &Report, now: Now) -> bool {
    let older =
        report.promised < before.report.promised || report.incarnation < before.report.incarnation;
    older && now.monotonic_ms.saturating_sub(before.received_ms) <= LATE_REPORT_MS
}

/// Whether its mysqld runs and hears a source.
pub fn receives(report: &Report) -> bool {
    let replication = report.replication.as_ref();
    report.mysqld == MysqldState::Running && replication.is_some_and(|r| r.io == ThreadState::On)
}

/// A write that waits for acknowledgements is in the binary log: it tells of the ackers. One that is refused does not hang.
fn writes_hang(report: &Report) -> bool {
    let causes = [WriteCause::Unknown, WriteCause::DiskSpace];
    write_cause(report).is_some_and(|cause| causes.contains(&cause))
}

fn commits_wait(report: &Report) -> bool {
    write_cause(report) == Some(WriteCause::Acknowledgements)
}

fn write_cause(report: &Report) -> Option<WriteCause> {
    let failure = report.write_probe.as_ref()?.failure.as_ref()?;
    Some(failure.cause)
}

fn has_lost_source(report: &Report) -> bool {
    let replication = report.replication.as_ref();
    report.mysqld == MysqldState::Running && !replication.is_some_and(Replication::hears_source)
}

fn service(report: &Report) -> Service {
    let running = report.mysqld == MysqldState::Running;
    let replication = report.replication.as_ref();
    Service {
        // With a bad disk it soon tells the past.
        replicates: running
            && !report.has_bad_disk()
            && replication.is_some_and(|r| {
                r.io == ThreadState::On && r.sql == ThreadState::On && r.error.is_none()
            }),
        down: matches!(
            report.mysqld,
            MysqldState::Starting | MysqldState::Exited { .. } | MysqldState::Held { .. }
        ),
        lag_ms: replication.and_then(|r| r.lag_ms),
    }
}
