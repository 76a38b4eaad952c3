//! What the records say, one after the other: the same meaning as that of batches, with the snapshot by name.

use vt_coordinator_core::peer::LogStart;
use vt_proto::wire::{LogPosition, LogRecord, RaftEntry, RaftHardState, SegmentHead, SnapshotName};

/// Everything that a log holds apart from entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::storage) struct Situation {
    pub(in crate::storage) hard_state: RaftHardState,
    pub(in crate::storage) snapshot: Option<SnapshotName>,
    pub(in crate::storage) start: LogStart,
    pub(in crate::storage) last_index: u64,
}

impl Situation {
    pub(super) fn of_head(head: &SegmentHead) -> Self {
        Self {
            hard_state: head.hard_state.unwrap_or_default(),
            snapshot: head.snapshot,
            start: from_position(head.start.unwrap_or_default()),
            last_index: head.last_index,
        }
    }

    /// What stands after the record with these entries.
    pub(super) fn after(&self, record: &LogRecord, entries: &[RaftEntry]) -> Self {
        let start = record.start.map_or(self.start, from_position);
        let last_index = if record.reset { 0 } else { self.last_index };
        let last_index = last_index.max(start.index);
        Self {
            hard_state: record.hard_state.unwrap_or(self.hard_state),
            snapshot: record.snapshot.or(self.snapshot),
            start,
            last_index: entries.last().map_or(last_index, |e| e.index),
        }
    }
}

/// Puts a log together.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) situation: Situation,
    entries: Vec<RaftEntry>,
}

impl Replay {
    /// Begins a segment, the first one or a later one.
    pub(super) fn begin(&mut self, head: &SegmentHead, is_first: bool) -> Result<(), String> {
        let situation = Situation::of_head(head);
        if !is_first && situation != self.situation {
            return Err("its head does not continue the segment before it".to_owned());
        }
        self.situation = situation;
        Ok(())
    }

    pub(super) fn apply(&mut self, mut record: LogRecord) -> Result<(), String> {
        let entries = std::mem::take(&mut record.entries);
        if record.reset {
            self.entries.clear();
        }
        if let Some(first) = entries.first() {
            let last = self.situation.after(&record, &[]).last_index;
            if first.index > last + 1 {
                return Err(format!("entry {} follows on {last}", first.index));
            }
            while self.entries.last().is_some_and(|e| e.index >= first.index) {
                self.entries.pop();
            }
        }
        self.situation = self.situation.after(&record, &entries);
        self.entries.extend(entries);
        Ok(())
    }

    /// The entries in force, without a gap, or which one is missing.
    pub(super) fn finish(mut self) -> Result<(Situation, Vec<RaftEntry>), u64> {
        let start = self.situation.start.index;
        let gone = self.entries.partition_point(|e| e.index <= start);
        self.entries.drain(..gone);
        for (expected, entry) in (start + 1..).zip(&self.entries) {
            if entry.index != expected {
                return Err(expected);
            }
        }
        let last = start + self.entries.len() as u64;
        if last != self.situation.last_index {
            return Err(last + 1);
        }
        Ok((self.situation, self.entries))
    }
}

pub(super) fn to_position(start: LogStart) -> LogPosition {
    LogPosition {
        index: start.index,
        term: start.term,
    }
}

fn from_position(position: LogPosition) -> LogStart {
    LogStart {
        index: position.index,
        term: position.term,
    }
}
