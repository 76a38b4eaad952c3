//! Writes to mysqld's disk now and then, from a thread of its own: a full or stalled disk leaves every read healthy.
//!
//! The thread may hang with the disk for ever. Nobody waits for it: whoever looks judges by how long ago it began. There is one
//! thread, so never more than one that hangs.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use vt_proto::report::{DiskProbe, DiskState};

use super::elapsed_ms;
use crate::mysqld::{
    Layout,
    probe::{Written, disk_free_bytes, write_block},
};

/// The file that the block is in.
const FILE: &str = "disk-probe";
/// Between two writes.
const PERIOD: Duration = Duration::from_millis(250);
/// A block takes milliseconds; a device that needs longer serves nobody.
const LIMIT: Duration = Duration::from_millis(1_000);
/// With less than this a disk is full: superusers may still write where mysqld may not, and files grow by more than a block.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// What the thread has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// When the write that is under way began.
    begun: Option<Instant>,
    last: Option<Written>,
    last_good: Option<Instant>,
    free_bytes: Option<u64>,
}

impl Progress {
    /// A write that has hung for long.
    #[cfg(test)]
    pub(super) fn stalled() -> Self {
        Self {
            begun: Instant::now().checked_sub(LIMIT * 60),
            ..Self::default()
        }
    }

    /// What it means now; nothing before the first answer is due.
    pub(super) fn probe(&self) -> Option<DiskProbe> {
        let is_late = self.begun.is_some_and(|begun| begun.elapsed() > LIMIT);
        let is_short = self.free_bytes.is_some_and(|free| free < FREE_BYTES_MIN);
        let (state, detail) = match &self.last {
            _ if is_late => (DiskState::Stalled, String::new()),
            None => return None,
            Some(Written::Full) => (DiskState::Full, String::new()),
            Some(Written::Failed(why)) => (DiskState::Failed, why.clone()),
            Some(Written::Good) if is_short => (DiskState::Full, String::new()),
            Some(Written::Good) => (DiskState::Good, String::new()),
        };
        Some(DiskProbe {
            state,
            success_age_ms: self.last_good.map(elapsed_ms),
            detail,
        })
    }

    /// Free space as it was at the last write that returned.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.free_bytes
    }
}

/// Where a block reaches mysqld's disk: beside its directory if that is on the same one, so that nothing foreign lies in it.
struct Place {
    layout: Layout,
    /// Tells disks apart.
    device: fn(&Path) -> Option<u64>,
    /// mysqld's directory is there, and on a disk of its own.
    is_apart: bool,
}

impl Place {
    /// Looked at each time, for the first mysqld of a host is made while its agent runs; not doubted any more once it was found, for a disk
    /// that fails may not even say what it is.
    fn directory(&mut self) -> &Path {
        let layout = &self.layout;
        // A directory that is being made must stay empty for it.
        let is_apart = || {
            layout.is_prepared()
                && (self.device)(&layout.mysql_dir) != (self.device)(&layout.data_dir)
        };
        self.is_apart = self.is_apart || is_apart();
        match self.is_apart {
            true => &layout.mysql_dir,
            false => &layout.data_dir,
        }
    }
}

/// Starts the thread. It ends when nobody looks any more.
pub(super) fn watch_disk(layout: Layout) -> watch::Receiver<Progress> {
    let (sender, receiver) = watch::channel(Progress::default());
    thread::spawn(move || {
        let mut place = Place {
            layout,
            device: |path| fs::metadata(path).map(|found| found.dev()).ok(),
            is_apart: false,
        };
        while !sender.is_closed() {
            sender.send_modify(|progress| progress.begun = Some(Instant::now()));
            let directory = place.directory();
            let written = write_block(&directory.join(FILE));
            let free_bytes = disk_free_bytes(directory).ok();
            sender.send_modify(|progress| {
                progress.begun = None;
                progress.free_bytes = free_bytes;
                if written == Written::Good {
                    progress.last_good = Some(Instant::now());
                }
                progress.last = Some(written);
            });
            thread::sleep(PERIOD);
        }
        let _ = fs::remove_file(place.directory().join(FILE));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::init::OWNER_FILE;

    fn progress(begun_ago: Option<Duration>, last: Written, free_bytes: u64) -> Progress {
        Progress {
            begun: begun_ago.and_then(|ago| Instant::now().checked_sub(ago)),
            last: Some(last),
            last_good: None,
            free_bytes: Some(free_bytes),
        }
    }

    #[test]
    fn what_the_thread_says_is_judged_from_outside() {
        assert_eq!(Progress::default().probe(), None);
        let long = Some(LIMIT * 60);
        let now = Some(Duration::ZERO);
        let failed = || Written::Failed("EIO".to_owned());
        for (begun, last, free, state) in [
            (None, Written::Good, 1 << 30, DiskState::Good),
            (now, Written::Good, 1 << 30, DiskState::Good),
            (long, Written::Good, 1 << 30, DiskState::Stalled),
            (None, Written::Good, 4096, DiskState::Full),
            (None, Written::Full, 1 << 30, DiskState::Full),
            (now, failed(), 1 << 30, DiskState::Failed),
            (long, failed(), 1 << 30, DiskState::Stalled),
        ] {
            let found = progress(begun, last.clone(), free).probe().unwrap();
            assert_eq!(found.state, state, "{begun:?} {last:?} {free}");
        }
    }

    #[test]
    fn a_disk_of_mysqlds_own_is_found_when_it_is_in_use_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let mysql = data.path().join("mysql");
        let mut place = Place {
            layout: Layout::new(data.path(), Some(&mysql)),
            device: |path| Some(u64::from(path.ends_with("mysql"))),
            is_apart: false,
        };
        assert_eq!(place.directory(), data.path());
        fs::create_dir(&mysql).unwrap();
        assert_eq!(place.directory(), data.path(), "it is being made");
        fs::write(mysql.join(OWNER_FILE), "").unwrap();
        assert_eq!(place.directory(), mysql);
        fs::remove_dir_all(&mysql).unwrap();
        assert_eq!(place.directory(), mysql, "it fails");
    }

    #[tokio::test]
    async fn a_disk_is_written_to_until_nobody_looks() {
        let directory = tempfile::tempdir().unwrap();
        let mut seen = watch_disk(Layout::new(directory.path(), None));
        let good = seen.wait_for(|progress| progress.last_good.is_some()).await;
        assert_eq!(good.unwrap().probe().unwrap().state, DiskState::Good);
    }
}
