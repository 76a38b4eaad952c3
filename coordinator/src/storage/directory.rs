//! The data directory of a member: the log in files of its own, the snapshot that it continues in sled.
//!
//! `lock`, `raft/` (sled: whose directory this is, snapshots), `log/` (segments, and how far they were acknowledged). A record
//! of the log names its snapshot, so that one write of the log is what makes a change of both happen.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use vt_coordinator_core::peer::{Batch, LogStart, Stored};
use vt_proto::cluster::{Kinship, kinship};
use vt_proto::wire::{LogPosition, LogRecord, RaftEntry, RaftSnapshot, SnapshotName};

use super::{
    Free, Identity, Storage, StorageError,
    files::RealFolder,
    log::{self, Log, LogError},
    sled::{Contained, Label, Running, SledError},
};

/// The format before the log had files of its own: understood, and converted at start.
const FORMAT_IN_SLED: u32 = 1;
const LOG: &str = "log";
/// The log of a directory whose label is not written yet.
const NEW_LOG: &str = "log.new";
const SLED: &str = "raft";

/// A snapshot of our own on its way to sled.
struct Snapshotting {
    snapshot: RaftSnapshot,
    start: LogStart,
    running: Running<SnapshotName>,
}

/// Opened for one member, which holds the lock as long as it lives.
pub struct DiskStorage {
    data_dir: PathBuf,
    identity: Identity,
    sled: Contained,
    log: Log,
    /// What was read when it was opened, for the first load.
    entries: Option<Vec<RaftEntry>>,
    snapshotting: Option<Snapshotting>,
    /// The newest snapshot that waits for the one on its way.
    waiting: Option<(RaftSnapshot, LogStart)>,
    /// A snapshot that lies in sled, and that the log does not name yet.
    finished: Option<(SnapshotName, LogStart)>,
    _lock: Flock<File>,
}

impl DiskStorage {
    /// Opens the directory for this member, making it if it is not there. Refuses that of another one.
    pub fn open(data_dir: &Path, member_id: u64) -> Result<Self, StorageError> {
        let at = At {
            data_dir: data_dir.to_owned(),
            member_id,
        };
        make_directory(data_dir).map_err(|error| at.io(data_dir, error))?;
        let lock = lock(data_dir)?;
        let sled_path = data_dir.join(SLED);
        let sled = Contained::open(&sled_path).map_err(|error| at.sled(error))?;
        sync_names(data_dir).map_err(|error| at.io(data_dir, error))?;
        let label = sled.call(|tree| tree.label());
        let label = label.map_err(|error| at.sled(error))?;
        let label = at.prepare(&sled, label)?;
        let folder = Box::new(RealFolder(data_dir.join(LOG)));
        let (log, entries) =
            Log::open(folder, &label.directory, log::SIZES, None).map_err(|error| at.log(error))?;
        Ok(Self {
            data_dir: at.data_dir,
            identity: Identity {
                member_id,
                directory_id: label.directory,
                cluster_id: label.cluster,
            },
            sled,
            log,
            entries: Some(entries),
            snapshotting: None,
            waiting: None,
            finished: None,
            _lock: lock,
        })
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Says of which cluster the directory is, for ever; within the cluster a newer group may take the place of an older one.
    pub fn bind(&mut self, cluster_id: &str) -> Result<(), StorageError> {
        match &self.identity.cluster_id {
            Some(bound) if bound == cluster_id => Ok(()),
            Some(bound) if kinship(cluster_id, bound) != Kinship::Newer => {
                Err(StorageError::Foreign {
                    path: self.data_dir.clone(),
                    found: format!("cluster {bound}"),
                    here: format!("cluster {cluster_id}"),
                })
            }
            _ => {
                let label = Label {
                    format: Some(log::FORMAT),
                    cluster: Some(cluster_id.to_owned()),
                    member: self.identity.member_id.to_string(),
                    directory: self.identity.directory_id.clone(),
                };
                let written = self.sled.call(move |tree| tree.set_label(&label));
                written.map_err(|error| self.at().sled(error))?;
                self.identity.cluster_id = Some(cluster_id.to_owned());
                Ok(())
            }
        }
    }

    fn at(&self) -> At {
        At {
            data_dir: self.data_dir.clone(),
            member_id: self.identity.member_id,
        }
    }

    fn append(&mut self, record: &LogRecord, entries: &[RaftEntry]) -> Result<(), StorageError> {
        let appended = self.log.append(record, entries);
        appended.map_err(|error| self.at().io(&self.log.path(), error))
    }

    /// A snapshot of the leader replaces everything: nothing of our own counts any more.
    fn reset(&mut self, batch: &Batch, record: &mut LogRecord) -> Result<(), StorageError> {
        if let Some(snapshot) = batch.snapshot.clone() {
            let name = self.sled.call(move |tree| tree.write_snapshot(&snapshot));
            record.snapshot = Some(name.map_err(|error| self.at().sled(error))?);
        }
        record.reset = true;
        record.start = batch.start.map(position);
        self.snapshotting = None;
        self.waiting = None;
        self.finished = None;
        Ok(())
    }

    /// Sends the newest snapshot of our own on its way, if there is one and none is.
    fn begin_snapshot(&mut self) {
        if self.snapshotting.is_some() || self.finished.is_some() {
            return;
        }
        let Some((snapshot, start)) = self.waiting.take() else {
            return;
        };
        let copy = snapshot.clone();
        let running = self.sled.begin(move |tree| tree.write_snapshot(&copy));
        self.snapshotting = Some(Snapshotting {
            snapshot,
            start,
            running,
        });
    }

    /// Takes the outcome of the snapshot that is on its way, if it is there.
    fn finish_snapshot(&mut self, wait: bool) -> Result<(), StorageError> {
        let Some(on_its_way) = self.snapshotting.take() else {
            return Ok(());
        };
        let outcome = if wait {
            Some(on_its_way.running.wait())
        } else {
            on_its_way.running.poll()
        };
        match outcome {
            None => self.snapshotting = Some(on_its_way),
            Some(Ok(name)) => self.finished = Some((name, on_its_way.start)),
            Some(Err(error)) => {
                let newest = (on_its_way.snapshot, on_its_way.start);
                self.waiting.get_or_insert(newest);
                return Err(self.at().sled(error));
            }
        }
        Ok(())
    }

    /// Lets the log name a finished snapshot, and removes what it replaces.
    fn adopt_snapshot(&mut self) -> Result<(), StorageError> {
        let Some((name, start)) = self.finished else {
            return Ok(());
        };
        let record = LogRecord {
            snapshot: Some(name),
            start: Some(position(start)),
            ..LogRecord::default()
        };
        self.append(&record, &[])?;
        self.finished = None;
        self.remove_other_snapshots(name);
        Ok(())
    }

    fn remove_other_snapshots(&self, name: SnapshotName) {
        // Served before the next snapshot is written; what fails here is removed with the next one.
        drop(self.sled.begin(move |tree| tree.remove_others(&name)));
    }

    /// Waits until nothing is on its way any more.
    fn settle(&mut self) -> Result<(), StorageError> {
        loop {
            self.begin_snapshot();
            self.finish_snapshot(true)?;
            self.adopt_snapshot()?;
            if self.waiting.is_none() {
                return Ok(());
            }
        }
    }
}

impl Storage for DiskStorage {
    fn load(&mut self) -> Result<Stored, StorageError> {
        self.settle()?;
        let entries = match self.entries.take() {
            Some(entries) => entries,
            None => self.reopen_log()?,
        };
        let situation = self.log.situation().clone();
        let snapshot = match situation.snapshot {
            Some(name) => {
                let snapshot = self.sled.call(move |tree| tree.read_snapshot(&name));
                Some(snapshot.map_err(|error| self.at().sled(error))?)
            }
            None => None,
        };
        Ok(Stored {
            hard_state: situation.hard_state,
            snapshot,
            start: situation.start,
            entries,
        })
    }

    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.entries = None;
        let mut record = LogRecord {
            hard_state: batch.hard_state,
            ..LogRecord::default()
        };
        if batch.reset {
            self.reset(batch, &mut record)?;
        } else if let Some(snapshot) = &batch.snapshot {
            let start = batch.start.unwrap_or(self.log.situation().start);
            self.waiting = Some((snapshot.clone(), start));
        } else {
            record.start = batch.start.map(position);
        }
        if record != LogRecord::default() || !batch.entries.is_empty() {
            self.append(&record, &batch.entries)?;
        }
        if let Some(name) = record.snapshot {
            self.remove_other_snapshots(name);
        }
        self.begin_snapshot();
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        let probed = self.log.probe();
        probed.map_err(|error| self.at().io(&self.log.path(), error))
    }

    fn work(&mut self, idle: bool) -> Result<(), StorageError> {
        self.finish_snapshot(false)?;
        self.adopt_snapshot()?;
        self.begin_snapshot();
        let dropped = self.log.drop_oldest();
        dropped.map_err(|error| self.at().io(&self.log.path(), error))?;
        if idle {
            let synced = self.log.sync_acknowledged();
            synced.map_err(|error| self.at().io(&self.log.path(), error))?;
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), StorageError> {
        self.reopen_log().map(drop)
    }

    fn free(&self) -> Option<Free> {
        // What cannot be asked is told by the next write.
        Free::of(&self.data_dir).ok()
    }
}

impl DiskStorage {
    /// Reads the log again: what is there must be what was written.
    fn reopen_log(&mut self) -> Result<Vec<RaftEntry>, StorageError> {
        let folder = Box::new(RealFolder(self.data_dir.join(LOG)));
        let opened = Log::open(
            folder,
            &self.identity.directory_id,
            log::SIZES,
            Some(self.log.link()),
        );
        let (log, entries) = opened.map_err(|error| self.at().log(error))?;
        self.log = log;
        Ok(entries)
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        // What is not finished is found and done again after the next start.
        drop(self.settle());
        drop(self.log.sync_acknowledged());
    }
}

/// Where, for errors; and what is done while it is being opened.
struct At {
    data_dir: PathBuf,
    member_id: u64,
}

impl At {
    fn io(&self, path: &Path, error: io::Error) -> StorageError {
        let path = path.to_owned();
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) {
            StorageError::Full {
                path,
                source: error,
            }
        } else {
            StorageError::Io {
                path,
                source: error,
            }
        }
    }

    fn damaged(&self, path: PathBuf, what: String) -> StorageError {
        StorageError::Damaged {
            path,
            what,
            data_dir: self.data_dir.clone(),
            member_id: self.member_id,
        }
    }

    fn sled(&self, error: SledError) -> StorageError {
        let path = self.data_dir.join(SLED);
        match error {
            SledError::Io(error) => self.io(&path, error),
            SledError::Damaged(what) => self.damaged(path, what),
        }
    }

    fn log(&self, error: LogError) -> StorageError {
        let path = self.data_dir.join(LOG);
        match error {
            LogError::Io(error) => self.io(&path, error),
            LogError::Damaged { file, what } => self.damaged(path.join(file), what),
            LogError::Newer { found } => self.newer(found),
        }
    }

    fn newer(&self, found: u32) -> StorageError {
        StorageError::Newer {
            path: self.data_dir.clone(),
            found,
            understood: log::FORMAT,
        }
    }

    /// Makes the directory what this version works with: labels a new one, converts an older one, finishes what a crash cut.
    fn prepare(&self, sled: &Contained, label: Label) -> Result<Label, StorageError> {
        let has_log = self.data_dir.join(LOG).exists();
        let lost = |file: &str, what: &str| self.damaged(self.data_dir.join(file), what.to_owned());
        match label.format {
            None if has_log => Err(lost(SLED, "it is empty, and a log is there")),
            None => self.begin(sled, label, &Stored::default()),
            Some(FORMAT_IN_SLED) if has_log => {
                Err(lost(LOG, "it continues a newer state than is there"))
            }
            Some(FORMAT_IN_SLED) => {
                self.check_member(&label)?;
                let stored = sled.call(|tree| tree.read_format_1());
                let stored = stored.map_err(|error| self.sled(error))?;
                self.begin(sled, label, &stored)
            }
            Some(log::FORMAT) => {
                self.check_member(&label)?;
                let new_log = self.data_dir.join(NEW_LOG);
                if !has_log && !new_log.exists() {
                    return Err(lost(LOG, "it is missing"));
                }
                if !has_log {
                    self.name_log()?;
                }
                Ok(label)
            }
            Some(newer) => Err(self.newer(newer)),
        }
    }

    fn check_member(&self, label: &Label) -> Result<(), StorageError> {
        let here = self.member_id.to_string();
        if label.member == here {
            return Ok(());
        }
        Err(StorageError::Foreign {
            path: self.data_dir.clone(),
            found: format!("member {}", label.member),
            here: format!("member {here}"),
        })
    }

    /// Writes the log, then the label that makes it count, then its name.
    fn begin(&self, sled: &Contained, old: Label, stored: &Stored) -> Result<Label, StorageError> {
        let label = Label {
            format: Some(log::FORMAT),
            cluster: old.cluster,
            member: self.member_id.to_string(),
            directory: format!("{:032x}", rand::random::<u128>()),
        };
        let snapshot = match stored.snapshot.clone() {
            Some(snapshot) => {
                let name = sled.call(move |tree| tree.write_snapshot(&snapshot));
                Some(name.map_err(|error| self.sled(error))?)
            }
            None => None,
        };
        let record = LogRecord {
            hard_state: Some(stored.hard_state),
            snapshot,
            reset: true,
            start: Some(position(stored.start)),
            entries: Vec::new(),
        };
        let path = self.data_dir.join(NEW_LOG);
        let io = |error| self.io(&path, error);
        fs::create_dir_all(&path).map_err(io)?;
        let folder = Box::new(RealFolder(path.clone()));
        drop(
            Log::create(
                folder,
                &label.directory,
                log::SIZES,
                &record,
                &stored.entries,
            )
            .map_err(io)?,
        );
        sync_names(&self.data_dir).map_err(io)?;
        let written = label.clone();
        let written = sled.call(move |tree| tree.set_label(&written));
        written.map_err(|error| self.sled(error))?;
        self.name_log()?;
        if old.format == Some(FORMAT_IN_SLED) {
            let removed = sled.call(|tree| tree.remove_format_1());
            removed.map_err(|error| self.sled(error))?;
        }
        Ok(label)
    }

    fn name_log(&self) -> Result<(), StorageError> {
        let renamed = fs::rename(self.data_dir.join(NEW_LOG), self.data_dir.join(LOG));
        let synced = renamed.and_then(|()| sync_names(&self.data_dir));
        synced.map_err(|error| self.io(&self.data_dir.join(LOG), error))
    }
}

fn position(start: LogStart) -> LogPosition {
    LogPosition {
        index: start.index,
        term: start.term,
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    path.parent().map_or(Ok(()), sync_names)
}

fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
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
