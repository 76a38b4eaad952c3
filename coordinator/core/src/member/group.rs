//! The other members: whom this one listens to, where they are, and the changes of the group that a leader carries out.

use std::collections::BTreeMap;

use vt_proto::{
    cluster::{Kinship, kinship},
    topology::{AuditEvent, Standing},
    wire::{self, RaftMessage, SnapshotChunk, member_message::Body},
};

use super::{
    Member, MemberStatus, MessageRefused, Output, Part,
    membership::{self, Step, View},
    transfer::{CHUNK_BYTES, Fate, SNAPSHOT_BYTES_MAX},
};
use crate::{
    command::{Change, Command, RecordKey},
    event::Now,
    format,
};

/// Ticks without a word of anybody after which a member asks the others: some elections long.
const LONELY_TICKS: u32 = 100;
/// The same for one that has left the group and only waits to be told so.
const LEFT_TICKS: u32 = 5;

/// Whether the command may change who is in the group, or where.
pub(super) fn touches_group(command: &Command) -> bool {
    let mut changes = command.changes.iter();
    changes.any(|change| matches!(change.key, RecordKey::Coordinator(_)))
}

impl Member {
    pub(super) fn message(&mut self, now: Now, message: wire::MemberMessage) {
        let from = message.from;
        match self.listen_to(message) {
            Ok(()) => {
                self.last_heard_ms.insert(from, now.monotonic_ms);
                self.lonely_ticks = 0;
            }
            Err(why) => self.outputs.push(Output::Refused { from, why }),
        }
    }

    fn listen_to(&mut self, message: wire::MemberMessage) -> Result<(), MessageRefused> {
        let from = message.from;
        let ours = &self.config.cluster_id;
        if kinship(&message.cluster_id, ours) == Kinship::Newer {
            self.successor = Some(message.cluster_id);
            return Ok(());
        }
        if message.cluster_id != *ours {
            return Err(MessageRefused::Cluster {
                ours: self.config.cluster_id.clone(),
                theirs: message.cluster_id,
            });
        }
        let state = self.core.state();
        match state.coordinators.get(&from) {
            Some(record) => {
                let known = &record.value.directory_id;
                if !known.is_empty() && *known != message.directory_id {
                    return Err(MessageRefused::Directory { from });
                }
            }
            // Ids grow for ever: it was a member once. One with a higher id may be news that has not arrived here.
            None if from < state.next_coordinator && !state.coordinators.is_empty() => {
                let index = self.applied;
                self.send(from, Body::Removed(wire::Removed { index }));
                return Ok(());
            }
            None => {}
        }
        if message.formats >= format::FIRST {
            self.heard_formats.insert(from, message.formats);
        }
        match message.body.ok_or(MessageRefused::Empty)? {
            Body::Raft(raft) if self.is_deaf(raft.term) => drop(raft),
            Body::Raft(raft) if raft.from == from => self.peer.step(raft)?,
            Body::Chunk(chunk) => self.chunk(from, chunk)?,
            Body::Progress(progress) => match self.senders.progress(from, &progress) {
                Some(Fate::GoesOn) => self.peer.snapshot_goes_on(from),
                Some(Fate::Arrived) => self.peer.snapshot_sent(from, true),
                None => {}
            },
            // Who has applied less than this member cannot know more of the group.
            Body::Removed(removed) if removed.index > self.applied => {
                self.removed = true;
            }
            Body::Raft(_) | Body::Removed(_) => {}
        }
        Ok(())
    }

    /// A member to whom nobody speaks asks whether it is still one: a learner that was removed while it could not be reached
    /// never campaigns, and would wait for ever. What it says means nothing to those who know it.
    pub(super) fn knock_if_lonely(&mut self) {
        self.lonely_ticks += 1;
        let patience_ticks = match self.has_left() {
            true => LEFT_TICKS,
            false => LONELY_TICKS,
        };
        if self.lonely_ticks < patience_ticks || self.peer.is_leader() {
            return;
        }
        self.lonely_ticks = 0;
        for to in self.addresses().into_keys() {
            self.send(to, Body::Progress(wire::SnapshotProgress::default()));
        }
    }

    fn chunk(&mut self, from: u64, chunk: SnapshotChunk) -> Result<(), MessageRefused> {
        let (bytes, piece) = (chunk.total_bytes, chunk.data.len());
        if bytes > SNAPSHOT_BYTES_MAX || piece > 2 * CHUNK_BYTES {
            return Err(MessageRefused::SnapshotTooLarge { bytes });
        }
        let empty = RaftMessage::default();
        let message = chunk.snapshot.as_ref().unwrap_or(&empty);
        // A leader that was replaced does not bring anything.
        if message.from != from || message.term < self.peer.term() {
            return Ok(());
        }
        let (progress, whole) = self.receiver.take(chunk);
        self.send(from, Body::Progress(progress));
        if let Some(message) = whole {
            self.peer.step(message)?;
        }
        Ok(())
    }

    /// This member was in the group, or was to be, and is not any more.
    ///
    /// That its record says so is not enough: those who stay may not know yet that the change is committed, and after a crash
    /// they would need its vote to find out. It goes when they have forgotten its record, which they write to disk together
    /// with what was committed before; they tell it when it asks.
    pub(super) fn was_removed(&self) -> bool {
        let (state, id) = (self.core.state(), self.config.id);
        if self.removed {
            return true;
        }
        if state.coordinators.is_empty() || self.membership.holds(id) {
            return false;
        }
        !state.coordinators.contains_key(&id) && id < state.next_coordinator
    }

    /// Outside of the group already, and waits to be forgotten.
    fn has_left(&self) -> bool {
        let record = self.core.state().coordinators.get(&self.config.id);
        let leaving = record.is_some_and(|record| record.value.standing == Standing::Leaving);
        leaving && !self.membership.holds(self.config.id)
    }

    /// Carries out the next change of the group, if this member leads and none is under way.
    pub(super) fn membership_turn(&mut self, now: Now) {
        let due = std::mem::take(&mut self.membership_due);
        if !due || !self.core_leads || self.stopping_ticks.is_some() || self.disk_full {
            return;
        }
        self.formats_turn();
        if self.peer.membership_changes() {
            return;
        }
        let progress = self.peer.progress();
        let step = membership::next(&View {
            me: self.config.id,
            records: &self.core.state().coordinators,
            membership: &self.membership,
            progress: &progress,
            commit: self.peer.commit_index(),
        });
        self.membership_waits = None;
        match step {
            Step::Nothing => {}
            Step::Wait(why) => self.membership_waits = Some(why),
            // A proposal that is not taken is made again at the next tick.
            Step::Change(changes) => drop(self.peer.propose_membership(&changes)),
            Step::LeaveJoint => drop(self.peer.propose_membership(&[])),
            Step::HandOver => self.hand_over(),
            Step::Forget(id) => self.forget(now, id),
        }
    }

    fn hand_over(&mut self) {
        let records = &self.core.state().coordinators;
        let stays = |id: u64| {
            let record = records.get(&id);
            record.is_some_and(|record| record.value.standing == Standing::Voter)
        };
        let progress = self.peer.progress().into_iter();
        let voters = &self.membership.voters;
        let fits = |id: u64| id != self.config.id && stays(id) && voters.contains(&id);
        let others = progress.filter(|p| fits(p.id) && p.active);
        if let Some(best) = others.max_by_key(|progress| progress.matched) {
            self.peer.transfer_leadership(Some(best.id));
        }
    }

    fn forget(&mut self, now: Now, id: u64) {
        let Some(record) = self.core.state().coordinators.get(&id) else {
            return;
        };
        let key = RecordKey::Coordinator(id);
        let event = AuditEvent {
            time_unix_ms: now.unix_ms,
            kind: "coordinator.removed".to_owned(),
            subject: key.to_string(),
            message: format!("coordinator {id} has left the group"),
            evidence: Vec::new(),
        };
        // The same for every attempt at the same record, so that it is applied once.
        let request_id = format!("forget-coordinator-{id}-{}", record.revision);
        let change = Change::delete(record.revision, key);
        let command = Command::new(request_id, vec![change], vec![event]);
        drop(self.propose(&command));
    }

    /// Puts a change of the group into the audit.
    pub(super) fn tell_membership(&mut self, now: Now, index: u64) {
        if !self.core_leads {
            return;
        }
        let group = &self.membership;
        let list = |ids: &[u64]| {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            ids.join(", ")
        };
        let mut message = format!("voters {}", list(&group.voters));
        for (word, ids) in [
            ("learners", &group.learners),
            ("voters before", &group.voters_before),
        ] {
            if !ids.is_empty() {
                message.push_str(&format!("; {word} {}", list(ids)));
            }
        }
        let event = AuditEvent {
            time_unix_ms: now.unix_ms,
            kind: "coordinator.membership".to_owned(),
            subject: format!("cluster/{}", self.config.cluster_id),
            message,
            evidence: Vec::new(),
        };
        let command = Command::new(format!("membership-{index}"), Vec::new(), vec![event]);
        drop(self.propose(&command));
    }

    /// Where each of the others serves gRPC.
    pub fn addresses(&self) -> BTreeMap<u64, String> {
        let records = &self.core.state().coordinators;
        let mut addresses: BTreeMap<u64, String> = match records.is_empty() {
            true => self.config.contacts.clone(),
            false => {
                let records = records.values().map(|record| &record.value);
                records.map(|r| (r.id, r.address.clone())).collect()
            }
        };
        addresses.remove(&self.config.id);
        addresses
    }

    pub(super) fn address_of(&self, id: u64) -> Option<String> {
        let record = self.core.state().coordinators.get(&id);
        let address = record.map(|record| &record.value.address);
        address.or_else(|| self.config.contacts.get(&id)).cloned()
    }

    pub(super) fn member_statuses(&self, now: Now) -> Vec<MemberStatus> {
        let progress = self.peer.progress();
        let records = self.core.state().coordinators.values();
        let status = |id: u64, address: &str, leaving: bool| {
            let heard_ms = self.last_heard_ms.get(&id).copied();
            let heard_ms = heard_ms.or((id == self.config.id).then_some(now.monotonic_ms));
            let matched = progress.iter().find(|p| p.id == id);
            MemberStatus {
                id,
                address: address.to_owned(),
                part: match () {
                    () if leaving => Part::Leaving,
                    () if self.membership.votes(id) => Part::Voter,
                    () if self.membership.holds(id) => Part::Learner,
                    () => Part::Joining,
                },
                matched: matched.map_or(0, |progress| progress.matched),
                last_heard_ms: heard_ms.map(|at| now.monotonic_ms.saturating_sub(at)),
            }
        };
        let records = records.map(|record| {
            let leaving = record.value.standing == Standing::Leaving;
            status(record.value.id, &record.value.address, leaving)
        });
        records.collect()
    }
}
