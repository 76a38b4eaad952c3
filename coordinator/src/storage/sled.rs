//! What lies in sled: whose directory this is, and the snapshots of the state. One tree, used on a thread of its own.
//!
//! sled's own flush writes no file metadata and does not reach the disk's cache on Linux, so the file is flushed here too;
//! and values large enough for files of their own would not be flushed at all, so every value is cut into small pieces.

use std::{fs::File, io, path::Path, thread, time::Duration};

use prost::Message;
use vt_proto::wire::{RaftSnapshot, SnapshotName};

use self::pieces::Pieces;

mod contained;
pub(super) mod format_1;
mod pieces;

pub(super) use contained::{Contained, Running};

/// Memory that sled may use for its cache: the state lives in memory already, sled is read at start only.
const CACHE_BYTES: u64 = 4 << 20;
/// Bytes of a snapshot that are flushed at once, so that the log's own flushes find the disk free in between.
const SLICE_BYTES: usize = 1 << 20;
/// How long an earlier opening of the same directory in this process may take to let go of it.
const CLOSING: Duration = Duration::from_secs(5);
const CLOSING_STEP: Duration = Duration::from_millis(10);

const KEY_FORMAT: &[u8] = b"format";
const KEY_CLUSTER: &[u8] = b"cluster";
const KEY_MEMBER: &[u8] = b"member";
const KEY_DIRECTORY: &[u8] = b"directory";
const STATE: &[u8] = b"state/";

/// What went wrong in sled or with what lies in it.
#[derive(Debug)]
pub(super) enum SledError {
    Io(io::Error),
    Damaged(String),
}

impl From<::sled::Error> for SledError {
    fn from(error: ::sled::Error) -> Self {
        match error {
            ::sled::Error::Io(error) => Self::Io(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// What the directory says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// None: nothing was ever kept here.
    pub(super) format: Option<u32>,
    pub(super) cluster: Option<String>,
    pub(super) member: String,
    pub(super) directory: String,
}

/// sled, open.
pub(super) struct Tree {
    tree: ::sled::Db,
    /// The file that sled writes, opened once more to flush it.
    file: File,
}

impl Tree {
    /// sled's own lock outlives a closed one for a moment; ours says that nobody else is there.
    fn open(path: &Path) -> Result<Self, SledError> {
        let config = ::sled::Config::default()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let mut waited = Duration::ZERO;
        let tree = loop {
            match config.open() {
                Err(::sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock") && waited < CLOSING =>
                {
                    thread::sleep(CLOSING_STEP);
                    waited += CLOSING_STEP;
                }
                opened => break opened?,
            }
        };
        let file = File::open(path.join("db")).map_err(SledError::Io)?;
        // The names of new files must be on disk before anything that is in them is promised.
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(SledError::Io)?;
        Ok(Self { tree, file })
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SledError> {
        pieces::read(&self.tree, key)
    }

    fn write(&self, batch: ::sled::Batch) -> Result<(), SledError> {
        self.tree.apply_batch(batch)?;
        self.tree.flush()?;
        self.file.sync_data().map_err(SledError::Io)
    }

    pub(super) fn label(&self) -> Result<Label, SledError> {
        let text = |key| {
            let value = self.read(key)?;
            let text = value.map(|value| String::from_utf8_lossy(&value).into_owned());
            Ok::<_, SledError>(text)
        };
        let format = self.read(KEY_FORMAT)?;
        let format = format.map(|f| f.try_into().map(u32::from_be_bytes).unwrap_or(u32::MAX));
        Ok(Label {
            format,
            cluster: text(KEY_CLUSTER)?,
            member: text(KEY_MEMBER)?.unwrap_or_default(),
            directory: text(KEY_DIRECTORY)?.unwrap_or_default(),
        })
    }

    pub(super) fn set_label(&self, label: &Label) -> Result<(), SledError> {
        let mut pieces = Pieces::default();
        if let Some(format) = label.format {
            pieces.put(KEY_FORMAT, &format.to_be_bytes());
        }
        if let Some(cluster) = &label.cluster {
            pieces.put(KEY_CLUSTER, cluster.as_bytes());
        }
        pieces.put(KEY_MEMBER, label.member.as_bytes());
        pieces.put(KEY_DIRECTORY, label.directory.as_bytes());
        self.write(pieces.batch)
    }

    /// Keeps a snapshot beside what is there, and says by which name the log is to know it.
    pub(super) fn write_snapshot(
        &self,
        snapshot: &RaftSnapshot,
    ) -> Result<SnapshotName, SledError> {
        let value = snapshot.encode_to_vec();
        let name = SnapshotName {
            index: snapshot.index,
            term: snapshot.term,
            bytes: value.len() as u64,
            checksum: crc32fast::hash(&value),
        };
        let key = state_key(&name);
        let mut pieces = Pieces::default();
        pieces.remove(&self.tree, &key)?;
        self.tree.apply_batch(pieces.batch)?;
        for batch in pieces::in_slices(&key, &value, SLICE_BYTES) {
            self.write(batch)?;
        }
        Ok(name)
    }

    pub(super) fn read_snapshot(&self, name: &SnapshotName) -> Result<RaftSnapshot, SledError> {
        let missing = || SledError::Damaged(format!("the snapshot of entry {}", name.index));
        let value = self.read(&state_key(name))?.ok_or_else(missing)?;
        if value.len() as u64 != name.bytes || crc32fast::hash(&value) != name.checksum {
            return Err(missing());
        }
        RaftSnapshot::decode(value.as_slice()).map_err(|_| missing())
    }

    /// Removes all snapshots but that one, and what an earlier format left.
    pub(super) fn remove_others(&self, name: &SnapshotName) -> Result<(), SledError> {
        let mut batch = ::sled::Batch::default();
        let kept = state_key(name);
        for key in self.tree.scan_prefix(STATE).keys() {
            let key = key?;
            if !key.starts_with(&kept) {
                batch.remove(key);
            }
        }
        self.write(batch)
    }
}

fn state_key(name: &SnapshotName) -> Vec<u8> {
    [STATE, &name.index.to_be_bytes(), &name.term.to_be_bytes()].concat()
}
