//! Situations of a tablet that is, becomes or ends being primary.

use super::{
    table::{
        Expect::{Blocked, Do, Rest},
        check, check_all,
    },
    *,
};

fn chosen(h: &mut Host) {
    h.order(5, primary_goal());
    h.memory.rotated = Some((Epoch(5), h.observed.incarnation));
}

fn rotating(h: &mut Host) {
    let (epoch, incarnation) = (h.desired.epoch, h.observed.incarnation);
    let begins = Action::StartWork(Work::RotateBinaryLog { epoch, incarnation });
    h.memory.note(&begins, Ok(()), epoch, incarnation, h.now_ms);
}

#[test]
fn a_new_primary_begins_a_new_binary_log() {
    check_all(vec![
        (
            "replicas do not wait for what an earlier primary wrote",
            Host::replica,
            |h| h.order(5, primary_goal()),
            Do(Action::StartWork(Work::RotateBinaryLog {
                epoch: Epoch(5),
                incarnation: Incarnation(7),
            })),
        ),
        (
            "while it begins, the receiver stops",
            Host::replica,
            |h| {
                h.order(5, primary_goal());
                rotating(h);
            },
            Do(Action::StopIoThread),
        ),
        (
            "the first row waits for it",
            Host::primary,
            |h| {
                h.observed.incarnation = Incarnation(8);
                rotating(h);
            },
            Rest,
        ),
        (
            "it waits for no commit that waits",
            Host::replica,
            |h| {
                h.order(5, primary_goal());
                h.server().source_semi_sync = true;
            },
            Do(Action::StopIoThread),
        ),
        (
            "a mysqld that has just started has a new one",
            Host::replica,
            |h| {
                h.order(5, primary_goal());
                h.server().channel = None;
            },
            Do(Action::EnableSourceSemiSync { acks: 1 }),
        ),
    ]);
}

#[test]
fn becoming_primary() {
    check_all(vec![
        (
            "revoke first",
            Host::replica,
            chosen,
            Do(Action::StopIoThread),
        ),
        (
            "drain first",
            Host::replica,
            |h| {
                chosen(h);
                h.channel().io = ThreadState::Off;
                h.server().executed = set("A:1-10,B:1-4");
            },
            Blocked("relay log"),
        ),
        (
            "what it lacks it cannot drain",
            Host::replica,
            |h| {
                chosen(h);
                h.channel().io = ThreadState::Off;
                h.server().executed = set("A:1-10,B:1-4");
                h.server().received = set("A:1-10,B:1-4");
            },
            Blocked("not here"),
        ),
        (
            "drained",
            Host::replica,
            |h| {
                chosen(h);
                h.channel().io = ThreadState::Off;
            },
            Do(Action::EnableSourceSemiSync { acks: 1 }),
        ),
        (
            "semi-sync only now",
            Host::replica,
            |h| {
                chosen(h);
                h.server().channel = None;
            },
            Do(Action::EnableSourceSemiSync { acks: 1 }),
        ),
    ]);
}

#[test]
fn being_primary() {
    check_all(vec![
        ("open", Host::primary, |_| {}, Rest),
        (
            "exited: the coordinator decides",
            Host::primary,
            |h| h.down(),
            Blocked("coordinator decides"),
        ),
        (
            "allowed to start again",
            Host::primary,
            |h| {
                h.down();
                h.order(4, restart(7));
            },
            Do(Action::StartMysqld),
        ),
        (
            "allowed for an earlier life",
            Host::primary,
            |h| {
                h.down();
                h.order(4, restart(6));
            },
            Blocked("coordinator decides"),
        ),
        (
            "started again: closed until acknowledged anew",
            Host::primary,
            |h| {
                h.observed.incarnation = Incarnation(8);
                h.memory.term_row = Some((Epoch(4), Incarnation(7)));
            },
            Do(Action::StartWork(Work::TermRow {
                epoch: Epoch(4),
                incarnation: Incarnation(8),
            })),
        ),
        (
            "read-only by a demotion that was taken back",
            Host::primary,
            |h| {
                h.server().super_read_only = true;
                h.server().read_only = true;
                h.order(4, primary_goal());
            },
            Do(Action::OpenForAgent),
        ),
        (
            "semi-sync was switched off",
            Host::primary,
            |h| h.server().source_semi_sync = false,
            Do(Action::EnableSourceSemiSync { acks: 1 }),
        ),
        (
            "a schema is missing",
            Host::primary,
            |h| h.server().schemas.clear(),
            Do(Action::StartWork(Work::CreateSchema {
                name: "commerce".into(),
            })),
        ),
    ]);
}

fn restart(incarnation: u64) -> Goal {
    let mut goal = primary_goal();
    if let Goal::Primary { restart_after, .. } = &mut goal {
        *restart_after = Some(Incarnation(incarnation));
    }
    goal
}

#[test]
fn demoting() {
    check_all(vec![
        (
            "transactions may end",
            Host::primary,
            |h| {
                h.server().app_transactions = 2;
                h.order(4, Goal::Demote { grace_ms: 100 });
            },
            Rest,
        ),
        (
            "none is open",
            Host::primary,
            |h| h.order(4, Goal::Demote { grace_ms: 100 }),
            Do(Action::CloseForDemotion),
        ),
        (
            "the grace is over",
            Host::primary,
            |h| {
                h.server().app_transactions = 2;
                h.order(4, Goal::Demote { grace_ms: 100 });
                h.now_ms += 100;
            },
            Do(Action::CloseForDemotion),
        ),
        (
            "closed",
            Host::primary,
            |h| {
                h.server().super_read_only = true;
                h.order(4, Goal::Demote { grace_ms: 100 });
            },
            Rest,
        ),
    ]);
}

#[test]
fn schema_changes_run_once() {
    let task = SchemaTask {
        id: 3,
        schema: "commerce".into(),
        statements: vec!["CREATE TABLE t (id INT PRIMARY KEY)".into()],
    };
    for (state, runs) in [
        (None, true),
        (Some(SchemaChangeState::Started), false),
        (Some(SchemaChangeState::Done), false),
        (
            Some(SchemaChangeState::Failed { error: "no".into() }),
            false,
        ),
    ] {
        let mut host = Host::primary();
        let mut goal = primary_goal();
        if let Goal::Primary { schema_tasks, .. } = &mut goal {
            schema_tasks.push(task.clone());
        }
        host.order(4, goal);
        host.server().schema_changes.extend(
            state
                .clone()
                .map(|state| ((3, "commerce".to_owned()), state)),
        );
        let expect = if runs {
            Do(Action::StartWork(Work::SchemaChange(task.clone())))
        } else {
            Rest
        };
        check(&format!("{state:?}"), &expect, &host);
    }
}

#[test]
fn a_generation_is_written_down_before_an_end_is_claimed_and_else_in_time() {
    let promise = |epoch| {
        Do(Action::Persist(Record::Promise {
            epoch: Epoch(epoch),
            generation: Generation(21),
        }))
    };
    let newer = |goal: Goal| {
        let mut host = Host::primary();
        host.desired.generation = Generation(21);
        host.desired.goal = goal;
        host.memory.follow(&host.desired, host.now_ms);
        host
    };
    let demoting = newer(Goal::Demote { grace_ms: 100 });
    check("before a demotion", &promise(4), &demoting);
    assert_eq!(demoting.claims().demoted, None);
    let mut open = newer(primary_goal());
    check("not while somebody waits", &Rest, &open);
    open.now_ms += 500;
    check("in time", &promise(4), &open);
}

/// An old desired state is confirmed by nothing but a row that was written for this one.
#[test]
fn a_row_is_confirmed_for_the_desired_state_that_asks_for_it() {
    let mut goal = primary_goal();
    if let Goal::Primary { confirm, .. } = &mut goal {
        *confirm = true;
    }
    let mut host = Host::primary();
    host.order(4, goal);
    let asked = host.desired.generation;
    host.memory.confirmed = Some(Generation(asked.0 - 1));
    let work = Work::Confirm {
        epoch: Epoch(4),
        incarnation: Incarnation(7),
        generation: asked,
    };
    check("before", &Do(Action::StartWork(work.clone())), &host);
    assert_eq!(host.claims().confirmed, None);
    host.memory
        .work_ended(&work, Err("no".to_owned()), host.now_ms);
    assert_eq!(host.claims().confirmed, None);
    host.memory.work_ended(&work, Ok(()), host.now_ms);
    check("after", &Rest, &host);
    assert_eq!(host.claims().confirmed, Some(asked));
    host.order(4, primary_goal());
    assert_eq!(host.claims().confirmed, None, "nobody asks any more");
}

/// An acker of an open primary is told to stop: the order is on its disk before it says that it is silent.
#[test]
fn silence_is_claimed_behind_an_order_on_disk_and_a_stopped_thread() {
    let mut host = Host::replica();
    host.desired.generation = Generation(21);
    host.desired.goal = Goal::Revoke;
    host.memory.follow(&host.desired, host.now_ms);
    let promise = Record::Promise {
        epoch: Epoch(4),
        generation: Generation(21),
    };
    check("first", &Do(Action::Persist(promise.clone())), &host);
    host.channel().io = ThreadState::Off;
    host.memory.io_stopped = Some((Epoch(4), host.observed.incarnation));
    assert_eq!(
        host.claims().silent,
        None,
        "an agent that starts anew would go on"
    );
    host.persisted.apply(&promise);
    assert_eq!(host.claims().silent, Some(Generation(21)));
    host.channel().io = ThreadState::Connecting;
    assert_eq!(host.claims().silent, None);
    host.channel().io = ThreadState::Off;
    host.memory.io_stopped = None;
    check("whatever it shows", &Do(Action::StopIoThread), &host);
    assert_eq!(host.claims().silent, None);
    host.down();
    assert_eq!(host.claims().silent, Some(Generation(21)), "nothing runs");
}
