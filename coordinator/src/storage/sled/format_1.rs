//! Reads what format 1 kept: all of the log in sled. Written no more.

use prost::Message;
use vt_coordinator_core::peer::{LogStart, Stored};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use super::{SledError, Tree, pieces};

const KEY_MEMBERS: &[u8] = b"members";
const KEY_HARD_STATE: &[u8] = b"hard-state";
const KEY_START: &[u8] = b"start";
const KEY_SNAPSHOT: &[u8] = b"snapshot";
const ENTRY: &[u8] = b"entry/";

impl Tree {
    /// Everything that was persisted.
    pub(in crate::storage) fn read_format_1(&self) -> Result<Stored, SledError> {
        let start = self.read_start()?;
        Ok(Stored {
            hard_state: self
                .read_message::<RaftHardState>(KEY_HARD_STATE)?
                .unwrap_or_default(),
            snapshot: self.read_message::<RaftSnapshot>(KEY_SNAPSHOT)?,
            start,
            entries: self.read_entries(start)?,
        })
    }

    /// Removes all of it.
    pub(in crate::storage) fn remove_format_1(&self) -> Result<(), SledError> {
        let mut batch = ::sled::Batch::default();
        for prefix in [KEY_MEMBERS, KEY_HARD_STATE, KEY_START, KEY_SNAPSHOT, ENTRY] {
            for key in self.tree.scan_prefix(prefix).keys() {
                let key = key?;
                // "member" is no prefix of these, but "start" must not take what only begins so.
                batch.remove(key);
            }
        }
        self.write(batch)
    }

    fn read_message<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>, SledError> {
        let Some(bytes) = self.read(key)? else {
            return Ok(None);
        };
        let decoded = M::decode(bytes.as_slice());
        decoded.map(Some).map_err(|error| {
            let key = key.escape_ascii();
            SledError::Damaged(format!("{key}: {error}"))
        })
    }

    fn read_start(&self) -> Result<LogStart, SledError> {
        let Some(bytes) = self.read(KEY_START)? else {
            return Ok(LogStart::default());
        };
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_be_bytes)
        };
        match (number(0), number(8)) {
            (Some(index), Some(term)) => Ok(LogStart { index, term }),
            _ => Err(SledError::Damaged("the start of the log".to_owned())),
        }
    }

    fn read_entries(&self, start: LogStart) -> Result<Vec<RaftEntry>, SledError> {
        let from = [ENTRY, &(start.index + 1).to_be_bytes()].concat();
        let mut entries = Vec::new();
        for value in pieces::read_all(&self.tree, ENTRY, &from) {
            let expected = start.index + 1 + entries.len() as u64;
            let entry = RaftEntry::decode(value?.as_slice())
                .map_err(|error| SledError::Damaged(format!("entry {expected}: {error}")))?;
            if entry.index != expected {
                return Err(SledError::Damaged(format!("entry {expected} is missing")));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
impl Tree {
    /// A directory as format 1 left it.
    pub(in crate::storage) fn write_format_1(
        &self,
        member: &str,
        cluster: &str,
        stored: &Stored,
    ) -> Result<(), SledError> {
        let mut pieces = pieces::Pieces::default();
        pieces.put(super::KEY_FORMAT, &1u32.to_be_bytes());
        pieces.put(super::KEY_CLUSTER, cluster.as_bytes());
        pieces.put(super::KEY_MEMBER, member.as_bytes());
        pieces.put(KEY_MEMBERS, b"1=a:1,2=b:1,3=c:1");
        pieces.put(KEY_HARD_STATE, &stored.hard_state.encode_to_vec());
        let start = [stored.start.index, stored.start.term].map(u64::to_be_bytes);
        pieces.put(KEY_START, &start.concat());
        if let Some(snapshot) = &stored.snapshot {
            pieces.put(KEY_SNAPSHOT, &snapshot.encode_to_vec());
        }
        for entry in &stored.entries {
            let key = [ENTRY, &entry.index.to_be_bytes()].concat();
            pieces.put(&key, &entry.encode_to_vec());
        }
        self.write(pieces.batch)
    }
}
