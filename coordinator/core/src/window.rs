//! The changes of the last while, encoded once for all who watch: bounded by count and bytes. Who fell out of it begins with a
//! full state. It decides nothing, and keeps nothing of who watches.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use prost::{Message as _, bytes::Bytes};
use vt_proto::{epoch::Revision, wire};

use crate::{
    records::{RecordKey, RecordKind},
    state::{State, Versioned},
};

/// Revisions that are kept: a member that is away for an election, or a reader that is slow for seconds, is still inside.
pub const ENTRIES_MAX: usize = 8_192;
/// Bytes of changes that are kept, so that large records do not fill the memory.
pub const BYTES_MAX: usize = 8 << 20;

/// One record as it became, or that it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub kind: RecordKind,
    /// An encoded `wire::Record`.
    pub bytes: Bytes,
}

/// Everything that one command changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub revision: Revision,
    pub deltas: Vec<Delta>,
}

impl Entry {
    /// The records with these keys as they are now.
    pub fn of(state: &State, revision: Revision, keys: &BTreeSet<RecordKey>) -> Self {
        let delta = |key: &RecordKey| match state.value_of(key) {
            Some(value) => Delta::of(Versioned {
                revision: state.revision_of(key),
                value,
            }),
            None => Delta::deleted(revision, key),
        };
        Self {
            revision,
            deltas: keys.iter().map(delta).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.deltas.iter().map(|delta| delta.bytes.len()).sum()
    }
}

impl Delta {
    fn of(record: Versioned<crate::records::RecordValue>) -> Self {
        Self {
            kind: record.value.key().kind(),
            bytes: record.into_public_wire().encode_to_vec().into(),
        }
    }

    fn deleted(revision: Revision, key: &RecordKey) -> Self {
        let message = wire::Record {
            key: Some(key.to_wire()),
            revision: revision.0,
            value: None,
        };
        Self {
            kind: key.kind(),
            bytes: message.encode_to_vec().into(),
        }
    }
}

/// A whole state, for who begins.
pub fn full(state: &State) -> Vec<Delta> {
    state.records().map(Delta::of).collect()
}

/// Changes in order of their revisions; all there were after `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    start: Revision,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Window {
    /// Nothing is known of what changed up to `start`.
    pub fn starting_at(start: Revision) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// The revision after which every change is known.
    pub fn start(&self) -> Revision {
        self.start
    }

    /// The revision of the last change that is known.
    pub fn newest(&self) -> Revision {
        let last = self.entries.back();
        last.map_or(self.start, |entry| entry.revision)
    }

    /// Adds what changed last, and forgets what is too long ago.
    ///
    /// # Panics
    /// If it is older than what is known.
    pub fn push(&mut self, entry: Arc<Entry>) {
        assert!(
            entry.revision > self.newest(),
            "a change at {} cannot follow one at {}",
            entry.revision,
            self.newest()
        );
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while (self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.start = oldest.revision;
        }
    }

    /// Every change after a revision; None if some of them are forgotten.
    pub fn after(&self, revision: Revision) -> Option<impl Iterator<Item = &Arc<Entry>>> {
        if revision < self.start {
            return None;
        }
        let first = self
            .entries
            .partition_point(|entry| entry.revision <= revision);
        Some(self.entries.range(first..))
    }

    /// Takes over what a window of the same state has beyond this one.
    pub fn follow(&mut self, other: &Window) {
        if other.newest() == self.newest() && other.start <= self.newest() {
            return;
        }
        match other.after(self.newest()) {
            Some(entries) => entries.for_each(|entry| self.push(entry.clone())),
            // A snapshot was installed: what led to it is not known.
            None => *self = other.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
