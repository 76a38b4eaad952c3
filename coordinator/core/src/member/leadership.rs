//! Gaining, losing and handing over leadership, the end of a member, and what others are told about where it stands.

use super::{Member, NodeStatus, Output, ReadError, StopReason, Token, TransferError, WriteError};
use crate::event::{Event, Now};

/// Ticks that a stopping leader waits for another one to take over.
const HAND_OVER_TICKS: u32 = 20;
/// Ticks after which a leader with a full disk gives leadership away again: long enough for an election, and for the group to
/// serve reads in between when all disks are full.
pub(super) const GIVE_AWAY_TICKS: u32 = 100;

impl Member {
    /// Tells the core and everybody who waits when leadership came or went.
    pub(super) fn follow_leadership(&mut self, now: Now) {
        let leads_term = self.peer.is_leader().then(|| self.peer.term());
        if leads_term != self.leads_term {
            if self.leads_term.is_some() {
                self.lose_leadership(now);
            }
            self.leads_term = leads_term;
        }
        if !self.core_leads && self.peer.leads() {
            self.core_leads = true;
            self.step(now, Event::LeadershipGained);
        }
    }

    fn lose_leadership(&mut self, now: Now) {
        if self.core_leads {
            self.core_leads = false;
            self.step(now, Event::LeadershipLost);
        }
        self.senders.clear();
        self.membership_waits = None;
        self.outputs.push(Output::Withdraw);
        self.writes
            .fail_all(&WriteError::Unknown, &mut self.outputs);
        let leader = self.leader_address();
        let error = ReadError::NotLeader { leader };
        self.reads.fail_of_leader(&error, &mut self.outputs);
    }

    pub(super) fn transfer(&mut self, token: Token, to: Option<u64>) {
        let outcome = if self.peer.is_leader() {
            let to_voter = self.peer.transfer_leadership(to);
            to_voter.ok_or(TransferError::Nobody { to })
        } else {
            let leader = self.leader_address();
            Err(TransferError::NotLeader { leader })
        };
        self.outputs.push(Output::HandingOver { token, outcome });
    }

    pub(super) fn set_disk_full(&mut self, full: bool) {
        if full && !self.disk_full {
            // Another member may have space.
            self.peer.transfer_leadership(None);
        }
        self.disk_full = full;
    }

    /// A leader whose disk is full goes on trying one voter after the other: one may not hear it, or be full as well, and who
    /// is full may be elected.
    pub(super) fn give_leadership_away(&mut self) {
        if !self.disk_full || !self.peer.is_leader() {
            self.full_ticks = 0;
            return;
        }
        self.full_ticks += 1;
        if !self.full_ticks.is_multiple_of(GIVE_AWAY_TICKS) {
            return;
        }
        let me = self.config.id;
        let mut others = self.peer.progress();
        let voters = &self.membership.voters;
        others.retain(|it| it.id != me && voters.contains(&it.id));
        // Beginning with the next after this one, so that leadership comes round to everybody.
        others.sort_by_key(|it| (it.id < me, it.id));
        let tries = (self.full_ticks / GIVE_AWAY_TICKS) as usize;
        if let Some(next) = others.get((tries - 1) % others.len().max(1)) {
            self.peer.transfer_leadership(Some(next.id));
        }
    }

    pub(super) fn stop(&mut self) {
        if self.stopping_ticks.is_none() {
            let to = self.peer.transfer_leadership(None);
            self.stopping_ticks = Some(if to.is_some() { HAND_OVER_TICKS } else { 0 });
        }
    }

    /// Told to stop, and nobody has to take over any more or in time.
    pub(super) fn has_handed_over(&self) -> bool {
        match self.stopping_ticks {
            None => false,
            Some(0) => true,
            Some(_) => !self.peer.is_leader(),
        }
    }

    pub(super) fn end(&mut self, now: Now, why: StopReason) {
        self.writes
            .fail_all(&WriteError::Stopped, &mut self.outputs);
        self.reads.fail_all(&ReadError::Stopped, &mut self.outputs);
        if self.core_leads {
            self.core_leads = false;
            self.step(now, Event::LeadershipLost);
            self.outputs.push(Output::Withdraw);
        }
        self.stopped = true;
        self.outputs.push(Output::Stopped(why));
    }

    pub(super) fn leader_address(&self) -> Option<String> {
        self.address_of(self.peer.leader_id()?)
    }

    /// Where this member stands.
    pub fn status(&self, now: Now) -> NodeStatus {
        NodeStatus {
            cluster_id: self.config.cluster_id.clone(),
            id: self.config.id,
            term: self.peer.term(),
            leader_id: self.peer.leader_id(),
            leader_address: self.leader_address(),
            is_leader: self.core_leads,
            applied: self.applied,
            commit: self.peer.commit_index(),
            snapshot_index: self.snapshot_index,
            log_start: self.peer.log_start_index(),
            log_bytes: self.peer.log_bytes(),
            disk_full: self.disk_full,
            disk_stalled: self.disk_stalled(),
            membership: self.membership.clone(),
            membership_waits: self.membership_waits.clone(),
            members: self.member_statuses(now),
            now,
        }
    }
}
