//! Disks that are full, and disks that hang: who leads then.

use super::*;
use crate::member::stall::{PROBE_TICKS, STALL_TICKS};

/// Rounds in which an idle disk that hangs is found out.
const NOTICED_ROUNDS: usize = (PROBE_TICKS + STALL_TICKS) as usize;
/// Rounds that a hand-over takes where it is heard: a question, votes, an entry.
const HAND_OVER_ROUNDS: usize = 3;
/// More than a hand-over that nobody follows and an election take.
const ELECTION_ROUNDS: usize = 50;

impl World {
    /// Lets rounds pass until another member than these leads; says which, and after how many.
    fn another_leader(&mut self, than: &[u64]) -> (u64, usize) {
        for rounds in 1..=500 {
            self.round();
            let mut others = self.hosts.iter().filter(|(id, _)| !than.contains(id));
            let leads = |host: &Host| host.member.as_ref().is_some_and(Member::leads);
            if let Some((id, _)) = others.find(|(_, host)| leads(host)) {
                return (*id, rounds);
            }
        }
        panic!("nobody but {than:?} leads after 500 rounds");
    }

    fn member(&self, id: u64) -> &Member {
        self.hosts[&id].member.as_ref().unwrap()
    }

    fn demand_write(&mut self, leader: u64, request_id: &str) {
        let token = self.propose(leader, &nothing(request_id));
        self.rounds(5);
        assert!(self.done[&token].is_ok(), "{:?}", self.done[&token]);
    }
}

#[test]
fn a_full_disk_gives_leadership_away_and_takes_no_writes() {
    let mut world = World::new(3);
    let old = world.leader();
    world.take(old, Input::DiskFull(true));
    let token = world.propose(old, &nothing("x"));
    world.rounds(10);
    assert_eq!(world.done[&token], Err(WriteError::DiskFull));
    let new = world.leader();
    assert_ne!(new, old);
    let token = world.propose(new, &nothing("x"));
    world.rounds(5);
    assert!(world.done[&token].is_ok());
}

#[test]
fn whoever_leads_with_a_full_disk_goes_on_giving_leadership_away_until_one_has_space() {
    let mut world = World::new(3);
    let with_space = world.leader();
    let full: Vec<_> = (1..=3).filter(|id| *id != with_space).collect();
    for id in &full {
        world.take(*id, Input::DiskFull(true));
    }
    for id in full {
        let to = Some(id);
        let leader = world.leader();
        let token = world.token();
        world.take(leader, Input::Transfer { token, to });
        world.rounds(20);
        assert_eq!(world.leader(), id);
        world.rounds(10 * leadership::GIVE_AWAY_TICKS as usize);
        assert_eq!(world.leader(), with_space);
    }
}

#[test]
fn a_leader_whose_disk_hangs_while_nothing_is_written_hands_over() {
    let mut world = World::new(3);
    let old = world.leader();
    world.rounds(5);
    world.hung.insert(old);
    let (new, rounds) = world.another_leader(&[old]);
    let most = NOTICED_ROUNDS + HAND_OVER_ROUNDS;
    assert!(rounds <= most, "{rounds} rounds, and {most} were allowed");
    assert!(!world.member(old).leads());
    assert!(world.member(old).status(world.now()).disk_stalled);
    world.demand_write(new, "without");
    world.rounds(500);
    assert!(world.member(new).leads(), "nobody disturbs it");
    // The disk is back: a follower like any other, which may lead again.
    world.hung.clear();
    world.demand_write(new, "with");
    world.rounds(5);
    assert_eq!(world.member(old).applied(), world.member(new).applied());
    assert!(!world.member(old).status(world.now()).disk_stalled);
    let token = world.token();
    let to = Some(old);
    world.take(new, Input::Transfer { token, to });
    assert_eq!(world.another_leader(&[new]).0, old);
    world.demand_write(old, "again");
}

#[test]
fn a_leader_whose_successor_hangs_as_well_steps_down() {
    let mut world = World::new(5);
    let old = world.leader();
    world.rounds(5);
    // The one that it takes where all are equal.
    let next = (1..=5).rfind(|id| *id != old).unwrap();
    let hung = [old, next];
    world.hung.extend(hung);
    let (new, rounds) = world.another_leader(&hung);
    let most = NOTICED_ROUNDS + ELECTION_ROUNDS;
    assert!(rounds <= most, "{rounds} rounds, and {most} were allowed");
    world.demand_write(new, "without");
}

#[test]
fn a_member_whose_disk_hangs_is_not_elected() {
    let mut world = World::new(3);
    let leader = world.leader();
    world.rounds(5);
    let hung = (1..=3).find(|id| *id != leader).unwrap();
    world.hung.insert(hung);
    world.rounds(NOTICED_ROUNDS + 1);
    let term = world.member(hung).term();
    let token = world.token();
    let to = Some(hung);
    world.take(leader, Input::Transfer { token, to });
    world.rounds(ELECTION_ROUNDS);
    assert!(world.member(leader).leads(), "the other one cannot");
    world.cut.insert(leader);
    world.rounds(4 * ELECTION_ROUNDS);
    assert_eq!(world.member(hung).peer.role(), crate::peer::Role::Follower);
    assert_eq!(world.member(hung).term(), term);
    world.hung.clear();
    let (new, _) = world.another_leader(&[leader]);
    world.demand_write(new, "healed");
}

#[test]
fn while_all_disks_hang_nobody_leads_and_then_one_does() {
    let mut world = World::new(3);
    let leader = world.leader();
    world.rounds(5);
    world.hung.extend(1..=3);
    world.rounds(NOTICED_ROUNDS + ELECTION_ROUNDS);
    assert!(!world.member(leader).leads());
    world.rounds(20 * ELECTION_ROUNDS);
    world.hung.clear();
    let (new, rounds) = world.another_leader(&[]);
    assert!(rounds <= ELECTION_ROUNDS, "{rounds} rounds");
    world.demand_write(new, "healed");
}

#[test]
fn one_that_is_alone_leads_on_whatever_its_disk_does() {
    let mut world = World::new(1);
    world.leader();
    world.hung.insert(1);
    world.rounds(NOTICED_ROUNDS + 4 * ELECTION_ROUNDS);
    assert!(world.member(1).leads());
    assert!(world.member(1).status(world.now()).disk_stalled);
    world.hung.clear();
    world.demand_write(1, "healed");
}

#[test]
fn what_is_said_to_a_member_whose_disk_hangs_does_not_pile_up() {
    let mut world = World::new(3);
    let leader = world.leader();
    world.rounds(5);
    let hung = (1..=3).find(|id| *id != leader).unwrap();
    world.hung.insert(hung);
    // Each turn leaves a batch.
    world.rounds(40 * advance::WRITES_MAX);
    let waits = world.member(hung).in_flight.len();
    assert_eq!(waits, advance::WRITES_MAX);
    let before = world.member(hung).peer.unsent();
    world.rounds(1_000);
    assert_eq!(world.member(hung).peer.unsent(), before);
    world.hung.clear();
    world.demand_write(leader, "healed");
    world.rounds(20);
    let applied = world.member(leader).applied();
    assert_eq!(world.member(hung).applied(), applied);
}
