//! What a member keeps on disk, and how it changes: the meaning that every storage implements.

use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use super::PeerError;

/// The entry before the first one in the log: all up to it are in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    pub index: u64,
    pub term: u64,
}

/// Everything that is on disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    pub hard_state: RaftHardState,
    pub snapshot: Option<RaftSnapshot>,
    pub start: LogStart,
    /// Without gap, from `start.index + 1`.
    pub entries: Vec<RaftEntry>,
}

/// Changes that reach the disk together or not at all, in the order of these fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub hard_state: Option<RaftHardState>,
    pub snapshot: Option<RaftSnapshot>,
    /// All entries go away.
    pub reset: bool,
    /// Entries up to here go away.
    pub start: Option<LogStart>,
    /// Replace all entries from the first of them on.
    pub entries: Vec<RaftEntry>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Stored {
    /// The index of the last entry, or where the log starts.
    pub fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.start.index, |e| e.index)
    }

    /// What is on disk after the batch.
    pub fn apply(&mut self, batch: &Batch) {
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = &batch.snapshot {
            self.snapshot = Some(snapshot.clone());
        }
        if batch.reset {
            self.entries.clear();
        }
        if let Some(start) = batch.start {
            self.start = start;
            self.entries.retain(|entry| entry.index > start.index);
        }
        if let Some(first) = batch.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(&batch.entries);
        }
    }

    /// The same with a commit index that covers the snapshot; an error if it does not fit together.
    pub(super) fn repaired(mut self) -> Result<Self, PeerError> {
        let refuse = |reason: String| Err(PeerError::Stored { reason });
        let snapshot_index = self.snapshot.as_ref().map_or(0, |s| s.index);
        if snapshot_index < self.start.index {
            return refuse(format!(
                "the log starts after {} and the snapshot ends at {snapshot_index}",
                self.start.index
            ));
        }
        for (expected, entry) in (self.start.index + 1..).zip(&self.entries) {
            if entry.index != expected {
                return refuse(format!(
                    "entry {expected} is missing, {} follows",
                    entry.index
                ));
            }
        }
        if self.last_index() < snapshot_index {
            return refuse(format!(
                "the log ends at {} before the snapshot's {snapshot_index}",
                self.last_index()
            ));
        }
        if self.hard_state.commit > self.last_index() {
            return refuse(format!(
                "entry {} was committed and the log ends at {}",
                self.hard_state.commit,
                self.last_index()
            ));
        }
        self.hard_state.commit = self.hard_state.commit.max(snapshot_index);
        Ok(self)
    }
}
