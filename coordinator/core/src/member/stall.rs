//! A disk that does not answer: whoever leads with it hands over, and nobody is elected with it.
//!
//! A leader applies what its own disk has taken, so that it decides nothing while that hangs, although its heartbeats keep all
//! others from leading. Ticks are counted, not time: a process that slept has not waited for its disk.

use super::{InFlight, Member, Output, advance::WRITES_MAX};
use crate::{
    DISK_STALL_MS, TICK_MS,
    peer::{ELECTION_TICKS, Role},
};

/// Ticks without an answer of the disk after which it counts as stalled.
pub(super) const STALL_TICKS: u32 = (DISK_STALL_MS / TICK_MS) as u32;
/// Ticks of a hand-over, as long as raft goes on with one. After it the leader steps down, whoever has heard it.
const HAND_OVER_TICKS: u32 = ELECTION_TICKS as u32;
/// Ticks after which a disk that had nothing to write is tried: a second. The first write may be a failover, which is not to
/// find out.
pub(super) const PROBE_TICKS: u32 = 20;

/// How the disk answers.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Since it had something to do and finished nothing.
    waits_ticks: u32,
    /// Since it had nothing to do.
    idle_ticks: u32,
}

/// What is to be done about it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Nothing,
    /// Let it show that it takes things.
    Probe,
    /// To another voter.
    HandOver,
    /// Those who are well elect one of themselves.
    StepDown,
}

impl Patience {
    /// One tick passed; `waits`: for something that the disk was given.
    pub(super) fn tick(&mut self, waits: bool) {
        let (waits_ticks, idle_ticks) = match waits {
            true => (self.waits_ticks.saturating_add(1), 0),
            false => (0, self.idle_ticks.saturating_add(1)),
        };
        (self.waits_ticks, self.idle_ticks) = (waits_ticks, idle_ticks);
    }

    /// The disk has finished something.
    pub(super) fn answered(&mut self) {
        self.waits_ticks = 0;
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.waits_ticks >= STALL_TICKS
    }

    /// `others`: somebody else may lead.
    pub(super) fn next(&self, role: Role, others: bool) -> Move {
        if self.idle_ticks >= PROBE_TICKS {
            return Move::Probe;
        }
        if !self.is_stalled() || !others {
            return Move::Nothing;
        }
        match role {
            Role::Follower => Move::Nothing,
            Role::Candidate => Move::StepDown,
            Role::Leader if self.waits_ticks == STALL_TICKS => Move::HandOver,
            Role::Leader if self.waits_ticks < STALL_TICKS + HAND_OVER_TICKS => Move::Nothing,
            Role::Leader => Move::StepDown,
        }
    }
}

impl Member {
    /// The disk owes an answer for too long. One that is full has been said to be, and is treated as that: what waits for space
    /// is tried again, and leadership is given away without an end of it.
    pub fn disk_stalled(&self) -> bool {
        !self.disk_full && self.patience.is_stalled()
    }

    /// One tick passed.
    pub(super) fn watch_disk(&mut self) {
        self.patience.tick(!self.in_flight.is_empty());
        let stalled = self.disk_stalled();
        self.peer.set_electable(!stalled);
        let me = self.config.id;
        let others = self.membership.voters.iter().any(|id| *id != me);
        match self.patience.next(self.peer.role(), others) {
            Move::Probe => self.probe(),
            Move::HandOver if stalled => drop(self.peer.transfer_leadership(None)),
            Move::StepDown if stalled => self.peer.step_down(),
            Move::Nothing | Move::HandOver | Move::StepDown => {}
        }
    }

    /// The disk has finished something.
    pub(super) fn disk_answered(&mut self) {
        self.patience.answered();
        self.peer.set_electable(true);
    }

    /// No more is taken in than can be answered: what is said to a follower whose disk hangs would pile up, and is said again.
    pub(super) fn is_deaf(&self, term: u64) -> bool {
        let full = self.in_flight.len() >= WRITES_MAX;
        let knows = term <= self.peer.term() && self.peer.leader_id().is_some();
        full && knows && self.disk_stalled() && !self.peer.is_leader()
    }

    fn probe(&mut self) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.outputs.push(Output::Probe { sequence });
        self.in_flight.push_back(InFlight {
            sequence,
            number: None,
            messages: Vec::new(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ticks: u32, waits: bool) -> Patience {
        let mut patience = Patience::default();
        (0..ticks).for_each(|_| patience.tick(waits));
        patience
    }

    #[test]
    fn a_leader_with_a_stalled_disk_hands_over_once_and_then_steps_down() {
        let leader = |ticks| after(ticks, true).next(Role::Leader, true);
        let given_up = STALL_TICKS + HAND_OVER_TICKS;
        assert_eq!(leader(STALL_TICKS - 1), Move::Nothing);
        assert_eq!(leader(STALL_TICKS), Move::HandOver);
        for ticks in STALL_TICKS + 1..given_up {
            assert_eq!(leader(ticks), Move::Nothing, "{ticks}");
        }
        assert_eq!(leader(given_up), Move::StepDown);
        assert_eq!(leader(10 * given_up), Move::StepDown);
    }

    #[test]
    fn with_nobody_else_to_lead_it_goes_on() {
        for ticks in [STALL_TICKS, 10 * STALL_TICKS] {
            let alone = after(ticks, true).next(Role::Leader, false);
            assert_eq!(alone, Move::Nothing, "{ticks}");
        }
    }

    #[test]
    fn a_candidate_gives_up_and_a_follower_has_nothing_to_do() {
        let stalled = after(STALL_TICKS, true);
        assert_eq!(stalled.next(Role::Candidate, true), Move::StepDown);
        assert_eq!(stalled.next(Role::Follower, true), Move::Nothing);
        let slow = after(STALL_TICKS - 1, true);
        assert_eq!(slow.next(Role::Candidate, true), Move::Nothing);
    }

    #[test]
    fn each_answer_begins_a_new_wait_and_an_idle_disk_is_tried() {
        let mut patience = after(STALL_TICKS - 1, true);
        patience.answered();
        patience.tick(true);
        assert!(!patience.is_stalled());
        for role in [Role::Leader, Role::Follower] {
            let idle = |ticks| after(ticks, false).next(role, true);
            assert_eq!(idle(PROBE_TICKS - 1), Move::Nothing);
            assert_eq!(idle(PROBE_TICKS), Move::Probe);
        }
    }
}
