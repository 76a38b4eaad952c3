//! Goal: replicate from the source. What a former primary wrote beyond its epoch is cut before it may start or connect.

use vt_proto::{
    desired::Candidacy,
    gtid::GtidSet,
    report::ThreadState,
    topology::{Endpoint, FinishedEpoch},
};

use super::{Step, View, acks, keep_applying, kept, kept_since, running, settle_accounts, vouch};
use crate::{
    action::{Action, Work},
    observed::{Channel, Process, Server},
    persisted::{Primaryship, Record},
};

/// How often cutting is tried before a copy is made.
const CUTS_MAX: u32 = 2;
/// A source that is still draining refuses replicas that are ahead of it: only after this is a copy made.
const FATAL_PATIENCE_MS: u64 = 10_000;
/// Between two starts of an IO thread that the source refuses.
const REFUSED_RETRY_MS: u64 = 200;
/// A thread that was just started shows a little later whether it acknowledges.
const SEMI_SYNC_SETTLED_MS: u64 = 2_000;

/// Who need not acknowledge connects so much later: writers wait for those who do, and share their disks and processors.
const OTHERS_FIRST_MS: u64 = 300;

/// The order to replicate.
pub(super) struct Order<'a> {
    pub(super) source: &'a Endpoint,
    pub(super) acker: bool,
    pub(super) history: &'a [FinishedEpoch],
    pub(super) candidacy: Candidacy,
}

pub(super) fn step(view: &View<'_>, order: &Order<'_>) -> Step {
    // Cutting a tail, starting and copying need the disk; a cut that fails for want of it would end in a copy, which needs more.
    if view.observed.is_down() && view.observed.has_bad_disk() {
        return Step::blocked(
            "mysqld's disk is full, stalled or fails: make room or look at the device, mysqld is started after that",
        );
    }
    if lets_others_go_first(view, order) {
        return Step::rest();
    }
    if let Some(primaryship) = &view.persisted.primaryship
        && let Some(step) = end_primaryship(view, order, primaryship)
    {
        return step;
    }
    let server = match running(view) {
        Ok(server) => server,
        Err(step) => return step,
    };
    if let Some(step) = settle(view, server) {
        return step;
    }
    if let Some(step) = tell_unkept(view, order, server) {
        return step;
    }
    if let Some(step) = tell_stuck(view, order, server) {
        return step;
    }
    if let Some(reason) = clone_reason(view, order, server) {
        return copy(view, order, server, &reason);
    }
    if let Some(step) = connect(view, order, server) {
        return step;
    }
    // Source-side semi-sync would make its own applier wait; it is switched off once the replica may be of use as an acker.
    if server.source_semi_sync {
        return view.attempt(Action::DisableSourceSemiSync);
    }
    if let Some(step) = keep_applying(view, server) {
        return step;
    }
    if let Some(step) = settle_accounts(view) {
        return step;
    }
    remember(view, order, server)
}

/// It runs closed, nothing waits in it, it follows another source or none, and nobody waits for it.
fn lets_others_go_first(view: &View<'_>, order: &Order<'_>) -> bool {
    let is_idle = |server: &Server| {
        let channel = server.channel.as_ref();
        let is_elsewhere = channel.is_none_or(|channel| channel.source != *order.source);
        is_elsewhere && server.super_read_only && server.wait_sessions == 0
    };
    !order.acker
        && view.goal_age_ms() < OTHERS_FIRST_MS
        && view.observed.server.as_ref().is_some_and(is_idle)
}

/// A former primary: down, it may hold a tail that a start would commit; running, it may hold one that is committed.
fn end_primaryship(view: &View<'_>, order: &Order<'_>, primaryship: &Primaryship) -> Option<Step> {
    if primaryship.epoch >= view.epoch {
        return Some(Step::blocked(format!(
            "this tablet is recorded as primary of epoch {} and is asked to be a replica in it",
            primaryship.epoch
        )));
    }
    if view.persisted.clone_reason.is_some() {
        return None;
    }
    let Some(kept) = kept_since(order.history, primaryship.epoch) else {
        return Some(Step::record(Record::CloneNeeded {
            reason: format!(
                "what was kept of epoch {} is not known any more",
                primaryship.epoch
            ),
        }));
    };
    match &view.observed.process {
        Process::Up => end_running(view, primaryship, &kept),
        Process::Down { .. } if !primaryship.tail_cut => Some(cut(view, primaryship, kept)),
        Process::Absent => Some(Step::record(Record::PrimaryshipOver)),
        Process::Down { .. } | Process::Held { .. } => None,
    }
}

fn cut(view: &View<'_>, primaryship: &Primaryship, kept: GtidSet) -> Step {
    let action = Action::CutTail {
        kept,
        epoch: primaryship.epoch,
    };
    if view.memory.failures_of(&action) >= CUTS_MAX {
        let error = view.memory.failure.as_ref().map(|past| past.error.clone());
        return Step::record(Record::CloneNeeded {
            reason: format!(
                "cutting the tail of epoch {} failed: {}",
                primaryship.epoch,
                error.unwrap_or_default()
            ),
        });
    }
    view.attempt(action)
}

fn end_running(view: &View<'_>, primaryship: &Primaryship, kept: &GtidSet) -> Option<Step> {
    let Some(server) = &view.observed.server else {
        let hung = view.observed.unresponsive_ms.is_some();
        return hung.then(|| view.attempt(Action::KillMysqld));
    };
    let closing = Action::CloseServer;
    if server.wait_sessions > 0 || view.memory.failures_of(&closing) > 0 {
        return Some(view.attempt(Action::KillMysqld));
    }
    if !server.super_read_only {
        return Some(Step::act(closing));
    }
    let tail = server
        .executed
        .of_server(&primaryship.server_uuid)
        .subtract(kept);
    if tail.is_empty() {
        if view.observed.role_marker {
            return Some(view.attempt(Action::RemoveRoleMarker));
        }
        return Some(Step::record(Record::PrimaryshipOver));
    }
    if primaryship.tail_cut {
        return Some(Step::record(Record::CloneNeeded {
            reason: format!(
                "committed beyond the end of epoch {}: {tail}",
                primaryship.epoch
            ),
        }));
    }
    Some(view.attempt(Action::KillMysqld))
}

/// Closed, and without what a fence left behind.
fn settle(view: &View<'_>, server: &Server) -> Option<Step> {
    if !server.super_read_only {
        return Some(view.attempt(Action::CloseServer));
    }
    if server.offline_mode {
        return Some(view.attempt(Action::RestoreSessions));
    }
    if view.observed.fence_marker.is_some() {
        return Some(view.attempt(Action::RemoveFenceMarker));
    }
    if view.observed.role_marker {
        return Some(view.attempt(Action::RemoveRoleMarker));
    }
    None
}

/// Transactions of its own that nobody kept.
fn own_errant(view: &View<'_>, order: &Order<'_>, server: &Server) -> GtidSet {
    let mut own = server.executed.of_server(&server.server_uuid);
    if let Some(primaryship) = &view.persisted.primaryship {
        own = own.union(&server.executed.of_server(&primaryship.server_uuid));
    }
    own.subtract(&kept(order.history))
}

/// The server that a connection to the source of this order has reached, if there was one.
fn reached<'a>(order: &Order<'_>, server: &'a Server) -> Option<&'a str> {
    let channel = server.channel.as_ref()?;
    let is_source = channel.source == *order.source;
    channel.source_uuid.as_deref().filter(|_| is_source)
}

/// Transactions of ended epochs that nobody kept, which this tablet had received before it heard of the end. Within an epoch only
/// its primary writes, so that whatever else is not in the start of the epoch is such.
fn unkept(order: &Order<'_>, server: &Server, primary: &str) -> GtidSet {
    // What was there before the first epoch is in the start of none.
    if order.history.is_empty() {
        return GtidSet::new();
    }
    let beyond = server.received.subtract(&kept(order.history));
    beyond.subtract(&server.received.of_server(primary))
}

/// Once applied they cannot be undone, and a tablet that has them differs from all others. Written down, because the thread by which
/// they are recognised is stopped for the copy.
fn tell_unkept(view: &View<'_>, order: &Order<'_>, server: &Server) -> Option<Step> {
    let is_on = |channel: &Channel| channel.io == ThreadState::On;
    if view.persisted.clone_reason.is_some() || !server.channel.as_ref().is_some_and(is_on) {
        return None;
    }
    // The copy would take away what perhaps nobody else acknowledged: it comes when this tablet counts as acker no more.
    if order.acker {
        return None;
    }
    let unkept = unkept(order, server, reached(order, server)?);
    (!unkept.is_empty()).then(|| {
        Step::record(Record::CloneNeeded {
            reason: format!("received of an ended epoch and kept nowhere else: {unkept}"),
        })
    })
}

/// It has what it cannot apply. Where it acknowledges, that may be what nobody else received: the copy comes when it does so no more.
fn tell_stuck(view: &View<'_>, order: &Order<'_>, server: &Server) -> Option<Step> {
    let is_known = view.persisted.clone_reason.is_some();
    if is_known || order.acker || !view.memory.copy_is_due(view.now_ms) {
        return None;
    }
    let (code, text) = server.channel.as_ref()?.sql_error.as_ref()?;
    Some(Step::record(Record::CloneNeeded {
        reason: format!("it cannot apply what it received: {text} (error {code})"),
    }))
}

fn clone_reason(view: &View<'_>, order: &Order<'_>, server: &Server) -> Option<String> {
    if let Some(reason) = &view.persisted.clone_reason {
        return Some(reason.clone());
    }
    // What it acknowledged may be nowhere else; and commits that wait for it would keep its donor waiting.
    if order.acker {
        return None;
    }
    let errant = own_errant(view, order, server);
    if !errant.is_empty() {
        return Some(format!("written here and kept nowhere: {errant}"));
    }
    let since_ms = view.memory.io_fatal_since_ms?;
    let (code, text) = server.channel.as_ref()?.io_error.as_ref()?;
    (view.now_ms.saturating_sub(since_ms) >= FATAL_PATIENCE_MS)
        .then(|| format!("the source refuses this tablet: {text} (error {code})"))
}

/// Replaces the data. The shell refuses where the donor lacks anything but the errant transactions.
fn copy(view: &View<'_>, order: &Order<'_>, server: &Server, reason: &str) -> Step {
    if server
        .channel
        .as_ref()
        .is_some_and(|channel| channel.io != ThreadState::Off)
    {
        return view.attempt(Action::StopIoThread);
    }
    // From here on it answers for nothing, and nothing but a copy makes it a replica again.
    if view.persisted.clone_reason.is_none() || !view.persisted.replaced {
        return Step::record(Record::CloneBegins {
            reason: reason.to_owned(),
        });
    }
    let mut may_lose = own_errant(view, order, server);
    // Whoever waits for a copy connects to no primary of a later epoch: nothing of it is here, and everything beyond its start is lost.
    let primary = reached(order, server).or(view.persisted.clone_reason.as_ref().map(|_| ""));
    if let Some(primary) = primary {
        may_lose = may_lose.union(&unkept(order, server, primary));
    }
    let mut step = view.attempt(Action::Clone {
        donor: order.source.clone(),
        may_lose,
        followed: reached(order, server).map(str::to_owned),
    });
    let detail = step.blocked.take();
    step.blocked = Some(match detail {
        Some(detail) => format!("{reason}; {detail}"),
        None => format!("{reason}; the data is replaced by a copy"),
    });
    step
}

/// The channel: to the right source, acknowledging as desired, running.
fn connect(view: &View<'_>, order: &Order<'_>, server: &Server) -> Option<Step> {
    let Some(channel) = &server.channel else {
        return Some(view.attempt(Action::ConfigureChannel {
            source: order.source.clone(),
        }));
    };
    if !channel.own_account {
        return Some(forget_copied(view, server, channel));
    }
    if channel.source != *order.source {
        return Some(repoint(view, order, server, channel));
    }
    if let Some(step) = vouch(view, server) {
        return Some(step);
    }
    // On disk before the first acknowledgement. Where it may have forgotten some, only catching up changes that.
    if order.acker && view.persisted.acking.is_none() && !view.persisted.replaced {
        return Some(acks(view, server));
    }
    if server.replica_semi_sync != order.acker {
        return Some(view.attempt(Action::SetReplicaSemiSync {
            enabled: order.acker,
        }));
    }
    match channel.io {
        ThreadState::Off => Some(start_io(view, channel)),
        // The setting takes effect when the thread starts.
        ThreadState::On
            if server.replica_acknowledges != order.acker
                && view.memory.io_runs_since(view.now_ms, SEMI_SYNC_SETTLED_MS) =>
        {
            Some(view.attempt(Action::StopIoThread))
        }
        ThreadState::Connecting | ThreadState::On => None,
    }
}

/// A copy brings the donor's channel along, which would connect in the donor's name.
fn forget_copied(view: &View<'_>, server: &Server, channel: &Channel) -> Step {
    if channel.io != ThreadState::Off {
        return view.attempt(Action::StopIoThread);
    }
    if server.executed.contains(&server.received) {
        return view.attempt(Action::ResetReplication);
    }
    keep_applying(view, server)
        .unwrap_or_else(|| Step::blocked("what came with the donor's channel is being applied"))
}

/// Host and port only, with the SQL thread running: else the CHANGE throws away what is received and not yet applied. The thread may stop
/// on an error at this very moment; so what it acknowledged counts as forgotten until it is seen to be still there. Where it has
/// stopped, only other data help, and the source has all of it.
fn repoint(view: &View<'_>, order: &Order<'_>, server: &Server, channel: &Channel) -> Step {
    if channel.io != ThreadState::Off {
        return view.attempt(Action::StopIoThread);
    }
    let has_unapplied = !server.executed.contains(&server.received);
    if has_unapplied
        && view.memory.stopped.is_none()
        && let Some(step) = keep_applying(view, server)
    {
        return step;
    }
    let (boot_id, uuid) = (&view.observed.boot_id, &server.server_uuid);
    let is_intact = !view.persisted.is_amnesiac(boot_id, Some(uuid));
    if has_unapplied && view.persisted.acking.is_some() && is_intact {
        return Step::record(Record::RelayLogAtRisk {
            received: server.received.clone(),
        });
    }
    view.attempt(Action::RepointChannel {
        source: order.source.clone(),
    })
}

fn start_io(view: &View<'_>, channel: &Channel) -> Step {
    match &channel.io_error {
        Some((code, text)) if !view.memory.io_runs_since(view.now_ms, REFUSED_RETRY_MS) => {
            Step::blocked(format!("replication has stopped: {text} (error {code})"))
        }
        _ => view.attempt(Action::StartIoThread),
    }
}

/// Once it has caught up, it answers for what it acknowledges from now on.
fn remember(view: &View<'_>, order: &Order<'_>, server: &Server) -> Step {
    let Some(channel) = &server.channel else {
        return Step::rest();
    };
    if let (ThreadState::Connecting, Some((code, text))) = (channel.io, &channel.io_error) {
        return Step::blocked(format!("the source is not reached: {text} (error {code})"));
    }
    let current = view.persisted.acking.as_ref().is_some_and(|acking| {
        acking.boot_id == view.observed.boot_id && acking.server_uuid == server.server_uuid
    });
    let known = current && !view.persisted.replaced;
    if order.acker && !known && channel.caught_up && channel.io == ThreadState::On {
        return acks(view, server);
    }
    match order.candidacy {
        Candidacy::Prepares => prepare(view),
        Candidacy::None | Candidacy::Awaited => Step::rest(),
    }
}

/// The binary log that others are to replicate from is begun while writes go on.
fn prepare(view: &View<'_>) -> Step {
    if view.memory.prepared == Some(view.generation) || view.memory.work.is_some() {
        return Step::rest();
    }
    view.attempt(Action::StartWork(Work::RotateBinaryLog {
        epoch: view.epoch,
        incarnation: view.observed.incarnation,
    }))
}
