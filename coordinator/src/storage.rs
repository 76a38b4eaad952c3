//! Where a member keeps its part of the raft log: load at start, persist one batch. Everything else lives in memory.
//!
//! `directory` puts the storage on disk together: `log` (segments of its own) and `sled` (whose it is, snapshots).

use std::path::PathBuf;

use vt_coordinator_core::peer::{Batch, Stored};

mod directory;
mod files;
mod log;
pub mod memory;
mod sled;
mod space;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage;

pub use directory::DiskStorage;
pub use space::{Free, RESERVE_BYTES, Space};

/// Whose a data directory is. A member never continues with that of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member_id: u64,
    /// Drawn at random when the directory was made: an emptied one is not the one that voted.
    pub directory_id: String,
    /// None: the member belongs to no cluster yet.
    pub cluster_id: Option<String>,
}

/// Keeps batches in order. After `persist` returned, the batch survives the end of the process and of the host.
///
/// One thing may come later: a snapshot of our own (one without `reset`) and the start of the log that comes with it. Until
/// they are on disk, the older snapshot and all entries since are, which is the same state.
pub trait Storage: Send {
    /// Everything that was persisted, with nothing left for later.
    fn load(&mut self) -> Result<Stored, StorageError>;

    /// All of the batch or, after a crash, nothing of it. After [`StorageError::Full`] nothing has changed either.
    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Returns when the disk has shown that a batch would be on it now, without changing anything.
    fn probe(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// A small part of what was left for later. `idle`: nothing else waits.
    fn work(&mut self, idle: bool) -> Result<(), StorageError> {
        let _ = idle;
        Ok(())
    }

    /// After [`StorageError::Full`], before the next try: makes sure that what is on disk is what was persisted.
    fn recover(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// The space that is left, where there is an end of it.
    fn free(&self) -> Option<Free> {
        None
    }
}

/// Why the stored data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{} cannot be used", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} is in use by another vt-coordinator: stop that one, or give this one a data_dir of its own",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{} belongs to {found}, and this is {here}: correct the configuration, or give this member an empty data_dir",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        found: String,
        here: String,
    },
    #[error("{} cannot be written, the disk is full: free space there", path.display())]
    Full {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} is damaged: {what}. Move {} aside, and replace this member with `vtctl coordinator replace {member_id}`",
        path.display(), data_dir.display()
    )]
    Damaged {
        path: PathBuf,
        what: String,
        data_dir: PathBuf,
        member_id: u64,
    },
    #[error(
        "{} was written by a newer vt-coordinator (format {found}, this one understands up to {understood}): install the newer version",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: u32,
        understood: u32,
    },
}
