//! The log in memory, as the raft library reads it. What is here is on disk too, or on its way there.

use std::collections::VecDeque;

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

use super::{LogStart, PeerError, Stored, convert};

pub(super) struct MemoryLog {
    hard_state: HardState,
    conf_state: ConfState,
    snapshot: Option<Snapshot>,
    start: LogStart,
    entries: VecDeque<Entry>,
}

impl MemoryLog {
    pub(super) fn new(stored: Stored, voters: &[u64]) -> Result<Self, PeerError> {
        let invalid = |error: convert::MessageError| PeerError::Stored {
            reason: error.to_string(),
        };
        let mut conf_state = ConfState::default();
        conf_state.set_voters(voters.to_vec());
        let entries = stored.entries.into_iter().map(convert::entry_from_wire);
        let entries = entries.collect::<Result<_, _>>().map_err(invalid)?;
        let snapshot = stored.snapshot.map(convert::snapshot_from_wire);
        Ok(Self {
            hard_state: convert::hard_state_from_wire(stored.hard_state),
            conf_state,
            snapshot,
            start: stored.start,
            entries,
        })
    }

    pub(super) fn start(&self) -> LogStart {
        self.start
    }

    fn last(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }

    /// The position of an index in `entries`.
    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.start.index - 1).unwrap_or(usize::MAX)
    }

    /// Replaces all entries from the first of `new` on.
    pub(super) fn append(&mut self, new: Vec<Entry>) {
        let Some(first) = new.first() else { return };
        assert!(
            first.index > self.start.index && first.index <= self.last() + 1,
            "entry {} does not continue the log that holds {} to {}",
            first.index,
            self.start.index + 1,
            self.last()
        );
        self.entries.truncate(self.position(first.index));
        self.entries.extend(new);
    }

    /// Replaces the whole log by a snapshot of the leader.
    pub(super) fn install(&mut self, snapshot: Snapshot) {
        let metadata = snapshot.get_metadata();
        self.start = LogStart {
            index: metadata.index,
            term: metadata.term,
        };
        self.conf_state = metadata.get_conf_state().clone();
        self.entries.clear();
        self.snapshot = Some(snapshot);
    }

    /// Keeps the state at `index`, which must be in the log or at its start, for members that are far behind.
    pub(super) fn set_snapshot(&mut self, index: u64, data: Vec<u8>) -> Snapshot {
        let term = self.term_at(index);
        assert!(
            term.is_some(),
            "entry {index} of the snapshot is not in the log"
        );
        let mut snapshot = Snapshot {
            data: data.into(),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = term.unwrap_or(0);
        metadata.set_conf_state(self.conf_state.clone());
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Forgets entries up to `index`, which must not be beyond the snapshot.
    pub(super) fn drop_entries_up_to(&mut self, index: u64) -> LogStart {
        if index > self.start.index
            && let Some(term) = self.term_at(index)
        {
            let gone = self.position(index) + 1;
            self.entries.drain(..gone);
            self.start = LogStart { index, term };
        }
        self.start
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last() {
            return None;
        }
        Some(self.entries[self.position(index)].term)
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let (hard_state, conf_state) = (self.hard_state.clone(), self.conf_state.clone());
        Ok(RaftState::new(hard_state, conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let (from, to) = (self.position(low), self.position(high));
        let mut entries = self.entries.range(from..to).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.start.index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or_else(|| missing.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= request_index => {
                Ok(snapshot.clone())
            }
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}
