//! What may be claimed towards the coordinator. Every claim is a proof obligation: see each field of `Report`.

use vt_proto::{
    desired::{Candidacy, Desired, Goal},
    epoch::{Epoch, Generation},
    report::ThreadState,
};

use crate::{converge::locked_out, memory::Memory, observed::Observed, persisted::Persisted};

/// Facts that a failover is built on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub revoked: Option<Epoch>,
    pub fenced: Option<Epoch>,
    pub demoted: Option<Generation>,
    pub prepared: Option<Generation>,
    pub serving: Option<Epoch>,
    pub silent: Option<Generation>,
    pub confirmed: Option<Generation>,
    pub locked_out: Option<Generation>,
}

/// What may be claimed now.
pub fn claims(
    observed: &Observed,
    persisted: &Persisted,
    memory: &Memory,
    desired: Option<&Desired>,
) -> Claims {
    let current = desired.filter(|desired| desired.epoch == persisted.promised);
    let goal = current.map(|desired| &desired.goal);
    Claims {
        revoked: matches!(goal, Some(Goal::Revoke | Goal::Fence | Goal::Reveal { .. }))
            .then(|| revoked(observed, persisted, memory))
            .flatten(),
        fenced: matches!(goal, Some(Goal::Fence | Goal::Reveal { .. }))
            .then(|| fenced(observed, persisted))
            .flatten(),
        demoted: current
            .filter(|desired| matches!(desired.goal, Goal::Demote { .. }))
            .filter(|desired| desired.generation == persisted.generation)
            .filter(|_| is_closed(observed))
            .map(|desired| desired.generation),
        prepared: current
            .filter(|desired| is_candidate(&desired.goal))
            .map(|desired| desired.generation)
            .filter(|generation| memory.prepared == Some(*generation)),
        serving: serving(observed, persisted, memory),
        // On disk: else an agent that starts anew would go on from an older order, and acknowledge.
        silent: current
            .filter(|desired| desired.goal == Goal::Revoke)
            .filter(|desired| desired.generation == persisted.generation)
            .filter(|_| revoked(observed, persisted, memory).is_some())
            .map(|desired| desired.generation),
        confirmed: current
            .filter(|desired| matches!(desired.goal, Goal::Primary { confirm: true, .. }))
            .map(|desired| desired.generation)
            .filter(|generation| memory.confirmed == Some(*generation)),
        locked_out: current
            .filter(|desired| desired.generation == persisted.generation)
            .filter(|desired| are_locked_out(observed, memory, &desired.goal))
            .map(|desired| desired.generation),
    }
}

fn is_candidate(goal: &Goal) -> bool {
    let prepares = Candidacy::Prepares;
    matches!(goal, Goal::Replica { candidacy, .. } if *candidacy == prepares)
}

/// Those whom the goal refuses were locked out in this life of mysqld, and nobody has been let in since.
fn are_locked_out(observed: &Observed, memory: &Memory, goal: &Goal) -> bool {
    let refused = locked_out(goal);
    let done = memory.locked_out.as_ref();
    !refused.is_empty()
        && !observed.is_down()
        && done.is_some_and(|(life, tablets)| {
            *life == observed.incarnation && tablets.as_slice() == refused
        })
}

/// The promise is on disk, and a STOP returned under it, or there is no mysqld that could acknowledge.
fn revoked(observed: &Observed, persisted: &Persisted, memory: &Memory) -> Option<Epoch> {
    if observed.is_down() {
        return Some(persisted.promised);
    }
    let server = observed.server.as_ref()?;
    let stopped = memory.io_stopped == Some((persisted.promised, observed.incarnation));
    let off = server
        .channel
        .as_ref()
        .is_none_or(|channel| channel.io == ThreadState::Off);
    (stopped && off).then_some(persisted.promised)
}

/// Down behind a fence marker, or closed with no commit waiting.
fn fenced(observed: &Observed, persisted: &Persisted) -> Option<Epoch> {
    let marked = observed.fence_marker == Some(persisted.promised);
    let shut = observed.is_down() || is_closed(observed);
    (marked && shut).then_some(persisted.promised)
}

/// `super_read_only` has been reached (it waits for every commit under way) and no commit waits for an acknowledgement.
pub(crate) fn is_closed(observed: &Observed) -> bool {
    observed
        .server
        .as_ref()
        .is_some_and(|server| server.super_read_only && server.wait_sessions == 0)
}

/// Open in the promised epoch, in the life of mysqld whose first row was acknowledged, with semi-sync in force.
pub(crate) fn serving(
    observed: &Observed,
    persisted: &Persisted,
    memory: &Memory,
) -> Option<Epoch> {
    let primaryship = persisted.primaryship.as_ref()?;
    let server = observed.server.as_ref()?;
    let life = (primaryship.epoch, observed.incarnation);
    let acknowledged = primaryship.opened == Some(life.1) || memory.term_row == Some(life);
    let open = primaryship.epoch == persisted.promised
        && acknowledged
        && !observed.is_down()
        && !server.read_only
        && !server.super_read_only
        && server.source_semi_sync;
    open.then_some(primaryship.epoch)
}
