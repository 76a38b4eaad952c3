//! The log in memory, as the raft library reads it. What is here is on disk too, or on its way there.
//!
//! It holds no snapshot of its own: the state is in memory already, and one is made of it when a member needs it.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

use super::{LogStart, PeerError, Stored, convert};

pub(super) struct MemoryLog {
    hard_state: HardState,
    conf_state: ConfState,
    /// Made for members that are far behind, while there are any.
    snapshot: Option<Snapshot>,
    /// The library looked for a snapshot in vain.
    wanted: Cell<bool>,
    start: LogStart,
    entries: VecDeque<Entry>,
    bytes: u64,
}

/// What an entry takes in memory beside its data.
const ENTRY_BYTES: u64 = 96;

fn size_of(entry: &Entry) -> u64 {
    ENTRY_BYTES + entry.data.len() as u64 + entry.context.len() as u64
}

impl MemoryLog {
    pub(super) fn new(stored: Stored) -> Result<Self, PeerError> {
        let invalid = |error: convert::MessageError| PeerError::Stored {
            reason: error.to_string(),
        };
        let entries = stored.entries.into_iter().map(convert::entry_from_wire);
        let entries: VecDeque<Entry> = entries.collect::<Result<_, _>>().map_err(invalid)?;
        // Without a snapshot this member was never told who is in the group.
        let conf_state = stored.snapshot.map(|mut snapshot| {
            snapshot.data = Vec::new();
            let snapshot = convert::snapshot_from_wire(snapshot);
            snapshot.get_metadata().get_conf_state().clone()
        });
        Ok(Self {
            hard_state: convert::hard_state_from_wire(stored.hard_state),
            conf_state: conf_state.unwrap_or_default(),
            snapshot: None,
            wanted: Cell::new(false),
            start: stored.start,
            bytes: entries.iter().map(size_of).sum(),
            entries,
        })
    }

    /// Bytes of all entries, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The index up to which entries must go so that at most so many bytes stay.
    pub(super) fn index_leaving_bytes(&self, bytes_max: u64) -> u64 {
        let mut kept = 0;
        let beyond = self.entries.iter().rev().find(|entry| {
            kept += size_of(entry);
            kept > bytes_max
        });
        beyond.map_or(self.start.index, |entry| entry.index)
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
        let gone = self.entries.range(self.position(first.index)..);
        self.bytes -= gone.map(size_of).sum::<u64>();
        self.entries.truncate(self.position(first.index));
        self.bytes += new.iter().map(size_of).sum::<u64>();
        self.entries.extend(new);
    }

    /// Replaces the whole log by a snapshot of the leader.
    pub(super) fn install(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.start = LogStart {
            index: metadata.index,
            term: metadata.term,
        };
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = None;
    }

    /// A snapshot of the state at `index`, which must be in the log or at its start.
    pub(super) fn snapshot_at(&self, index: u64, conf_state: ConfState, data: Vec<u8>) -> Snapshot {
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
        metadata.set_conf_state(conf_state);
        snapshot
    }

    /// Whether the library looked for a snapshot and there was none that would do.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.wanted.get()
    }

    /// Holds a snapshot ready for members that are far behind; none when nobody is.
    pub(super) fn hold_snapshot(&mut self, snapshot: Option<Snapshot>) {
        self.wanted.set(false);
        self.snapshot = snapshot;
    }

    pub(super) fn holds_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Forgets entries up to `index`, which must not be beyond the snapshot.
    pub(super) fn drop_entries_up_to(&mut self, index: u64) -> LogStart {
        if index > self.start.index
            && let Some(term) = self.term_at(index)
        {
            let gone = self.position(index) + 1;
            let gone = self.entries.drain(..gone);
            self.bytes -= gone.map(|entry| size_of(&entry)).sum::<u64>();
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

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // A member takes only a snapshot in whose group it is.
        let fits = |snapshot: &&Snapshot| {
            let metadata = snapshot.get_metadata();
            let group = metadata.get_conf_state();
            let inside = group.voters.contains(&to) || group.learners.contains(&to);
            inside && metadata.index >= request_index.max(self.start.index)
        };
        if let Some(snapshot) = self.snapshot.as_ref().filter(fits) {
            return Ok(snapshot.clone());
        }
        self.wanted.set(true);
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}
