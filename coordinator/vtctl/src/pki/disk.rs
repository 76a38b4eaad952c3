//! Files of the PKI: for their owner alone where they are secret, whole and on the disk before anybody sees them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::Context as _;

use crate::failure::{Failure, Kind};

/// Makes a directory that only its owner enters, with those above it.
pub(super) fn make_dir(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

/// Writes a file whole and flushes it and its directory.
pub(super) fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let context = || format!("write {}", path.display());
    let fresh = path.with_extension("new");
    // What a crash left.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&fresh, path).with_context(context)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = File::open(folder).with_context(context)?;
    folder.sync_all().with_context(context)
}

/// The lock of the directory; it holds until the file is dropped.
pub(super) fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = open.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another vtctl works on the PKI in {}", dir.display());
            Err(Failure::new(Kind::Refused, message)
                .next("wait until it has ended")
                .into())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}
