//! What requests are answered: once, and for all.

use super::*;

#[test]
fn writes_are_answered_and_a_retry_is_applied_once() {
    let mut world = World::new(3);
    let leader = world.leader();
    let first = world.propose(leader, &nothing("a"));
    world.rounds(3);
    let again = world.propose(leader, &nothing("a"));
    world.rounds(3);
    assert!(world.done[&first].is_ok());
    assert_eq!(world.done[&first], world.done[&again]);
    let other = world
        .hosts
        .keys()
        .copied()
        .find(|id| *id != leader)
        .unwrap();
    let refused = world.propose(other, &nothing("b"));
    world.rounds(1);
    let address = Some(format!("c{leader}:15100"));
    let error = WriteError::NotLeader { leader: address };
    assert_eq!(world.done[&refused], Err(error));
}

#[test]
fn a_write_after_its_deadline_is_not_proposed() {
    let mut world = World::new(1);
    let leader = world.leader();
    let token = world.token();
    let input = Input::Propose {
        token,
        command: nothing("late"),
        deadline_ms: Some(world.now_ms - 1),
    };
    world.take(leader, input);
    world.rounds(2);
    assert_eq!(world.done[&token], Err(WriteError::Late));
    let state = world.hosts[&leader].member.as_ref().unwrap().core().state();
    assert_eq!(crate::apply::remembered(state, "late"), None);
}

/// The caller was told; neither another leader nor a restart, from the log or from a snapshot, takes that back.
#[test]
fn a_refusal_that_was_told_stands_for_every_leader_and_after_restarts() {
    let mut world = World::new(3);
    let leader = world.leader();
    let state = world.hosts[&leader].member.as_ref().unwrap().core().state();
    let missing = Refusal::Missing {
        reason: "there is no keyspace shop".to_owned(),
    };
    let refusal = crate::intent::refused(state, "a", &missing).unwrap();
    let told = world.propose(leader, &refusal);
    world.rounds(3);
    let refused = Err(WriteError::Refused(missing));
    assert_eq!(world.done[&told], refused);
    world.cut.insert(leader);
    let next = world.leader();
    assert_ne!(next, leader);
    let late = world.propose(next, &nothing("a"));
    world.rounds(3);
    assert_eq!(world.done[&late], refused);
    world.cut.clear();
    world.limits.snapshot_every_entries = 20;
    world.limits.tail_entries = 5;
    // The second time there is more in the log than is kept of it.
    for entries in [0, 50] {
        let leader = world.leader();
        for number in 0..entries {
            world.propose(leader, &nothing(&format!("more-{number}")));
            world.round();
        }
        world.rounds(10);
        for id in 1..=3 {
            let member = world.hosts[&id].member.as_ref().unwrap();
            let snapshot_index = member.status(world.now()).snapshot_index;
            assert_eq!(snapshot_index > 1, entries > 0, "member {id}");
            world.start(id);
        }
        let leader = world.leader();
        let late = world.propose(leader, &nothing("a"));
        world.rounds(3);
        assert_eq!(world.done[&late], refused);
    }
}
