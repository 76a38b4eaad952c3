//! What a member keeps on disk, and how it changes: the meaning that every storage implements.

use vt_proto::wire::{RaftConfState, RaftEntry, RaftHardState, RaftSnapshot};

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

    /// One batch that does what this one and then the later one do.
    pub fn merge(&mut self, later: Batch) {
        self.hard_state = later.hard_state.or(self.hard_state);
        self.snapshot = later.snapshot.or_else(|| self.snapshot.take());
        if later.reset {
            self.reset = true;
            self.entries.clear();
        }
        if let Some(start) = later.start {
            self.start = Some(start);
            self.entries.retain(|entry| entry.index > start.index);
        }
        if let Some(first) = later.entries.first() {
            let first = first.index;
            self.entries.retain(|entry| entry.index < first);
            self.entries.extend(later.entries);
        }
    }
}

/// The term of the entry that every member of a new group has before the first election.
const BOOTSTRAP_TERM: u64 = 1;

impl Stored {
    /// What each of the first members of a group begins with: the same state at `index`, and who is in the group.
    pub fn bootstrap(voters: Vec<u64>, index: u64, state: Vec<u8>) -> Self {
        Self {
            hard_state: RaftHardState {
                term: BOOTSTRAP_TERM,
                vote: 0,
                commit: index,
            },
            snapshot: Some(RaftSnapshot {
                index,
                term: BOOTSTRAP_TERM,
                conf_state: Some(RaftConfState {
                    voters,
                    ..RaftConfState::default()
                }),
                data: state,
            }),
            start: LogStart {
                index,
                term: BOOTSTRAP_TERM,
            },
            entries: Vec::new(),
        }
    }

    /// The same as changes, for an empty disk.
    pub fn into_batch(self) -> Batch {
        Batch {
            hard_state: Some(self.hard_state),
            snapshot: self.snapshot,
            reset: true,
            start: Some(self.start),
            entries: self.entries,
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn batch() -> impl Strategy<Value = Batch> {
        let hard_state = option::of(1..9u64);
        let start = option::of(1..20u64);
        let entries = (1..20u64, 0..5u64);
        (hard_state, start, any::<bool>(), entries).prop_map(
            |(term, start, reset, (first, count))| Batch {
                hard_state: term.map(|term| RaftHardState {
                    term,
                    ..RaftHardState::default()
                }),
                snapshot: None,
                reset,
                start: start.map(|index| LogStart { index, term: 1 }),
                entries: (first..first + count)
                    .filter(|index| start.is_none_or(|start| *index > start))
                    .map(|index| RaftEntry {
                        index,
                        ..RaftEntry::default()
                    })
                    .collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_merged_batch_does_what_the_batches_do(batches in vec(batch(), 1..6)) {
            // As the log does it: without gaps, and its start only grows.
            let mut one_by_one = Stored::default();
            let mut merged = Batch::default();
            for mut batch in batches {
                let mut after = one_by_one.clone();
                after.apply(&Batch { entries: Vec::new(), ..batch.clone() });
                if after.start.index < one_by_one.start.index {
                    continue;
                }
                if batch.entries.first().is_some_and(|e| e.index > after.last_index() + 1 || e.index <= after.start.index) {
                    batch.entries.clear();
                }
                one_by_one.apply(&batch);
                merged.merge(batch);
            }
            let mut at_once = Stored::default();
            at_once.apply(&merged);
            prop_assert_eq!(at_once, one_by_one);
        }
    }
}
