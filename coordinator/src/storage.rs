//! Where a member keeps its part of the raft log: load at start, persist one batch. Everything else lives in memory.

use std::path::PathBuf;

use vt_coordinator_core::peer::{Batch, Stored};

pub mod memory;
pub mod sled;

#[cfg(test)]
mod conformance;

/// To whom the stored data belong. A member never continues with those of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub member_id: u64,
    /// All members, as `1=host:port,2=host:port`.
    pub members: String,
}

/// Keeps batches in order. After `persist` returned, the batch survives the end of the process and of the host.
pub trait Storage: Send {
    /// Everything that was persisted.
    fn load(&mut self) -> Result<Stored, StorageError>;

    /// All of the batch or, after a crash, nothing of it.
    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError>;
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
    #[error(
        "{} is damaged ({what}): move that directory aside and start again; the member then fetches the topology from the others",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
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
