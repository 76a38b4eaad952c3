//! The directory of a run: gone after a good one, kept without its disks after a bad one, and taken away by the next run if this
//! one was killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{sys::signal::kill, unistd::Pid};
use tempfile::TempDir;

const PREFIX: &str = "vt-bed-";
/// Holds the number of the process whose run this is, as long as it goes on.
const RUNNING: &str = "running";

/// A run's directory.
pub struct Directory(TempDir);

impl Directory {
    pub fn make() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        fs::write(
            directory.path().join(RUNNING),
            std::process::id().to_string(),
        )?;
        Ok(Self(directory))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves everything but the disks to whoever looks into it.
    pub fn keep(self) -> anyhow::Result<PathBuf> {
        let path = self.0.keep();
        fs::remove_file(path.join(RUNNING))?;
        for entry in fs::read_dir(&path)?.flatten() {
            if entry.path().extension().is_some_and(|it| it == "image") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(path)
    }
}

/// Removes directories of runs whose process was killed. Their namespaces, mounts and processes ended with it.
pub fn remove() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let running = fs::read_to_string(entry.path().join(RUNNING));
        if let (true, Ok(Ok(pid))) = (is_ours, running.map(|text| text.parse::<i32>()))
            && kill(Pid::from_raw(pid), None).is_err()
        {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
