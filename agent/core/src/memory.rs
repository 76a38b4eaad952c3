//! What this life of the agent has seen happen. Lost with the agent, and everything follows again from what is observed.

use vt_proto::{
    desired::Desired,
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    ids::TabletAlias,
    report::ThreadState,
};

use crate::{
    action::{Action, Failure, Work},
    observed::Observed,
    persisted::{Persisted, Record},
};

/// An action that failed is tried again after this, doubled with each failure.
pub const RETRY_MS_MIN: u64 = 100;
/// A longer pause would only delay the healing once its cause is gone.
pub const RETRY_MS_MAX: u64 = 5_000;
/// A mysqld that lives so long is not in a crash loop.
const CRASH_LOOP_MS: u64 = 60_000;
/// From one start to the next in a crash loop: at first, and at most.
const START_PAUSE_MS_MIN: u64 = 1_000;
const START_PAUSE_MS_MAX: u64 = 60_000;
/// A thread that runs so long after its start has been accepted by the source.
const SETTLED_MS: u64 = 1_000;
/// Commits that wait so long are late: an acknowledgement takes a round trip and a write to a disk.
const LATE_MS: u64 = 1_000;
/// From one push to the next while nothing is released: at first, and at most. Each leaves a session waiting.
const PUSH_PAUSE_MS_MIN: u64 = 1_000;
const PUSH_PAUSE_MS_MAX: u64 = 60_000;
/// Source errors that START REPLICA does not heal: purged binary logs, or transactions here that the source lacks.
const FATAL_IO_ERRORS: [u32; 2] = [1236, 13_114];

/// An applier that has stopped on an error and gets no further for so long needs other data: longer than from one restart to the next.
const APPLIER_PATIENCE_MS: u64 = 15_000;
/// From one copy to the next because applying does not go on: what copies do not heal must not load the source for ever.
const COPY_PAUSE_MS: u64 = 600_000;

/// An applier that stopped on an error and has applied nothing since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub executed: GtidSet,
    pub since_ms: u64,
    /// For so long that starting it again is known not to help.
    pub stuck: bool,
}

/// Commits that wait for acknowledgements, none of which has been released since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What was executed: it grows with each release.
    pub executed: GtidSet,
    pub since_ms: u64,
    /// How many pushes there were, and when the last one was.
    pub pushes: u32,
    pub pushed_ms: u64,
}

/// The agent's memory of this life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// STOP REPLICA IO_THREAD has returned under this promise in this life of mysqld, and nothing has started it since.
    pub io_stopped: Option<(Epoch, Incarnation)>,
    /// When the desired state of this generation was first seen.
    pub goal_since: Option<(Generation, u64)>,
    /// The desired state of this generation is kept on disk.
    pub kept: Option<Generation>,
    /// The latest failure, until the same action succeeds or another is taken.
    pub failure: Option<Failure>,
    /// Work under way.
    pub work: Option<Work>,
    /// The latest work that failed, and when.
    pub work_failure: Option<(Work, String, u64)>,
    /// The epoch and life for which a new binary log was begun, or could not be.
    pub rotated: Option<(Epoch, Incarnation)>,
    /// The desired state under which the binary log was last seen to be short, or could not be made so.
    pub prepared: Option<Generation>,
    /// The epoch and life whose first row was acknowledged.
    pub term_row: Option<(Epoch, Incarnation)>,
    /// The desired state with `confirm` under which a row was written and acknowledged.
    pub confirmed: Option<Generation>,
    /// Who has an account here, in this life of mysqld.
    pub accounts: Option<(Incarnation, Vec<TabletAlias>)>,
    /// Who is locked out here, in this life of mysqld.
    pub locked_out: Option<(Incarnation, Vec<TabletAlias>)>,
    /// Commits that wait now.
    pub waiting: Option<Waiting>,
    /// The newest acker's connection that a push was for, in this life of mysqld.
    pub pushed: Option<(Incarnation, u64)>,
    /// Since when the source refuses this tablet.
    pub io_fatal_since_ms: Option<u64>,
    /// When the IO thread was started last.
    pub io_started_ms: Option<u64>,
    /// When the SQL thread was started last.
    pub sql_started_ms: Option<u64>,
    /// The applier has stopped on an error, and where.
    pub stopped: Option<Stopped>,
    /// What was received when the relay log was put at risk; while it is still there, nothing was lost.
    pub at_risk: Option<GtidSet>,
    /// When the data were last given up because applying did not go on; a copy for another reason does not count.
    pub given_up_ms: Option<u64>,
    /// When mysqld was started last, and how many times in a row soon after the start before.
    pub mysqld_started: Option<(u64, u32)>,
}

impl Memory {
    /// Notes which desired state is followed.
    pub fn follow(&mut self, desired: &Desired, now_ms: u64) {
        if self
            .goal_since
            .is_none_or(|(generation, _)| generation != desired.generation)
        {
            self.goal_since = Some((desired.generation, now_ms));
            self.failure = None;
            self.work_failure = None;
        }
    }

    /// The highest generation heard of, written down or not.
    pub fn heard(&self, persisted: &Persisted) -> Generation {
        let newest = self.goal_since.map(|(generation, _)| generation);
        newest.map_or(persisted.generation, |newest| {
            newest.max(persisted.generation)
        })
    }

    /// Notes what an observation tells about the past.
    pub fn look(&mut self, observed: &Observed, now_ms: u64) {
        let fatal = observed
            .channel()
            .and_then(|channel| channel.io_error.as_ref())
            .is_some_and(|(code, _)| FATAL_IO_ERRORS.contains(code));
        if fatal {
            self.io_fatal_since_ms.get_or_insert(now_ms);
        } else if self.io_runs_since(now_ms, SETTLED_MS)
            && observed
                .channel()
                .is_some_and(|channel| channel.io == ThreadState::On)
        {
            self.io_fatal_since_ms = None;
        }
        if observed.is_down() {
            self.work = None;
        }
        self.look_at_applier(observed, now_ms);
        self.look_at_waiting(observed, now_ms);
    }

    /// Each start of the thread takes its error away for a moment; applied transactions, or a thread that goes on, do so for good.
    fn look_at_applier(&mut self, observed: &Observed, now_ms: u64) {
        let Some(server) = &observed.server else {
            return;
        };
        let Some(channel) = &server.channel else {
            self.stopped = None;
            return;
        };
        let started_ms = self.sql_started_ms.unwrap_or_default();
        let is_settled =
            channel.sql == ThreadState::On && now_ms.saturating_sub(started_ms) >= SETTLED_MS;
        let has_failed = channel.sql_error.is_some();
        let known = self.stopped.take();
        let known = known.filter(|it| it.executed == server.executed);
        let known = known.filter(|_| has_failed || !is_settled);
        self.stopped = match known {
            // What waits for its disk is no matter of its data.
            _ if observed.has_bad_disk() => None,
            Some(stopped) => Some(Stopped {
                stuck: now_ms.saturating_sub(stopped.since_ms) >= APPLIER_PATIENCE_MS,
                ..stopped
            }),
            None if has_failed => Some(Stopped {
                executed: server.executed.clone(),
                since_ms: now_ms,
                stuck: false,
            }),
            None => None,
        };
    }

    /// Applying has stopped on an error, and starting it again has not helped.
    pub fn is_stuck(&self) -> bool {
        self.stopped.as_ref().is_some_and(|it| it.stuck)
    }

    /// Whether the data may be replaced because applying does not go on.
    pub fn copy_is_due(&self, now_ms: u64) -> bool {
        let is_recent = |at_ms: u64| now_ms.saturating_sub(at_ms) < COPY_PAUSE_MS;
        self.is_stuck() && !self.given_up_ms.is_some_and(is_recent)
    }

    fn look_at_waiting(&mut self, observed: &Observed, now_ms: u64) {
        let server = observed.server.as_ref();
        let Some(server) = server.filter(|it| it.source_semi_sync && it.wait_sessions > 0) else {
            self.waiting = None;
            return;
        };
        let same = |waiting: &Waiting| waiting.executed == server.executed;
        if !self.waiting.as_ref().is_some_and(same) {
            self.waiting = Some(Waiting {
                executed: server.executed.clone(),
                since_ms: now_ms,
                pushes: 0,
                pushed_ms: now_ms,
            });
        }
    }

    /// Commits wait, and nothing was released for longer than an acknowledgement takes.
    pub fn is_late(&self, now_ms: u64) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|it| now_ms.saturating_sub(it.since_ms) >= LATE_MS)
    }

    /// Whether to push for the acker that is connected: once for each connection, because it acknowledges whatever comes over it.
    pub fn push_is_due(&self, incarnation: Incarnation, acker: u64, now_ms: u64) -> bool {
        let Some(waiting) = self.waiting.as_ref().filter(|_| self.is_late(now_ms)) else {
            return false;
        };
        let pause_ms = match waiting.pushes {
            0 => 0,
            pushes => (PUSH_PAUSE_MS_MIN << (pushes - 1).min(16)).min(PUSH_PAUSE_MS_MAX),
        };
        let known = |(life, newest)| life == incarnation && newest >= acker;
        now_ms.saturating_sub(waiting.pushed_ms) >= pause_ms && !self.pushed.is_some_and(known)
    }

    /// Whether the last start of the IO thread is that long ago, or was not in this life of the agent.
    pub fn io_runs_since(&self, now_ms: u64, at_least_ms: u64) -> bool {
        self.io_started_ms
            .is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= at_least_ms)
    }

    /// Notes how an action ended. `promised` and `incarnation` are those it was taken under.
    pub fn note(
        &mut self,
        action: &Action,
        outcome: Result<(), String>,
        promised: Epoch,
        incarnation: Incarnation,
        now_ms: u64,
    ) {
        self.note_accounts(action, incarnation, outcome.is_ok());
        if let Err(error) = outcome {
            let before = self.failure.take().filter(|past| past.action == *action);
            self.failure = Some(Failure {
                action: action.clone(),
                error,
                at_ms: now_ms,
                count: before.map_or(1, |past| past.count.saturating_add(1)),
            });
            // Whether it took effect is not known.
            if matches!(action, Action::StartIoThread) {
                self.io_stopped = None;
            }
            return;
        }
        self.failure = None;
        match action {
            Action::StopIoThread => self.io_stopped = Some((promised, incarnation)),
            Action::StartIoThread => {
                self.io_stopped = None;
                self.io_started_ms = Some(now_ms);
            }
            Action::StartSqlThread => self.sql_started_ms = Some(now_ms),
            Action::Persist(Record::RelayLogAtRisk { received }) => {
                self.at_risk = Some(received.clone());
            }
            Action::Persist(Record::Acks { .. } | Record::CloneBegins { .. }) => {
                self.at_risk = None;
            }
            Action::Persist(Record::CloneNeeded { .. }) if self.is_stuck() => {
                self.given_up_ms = Some(now_ms);
            }
            Action::Clone { .. } => self.at_risk = None,
            Action::StartMysqld => {
                let quick = self.mysqld_started.map_or(0, |(at_ms, quick)| {
                    let lived = now_ms.saturating_sub(at_ms) >= CRASH_LOOP_MS;
                    if lived { 0 } else { quick.saturating_add(1) }
                });
                self.mysqld_started = Some((now_ms, quick));
            }
            Action::StartWork(Work::Push { acker, .. }) => {
                self.pushed = Some((incarnation, *acker));
                if let Some(waiting) = &mut self.waiting {
                    waiting.pushes = waiting.pushes.saturating_add(1);
                    waiting.pushed_ms = now_ms;
                }
            }
            Action::StartWork(work) => {
                if let Work::RotateBinaryLog { epoch, incarnation } = work {
                    self.rotated = Some((*epoch, *incarnation));
                }
                self.work = Some(work.clone());
            }
            Action::KeepOrder { generation } => self.kept = Some(*generation),
            _ => {}
        }
    }

    /// What is opened is locked no more, and the other way round. One that failed may have been carried out, or may be yet.
    fn note_accounts(&mut self, action: &Action, incarnation: Incarnation, is_done: bool) {
        match action {
            Action::SettleAccounts { open } => {
                self.accounts = is_done.then(|| (incarnation, open.clone()));
                self.locked_out = None;
            }
            Action::LockOut { tablets } => {
                self.locked_out = is_done.then(|| (incarnation, tablets.clone()));
                let is_touched = |(_, open): &(_, Vec<TabletAlias>)| {
                    open.iter().any(|alias| tablets.contains(alias))
                };
                self.accounts = self.accounts.take().filter(|known| !is_touched(known));
            }
            _ => {}
        }
    }

    /// Notes how work ended.
    pub fn work_ended(&mut self, work: &Work, outcome: Result<(), String>, now_ms: u64) {
        if let Work::Push {
            incarnation, acker, ..
        } = work
        {
            if outcome.is_err() && self.pushed == Some((*incarnation, *acker)) {
                // Due again after its pause.
                self.pushed = None;
            }
            return;
        }
        if self.work.as_ref() == Some(work) {
            self.work = None;
        }
        if matches!(work, Work::RotateBinaryLog { .. }) {
            self.prepared = self.goal_since.map(|(generation, _)| generation);
        }
        match outcome {
            Ok(()) => {
                self.work_failure = None;
                match work {
                    Work::TermRow { epoch, incarnation } => {
                        self.term_row = Some((*epoch, *incarnation));
                    }
                    Work::Confirm { generation, .. } => self.confirmed = Some(*generation),
                    Work::RotateBinaryLog { .. }
                    | Work::Push { .. }
                    | Work::CreateSchema { .. }
                    | Work::SchemaChange(_) => {}
                }
            }
            Err(error) => self.work_failure = Some((work.clone(), error, now_ms)),
        }
    }

    /// Why mysqld must not be started yet, if it ends soon after each start: restarts without a pause would only burn the host.
    pub fn crash_loop(&self, now_ms: u64) -> Option<String> {
        let (at_ms, quick) = self.mysqld_started.filter(|(_, quick)| *quick > 0)?;
        let pause_ms = (START_PAUSE_MS_MIN << (quick - 1).min(16)).min(START_PAUSE_MS_MAX);
        (now_ms.saturating_sub(at_ms) < pause_ms).then(|| {
            format!("mysqld has ended soon after its start, {quick} times in a row: look into its log; it is started again in a while")
        })
    }

    /// How often this action has just failed in a row.
    pub fn failures_of(&self, action: &Action) -> u32 {
        self.failure
            .as_ref()
            .filter(|past| past.action == *action)
            .map_or(0, |past| past.count)
    }

    /// Why this action must still wait, if it must.
    pub fn pause(&self, action: &Action, now_ms: u64) -> Option<String> {
        let past = self
            .failure
            .as_ref()
            .filter(|past| past.action == *action)?;
        let pause_ms = RETRY_MS_MIN
            .saturating_mul(1 << past.count.saturating_sub(1).min(16))
            .min(RETRY_MS_MAX);
        let waited = now_ms.saturating_sub(past.at_ms) >= pause_ms;
        (!waited).then(|| format!("{} failed: {}", action.name(), past.error))
    }
}
