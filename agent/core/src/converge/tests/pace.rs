//! What a replica leaves for later, because others are waited for, and what it does while nobody waits.

use super::{
    table::{
        Expect::{Do, Rest},
        check_all,
    },
    *,
};

/// Was primary, is closed, has all that was kept, and is to follow port 2 without acknowledging.
fn handed_over() -> Host {
    let mut host = Host::primary();
    let mut goal = replica_goal();
    if let Goal::Replica { acker, history, .. } = &mut goal {
        *acker = false;
        history.push(finished(4, "A:1-10,B:1-5"));
    }
    host.order(5, goal);
    host.server().read_only = true;
    host.server().super_read_only = true;
    host
}

fn later(h: &mut Host) {
    h.now_ms += 300;
}

fn is_acker(h: &mut Host) {
    if let Goal::Replica { acker, .. } = &mut h.desired.goal {
        *acker = true;
    }
}

#[test]
fn who_need_not_acknowledge_lets_the_others_connect_first() {
    check_all(vec![
        ("at first", handed_over, |_| {}, Rest),
        (
            "then it goes on",
            handed_over,
            later,
            Do(Action::RemoveRoleMarker),
        ),
        (
            "one that is to acknowledge is waited for",
            handed_over,
            is_acker,
            Do(Action::RemoveRoleMarker),
        ),
        (
            "commits that wait end now",
            handed_over,
            |h| h.server().wait_sessions = 1,
            Do(Action::KillMysqld),
        ),
        (
            "nobody writes meanwhile",
            handed_over,
            |h| h.server().super_read_only = false,
            Do(Action::CloseServer),
        ),
        (
            "one that follows its source already is not kept from acting",
            Host::replica,
            |h| {
                h.order(4, h.desired.goal.clone());
                h.channel().sql = ThreadState::Off;
                if let Goal::Replica { acker, .. } = &mut h.desired.goal {
                    *acker = false;
                }
                h.server().replica_semi_sync = false;
                h.server().replica_acknowledges = false;
            },
            Do(Action::StartSqlThread),
        ),
    ]);
}

fn candidate(h: &mut Host) {
    let mut goal = replica_goal();
    if let Goal::Replica { candidacy, .. } = &mut goal {
        *candidacy = Candidacy::Prepares;
    }
    h.order(4, goal);
}

fn rotation() -> Work {
    Work::RotateBinaryLog {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
    }
}

#[test]
fn a_candidate_begins_a_new_binary_log_beforehand() {
    check_all(vec![
        (
            "while writes go on",
            Host::replica,
            candidate,
            Do(Action::StartWork(rotation())),
        ),
        (
            "no other work is given up for it",
            Host::replica,
            |h| {
                candidate(h);
                h.memory.work = Some(Work::CreateSchema { name: "a".into() });
            },
            Rest,
        ),
    ]);
    for outcome in [Ok(()), Err("no".to_owned())] {
        let mut host = Host::replica();
        candidate(&mut host);
        let begins = Action::StartWork(rotation());
        host.memory
            .note(&begins, Ok(()), Epoch(4), Incarnation(7), host.now_ms);
        assert_eq!(host.claims().prepared, None, "it is under way");
        host.memory
            .work_ended(&rotation(), outcome.clone(), host.now_ms);
        assert_eq!(
            host.claims().prepared,
            Some(Generation(21)),
            "the switchover does without one that cannot be begun: {outcome:?}"
        );
        assert_eq!(host.step(), Step::rest());
        candidate(&mut host);
        assert_eq!(host.claims().prepared, None, "another switchover");
        assert_eq!(host.step().action, Some(begins));
    }
}
