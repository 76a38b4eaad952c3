//! One `vtctl local` command changes a cluster at a time. The kernel drops the lock with the process.

use std::fs::{File, TryLockError};

use anyhow::Context as _;

use super::cluster::Cluster;
use crate::failure::{Failure, Kind};

/// Takes the lock of a cluster whose directory is there; it holds until the file is dropped.
pub fn take(cluster: &Cluster) -> anyhow::Result<File> {
    let path = cluster.dir.join("lock");
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "another vtctl starts or stops the cluster in {}",
                cluster.dir.display()
            );
            Err(Failure::new(Kind::Refused, message)
                .next("wait until it has ended")
                .into())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}
