//! Goal: be the primary of the epoch. Nothing opens before everything acknowledged is applied here and the epoch's first
//! own row is acknowledged by as many as each later write will be.

use vt_proto::{
    desired::SchemaTask, epoch::Incarnation, gtid::GtidSet, ids::TabletAlias, report::ThreadState,
};

use super::{Step, View, answering, keep_applying, settle_accounts, start};
use crate::{
    action::{Action, Work},
    observed::{Process, Server},
    persisted::{Primaryship, Record},
};

/// Work that failed is tried again after this.
const WORK_RETRY_MS: u64 = 1_000;

/// The order to be primary.
pub(super) struct Order<'a> {
    pub(super) start_gtid: &'a GtidSet,
    pub(super) acks: u32,
    pub(super) restart_after: Option<Incarnation>,
    pub(super) schemas: &'a [String],
    pub(super) schema_tasks: &'a [SchemaTask],
    pub(super) confirm: bool,
    pub(super) locked_out: &'a [TabletAlias],
}

pub(super) fn step(view: &View<'_>, order: &Order<'_>) -> Step {
    let server = match &view.observed.process {
        Process::Absent => {
            return Step::blocked(
                "chosen as primary without a data directory; the coordinator has to choose another",
            );
        }
        Process::Held { why } => return Step::blocked(why.clone()),
        Process::Down { .. } => return restart(view, order),
        Process::Up => match &view.observed.server {
            Some(server) => server,
            None => return answering(view),
        },
    };
    match &view.persisted.primaryship {
        Some(primaryship) if is_open(view, primaryship) => {
            keep_open(view, order, server, primaryship)
        }
        primaryship => open(view, order, server, primaryship.as_ref()),
    }
}

/// An exit is conclusive for the coordinator, so that only its word for this very life starts mysqld again.
fn restart(view: &View<'_>, order: &Order<'_>) -> Step {
    if order.restart_after != Some(view.observed.incarnation) {
        return Step::blocked(
            "mysqld has ended; the coordinator decides between a restart here and another primary",
        );
    }
    if view.observed.fence_marker.is_some() {
        return view.attempt(Action::RemoveFenceMarker);
    }
    start(view)
}

/// Its first row of this epoch was acknowledged in this life of mysqld.
fn is_open(view: &View<'_>, primaryship: &Primaryship) -> bool {
    let life = (view.epoch, view.observed.incarnation);
    primaryship.epoch == view.epoch
        && (primaryship.opened == Some(life.1) || view.memory.term_row == Some(life))
}

fn open(
    view: &View<'_>,
    order: &Order<'_>,
    server: &Server,
    primaryship: Option<&Primaryship>,
) -> Step {
    if must_rotate(view, server) {
        return work(
            view,
            Work::RotateBinaryLog {
                epoch: view.epoch,
                incarnation: view.observed.incarnation,
            },
        );
    }
    if let Some(step) = drain(view, order, server) {
        return step;
    }
    if view.observed.fence_marker.is_some() {
        return view.attempt(Action::RemoveFenceMarker);
    }
    // Offline mode would keep the ackers away too.
    if server.offline_mode {
        return view.attempt(Action::RestoreSessions);
    }
    // Only now: a relay log that is still applied would wait for acknowledgements of its own.
    if !server.source_semi_sync || server.wait_for_replica_count != order.acks {
        return view.attempt(Action::EnableSourceSemiSync { acks: order.acks });
    }
    // On disk before the first own transaction is possible: a tail is recognised by it.
    let begun = primaryship.is_some_and(|primaryship| {
        primaryship.epoch == view.epoch && primaryship.server_uuid == server.server_uuid
    });
    if !begun {
        return view.attempt(Action::Persist(Record::PrimaryshipBegins {
            epoch: view.epoch,
            server_uuid: server.server_uuid.clone(),
        }));
    }
    if !view.observed.role_marker {
        return view.attempt(Action::WriteRoleMarker);
    }
    if server.super_read_only {
        return view.attempt(Action::OpenForAgent);
    }
    if let Some(step) = settle_accounts(view) {
        return step;
    }
    if let Some(step) = push(view, server) {
        return step;
    }
    work(
        view,
        Work::TermRow {
            epoch: view.epoch,
            incarnation: view.observed.incarnation,
        },
    )
}

/// A replica that connects makes its source read the binary log from its beginning to where the replica goes on, before it
/// acknowledges anything. A mysqld that has just started has begun a new one; one that replicated may have filled a gigabyte. It
/// is tried once, before replicas connect, beside the steps up to the first row: without commits that wait for acknowledgements
/// it takes as long as a commit.
fn must_rotate(view: &View<'_>, server: &Server) -> bool {
    server.channel.is_some()
        && !server.source_semi_sync
        && view.memory.work.is_none()
        && view.memory.rotated != Some((view.epoch, view.observed.incarnation))
}

/// Apply everything: what was acknowledged in the epochs before, and what else has arrived. The channel stays, its IO thread
/// off, until the tablet is open: forgetting it takes a while, and writers wait.
fn drain(view: &View<'_>, order: &Order<'_>, server: &Server) -> Option<Step> {
    let Some(channel) = &server.channel else {
        return (!server.executed.contains(order.start_gtid))
            .then(|| Step::blocked(missing(order, &server.executed)));
    };
    if channel.io != ThreadState::Off {
        return Some(view.attempt(Action::StopIoThread));
    }
    let all = order.start_gtid.union(&server.received);
    if server.executed.contains(&all) {
        return None;
    }
    if let Some(step) = keep_applying(view, server) {
        return Some(step);
    }
    if !server.received.contains(order.start_gtid) {
        return Some(Step::blocked(missing(order, &server.received)));
    }
    Some(Step::blocked("the relay log is being applied"))
}

fn missing(order: &Order<'_>, have: &GtidSet) -> String {
    format!(
        "the epoch starts with transactions that are not here: {}",
        order.start_gtid.subtract(have)
    )
}

fn keep_open(
    view: &View<'_>,
    order: &Order<'_>,
    server: &Server,
    primaryship: &Primaryship,
) -> Step {
    if !server.source_semi_sync || server.wait_for_replica_count != order.acks {
        return view.attempt(Action::EnableSourceSemiSync { acks: order.acks });
    }
    if server.super_read_only {
        return view.attempt(Action::OpenForAgent);
    }
    if server.offline_mode {
        return view.attempt(Action::RestoreSessions);
    }
    if server.read_only {
        return view.attempt(Action::OpenForAll);
    }
    let opened = view.observed.incarnation;
    if primaryship.opened != Some(opened) {
        return view.attempt(Action::Persist(Record::Opened {
            incarnation: opened,
        }));
    }
    if let Some(step) = settle_accounts(view) {
        return step;
    }
    if let Some(step) = lock_out(view, order) {
        return step;
    }
    if let Some(step) = push(view, server) {
        return step;
    }
    if server.channel.is_some() {
        return view.attempt(Action::ResetReplication);
    }
    if order.confirm && view.memory.confirmed != Some(view.generation) {
        return work(
            view,
            Work::Confirm {
                epoch: view.epoch,
                incarnation: view.observed.incarnation,
                generation: view.generation,
            },
        );
    }
    let absent = order
        .schemas
        .iter()
        .find(|name| !server.schemas.contains(*name));
    if let Some(name) = absent {
        return work(view, Work::CreateSchema { name: name.clone() });
    }
    // Each exactly once: whatever stands in the server about a task, also a start without an end, is its outcome.
    let next = order.schema_tasks.iter().find(|task| {
        let key = (task.id, task.schema.clone());
        !server.schema_changes.contains_key(&key)
    });
    match next {
        Some(task) => work(view, Work::SchemaChange(task.clone())),
        None => Step::rest(),
    }
}

/// Commits wait although an acker is connected. It may have received them before it acknowledged, or over a connection that has
/// broken, and then it never says so; a later row that it does acknowledge releases them. The row waits for that like any other.
fn push(view: &View<'_>, server: &Server) -> Option<Step> {
    let (incarnation, acker) = (view.observed.incarnation, server.newest_acker?);
    let due = view.memory.push_is_due(incarnation, acker, view.now_ms);
    due.then(|| {
        view.attempt(Action::StartWork(Work::Push {
            epoch: view.epoch,
            incarnation,
            acker,
        }))
    })
}

/// After the others' accounts, so that nothing that is ordered later opens what is locked here. An epoch that opens on this server again
/// finds its locks as they were. While it fails, all else goes on.
fn lock_out(view: &View<'_>, order: &Order<'_>) -> Option<Step> {
    let known = view.memory.locked_out.as_ref();
    let is_done = known.is_some_and(|(life, tablets)| {
        *life == view.observed.incarnation && *tablets == order.locked_out
    });
    if is_done || order.locked_out.is_empty() {
        return None;
    }
    let action = Action::LockOut {
        tablets: order.locked_out.to_vec(),
    };
    let waits = view.memory.pause(&action, view.now_ms).is_some();
    (!waits).then(|| view.attempt(action))
}

/// Starts work unless some is under way or it failed a moment ago.
fn work(view: &View<'_>, work: Work) -> Step {
    if let Some(current) = &view.memory.work {
        return match current {
            Work::TermRow { .. } => {
                Step::blocked("the first row of the epoch waits for its acknowledgements")
            }
            _ => Step::rest(),
        };
    }
    if let Some((failed, error, at_ms)) = &view.memory.work_failure
        && *failed == work
        && view.now_ms.saturating_sub(*at_ms) < WORK_RETRY_MS
    {
        return Step::blocked(error.clone());
    }
    view.attempt(Action::StartWork(work))
}
