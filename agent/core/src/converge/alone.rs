//! No coordinator has said anything in this life of the agent: going on from the desired state that an earlier life kept.
//!
//! It may be out of date: a failover may have happened while this tablet was away. So nothing is opened, unfenced, moved to
//! another source, replaced or stopped, and nothing is claimed. What is left is safe at any time: a mysqld that runs goes on,
//! and a replica starts again and follows the source that its own channel names. Its acknowledgements are too few to matter
//! for an epoch that was revoked without it, and a newer epoch has its promise, with which the kept state is not recalled. Where
//! its source has become primary again without its hearing, the record counts it among those who acknowledge.

use vt_proto::desired::{Candidacy, Desired, Goal};

use super::{Step, View, answering, replica};
use crate::{
    action::Action, claims, memory::Memory, observed::Observed, observed::Process,
    persisted::Persisted,
};

/// A coordinator that can be reached has said its word by then, and its word is the better one.
pub const PATIENCE_MS: u64 = 3_000;

/// Names the next safe action without a coordinator. `kept` was recalled, and has been followed since this agent started.
pub fn alone(
    observed: &Observed,
    persisted: &Persisted,
    memory: &Memory,
    kept: &Desired,
    now_ms: u64,
) -> Step {
    assert!(
        kept.epoch == persisted.promised && kept.generation == persisted.generation,
        "what is out of date is not recalled"
    );
    let view = View {
        observed,
        persisted,
        memory,
        epoch: kept.epoch,
        generation: kept.generation,
        replicas: Vec::new(),
        now_ms,
    };
    if view.goal_age_ms() < PATIENCE_MS {
        return Step::rest();
    }
    match &kept.goal {
        Goal::Primary { .. } => stay_primary(&view),
        Goal::Replica {
            source,
            acker,
            history,
            ..
        } => stay_replica(
            &view,
            &replica::Order {
                source,
                acker: *acker,
                history,
                // Nobody hears that it is ready.
                candidacy: Candidacy::None,
            },
        ),
        Goal::Standby | Goal::Demote { .. } | Goal::Revoke | Goal::Fence | Goal::Reveal { .. } => {
            Step::blocked(
                "the last order was a step on the way to another one, which only a coordinator can give; mysqld is left as it is",
            )
        }
    }
}

/// Open since before, it goes on. Whoever was open in an epoch that is over gets no acknowledgement any more.
fn stay_primary(view: &View<'_>) -> Step {
    if view.observed.is_down() {
        return Step::blocked(
            "the primary's mysqld has ended; only a coordinator knows whether it may open again: start the coordinators",
        );
    }
    if view.observed.server.is_none() {
        return answering(view);
    }
    match claims::serving(view.observed, view.persisted, view.memory) {
        Some(_) => Step::rest(),
        None => Step::blocked(
            "this tablet is primary and does not serve; only a coordinator may let it open: start the coordinators",
        ),
    }
}

fn stay_replica(view: &View<'_>, order: &replica::Order<'_>) -> Step {
    if view.persisted.primaryship.is_some() {
        return Step::blocked(
            "this tablet was primary, and what it may have beyond the end of its epoch is judged with a coordinator only",
        );
    }
    if view.observed.process == Process::Absent {
        return Step::blocked(
            "the data directory is gone; it is made anew with a coordinator only",
        );
    }
    if let Some(channel) = view.observed.channel()
        && channel.source != *order.source
    {
        return Step::blocked(format!(
            "replication is set to {}:{}, the last order names {}:{}; it is left as it is until a coordinator answers",
            channel.source.host, channel.source.port, order.source.host, order.source.port
        ));
    }
    let step = replica::step(view, order);
    match &step.action {
        Some(action) if !is_harmless(action) => {
            Step::blocked(format!("{} waits for a coordinator", action.name()))
        }
        _ => step,
    }
}

/// What takes nothing away, whatever has happened elsewhere.
fn is_harmless(action: &Action) -> bool {
    matches!(
        action,
        Action::StartMysqld
            | Action::SetReplicaSemiSync { enabled: true }
            | Action::StartIoThread
            | Action::StartSqlThread
    )
}
