//! Goal: stop serving as primary, at any price. Never a clean shutdown, never a read-only switch behind a waiting commit.

use vt_proto::{desired::Goal, epoch::Incarnation};

use super::{Step, View, answering, start};
use crate::{action::Action, claims, observed::Process};

/// A kill needs no disk, and it is no more than a crash at any time: where the disk is bad, or the promise or the marker could not be
/// written, mysqld ends before they are. Nobody but this agent starts it again, and this agent wants it fenced.
pub(super) fn kill_first(view: &View<'_>, goal: &Goal, promise: &Action) -> Option<Step> {
    let marker = Action::WriteFenceMarker { epoch: view.epoch };
    let is_unwritten = view.memory.failures_of(promise) > 0 || view.memory.failures_of(&marker) > 0;
    // After a kill that failed, its own pause counts.
    let kill_failed = view.memory.failures_of(&Action::KillMysqld) > 0;
    let needed = view.observed.has_bad_disk() || is_unwritten || kill_failed;
    let is_up = view.observed.process == Process::Up;
    (*goal == Goal::Fence && is_up && needed).then(|| view.attempt(Action::KillMysqld))
}

pub(super) fn step(view: &View<'_>) -> Step {
    if view.observed.fence_marker != Some(view.epoch) {
        return view.attempt(Action::WriteFenceMarker { epoch: view.epoch });
    }
    match &view.observed.process {
        Process::Up => close(view),
        // Down behind the marker: fenced. It stays down until its tail can be judged.
        Process::Absent | Process::Down { .. } | Process::Held { .. } => Step::rest(),
    }
}

/// Fenced, but started once more after this very life, because nobody else's data tell every acknowledged write. It starts
/// closed and without replication; the promise on disk keeps it from serving, the marker returns while it runs.
pub(super) fn reveal(view: &View<'_>, restart_after: Incarnation) -> Step {
    let ended = matches!(view.observed.process, Process::Down { .. });
    if !ended && view.observed.server.is_none() && view.observed.unresponsive_ms.is_none() {
        return answering(view);
    }
    if !ended || view.observed.incarnation != restart_after {
        return step(view);
    }
    if view.observed.fence_marker.is_some() {
        return view.attempt(Action::RemoveFenceMarker);
    }
    start(view)
}

/// Close it with short limits; where one is missed or a commit waits, kill.
fn close(view: &View<'_>) -> Step {
    let Some(server) = &view.observed.server else {
        return view.attempt(Action::KillMysqld);
    };
    if claims::is_closed(view.observed) {
        return Step::rest();
    }
    let late = [Action::CutSessions, Action::CloseServer]
        .iter()
        .any(|action| view.memory.failures_of(action) > 0)
        || view.memory.failures_of(&Action::KillMysqld) > 0;
    // A waiting commit would hold the read-only switch, which would fire later, and a shutdown would answer OK for it.
    let hangs = view.observed.unresponsive_ms.is_some() || view.observed.has_hanging_write();
    if late || server.wait_sessions > 0 || hangs {
        return view.attempt(Action::KillMysqld);
    }
    if !server.offline_mode {
        return Step::act(Action::CutSessions);
    }
    Step::act(Action::CloseServer)
}
