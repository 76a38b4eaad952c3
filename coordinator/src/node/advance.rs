//! What follows from an event: messages, batches for the disk, entries to apply, reads to answer, snapshots.

use anyhow::{Context, bail};
use tracing::info;
use vt_coordinator_core::{
    codec,
    command::Command,
    event::Event,
    peer::{Batch, Ready},
};
use vt_proto::wire::RaftMessage;

use super::{
    InFlight, Node, clock,
    disk::{WRITES_MAX, Written},
};

/// Entries applied since the last snapshot that make the next one due.
const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;
/// Entries that stay in the log behind a snapshot, for members that are a little behind.
const LOG_TAIL_ENTRIES: u64 = 5_000;

impl Node {
    /// Does everything that raft has ready.
    pub(super) fn advance(&mut self) -> anyhow::Result<()> {
        self.follow_leadership();
        if self.core_leads
            && let Some(context) = self.reads.begin_round()
        {
            self.peer.read_index(context);
        }
        while self.in_flight.len() < WRITES_MAX
            && let Some(ready) = self.peer.ready()?
        {
            self.handle(ready)?;
            self.follow_leadership();
        }
        if self.applied - self.snapshot_index >= SNAPSHOT_EVERY_ENTRIES {
            self.take_snapshot()?;
        }
        Ok(())
    }

    fn handle(&mut self, ready: Ready) -> anyhow::Result<()> {
        self.send(ready.send_now);
        if let Some(snapshot) = &ready.installed {
            let state = codec::decode_state(&snapshot.data)
                .context("the leader's snapshot cannot be read")?;
            info!(index = snapshot.index, "installed a snapshot of the leader");
            self.core.install(state);
            self.applied = snapshot.index;
            self.snapshot_index = snapshot.index;
        }
        if let Some(last) = ready.committed.last() {
            let last = last.index;
            for entry in ready.committed {
                self.apply(entry.index, &entry.data)?;
            }
            self.peer.applied(last);
            self.applied = last;
        }
        for read in &ready.reads {
            self.reads.confirmed(read.context, read.index);
        }
        self.answer_reads();
        if ready.batch.is_empty() && self.in_flight.is_empty() {
            self.peer.persisted(ready.number);
            self.send(ready.send_after_persist);
            return Ok(());
        }
        self.write(Some(ready.number), ready.batch, ready.send_after_persist)
    }

    fn apply(&mut self, index: u64, data: &[u8]) -> anyhow::Result<()> {
        // A new leader begins with an entry without content.
        if data.is_empty() {
            return Ok(());
        }
        let command = codec::decode_command(data)
            .with_context(|| format!("log entry {index} cannot be applied"))?;
        if index > self.logged_up_to {
            log_events(index, &command);
        }
        self.step(clock::now(), Event::Committed { index, command });
        Ok(())
    }

    fn answer_reads(&mut self) {
        let answerable = self.reads.answerable(self.applied);
        if answerable.is_empty() {
            return;
        }
        let status = self.current_status();
        for view in answerable {
            self.metrics.reads.inc();
            view(Ok((&self.core, &status)));
        }
    }

    fn write(
        &mut self,
        number: Option<u64>,
        batch: Batch,
        messages: Vec<RaftMessage>,
    ) -> anyhow::Result<()> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if !self.disk.write(sequence, batch) {
            bail!("the storage thread does not take what must be written");
        }
        self.in_flight.push_back(InFlight {
            sequence,
            number,
            messages,
        });
        Ok(())
    }

    pub(super) fn written(&mut self, written: Option<Written>) -> anyhow::Result<()> {
        let Some(written) = written else {
            bail!("the storage thread has ended");
        };
        let up_to = written.context("the raft log cannot be written; nothing was promised")?;
        while let Some(write) = self.in_flight.pop_front_if(|w| w.sequence <= up_to) {
            if let Some(number) = write.number {
                self.peer.persisted(number);
            }
            self.send(write.messages);
        }
        Ok(())
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        for message in messages {
            let to = message.to;
            if !self.outbox.send(message) {
                self.peer.unreachable(to);
            }
        }
    }

    fn take_snapshot(&mut self) -> anyhow::Result<()> {
        // Its place in the queue to the disk must be free; the next turn of the loop tries again.
        if self.in_flight.len() >= WRITES_MAX {
            return Ok(());
        }
        let state = codec::encode_state(self.core.state());
        let keep_after = self.applied.saturating_sub(LOG_TAIL_ENTRIES);
        let batch = self.peer.compact(state, keep_after);
        self.snapshot_index = self.applied;
        info!(index = self.applied, "took a snapshot of the state");
        self.write(None, batch, Vec::new())
    }
}

/// Every decision with its evidence, once per member.
fn log_events(index: u64, command: &Command) {
    for event in &command.events {
        info!(
            index,
            kind = event.kind,
            subject = event.subject,
            evidence = ?event.evidence,
            "{}",
            event.message
        );
    }
}
