//! A fence while mysqld's disk, or the agent's, takes nothing.

use vt_proto::report::{DiskProbe, DiskState, WriteCause, WriteFailure, WriteProbe};

use super::{
    table::{
        Expect::{Blocked, Do, Rest},
        check_all,
    },
    *,
};

/// A newer epoch fences this primary, and nothing of that is written down yet.
fn to_be_fenced() -> Host {
    let mut host = Host::primary();
    host.order(5, Goal::Fence);
    host.persisted.promised = Epoch(4);
    host.persisted.generation = Generation(20);
    host
}

fn disk(state: DiskState) -> Option<DiskProbe> {
    Some(DiskProbe {
        state,
        success_age_ms: None,
        detail: String::new(),
    })
}

fn promise() -> Action {
    Action::Persist(Record::Promise {
        epoch: Epoch(5),
        generation: Generation(21),
    })
}

#[test]
fn a_fence_does_not_wait_for_a_disk() {
    check_all(vec![
        (
            "a healthy disk is written to first",
            to_be_fenced,
            |h| h.observed.disk_probe = disk(DiskState::Good),
            Do(promise()),
        ),
        (
            "with a stalled disk mysqld is killed first",
            to_be_fenced,
            |h| h.observed.disk_probe = disk(DiskState::Stalled),
            Do(Action::KillMysqld),
        ),
        (
            "with a full disk mysqld is killed first",
            to_be_fenced,
            |h| h.observed.disk_probe = disk(DiskState::Full),
            Do(Action::KillMysqld),
        ),
        (
            "where the promise cannot be written",
            to_be_fenced,
            |h| {
                let (epoch, generation) = (Epoch(5), Generation(21));
                h.failed(Action::Persist(Record::Promise { epoch, generation }), 1);
            },
            Do(Action::KillMysqld),
        ),
        (
            "where the marker cannot be written",
            to_be_fenced,
            |h| {
                h.persisted.promised = Epoch(5);
                h.failed(Action::WriteFenceMarker { epoch: Epoch(5) }, 1);
            },
            Do(Action::KillMysqld),
        ),
    ]);
}

#[test]
fn what_hangs_is_killed_and_what_is_down_waits() {
    check_all(vec![
        (
            "what is down is written down",
            to_be_fenced,
            |h| {
                h.down();
                h.observed.disk_probe = disk(DiskState::Full);
            },
            Do(promise()),
        ),
        (
            "and marked",
            to_be_fenced,
            |h| {
                h.down();
                h.persisted.promised = Epoch(5);
                h.observed.disk_probe = disk(DiskState::Full);
            },
            Do(Action::WriteFenceMarker { epoch: Epoch(5) }),
        ),
        (
            "a commit that hangs would hold the read-only switch",
            to_be_fenced,
            |h| {
                h.persisted.promised = Epoch(5);
                h.observed.fence_marker = Some(Epoch(5));
                h.observed.write_probe = Some(WriteProbe {
                    success_age_ms: None,
                    failure: Some(WriteFailure {
                        since_ms: 1_500,
                        cause: WriteCause::Unknown,
                        detail: String::new(),
                    }),
                });
            },
            Do(Action::KillMysqld),
        ),
        (
            "a replica that is down waits for its disk",
            Host::replica,
            |h| {
                h.down();
                h.observed.disk_probe = disk(DiskState::Full);
            },
            Blocked("make room"),
        ),
        (
            "nobody is killed for a bad disk alone",
            Host::primary,
            |h| h.observed.disk_probe = disk(DiskState::Full),
            Rest,
        ),
    ]);
}
