//! An applier that has stopped on an error, and the relay log that a change of the source may cost.

use super::{
    table::{
        Expect::{Blocked, Do, Rest},
        check_all,
    },
    *,
};

const MISSING: (u32, &str) = (1032, "the row to change is not here");

fn fails(h: &mut Host) {
    h.server().received = set("A:1-10,B:1-9");
    h.channel().sql = ThreadState::Off;
    h.channel().sql_error = Some((MISSING.0, MISSING.1.to_owned()));
}

/// Starting it again has not helped: a look when it fails, a start, another failure, and time.
fn stuck(h: &mut Host) {
    fails(h);
    h.memory.look(&h.observed, h.now_ms);
    h.channel().sql = ThreadState::On;
    h.channel().sql_error = None;
    h.now_ms += 10_000;
    let (promised, incarnation) = (h.persisted.promised, h.observed.incarnation);
    h.memory.note(
        &Action::StartSqlThread,
        Ok(()),
        promised,
        incarnation,
        h.now_ms,
    );
    h.memory.look(&h.observed, h.now_ms + 10);
    assert!(!h.memory.is_stuck());
    fails(h);
    h.now_ms += 5_500;
    h.memory.look(&h.observed, h.now_ms);
    assert!(h.memory.is_stuck());
}

pub fn no_acker(h: &mut Host) {
    if let Goal::Replica { acker, .. } = &mut h.desired.goal {
        *acker = false;
    }
    h.server().replica_semi_sync = false;
    h.server().replica_acknowledges = false;
}

/// The data were replaced, because applying did not go on or for another reason.
fn copied(h: &mut Host, is_stuck: bool) {
    assert_eq!(h.memory.is_stuck(), is_stuck);
    let (promised, incarnation) = (h.persisted.promised, h.observed.incarnation);
    let reason = "some".to_owned();
    for action in [
        Action::Persist(Record::CloneNeeded {
            reason: reason.clone(),
        }),
        Action::Persist(Record::CloneBegins { reason }),
        Action::Clone {
            donor: endpoint(2),
            may_lose: GtidSet::new(),
            followed: None,
        },
    ] {
        h.memory
            .note(&action, Ok(()), promised, incarnation, h.now_ms);
    }
    h.channel().sql_error = None;
    h.server().executed = set("A:1-10,B:1-6");
    h.memory.look(&h.observed, h.now_ms);
    assert!(!h.memory.is_stuck());
    h.server().executed = set("A:1-10,B:1-5");
}

fn moves(h: &mut Host) {
    h.channel().source = endpoint(9);
    h.channel().io = ThreadState::Off;
    h.server().received = set("A:1-10,B:1-9");
}

fn at_risk() -> Record {
    Record::RelayLogAtRisk {
        received: set("A:1-10,B:1-9"),
    }
}

fn put_at_risk(h: &mut Host) {
    moves(h);
    let (promised, incarnation) = (h.persisted.promised, h.observed.incarnation);
    let action = Action::Persist(at_risk());
    h.memory
        .note(&action, Ok(()), promised, incarnation, h.now_ms);
    h.persisted.apply(&at_risk());
    assert!(h.persisted.is_amnesiac(&h.observed.boot_id, None));
}

#[test]
fn only_one_that_does_not_acknowledge_is_copied() {
    check_all(vec![
        (
            "an error may heal",
            Host::replica,
            |h| {
                no_acker(h);
                fails(h);
                h.memory.look(&h.observed, h.now_ms);
                h.now_ms += 1_000;
            },
            Blocked("applying has stopped: the row"),
        ),
        (
            "stuck, and nobody counts on it",
            Host::replica,
            |h| {
                no_acker(h);
                stuck(h);
            },
            Do(Action::Persist(Record::CloneNeeded {
                reason: format!(
                    "it cannot apply what it received: {} (error {})",
                    MISSING.1, MISSING.0
                ),
            })),
        ),
        (
            "stuck, and what it acknowledged may be nowhere else",
            Host::replica,
            stuck,
            Blocked("applying has stopped: the row"),
        ),
        (
            "a copy has not helped a moment ago",
            Host::replica,
            |h| {
                no_acker(h);
                stuck(h);
                copied(h, true);
                stuck(h);
            },
            Blocked("applying has stopped: the row"),
        ),
        (
            "it was copied a moment ago, for another reason",
            Host::replica,
            |h| {
                no_acker(h);
                copied(h, false);
                stuck(h);
            },
            Do(Action::Persist(Record::CloneNeeded {
                reason: format!(
                    "it cannot apply what it received: {} (error {})",
                    MISSING.1, MISSING.0
                ),
            })),
        ),
    ]);
}

#[test]
fn whoever_goes_on_is_not_stuck() {
    type Change = fn(&mut Host);
    let changes: [(&str, Change); 3] = [
        ("it has applied more", |h| {
            h.server().executed = set("A:1-10,B:1-7");
        }),
        ("it runs for a while", |h| {
            h.channel().sql = ThreadState::On;
            h.channel().sql_error = None;
            h.now_ms += 2_000;
        }),
        ("there is no channel any more", |h| {
            h.server().channel = None;
        }),
    ];
    for (name, change) in changes {
        let mut host = Host::replica();
        stuck(&mut host);
        change(&mut host);
        host.memory.look(&host.observed, host.now_ms);
        assert!(!host.memory.is_stuck(), "{name}");
    }
}

#[test]
fn a_relay_log_may_be_lost_only_once_that_is_written_down() {
    check_all(vec![
        (
            "elsewhere, applier off, and nothing in the relay log",
            Host::replica,
            |h| {
                h.channel().source = endpoint(9);
                h.channel().io = ThreadState::Off;
                h.channel().sql = ThreadState::Off;
            },
            Do(Action::RepointChannel {
                source: endpoint(2),
            }),
        ),
        (
            "what is not applied is at risk",
            Host::replica,
            moves,
            Do(Action::Persist(at_risk())),
        ),
        (
            "written down: now the source may change",
            Host::replica,
            put_at_risk,
            Do(Action::RepointChannel {
                source: endpoint(2),
            }),
        ),
        (
            "it cannot apply: the relay log may go, for the source has all of it",
            Host::replica,
            |h| {
                put_at_risk(h);
                fails(h);
                h.memory.look(&h.observed, h.now_ms);
            },
            Do(Action::RepointChannel {
                source: endpoint(2),
            }),
        ),
        (
            "one that never acknowledged has nothing to forget",
            Host::replica,
            |h| {
                moves(h);
                h.persisted.acking = None;
            },
            Do(Action::RepointChannel {
                source: endpoint(2),
            }),
        ),
    ]);
}

#[test]
fn it_counts_as_lost_until_it_is_seen() {
    check_all(vec![
        (
            "it is still there",
            Host::replica,
            |h| {
                put_at_risk(h);
                h.channel().source = endpoint(2);
            },
            Do(Action::Persist(Record::Acks {
                boot_id: "boot".into(),
                server_uuid: OWN.into(),
            })),
        ),
        (
            "still there, and its source is gone already",
            Host::replica,
            |h| {
                put_at_risk(h);
                h.order(5, Goal::Revoke);
                h.memory.io_stopped = Some((Epoch(5), Incarnation(7)));
            },
            Do(Action::Persist(Record::Acks {
                boot_id: "boot".into(),
                server_uuid: OWN.into(),
            })),
        ),
        (
            "it is lost: what was acknowledged has to come again first",
            Host::replica,
            |h| {
                put_at_risk(h);
                h.channel().source = endpoint(2);
                h.server().received = set("A:1-10,B:1-5");
            },
            Do(Action::StartIoThread),
        ),
        (
            "lost, and not caught up yet",
            Host::replica,
            |h| {
                put_at_risk(h);
                h.channel().source = endpoint(2);
                h.channel().io = ThreadState::On;
                h.channel().caught_up = false;
                h.server().received = set("A:1-10,B:1-5");
            },
            Rest,
        ),
    ]);
}
