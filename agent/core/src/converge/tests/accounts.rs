//! The accounts of the other tablets: made everywhere before they are needed, and locked where the primary is told to refuse somebody.

use super::{
    table::{Expect::*, check},
    *,
};

fn tablets(uids: &[u32]) -> Vec<TabletAlias> {
    let alias = |uid: &u32| format!("zone1-{uid}").parse().unwrap();
    uids.iter().map(alias).collect()
}

fn settle(uids: &[u32]) -> Action {
    Action::SettleAccounts {
        open: tablets(uids),
    }
}

fn lock_out(uids: &[u32]) -> Action {
    Action::LockOut {
        tablets: tablets(uids),
    }
}

/// The primary of 101 and 102, told to refuse these.
fn refusing(uids: &[u32]) -> Goal {
    let mut goal = primary_goal();
    if let Goal::Primary { locked_out, .. } = &mut goal {
        *locked_out = tablets(uids);
    }
    goal
}

fn primary() -> Host {
    let mut host = Host::primary();
    host.desired.replicas = tablets(&[101, 102]);
    host
}

impl Host {
    fn fails(&mut self, action: &Action) {
        let life = self.observed.incarnation;
        let outcome = Err("no".to_owned());
        self.memory
            .note(action, outcome, Epoch(4), life, self.now_ms);
    }
}

#[test]
fn every_tablet_makes_the_accounts_of_the_others_once_in_a_life_of_mysqld() {
    for goal in [Goal::Standby, replica_goal(), primary_goal()] {
        let mut host = match goal {
            Goal::Primary { .. } => Host::primary(),
            _ => Host::replica(),
        };
        host.desired.goal = goal;
        if host.desired.goal == Goal::Standby {
            host.server().channel = None;
        }
        host.desired.replicas = tablets(&[101, 102]);
        check("at first", &Do(settle(&[101, 102])), &host);
        // Whatever holds them up holds up nothing else.
        host.fails(&settle(&[101, 102]));
        check("not at once again", &Rest, &host);
        host.now_ms += 200;
        host.carry_out(&settle(&[101, 102]));
        check("then", &Rest, &host);
        host.desired.replicas = tablets(&[101, 102, 103]);
        check("one more", &Do(settle(&[101, 102, 103])), &host);
        host.carry_out(&settle(&[101, 102, 103]));
        host.observed.incarnation = Incarnation(8);
        check("another life", &Do(settle(&[101, 102, 103])), &host);
    }
}

#[test]
fn a_lock_out_is_claimed_behind_an_order_on_disk_and_in_the_life_that_it_was_seen_in() {
    let mut host = primary();
    host.desired.generation = Generation(21);
    host.desired.goal = refusing(&[102]);
    host.memory.follow(&host.desired, host.now_ms);
    let promise = Record::Promise {
        epoch: Epoch(4),
        generation: Generation(21),
    };
    check("first", &Do(Action::Persist(promise.clone())), &host);
    host.carry_out(&lock_out(&[102]));
    assert_eq!(host.claims().locked_out, None, "it is not on disk");
    host.persisted.apply(&promise);
    host.carry_out(&settle(&[101]));
    assert_eq!(
        host.claims().locked_out,
        None,
        "an account was opened since"
    );
    check("after the others", &Do(lock_out(&[102])), &host);
    host.fails(&lock_out(&[102]));
    check("not at once again", &Rest, &host);
    assert_eq!(host.claims().locked_out, None);
    host.carry_out(&lock_out(&[102]));
    assert_eq!(host.claims().locked_out, Some(Generation(21)));
    let other_life = host.observed.incarnation.next();
    host.observed.incarnation = other_life;
    assert_eq!(host.claims().locked_out, None);
}

/// What was ordered before, and may yet be carried out, takes a claim away.
#[test]
fn an_account_that_may_have_been_opened_is_locked_anew() {
    let mut host = primary();
    host.order(4, refusing(&[102]));
    for action in [settle(&[101]), lock_out(&[102])] {
        check("in turn", &Do(action.clone()), &host);
        host.carry_out(&action);
    }
    host.order(4, refusing(&[]));
    check("let in", &Do(settle(&[101, 102])), &host);
    host.fails(&settle(&[101, 102]));
    host.order(4, refusing(&[102]));
    assert_eq!(host.claims().locked_out, None);
    for action in [settle(&[101]), lock_out(&[102])] {
        check("again", &Do(action.clone()), &host);
        host.carry_out(&action);
    }
    assert_eq!(host.claims().locked_out, Some(host.desired.generation));
    host.order(4, refusing(&[]));
    check("and let in again", &Do(settle(&[101, 102])), &host);
}

#[test]
fn a_copied_channel_is_forgotten_before_it_connects() {
    let mut host = Host::replica();
    host.channel().own_account = false;
    check("running", &Do(Action::StopIoThread), &host);
    host.channel().io = ThreadState::Off;
    check("stopped", &Do(Action::ResetReplication), &host);
}
