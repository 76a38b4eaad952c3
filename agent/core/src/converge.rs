//! The comparison: from what is observed and what is desired, the one next safe action, or why there is none.
//!
//! Order of every goal: promise, then act; what cannot be undone comes after the proof that it is safe.

use vt_proto::{
    desired::{Desired, Goal},
    epoch::{Epoch, Generation},
    gtid::GtidSet,
    ids::TabletAlias,
    report::ThreadState,
    topology::FinishedEpoch,
};

use crate::{
    action::Action,
    memory::Memory,
    observed::{Observed, Process, Server},
    persisted::{Persisted, Record},
};

pub mod alone;

mod demote;
mod fence;
mod primary;
mod replica;
mod revoke;
mod standby;

#[cfg(test)]
mod tests;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Nothing: either all is as desired, or `blocked` tells what is awaited.
    pub action: Option<Action>,
    /// Why the desired state is not reached by anything this tablet can do now.
    pub blocked: Option<String>,
}

impl Step {
    fn act(action: Action) -> Self {
        Self {
            action: Some(action),
            blocked: None,
        }
    }

    fn record(record: Record) -> Self {
        Self::act(Action::Persist(record))
    }

    /// All is as desired.
    fn rest() -> Self {
        Self {
            action: None,
            blocked: None,
        }
    }

    fn blocked(why: impl Into<String>) -> Self {
        Self {
            action: None,
            blocked: Some(why.into()),
        }
    }
}

/// Everything a rule may look at.
pub(crate) struct View<'a> {
    pub(crate) observed: &'a Observed,
    pub(crate) persisted: &'a Persisted,
    pub(crate) memory: &'a Memory,
    pub(crate) epoch: Epoch,
    pub(crate) generation: Generation,
    /// The other tablets of the replica set that may connect.
    pub(crate) replicas: Vec<TabletAlias>,
    pub(crate) now_ms: u64,
}

impl View<'_> {
    /// How long this desired state has been followed.
    pub(crate) fn goal_age_ms(&self) -> u64 {
        self.memory
            .goal_since
            .map_or(0, |(_, since_ms)| self.now_ms.saturating_sub(since_ms))
    }

    /// Takes an action unless it failed a moment ago.
    pub(crate) fn attempt(&self, action: Action) -> Step {
        match self.memory.pause(&action, self.now_ms) {
            Some(why) => Step::blocked(why),
            None => match &self.memory.failure {
                Some(past) if past.action == action => Step {
                    blocked: Some(format!("{} failed: {}", action.name(), past.error)),
                    action: Some(action),
                },
                _ => Step::act(action),
            },
        }
    }
}

/// Names the next safe action. Call again after it, and after every new observation.
pub fn converge(
    observed: &Observed,
    persisted: &Persisted,
    memory: &Memory,
    desired: Option<&Desired>,
    now_ms: u64,
) -> Step {
    let Some(desired) = desired else {
        return without_orders(&View {
            observed,
            persisted,
            memory,
            epoch: persisted.promised,
            generation: persisted.generation,
            replicas: Vec::new(),
            now_ms,
        });
    };
    assert!(
        desired.epoch >= persisted.promised && desired.generation >= persisted.generation,
        "an older desired state is refused where it arrives"
    );
    let view = View {
        observed,
        persisted,
        memory,
        epoch: desired.epoch,
        generation: desired.generation,
        replicas: admitted(desired),
        now_ms,
    };
    let promise = promise(observed, persisted, desired);
    if let Some(kill) = fence::kill_first(&view, &desired.goal, &promise) {
        return kill;
    }
    // An agent that starts anew must not go on from an older order than what it has claimed under this one.
    let binds = matches!(desired.goal, Goal::Demote { .. } | Goal::Revoke)
        || !locked_out(&desired.goal).is_empty();
    let is_unheard = persisted.generation < desired.generation;
    if persisted.promised < desired.epoch || (is_unheard && binds) {
        return view.attempt(promise);
    }
    let step = pursue(&view, &desired.goal);
    // Somebody waits for what is under way; writing it down may wait until there is nothing to do.
    if step.action.is_some() || view.goal_age_ms() < QUIET_MS {
        return step;
    }
    let due = match memory.kept == Some(desired.generation) {
        _ if is_unheard => promise,
        // After the number: what is kept with an older one than is written down is out of date.
        false => Action::KeepOrder {
            generation: desired.generation,
        },
        true => return step,
    };
    Step {
        blocked: step.blocked,
        ..view.attempt(due)
    }
}

/// A desired state that has been followed so long without anything to do is written down.
const QUIET_MS: u64 = 500;

fn promise(observed: &Observed, persisted: &Persisted, desired: &Desired) -> Action {
    let (epoch, generation) = (desired.epoch, desired.generation);
    let begins = persisted.promised < epoch;
    Action::Persist(match (&desired.goal, &observed.server) {
        (Goal::Primary { .. }, Some(server)) if begins => Record::PromiseAsPrimary {
            epoch,
            generation,
            server_uuid: server.server_uuid.clone(),
        },
        _ => Record::Promise { epoch, generation },
    })
}

fn pursue(view: &View<'_>, goal: &Goal) -> Step {
    match goal {
        Goal::Standby => standby::step(view),
        Goal::Primary {
            start_gtid,
            acks,
            restart_after,
            schemas,
            schema_tasks,
            confirm,
            locked_out,
        } => primary::step(
            view,
            &primary::Order {
                start_gtid,
                acks: *acks,
                restart_after: *restart_after,
                schemas,
                schema_tasks,
                confirm: *confirm,
                locked_out,
            },
        ),
        Goal::Demote { grace_ms } => demote::step(view, *grace_ms),
        Goal::Revoke => revoke::step(view),
        Goal::Fence => fence::step(view),
        Goal::Reveal { restart_after } => fence::reveal(view, *restart_after),
        Goal::Replica {
            source,
            acker,
            history,
            candidacy,
            ..
        } => replica::step(
            view,
            &replica::Order {
                source,
                acker: *acker,
                history,
                candidacy: *candidacy,
            },
        ),
    }
}

/// Nobody has said what is desired: leave mysqld as it is. A data directory may be made meanwhile, that binds nobody.
fn without_orders(view: &View<'_>) -> Step {
    match view.observed.process {
        Process::Absent => view.attempt(Action::InitialiseDataDirectory),
        _ => Step::rest(),
    }
}

/// mysqld must run and answer; it may be started because nothing of it can be un-acknowledged.
/// `Err` is what to do or to wait for first.
fn running<'a>(view: &View<'a>) -> Result<&'a Server, Step> {
    match &view.observed.process {
        Process::Absent => Err(view.attempt(Action::InitialiseDataDirectory)),
        Process::Held { why } => Err(Step::blocked(why.clone())),
        Process::Down { .. } if view.observed.fence_marker.is_some() => {
            Err(view.attempt(Action::RemoveFenceMarker))
        }
        Process::Down { .. } => Err(start(view)),
        Process::Up => view.observed.server.as_ref().ok_or_else(|| answering(view)),
    }
}

/// Starts mysqld, with a pause where it is in a crash loop.
fn start(view: &View<'_>) -> Step {
    match view.memory.crash_loop(view.now_ms) {
        Some(why) => Step::blocked(why),
        None => view.attempt(Action::StartMysqld),
    }
}

/// Without a number: the text is told again whenever it changes.
fn answering(view: &View<'_>) -> Step {
    Step::blocked(match view.observed.unresponsive_ms {
        Some(_) => "mysqld does not answer",
        None => "mysqld is starting",
    })
}

/// The applier goes on in every goal but that of an open primary: what is received must be applied before it is needed.
fn keep_applying(view: &View<'_>, server: &Server) -> Option<Step> {
    let channel = server.channel.as_ref()?;
    if channel.sql != ThreadState::Off {
        return None;
    }
    match &channel.sql_error {
        // Tried again, slowly: some errors heal, and a stopped applier has no other owner.
        Some((code, text)) if view.goal_age_ms() % APPLIER_RETRY_MS >= APPLIER_RETRY_WINDOW_MS => {
            Some(Step::blocked(format!(
                "applying has stopped: {text} (error {code})"
            )))
        }
        _ => Some(view.attempt(Action::StartSqlThread)),
    }
}

/// The relay log was put at risk and is still there.
fn vouch(view: &View<'_>, server: &Server) -> Option<Step> {
    let at_risk = view.memory.at_risk.as_ref()?;
    let is_whole = view.persisted.replaced && server.received.contains(at_risk);
    is_whole.then(|| acks(view, server))
}

/// It answers for what it acknowledged, and acknowledges.
fn acks(view: &View<'_>, server: &Server) -> Step {
    Step::record(Record::Acks {
        boot_id: view.observed.boot_id.clone(),
        server_uuid: server.server_uuid.clone(),
    })
}

/// The others' accounts, before they are needed: whoever is refused tries again only after a second. While it fails, all else goes on.
fn settle_accounts(view: &View<'_>) -> Option<Step> {
    let known = view.memory.accounts.as_ref();
    let is_settled = known.is_some_and(|(life, accounts)| {
        *life == view.observed.incarnation && *accounts == view.replicas
    });
    if is_settled || view.replicas.is_empty() {
        return None;
    }
    let action = Action::SettleAccounts {
        open: view.replicas.clone(),
    };
    let waits = view.memory.pause(&action, view.now_ms).is_some();
    (!waits).then(|| view.attempt(action))
}

/// Whom a goal refuses.
pub(crate) fn locked_out(goal: &Goal) -> &[TabletAlias] {
    match goal {
        Goal::Primary { locked_out, .. } => locked_out,
        _ => &[],
    }
}

fn admitted(desired: &Desired) -> Vec<TabletAlias> {
    let refused = locked_out(&desired.goal);
    let others = desired.replicas.iter();
    others
        .filter(|alias| !refused.contains(alias))
        .cloned()
        .collect()
}

/// An applier that stopped with an error is started again this often.
const APPLIER_RETRY_MS: u64 = 10_000;
/// Within this part of the period; wider than the shell's pause between two steps.
const APPLIER_RETRY_WINDOW_MS: u64 = 300;

/// Everything that was kept of all finished epochs, if an epoch from `since` on is among them.
/// Each `kept` is the whole start of the following epoch, so that the newest contains the others.
fn kept_since(history: &[FinishedEpoch], since: Epoch) -> Option<GtidSet> {
    history
        .iter()
        .any(|finished| finished.epoch >= since)
        .then(|| kept(history))
}

fn kept(history: &[FinishedEpoch]) -> GtidSet {
    history
        .iter()
        .fold(GtidSet::new(), |all, finished| all.union(&finished.kept))
}
