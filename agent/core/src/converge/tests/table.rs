//! One situation a line.

use super::*;

/// What a situation must lead to.
pub(super) enum Expect {
    Do(Action),
    Rest,
    Blocked(&'static str),
}
use Expect::{Blocked, Do, Rest};

pub(super) fn check(name: &str, expect: &Expect, host: &Host) {
    let step = host.step();
    match expect {
        Do(action) => assert_eq!(step.action.as_ref(), Some(action), "{name}"),
        Rest => assert_eq!((step.action, step.blocked), (None, None), "{name}"),
        Blocked(text) => {
            assert_eq!(step.action, None, "{name}");
            let why = step.blocked.unwrap_or_default();
            assert!(why.contains(text), "{name}: '{why}' lacks '{text}'");
        }
    }
}

pub(super) type Case = (&'static str, fn() -> Host, fn(&mut Host), Expect);

pub(super) fn check_all(cases: Vec<Case>) {
    for (name, start, change, expect) in cases {
        let mut host = start();
        change(&mut host);
        check(name, &expect, &host);
    }
}

fn kill() -> Expect {
    Do(Action::KillMysqld)
}

#[test]
fn a_promise_comes_before_everything() {
    for goal in [
        Goal::Standby,
        Goal::Revoke,
        Goal::Fence,
        replica_goal(),
        primary_goal(),
    ] {
        let mut host = Host::primary();
        host.desired.goal = goal.clone();
        host.desired.epoch = Epoch(5);
        host.desired.generation = Generation(21);
        let (epoch, generation) = (Epoch(5), Generation(21));
        let server_uuid = OWN.to_owned();
        let promise = Action::Persist(match goal {
            Goal::Primary { .. } => Record::PromiseAsPrimary {
                epoch,
                generation,
                server_uuid,
            },
            _ => Record::Promise { epoch, generation },
        });
        check("promise", &Do(promise), &host);
        assert_eq!(host.claims().revoked, None);
        assert_eq!(host.claims().fenced, None);
    }
}

#[test]
fn revoking() {
    check_all(vec![
        (
            "running thread",
            Host::replica,
            |h| h.order(5, Goal::Revoke),
            Do(Action::StopIoThread),
        ),
        (
            "a thread that shows off is stopped too",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.channel().io = ThreadState::Off;
            },
            Do(Action::StopIoThread),
        ),
        (
            "without a channel too",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.server().channel = None;
            },
            Do(Action::StopIoThread),
        ),
        (
            "stopped in an earlier epoch does not count",
            Host::replica,
            |h| {
                h.memory.io_stopped = Some((Epoch(4), Incarnation(7)));
                h.order(5, Goal::Revoke);
            },
            Do(Action::StopIoThread),
        ),
        (
            "STOP fails twice",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.failed(Action::StopIoThread, 2);
            },
            kill(),
        ),
    ]);
}

#[test]
fn revoking_where_mysqld_does_not_help() {
    check_all(vec![
        (
            "applier goes on",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.memory.io_stopped = Some((Epoch(5), Incarnation(7)));
                h.channel().io = ThreadState::Off;
                h.channel().sql = ThreadState::Off;
            },
            Do(Action::StartSqlThread),
        ),
        (
            "a hung mysqld gets some time",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.observed.server = None;
                h.observed.unresponsive_ms = Some(1_000);
            },
            Blocked("does not answer"),
        ),
        (
            "and is killed",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.now_ms += 2_000;
                h.observed.server = None;
                h.observed.unresponsive_ms = Some(3_000);
            },
            kill(),
        ),
        (
            "its data is needed",
            Host::replica,
            |h| {
                h.order(5, Goal::Revoke);
                h.down();
            },
            Do(Action::StartMysqld),
        ),
        (
            "an open primary is fenced",
            Host::primary,
            |h| h.order(5, Goal::Revoke),
            Do(Action::WriteFenceMarker { epoch: Epoch(5) }),
        ),
    ]);
}

fn marked(h: &mut Host) {
    h.order(5, Goal::Fence);
    h.observed.fence_marker = Some(Epoch(5));
}

#[test]
fn fencing() {
    check_all(vec![
        (
            "marker first",
            Host::primary,
            |h| h.order(5, Goal::Fence),
            Do(Action::WriteFenceMarker { epoch: Epoch(5) }),
        ),
        (
            "an older marker does not count",
            Host::primary,
            |h| {
                h.order(5, Goal::Fence);
                h.observed.fence_marker = Some(Epoch(4));
            },
            Do(Action::WriteFenceMarker { epoch: Epoch(5) }),
        ),
        (
            "no commit waits",
            Host::primary,
            marked,
            Do(Action::CutSessions),
        ),
        (
            "cut off",
            Host::primary,
            |h| {
                marked(h);
                h.server().offline_mode = true;
            },
            Do(Action::CloseServer),
        ),
        (
            "a commit waits",
            Host::primary,
            |h| {
                marked(h);
                h.server().wait_sessions = 1;
            },
            kill(),
        ),
    ]);
}

#[test]
fn fencing_ends_in_a_kill_or_closed() {
    check_all(vec![
        (
            "cutting is late",
            Host::primary,
            |h| {
                marked(h);
                h.failed(Action::CutSessions, 1);
            },
            kill(),
        ),
        (
            "closing is late",
            Host::primary,
            |h| {
                marked(h);
                h.server().offline_mode = true;
                h.failed(Action::CloseServer, 1);
            },
            kill(),
        ),
        (
            "mysqld is silent",
            Host::primary,
            |h| {
                marked(h);
                h.observed.server = None;
            },
            kill(),
        ),
        (
            "down stays down",
            Host::primary,
            |h| {
                marked(h);
                h.down();
            },
            Rest,
        ),
        (
            "closed and quiet",
            Host::primary,
            |h| {
                marked(h);
                h.server().super_read_only = true;
            },
            Rest,
        ),
        (
            "closed with a commit waiting is not closed",
            Host::primary,
            |h| {
                marked(h);
                h.server().super_read_only = true;
                h.server().wait_sessions = 1;
            },
            kill(),
        ),
    ]);
}

#[test]
fn replicating() {
    check_all(vec![
        ("all is well", Host::replica, |_| {}, Rest),
        (
            "a killed replica starts again",
            Host::replica,
            |h| h.down(),
            Do(Action::StartMysqld),
        ),
        (
            "a crash loop pauses",
            Host::replica,
            |h| {
                h.down();
                h.memory.mysqld_started = Some((h.now_ms - 1_500, 2));
            },
            Blocked("2 times in a row"),
        ),
        (
            "writable",
            Host::replica,
            |h| h.server().super_read_only = false,
            Do(Action::CloseServer),
        ),
        (
            "no channel",
            Host::replica,
            |h| h.server().channel = None,
            Do(Action::ConfigureChannel {
                source: endpoint(2),
            }),
        ),
        (
            "elsewhere, connected",
            Host::replica,
            |h| h.channel().source = endpoint(9),
            Do(Action::StopIoThread),
        ),
        (
            "elsewhere, applier off: a CHANGE would lose the relay log",
            Host::replica,
            |h| {
                h.channel().source = endpoint(9);
                h.channel().io = ThreadState::Off;
                h.channel().sql = ThreadState::Off;
                h.server().received = set("A:1-12,B:1-5");
            },
            Do(Action::StartSqlThread),
        ),
        (
            "elsewhere, applier on",
            Host::replica,
            |h| {
                h.channel().source = endpoint(9);
                h.channel().io = ThreadState::Off;
            },
            Do(Action::RepointChannel {
                source: endpoint(2),
            }),
        ),
    ]);
}

#[test]
fn replicating_once_connected() {
    check_all(vec![
        (
            "not acknowledging by setting",
            Host::replica,
            |h| h.server().replica_semi_sync = false,
            Do(Action::SetReplicaSemiSync { enabled: true }),
        ),
        (
            "not acknowledging in effect",
            Host::replica,
            |h| h.server().replica_acknowledges = false,
            Do(Action::StopIoThread),
        ),
        (
            "just started",
            Host::replica,
            |h| {
                h.memory.io_started_ms = Some(h.now_ms - 100);
                h.server().replica_acknowledges = false;
            },
            Rest,
        ),
        (
            "threads off",
            Host::replica,
            |h| h.channel().io = ThreadState::Off,
            Do(Action::StartIoThread),
        ),
    ]);
}

#[test]
fn replicating_in_trouble() {
    check_all(vec![
        (
            "source-side semi-sync stalls the applier",
            Host::replica,
            |h| {
                h.server().source_semi_sync = true;
                h.channel().sql = ThreadState::Off;
            },
            Do(Action::DisableSourceSemiSync),
        ),
        (
            "refused for a moment: the source may still be draining",
            Host::replica,
            |h| {
                h.channel().io = ThreadState::Off;
                h.channel().io_error = Some((13_114, "purged".into()));
                h.memory.io_fatal_since_ms = Some(h.now_ms - 1_000);
            },
            Do(Action::StartIoThread),
        ),
    ]);
}

fn cut() -> Action {
    Action::CutTail {
        kept: set("A:1-10,B:1-5"),
        epoch: Epoch(4),
    }
}

fn back(h: &mut Host) {
    let mut goal = replica_goal();
    if let Goal::Replica { history, .. } = &mut goal {
        history.push(finished(4, "A:1-10,B:1-5"));
    }
    h.order(5, goal);
}

#[test]
fn a_former_primary_returns() {
    check_all(vec![
        (
            "its tail is cut before it starts",
            Host::primary,
            |h| {
                back(h);
                h.down();
                h.observed.fence_marker = Some(Epoch(5));
            },
            Do(cut()),
        ),
        (
            "then the marker goes",
            Host::primary,
            |h| {
                back(h);
                h.down();
                h.observed.fence_marker = Some(Epoch(5));
                h.persisted.apply(&Record::TailCut);
            },
            Do(Action::RemoveFenceMarker),
        ),
        (
            "cutting fails twice: copy",
            Host::primary,
            |h| {
                back(h);
                h.down();
                h.failed(cut(), 2);
            },
            Do(Action::Persist(Record::CloneNeeded {
                reason: "cutting the tail of epoch 4 failed: no".into(),
            })),
        ),
        (
            "what was kept is not known: copy",
            Host::primary,
            |h| {
                h.order(5, replica_goal());
                h.down();
            },
            Do(Action::Persist(Record::CloneNeeded {
                reason: "what was kept of epoch 4 is not known any more".into(),
            })),
        ),
    ]);
}

#[test]
fn a_former_primary_that_still_runs() {
    check_all(vec![
        (
            "it still runs, open",
            Host::primary,
            back,
            Do(Action::CloseServer),
        ),
        (
            "it still runs, a commit waits",
            Host::primary,
            |h| {
                back(h);
                h.server().wait_sessions = 1;
            },
            kill(),
        ),
        (
            "demoted cleanly",
            Host::primary,
            |h| {
                back(h);
                h.server().super_read_only = true;
                h.observed.role_marker = false;
            },
            Do(Action::Persist(Record::PrimaryshipOver)),
        ),
        (
            "closed with a tail",
            Host::primary,
            |h| {
                back(h);
                h.server().super_read_only = true;
                h.server().executed = set("A:1-12,B:1-5");
            },
            kill(),
        ),
        (
            "asked to be replica in its own epoch",
            Host::primary,
            |h| h.order(4, replica_goal()),
            Blocked("recorded as primary of epoch 4"),
        ),
    ]);
}

#[test]
fn claims_need_their_proof() {
    let mut host = Host::replica();
    host.order(5, Goal::Revoke);
    host.memory.io_stopped = Some((Epoch(5), Incarnation(7)));
    assert_eq!(host.claims().revoked, None, "the thread still shows on");
    host.channel().io = ThreadState::Connecting;
    assert_eq!(host.claims().revoked, None, "connecting is alive");
    host.channel().io = ThreadState::Off;
    assert_eq!(host.claims().revoked, Some(Epoch(5)));
    host.observed.incarnation = Incarnation(8);
    assert_eq!(host.claims().revoked, None, "stopped in an earlier life");

    let mut host = Host::primary();
    assert_eq!(host.claims().serving, Some(Epoch(4)));
    host.server().source_semi_sync = false;
    assert_eq!(host.claims().serving, None, "without semi-sync");
    let mut host = Host::primary();
    host.observed.incarnation = Incarnation(8);
    assert_eq!(host.claims().serving, None, "in another life");
    host.order(5, Goal::Fence);
    host.server().super_read_only = true;
    assert_eq!(host.claims().fenced, None, "no marker");
    host.observed.fence_marker = Some(Epoch(5));
    assert_eq!(host.claims().fenced, Some(Epoch(5)));
    host.server().wait_sessions = 1;
    assert_eq!(host.claims().fenced, None, "a commit waits");
}

#[test]
fn what_it_may_have_forgotten() {
    for (boot_id, uuid, amnesiac) in [
        ("boot", Some(OWN), false),
        ("boot", None, false),
        ("later", Some(OWN), true),
        ("boot", Some(OTHER), true),
    ] {
        let host = Host::replica();
        assert_eq!(
            host.persisted.is_amnesiac(boot_id, uuid),
            amnesiac,
            "{boot_id} {uuid:?}"
        );
    }
    let mut host = Host::replica();
    host.observed.boot_id = "later".into();
    let acks = Action::Persist(Record::Acks {
        boot_id: "later".into(),
        server_uuid: OWN.into(),
    });
    host.channel().caught_up = false;
    check("not caught up", &Rest, &host);
    host.channel().caught_up = true;
    check("caught up", &Do(acks), &host);
}
