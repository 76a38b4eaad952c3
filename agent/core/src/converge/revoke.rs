//! Goal: acknowledge nothing of an older epoch any more, then tell what was received. Only a STOP that returned counts.

use super::{Step, View, fence, keep_applying, running, vouch};
use crate::{action::Action, claims};

/// A mysqld that does not answer may still acknowledge: after this it is killed, for a dead acker acknowledges nothing.
const PATIENCE_MS: u64 = 2_000;
/// Failures of STOP after which mysqld is killed.
const STOPS_BEFORE_KILL: u32 = 2;

pub(super) fn step(view: &View<'_>) -> Step {
    // A primary that is told to revoke is fenced: its own commits are what must not be acknowledged.
    if view.persisted.primaryship.is_some()
        && (view.observed.is_down() || !claims::is_closed(view.observed))
    {
        return fence::step(view);
    }
    let server = match running(view) {
        Ok(server) => server,
        Err(_) if is_hung(view) => return view.attempt(Action::KillMysqld),
        Err(step) => return step,
    };
    let stopped =
        view.memory.io_stopped == Some((view.persisted.promised, view.observed.incarnation));
    if !stopped {
        return stop(view);
    }
    vouch(view, server)
        .or_else(|| keep_applying(view, server))
        .unwrap_or_else(Step::rest)
}

/// It answered before and does not now. One that is starting cannot acknowledge: replication starts by command only.
fn is_hung(view: &View<'_>) -> bool {
    !view.observed.is_down()
        && view.observed.unresponsive_ms.is_some()
        && view.goal_age_ms() >= PATIENCE_MS
}

/// STOP whatever state the thread shows: one that shows `connecting` reconnects and acknowledges.
fn stop(view: &View<'_>) -> Step {
    if view.memory.failures_of(&Action::StopIoThread) >= STOPS_BEFORE_KILL
        || view.memory.failures_of(&Action::KillMysqld) > 0
    {
        return view.attempt(Action::KillMysqld);
    }
    Step::act(Action::StopIoThread)
}
