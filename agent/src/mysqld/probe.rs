//! Tells hung, full, stalled and refusing apart from alive: one probe by SQL, one of the disk, one of the free space.
//! It draws no conclusion; those are the coordinator's.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::fcntl::OFlag;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::admin_conn::{AdminConn, AdminError};

/// What a probe by SQL found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It answered.
    Alive { took: Duration },
    /// It answered that it takes no more connections: saturated, which is not dead.
    Saturated { why: String },
    /// The process takes the connection and does not answer in time.
    Unresponsive { why: String },
    /// Nobody listens, or it is starting or ending.
    Absent { why: String },
}

/// Asks on the held connection, so that no login can hang; opens one where there is none.
pub async fn probe(held: &mut Option<AdminConn>, socket: &Path, password: &str) -> Liveness {
    let started = Instant::now();
    if held.as_ref().is_none_or(|conn| !conn.is_open()) {
        *held = None;
        match AdminConn::connect(socket, password).await {
            Ok(conn) => *held = Some(conn),
            Err(error) => return classify(&error),
        }
    }
    let Some(conn) = held.as_mut() else {
        return Liveness::Absent {
            why: "no connection".to_owned(),
        };
    };
    match conn.execute("DO 1").await {
        Ok(()) => Liveness::Alive {
            took: started.elapsed(),
        },
        Err(error) => {
            if error.ends_connection() {
                *held = None;
            }
            classify(&error)
        }
    }
}

/// What an error of the administrative connection says about mysqld.
pub fn classify(error: &AdminError) -> Liveness {
    let why = error.to_string();
    match error {
        AdminError::Late { .. } => Liveness::Unresponsive { why },
        // 1040 and 1203: all connections are taken.
        AdminError::Refused {
            code: 1040 | 1203, ..
        } => Liveness::Saturated { why },
        // It answers; what it says (a wrong password, say) is for people to read.
        AdminError::Refused { code, .. } if *code != 1053 => Liveness::Saturated { why },
        AdminError::Refused { .. } | AdminError::Unreachable(_) | AdminError::Broken { .. } => {
            Liveness::Absent { why }
        }
    }
}

/// What a probe of the disk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// A block was written through to the device.
    Good {
        took: Duration,
    },
    /// The write has not returned yet.
    Stalled,
    /// No space is left.
    Full,
    Failed(String),
}

/// The bytes that one probe writes: one block, aligned as any device wants it.
const BLOCK_LENGTH: usize = 4096;

/// Writes a block through to mysqld's disk now and then, from a thread of its own that may hang with the disk.
#[derive(Debug)]
pub struct DiskProbe {
    orders: mpsc::SyncSender<()>,
    ordered: u64,
    answers: watch::Receiver<(u64, DiskState)>,
}

impl DiskProbe {
    /// For the file system of `directory`, which must be the one that mysqld writes to.
    pub fn new(directory: &Path) -> Self {
        let path = directory.join("disk-probe");
        // One order under way at most: a stalled disk must not pile up probes.
        let (orders, inbox) = mpsc::sync_channel::<()>(1);
        let (answered, answers) = watch::channel((0, DiskState::Stalled));
        thread::spawn(move || {
            while inbox.recv().is_ok() {
                let state = write_block(&path);
                answered.send_modify(|answer| *answer = (answer.0 + 1, state));
            }
            let _ = fs::remove_file(&path);
        });
        Self {
            orders,
            ordered: 0,
            answers,
        }
    }

    /// Probes once, or goes on waiting for the probe before, which hangs; either is stalled after `limit`.
    pub async fn probe(&mut self, limit: Duration) -> DiskState {
        if self.answers.borrow().0 == self.ordered && self.orders.try_send(()).is_ok() {
            self.ordered += 1;
        }
        let ordered = self.ordered;
        let answered = self.answers.wait_for(|(number, _)| *number >= ordered);
        match timeout(limit, answered).await {
            Ok(Ok(answer)) => answer.1.clone(),
            Ok(Err(_)) => DiskState::Failed("the probing thread has ended".to_owned()),
            Err(_) => DiskState::Stalled,
        }
    }
}

fn write_block(path: &PathBuf) -> DiskState {
    let started = std::time::Instant::now();
    let written = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_DSYNC.bits())
        .open(path)
        .and_then(|file| {
            use std::os::unix::fs::FileExt;
            // A fresh file each time would not notice a full disk while its blocks are reused: give them back first.
            file.set_len(0)?;
            file.write_all_at(&[0x5a; BLOCK_LENGTH], 0)
        });
    match written {
        Ok(()) => DiskState::Good {
            took: started.elapsed(),
        },
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            DiskState::Full
        }
        Err(error) => DiskState::Failed(error.to_string()),
    }
}

/// Free space of a directory's file system, for accounts without privileges.
pub fn disk_free_bytes(directory: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(directory)?;
    Ok(found.blocks_available() * found.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_working_disk_is_good_and_a_missing_directory_fails() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(30);
        let mut probe = DiskProbe::new(directory.path());
        for _ in 0..3 {
            let state = probe.probe(limit).await;
            assert!(matches!(state, DiskState::Good { .. }), "{state:?}");
        }
        assert!(disk_free_bytes(directory.path()).unwrap() > 0);

        let mut probe = DiskProbe::new(&directory.path().join("absent"));
        let state = probe.probe(limit).await;
        assert!(matches!(state, DiskState::Failed(_)), "{state:?}");
    }

    #[test]
    fn errors_are_told_apart() {
        let refused = |code| AdminError::Refused {
            what: "the login".to_owned(),
            code,
            message: "words".to_owned(),
        };
        assert!(matches!(
            classify(&refused(1040)),
            Liveness::Saturated { .. }
        ));
        assert!(matches!(classify(&refused(1053)), Liveness::Absent { .. }));
        let late = AdminError::Late {
            what: "DO 1".to_owned(),
            limit_ms: 1000,
        };
        assert!(matches!(classify(&late), Liveness::Unresponsive { .. }));
        let unreachable = AdminError::Unreachable("no such file".to_owned());
        assert!(matches!(classify(&unreachable), Liveness::Absent { .. }));
    }
}
