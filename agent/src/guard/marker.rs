//! Markers in the agent's data directory that bind the guard, whether or not an agent lives. They hold a text for people.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{sync_parent, write_durably};

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// mysqld must not start: its replica set may have gone on without it.
    Fence,
    /// This mysqld is, or may be, open for writes as primary: a clean shutdown would acknowledge what is nowhere else.
    PrimaryOpen,
}

impl Marker {
    /// Where it lies.
    pub fn path(self, data_dir: &Path) -> PathBuf {
        data_dir.join(match self {
            Self::Fence => "fence",
            Self::PrimaryOpen => "primary-open",
        })
    }

    /// Whether it lies there. A directory that cannot be read counts as if it did: the safe side.
    pub fn is_set(self, data_dir: &Path) -> bool {
        self.path(data_dir).try_exists().unwrap_or(true)
    }

    /// Puts it there, on disk before this returns.
    pub fn set(self, data_dir: &Path, text: &str) -> io::Result<()> {
        write_durably(&self.path(data_dir), text.as_bytes())
    }

    /// What it says; `None` where it is not set.
    pub fn text(self, data_dir: &Path) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path(data_dir)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes it away; it is gone from the disk before this returns.
    pub fn clear(self, data_dir: &Path) -> io::Result<()> {
        let path = self.path(data_dir);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
