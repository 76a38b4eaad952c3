//! Commits wait for an acker that has received them and never says so: one more row is written, and not more than that.

use super::{
    table::{
        Expect::{self, Blocked, Do, Rest},
        check,
    },
    *,
};

fn push(acker: u64) -> Expect {
    Do(Action::StartWork(Work::Push {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
        acker,
    }))
}

/// As the shell does: the decision is noted once it is taken.
fn pushed(host: &mut Host, acker: u64) {
    check("a push", &push(acker), host);
    let Some(action) = host.step().action else {
        panic!("nothing is done");
    };
    let (promised, life) = (host.persisted.promised, host.observed.incarnation);
    host.memory
        .note(&action, Ok(()), promised, life, host.now_ms);
    check("once", &Rest, host);
}

fn pass(host: &mut Host, ms: u64) {
    host.now_ms += ms;
    host.memory.look(&host.observed, host.now_ms);
}

/// Commits wait, and the acker of connection 30 is there.
fn stuck() -> Host {
    let mut host = Host::primary();
    host.server().wait_sessions = 2;
    host.server().newest_acker = Some(30);
    pass(&mut host, 0);
    host
}

#[test]
fn a_row_is_pushed_once_for_each_connection_of_an_acker() {
    let mut host = stuck();
    pass(&mut host, 900);
    check("an acknowledgement takes its time", &Rest, &host);
    host.server().newest_acker = None;
    pass(&mut host, 60_000);
    check("nobody acknowledges", &Rest, &host);
    host.server().newest_acker = Some(30);
    pushed(&mut host, 30);
    pass(&mut host, 600_000);
    check("it had its row", &Rest, &host);
    host.server().newest_acker = Some(29);
    check("that was sent over an older connection too", &Rest, &host);

    // Each new connection has one of its own, ever later while nothing is released.
    for (acker, pause_ms) in [(31, 1_000), (32, 2_000), (33, 4_000)] {
        host.memory.waiting.as_mut().unwrap().pushed_ms = host.now_ms;
        host.server().newest_acker = Some(acker);
        pass(&mut host, pause_ms - 100);
        check("pause", &Rest, &host);
        pass(&mut host, 100);
        pushed(&mut host, acker);
    }
    host.memory.waiting.as_mut().unwrap().pushes = 40;
    host.server().newest_acker = Some(34);
    pass(&mut host, 60_000);
    pushed(&mut host, 34);
}

#[test]
fn nothing_is_pushed_while_commits_are_released() {
    let mut host = stuck();
    for number in 6..20 {
        host.server().executed = set(&format!("A:1-10,B:1-{number}"));
        pass(&mut host, 900);
        check("acknowledged one after the other", &Rest, &host);
    }
    host.server().wait_sessions = 0;
    pass(&mut host, 5_000);
    check("nothing waits", &Rest, &host);
    host.server().wait_sessions = 1;
    pass(&mut host, 900);
    check("not for long", &Rest, &host);
}

#[test]
fn a_push_is_due_again_where_it_failed_and_in_the_next_life() {
    let mut host = stuck();
    pass(&mut host, 1_000);
    pushed(&mut host, 30);
    let work = |acker| Work::Push {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
        acker,
    };
    let waiting = Work::CreateSchema {
        name: "commerce".into(),
    };
    host.memory.work = Some(waiting);
    let no = || Err("no".to_owned());
    host.memory.work_ended(&work(29), no(), host.now_ms);
    pass(&mut host, 1_000);
    check("an older one", &Rest, &host);
    host.memory.work_ended(&work(30), no(), host.now_ms);
    assert!(host.memory.work.is_some(), "what may be waiting goes on");
    pushed(&mut host, 30);
    host.observed.incarnation = Incarnation(8);
    if let Some(primaryship) = &mut host.persisted.primaryship {
        primaryship.opened = Some(Incarnation(8));
    }
    host.server().newest_acker = Some(9);
    pass(&mut host, 2_000);
    let expected = Work::Push {
        epoch: Epoch(4),
        incarnation: Incarnation(8),
        acker: 9,
    };
    check("another life", &Do(Action::StartWork(expected)), &host);
}

/// While the first row of the epoch waits, the tablet is not open: that is where nobody else writes.
#[test]
fn a_row_is_pushed_behind_the_first_one() {
    let mut host = stuck();
    host.server().read_only = true;
    if let Some(primaryship) = &mut host.persisted.primaryship {
        primaryship.opened = None;
    }
    host.memory.work = Some(Work::TermRow {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
    });
    check("in time", &Blocked("waits for its acknowledgements"), &host);
    pass(&mut host, 1_000);
    check("late", &push(30), &host);
    let expected = Work::Push {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
        acker: 30,
    };
    let action = Action::StartWork(expected.clone());
    host.memory
        .note(&action, Ok(()), Epoch(4), Incarnation(7), host.now_ms);
    host.memory.work_ended(&expected, Ok(()), host.now_ms);
    assert_eq!(host.claims().serving, None, "only its own row opens it");
    check("then", &Blocked("waits for its acknowledgements"), &host);
}
