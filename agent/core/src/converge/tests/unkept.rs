//! Transactions that a replica received of an ended epoch and that nobody kept.

use super::{
    table::{
        Expect::{Do, Rest},
        check_all,
    },
    *,
};

const ENDED: &str = "cccccccc-0000-0000-0000-000000000000";

/// It has one transaction more of an ended epoch than the next one began with.
fn ahead(h: &mut Host) {
    if let Goal::Replica { acker, .. } = &mut h.desired.goal {
        *acker = false;
    }
    h.server().replica_semi_sync = false;
    h.server().replica_acknowledges = false;
    let more: GtidSet = format!("{ENDED}:1-4").parse().unwrap();
    let all = h.server().received.union(&more);
    h.server().received = all;
    if let Goal::Replica { history, .. } = &mut h.desired.goal {
        history[0].kept = history[0]
            .kept
            .union(&format!("{ENDED}:1-3").parse().unwrap());
    }
}

fn needed() -> Record {
    Record::CloneNeeded {
        reason: format!("received of an ended epoch and kept nowhere else: {ENDED}:4"),
    }
}

/// Told, and the copy has begun.
fn begun(h: &mut Host) {
    let Record::CloneNeeded { reason } = needed() else {
        unreachable!("a copy is needed");
    };
    h.persisted.apply(&Record::CloneBegins { reason });
    assert!(h.persisted.is_amnesiac(&h.observed.boot_id, None));
}

/// Of the primary, where `followed` was reached last.
fn copy(followed: Option<&str>) -> super::table::Expect {
    Do(Action::Clone {
        donor: endpoint(2),
        may_lose: format!("{ENDED}:4").parse().unwrap(),
        followed: followed.map(str::to_owned),
    })
}

#[test]
fn what_nobody_kept_is_told() {
    check_all(vec![
        ("told", Host::replica, ahead, Do(Action::Persist(needed()))),
        (
            "not while it acknowledges",
            Host::replica,
            |h| {
                ahead(h);
                if let Goal::Replica { acker, .. } = &mut h.desired.goal {
                    *acker = true;
                }
                h.server().replica_semi_sync = true;
                h.server().replica_acknowledges = true;
            },
            Rest,
        ),
        (
            "the primary of the epoch writes",
            Host::replica,
            |h| h.server().received = set("A:1-10,B:1-9"),
            Rest,
        ),
        (
            "whose primary is not connected yet",
            Host::replica,
            |h| {
                ahead(h);
                h.channel().source_uuid = None;
            },
            Rest,
        ),
        (
            "of another source nothing follows",
            Host::replica,
            |h| {
                ahead(h);
                h.channel().source = endpoint(9);
            },
            Do(Action::StopIoThread),
        ),
        (
            "nothing has ended yet",
            Host::replica,
            |h| {
                ahead(h);
                if let Goal::Replica { history, .. } = &mut h.desired.goal {
                    history.clear();
                }
                h.server().executed = set("B:1-5");
            },
            Rest,
        ),
    ]);
}

#[test]
fn what_nobody_kept_is_replaced_by_a_copy() {
    check_all(vec![
        (
            "the thread stops first",
            Host::replica,
            |h| {
                ahead(h);
                h.persisted.apply(&needed());
            },
            Do(Action::StopIoThread),
        ),
        (
            "then the copy is made",
            Host::replica,
            |h| {
                ahead(h);
                begun(h);
                h.channel().io = ThreadState::Off;
            },
            copy(Some(OTHER)),
        ),
        (
            "another primary follows before it is made",
            Host::replica,
            |h| {
                ahead(h);
                begun(h);
                h.channel().io = ThreadState::Off;
                h.channel().source = endpoint(9);
            },
            copy(None),
        ),
    ]);
}
