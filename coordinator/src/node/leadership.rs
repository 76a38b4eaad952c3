//! Gaining, losing and handing over leadership, and what others are told about it.

use tracing::{error, info};
use vt_coordinator_core::event::Event;

use super::{MemberStatus, Node, NodeStatus, ReadError, WriteError, clock};

/// Ticks that a stopping leader waits for another one to take over.
const HAND_OVER_TICKS: u32 = 20;

impl Node {
    /// Tells the core and everybody who waits when leadership came or went.
    pub(super) fn follow_leadership(&mut self) {
        let leads_term = self.peer.is_leader().then(|| self.peer.term());
        if leads_term != self.leads_term {
            if self.leads_term.is_some() {
                self.lose_leadership();
            }
            self.leads_term = leads_term;
            self.publish_status();
        }
        if !self.core_leads && self.peer.leads() {
            self.core_leads = true;
            info!(term = self.peer.term(), "leads from now on");
            self.step(clock::now(), Event::LeadershipGained);
            self.publish_status();
        }
    }

    fn lose_leadership(&mut self) {
        if self.core_leads {
            self.core_leads = false;
            info!(term = self.peer.term(), "does not lead any more");
            self.step(clock::now(), Event::LeadershipLost);
        }
        self.published.withdraw();
        self.writes.fail_all(&WriteError::Unknown);
        let leader = self.leader_address();
        self.reads.fail_all(&ReadError::NotLeader { leader });
    }

    pub(super) fn stop(&mut self) {
        let to = self.peer.transfer_leadership();
        if let Some(to) = to {
            info!(to, "stopping: handing leadership over");
        }
        self.stopping_ticks = Some(if to.is_some() { HAND_OVER_TICKS } else { 0 });
    }

    pub(super) fn has_stopped(&self) -> bool {
        match self.stopping_ticks {
            None => false,
            Some(0) => {
                if self.peer.is_leader() && self.config.members.len() > 1 {
                    error!("nobody took leadership over in time; stopping all the same");
                }
                true
            }
            Some(_) => !self.peer.is_leader(),
        }
    }

    pub(super) fn leader_address(&self) -> Option<String> {
        let leader = self.peer.leader_id()?;
        self.config.members.get(&leader).cloned()
    }

    pub(super) fn current_status(&self) -> NodeStatus {
        let now = clock::now();
        let progress = self.peer.members();
        let members = self.config.members.iter().map(|(id, address)| {
            let matched = progress
                .iter()
                .find(|p| p.id == *id)
                .map_or(0, |p| p.matched);
            let heard_ms = self.last_heard_ms.get(id).copied();
            let heard_ms = heard_ms.or((*id == self.config.member_id).then_some(now.monotonic_ms));
            MemberStatus {
                id: *id,
                address: address.clone(),
                matched,
                last_heard_ms: heard_ms.map(|at| now.monotonic_ms.saturating_sub(at)),
            }
        });
        NodeStatus {
            cluster_id: self.config.cluster_id.clone(),
            id: self.config.member_id,
            term: self.peer.term(),
            leader_id: self.peer.leader_id(),
            leader_address: self.leader_address(),
            is_leader: self.core_leads,
            applied: self.applied,
            commit: self.peer.commit_index(),
            members: members.collect(),
            now,
        }
    }

    pub(super) fn publish_status(&self) {
        let status = self.current_status();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.leader.set(i64::from(status.is_leader));
        metrics.term.set(number(status.term));
        metrics.applied_index.set(number(status.applied));
        metrics.commit_index.set(number(status.commit));
        metrics.snapshot_index.set(number(self.snapshot_index));
        metrics
            .tablets
            .set(number(self.core.state().tablets.len() as u64));
        let log_start = self.peer.log_start_index();
        metrics
            .log_entries
            .set(number(status.commit.saturating_sub(log_start)));
        self.status.send_replace(status);
    }
}
