//! What follows from everything that was taken in: messages, batches for the disk, entries to apply, answers, snapshots.

use vt_proto::wire::{self, member_message::Body};

use super::{InFlight, Member, MemberError, Output, StopReason, group::touches_group};
use crate::{
    codec,
    event::{Event, Now},
    format,
    peer::{Batch, Content, Ready},
};

/// Batches on their way to the disk. More wait as proposals and are written together then.
pub(super) const WRITES_MAX: usize = 256;

impl Member {
    /// What is to be done, in this order. Nothing more is said after [`Output::Stopped`].
    pub fn advance(&mut self, now: Now) -> Result<Vec<Output>, MemberError> {
        if self.stopped {
            return Ok(Vec::new());
        }
        self.follow_leadership(now);
        if (self.core_leads || !self.peer.is_leader())
            && self.peer.leader_id().is_some()
            && self.in_flight.len() < WRITES_MAX
            && let Some(context) = self.reads.begin_round(now.monotonic_ms)
        {
            self.peer.read_index(context);
        }
        self.membership_turn(now);
        while self.in_flight.len() < WRITES_MAX
            && let Some(ready) = self.peer.ready()?
        {
            self.handle(now, ready)?;
            self.follow_leadership(now);
        }
        self.send_chunks();
        if self.peer.wants_snapshot() {
            let state = codec::encode_state(self.core.state());
            self.peer.offer_snapshot(state);
        }
        self.take_snapshot();
        self.end_if_due(now);
        Ok(std::mem::take(&mut self.outputs))
    }

    fn handle(&mut self, now: Now, ready: Ready) -> Result<(), MemberError> {
        self.send_all(ready.send_now);
        if let Some(snapshot) = &ready.installed {
            let state = codec::decode_state(&snapshot.data).map_err(MemberError::Snapshot)?;
            self.core.install(state);
            self.applied = snapshot.index;
            self.snapshot_index = snapshot.index;
            self.told_up_to = self.told_up_to.max(snapshot.index);
            self.membership = self.peer.membership();
            self.counts.snapshots_installed += 1;
            self.outputs.push(Output::Addresses);
        }
        if let Some(last) = ready.committed.last() {
            let last = last.index;
            for entry in ready.committed {
                self.apply(now, entry.index, entry.content)?;
            }
            self.peer.applied(last);
            self.applied = last;
        }
        for read in &ready.reads {
            self.reads.confirmed(&read.context, read.index);
        }
        self.reads.answer(self.applied, &mut self.outputs);
        if ready.batch.is_empty() && self.in_flight.is_empty() {
            self.peer.persisted(ready.number);
            self.send_all(ready.send_after_persist);
        } else {
            self.write(Some(ready.number), ready.batch, ready.send_after_persist);
        }
        Ok(())
    }

    fn apply(&mut self, now: Now, index: u64, content: Content) -> Result<(), MemberError> {
        match content {
            Content::Empty => {}
            Content::Membership(membership) => {
                self.membership = membership;
                self.tell_membership(now, index);
            }
            Content::Command(data) => {
                let command = codec::decode_command(&data)
                    .map_err(|source| MemberError::Entry { index, source })?;
                let of_group = touches_group(&command);
                let events = match index > self.told_up_to {
                    true => command.events.clone(),
                    false => Vec::new(),
                };
                let known = self.core.state().next_event;
                self.step(now, Event::Committed { index, command });
                // What was refused, or was applied before, decides nothing.
                if !events.is_empty() && self.core.state().next_event > known {
                    self.outputs.push(Output::Decided { index, events });
                }
                if of_group {
                    self.outputs.push(Output::Addresses);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, number: Option<u64>, batch: Batch, messages: Vec<wire::RaftMessage>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.outputs.push(Output::Write { sequence, batch });
        self.in_flight.push_back(InFlight {
            sequence,
            number,
            messages,
        });
    }

    pub(super) fn written(&mut self, up_to: u64) {
        while let Some(write) = self.in_flight.pop_front_if(|w| w.sequence <= up_to) {
            if let Some(number) = write.number {
                self.peer.persisted(number);
            }
            self.send_all(write.messages);
            self.disk_answered();
        }
    }

    fn send_all(&mut self, messages: Vec<wire::RaftMessage>) {
        for message in messages {
            if message.snapshot.is_some() {
                self.senders.start(message);
            } else {
                self.send(message.to, Body::Raft(message));
            }
        }
    }

    pub(super) fn send(&mut self, to: u64, body: Body) {
        let message = wire::MemberMessage {
            cluster_id: self.config.cluster_id.clone(),
            from: self.config.id,
            to,
            directory_id: self.config.directory_id.clone(),
            formats: format::NEWEST,
            body: Some(body),
        };
        self.outputs.push(Output::Send(Box::new(message)));
    }

    fn send_chunks(&mut self) {
        for (to, chunk) in self.senders.chunks() {
            self.send(to, Body::Chunk(chunk));
        }
    }

    /// Keeps the state on disk and cuts the log when it has grown enough.
    fn take_snapshot(&mut self) {
        let limits = self.config.limits;
        let since = self.applied - self.snapshot_index;
        let due = since >= limits.snapshot_every_entries
            || (since > 0 && self.peer.log_bytes() >= limits.log_bytes);
        // Its place in the queue to the disk must be free; the next turn tries again.
        if !due || self.disk_full || self.in_flight.len() >= WRITES_MAX {
            return;
        }
        let state = codec::encode_state(self.core.state());
        let keep_after = self.applied.saturating_sub(limits.tail_entries);
        let batch = self.peer.compact(state, keep_after, limits.tail_bytes);
        self.snapshot_index = self.applied;
        self.counts.snapshots_taken += 1;
        self.write(None, batch, Vec::new());
    }

    fn end_if_due(&mut self, now: Now) {
        let why = if let Some(successor) = self.successor.clone() {
            let ours = self.config.cluster_id.clone();
            Some(StopReason::Superseded { ours, successor })
        } else if self.was_removed() {
            Some(StopReason::Removed { id: self.config.id })
        } else {
            self.has_handed_over().then_some(StopReason::Told)
        };
        if let Some(why) = why {
            self.end(now, why);
        }
    }
}
