//! Snapshots on their way to other members, as their leader sees them: those that are never answered are sent again.

use raft::{ProgressState, SnapshotStatus};

use super::{ELECTION_TICKS, Peer};

/// Ticks after which a snapshot that was sent and never answered counts as lost and is sent again.
pub(super) const SNAPSHOT_ANSWER_TICKS: u32 = 200;
/// Ticks for which a snapshot is held ready that nobody receives: a member that needs it asks with its next heartbeat.
const SNAPSHOT_IDLE_TICKS: u32 = 4 * ELECTION_TICKS as u32;

impl Peer {
    pub(super) fn give_up_lost_snapshots(&mut self) {
        if !self.is_leader() {
            self.snapshot_ticks.clear();
            self.node.mut_store().hold_snapshot(None);
            return;
        }
        let receiving: Vec<u64> = {
            let progress = self.node.raft.prs().iter();
            let receiving = progress.filter(|(_, p)| p.state == ProgressState::Snapshot);
            receiving.map(|(id, _)| *id).collect()
        };
        self.snapshot_ticks.retain(|id, _| receiving.contains(id));
        if !receiving.is_empty() {
            self.snapshot_idle_ticks = 0;
        } else if self.node.store().holds_snapshot() {
            self.snapshot_idle_ticks += 1;
            if self.snapshot_idle_ticks > SNAPSHOT_IDLE_TICKS {
                self.node.mut_store().hold_snapshot(None);
            }
        }
        for id in receiving {
            let ticks = self.snapshot_ticks.entry(id).or_insert(0);
            *ticks += 1;
            if *ticks >= SNAPSHOT_ANSWER_TICKS {
                *ticks = 0;
                self.node.report_snapshot(id, SnapshotStatus::Failure);
            }
        }
    }
}
