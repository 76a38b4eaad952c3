//! The storage on disk: one sled tree, one atomic batch and one real flush per call.
//!
//! sled's own flush writes no file metadata and does not reach the disk's cache on Linux, so the file is flushed here too;
//! and values large enough for files of their own would not be flushed at all, so every value is cut into small pieces.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use prost::Message;
use vt_coordinator_core::peer::{Batch, LogStart, Stored};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use self::pieces::{Damage, Pieces};
use super::{Identity, Storage, StorageError};

mod pieces;

/// The layout of keys and values that this version writes and understands.
const FORMAT: u32 = 1;
/// Memory that sled may use for its cache: the log lives in memory already, sled is read at start only.
const CACHE_BYTES: u64 = 16 << 20;
/// Pieces of dropped entries that go away with each batch, so that no batch is slow because much was dropped before it.
const GARBAGE_PER_BATCH: usize = 512;

/// How long an earlier opening of the same directory in this process may take to let go of it.
const CLOSING: Duration = Duration::from_secs(5);
const CLOSING_STEP: Duration = Duration::from_millis(10);

const KEY_FORMAT: &[u8] = b"format";
const KEY_CLUSTER: &[u8] = b"cluster";
const KEY_MEMBER: &[u8] = b"member";
const KEY_MEMBERS: &[u8] = b"members";
const KEY_HARD_STATE: &[u8] = b"hard-state";
const KEY_START: &[u8] = b"start";
const KEY_SNAPSHOT: &[u8] = b"snapshot";
const ENTRY: &[u8] = b"entry/";

/// Opened for one member, which holds the lock as long as it lives.
pub struct SledStorage {
    path: PathBuf,
    tree: sled::Db,
    /// The file that sled writes, opened once more to flush it.
    file: File,
    last_index: u64,
    /// Entries up to here are dropped and not all deleted yet.
    garbage_up_to: u64,
    garbage_deleted_up_to: u64,
    _lock: Flock<File>,
}

impl SledStorage {
    /// Opens the directory for this member, making it if it is not there. Refuses that of another one.
    pub fn open(data_dir: &Path, identity: &Identity) -> Result<Self, StorageError> {
        make_directory(data_dir).map_err(|source| StorageError::Io {
            path: data_dir.to_owned(),
            source,
        })?;
        let lock = lock(data_dir)?;
        let path = data_dir.join("raft");
        let tree = open_tree(&path)?;
        let io_failed = |source| StorageError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(path.join("db")).map_err(io_failed)?;
        let mut storage = Self {
            path: path.clone(),
            tree,
            file,
            last_index: 0,
            garbage_up_to: 0,
            garbage_deleted_up_to: 0,
            _lock: lock,
        };
        storage.check_identity(identity)?;
        // The names of new files must be on disk before anything that is in them is promised.
        for directory in [path.as_path(), data_dir] {
            let flushed = File::open(directory).and_then(|directory| directory.sync_all());
            flushed.map_err(io_failed)?;
        }
        Ok(storage)
    }

    fn check_identity(&mut self, identity: &Identity) -> Result<(), StorageError> {
        let member = identity.member_id.to_string();
        let fields = [
            (KEY_CLUSTER, identity.cluster_id.as_bytes()),
            (KEY_MEMBER, member.as_bytes()),
            (KEY_MEMBERS, identity.members.as_bytes()),
        ];
        let Some(format) = self.read(KEY_FORMAT)? else {
            let mut pieces = Pieces::default();
            pieces.put(KEY_FORMAT, &FORMAT.to_be_bytes());
            for (key, value) in fields {
                pieces.put(key, value);
            }
            return self.write(pieces.batch);
        };
        let format = format.try_into().map(u32::from_be_bytes).unwrap_or(0);
        if format != FORMAT {
            return Err(StorageError::Newer {
                path: self.path.clone(),
                found: format,
                understood: FORMAT,
            });
        }
        let mut found = Vec::new();
        for (key, _) in fields {
            let value = self.read(key)?.unwrap_or_default();
            found.push(String::from_utf8_lossy(&value).into_owned());
        }
        let describe = |cluster: &str, member: &str, members: &str| {
            format!("member {member} of cluster {cluster} with members {members}")
        };
        let found = describe(&found[0], &found[1], &found[2]);
        let here = describe(&identity.cluster_id, &member, &identity.members);
        if found != here {
            return Err(StorageError::Foreign {
                path: self.path.clone(),
                found,
                here,
            });
        }
        Ok(())
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        pieces::read(&self.tree, key).map_err(|damage| self.damaged(damage))
    }

    fn read_message<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>, StorageError> {
        let Some(bytes) = self.read(key)? else {
            return Ok(None);
        };
        match M::decode(bytes.as_slice()) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(self.damaged(Damage::Content(format!(
                "{} {error}",
                String::from_utf8_lossy(key)
            )))),
        }
    }

    fn damaged(&self, damage: Damage) -> StorageError {
        match damage {
            Damage::Sled(error) => storage_error(&self.path, error),
            Damage::Content(what) => StorageError::Damaged {
                path: self.path.clone(),
                what,
            },
        }
    }

    fn read_start(&self) -> Result<LogStart, StorageError> {
        let Some(bytes) = self.read(KEY_START)? else {
            return Ok(LogStart::default());
        };
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_be_bytes)
        };
        match (number(0), number(8)) {
            (Some(index), Some(term)) => Ok(LogStart { index, term }),
            _ => Err(self.damaged(Damage::Content("the start of the log".to_owned()))),
        }
    }

    fn read_entries(&self, start: LogStart) -> Result<Vec<RaftEntry>, StorageError> {
        let mut entries = Vec::new();
        let stored = pieces::read_all(&self.tree, ENTRY, &entry_key(start.index + 1));
        for value in stored {
            let bytes = value.map_err(|damage| self.damaged(damage))?;
            let entry = RaftEntry::decode(bytes.as_slice()).map_err(|error| {
                self.damaged(Damage::Content(format!(
                    "entry after {}: {error}",
                    start.index + entries.len() as u64
                )))
            })?;
            let expected = start.index + 1 + entries.len() as u64;
            if entry.index != expected {
                let what = format!("entry {expected} is missing");
                return Err(self.damaged(Damage::Content(what)));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Adds the deletion of the pieces of entries with an index in the range.
    fn delete_entries(
        &self,
        pieces: &mut Pieces,
        from: u64,
        to: u64,
        at_most: usize,
    ) -> Result<Option<u64>, StorageError> {
        let range = entry_key(from)..entry_key(to);
        let mut last = None;
        for key in self.tree.range(range).keys().take(at_most) {
            let key = key.map_err(|error| storage_error(&self.path, error))?;
            let index = key.get(ENTRY.len()..ENTRY.len() + 8);
            last = index
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes);
            pieces.batch.remove(key);
        }
        Ok(last)
    }

    /// Deletes some of what was dropped earlier.
    fn collect_garbage(&mut self, pieces: &mut Pieces) -> Result<(), StorageError> {
        let (from, to) = (self.garbage_deleted_up_to, self.garbage_up_to);
        if from >= to {
            return Ok(());
        }
        let last = self.delete_entries(pieces, from, to + 1, GARBAGE_PER_BATCH)?;
        // An entry may be cut in the middle: begin with it again.
        self.garbage_deleted_up_to = last.unwrap_or(to);
        Ok(())
    }

    fn write(&self, batch: sled::Batch) -> Result<(), StorageError> {
        let failed = |error| storage_error(&self.path, error);
        self.tree.apply_batch(batch).map_err(failed)?;
        self.tree.flush().map_err(failed)?;
        self.file.sync_data().map_err(|source| StorageError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

impl Storage for SledStorage {
    fn load(&mut self) -> Result<Stored, StorageError> {
        let start = self.read_start()?;
        let entries = self.read_entries(start)?;
        let stored = Stored {
            hard_state: self
                .read_message::<RaftHardState>(KEY_HARD_STATE)?
                .unwrap_or_default(),
            snapshot: self.read_message::<RaftSnapshot>(KEY_SNAPSHOT)?,
            start,
            entries,
        };
        self.last_index = stored.last_index();
        self.garbage_up_to = start.index;
        self.garbage_deleted_up_to = 0;
        Ok(stored)
    }

    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut pieces = Pieces::default();
        if let Some(hard_state) = &batch.hard_state {
            pieces.put(KEY_HARD_STATE, &hard_state.encode_to_vec());
        }
        if let Some(snapshot) = &batch.snapshot {
            // The old one may have more pieces.
            pieces
                .remove(&self.tree, KEY_SNAPSHOT)
                .map_err(|error| storage_error(&self.path, error))?;
            pieces.put(KEY_SNAPSHOT, &snapshot.encode_to_vec());
        }
        if batch.reset {
            self.delete_entries(&mut pieces, 0, u64::MAX, usize::MAX)?;
            self.last_index = 0;
        }
        if let Some(start) = batch.start {
            let mut value = start.index.to_be_bytes().to_vec();
            value.extend(start.term.to_be_bytes());
            pieces.put(KEY_START, &value);
            self.garbage_up_to = start.index;
            self.last_index = self.last_index.max(start.index);
        }
        self.collect_garbage(&mut pieces)?;
        if let Some(first) = batch.entries.first() {
            if first.index <= self.last_index {
                self.delete_entries(&mut pieces, first.index, u64::MAX, usize::MAX)?;
            }
            for entry in &batch.entries {
                pieces.put(&entry_key(entry.index), &entry.encode_to_vec());
                self.last_index = entry.index;
            }
        }
        self.write(pieces.batch)
    }
}

fn entry_key(index: u64) -> Vec<u8> {
    [ENTRY, &index.to_be_bytes()].concat()
}

/// Opens sled's directory. Its own lock outlives a closed one for a moment; ours says that nobody else is there.
fn open_tree(path: &Path) -> Result<sled::Db, StorageError> {
    let config = ::sled::Config::default()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let mut waited = Duration::ZERO;
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && waited < CLOSING =>
            {
                thread::sleep(CLOSING_STEP);
                waited += CLOSING_STEP;
            }
            opened => return opened.map_err(|error| storage_error(path, error)),
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock(data_dir: &Path) -> Result<Flock<File>, StorageError> {
    let path = data_dir.join("lock");
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StorageError::Io { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StorageError::Locked {
        path: data_dir.to_owned(),
    })
}

fn storage_error(path: &Path, error: sled::Error) -> StorageError {
    let path = path.to_owned();
    match error {
        sled::Error::Io(source) => StorageError::Io { path, source },
        other => StorageError::Damaged {
            path,
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
impl SledStorage {
    pub(super) fn pieces_stored(&self) -> usize {
        self.tree.len()
    }

    /// Flips a bit of the piece under the key.
    pub(super) fn damage(&self, key: &[u8]) {
        let mut piece = self.tree.get(key).unwrap().unwrap().to_vec();
        piece[6] ^= 1;
        self.tree.insert(key, piece).unwrap();
    }
}
