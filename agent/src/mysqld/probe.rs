//! Tells hung, full, stalled and refusing apart from alive: one probe by SQL, one block for the disk, one look at the free space.
//! It draws no conclusion; those are the coordinator's.

use std::{
    fs, io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use nix::fcntl::OFlag;
use tokio::time::Instant;

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

/// What became of a block that was written through to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Good,
    Full,
    Failed(String),
}

/// What one write sends: a block aligned as any device wants it.
#[repr(align(4096))]
struct Block([u8; 4096]);

static BLOCK: Block = Block([0x5a; 4096]);

/// Writes a block to this file, past the page cache where the file system lets one, and through to the device. It may hang with
/// the device, so it belongs on a thread that nobody waits for.
pub fn write_block(path: &Path) -> Written {
    let through = match write_with(path, OFlag::O_DIRECT | OFlag::O_DSYNC) {
        // Some file systems have no way past the page cache.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            write_with(path, OFlag::O_DSYNC)
        }
        other => other,
    };
    match through {
        Ok(()) => Written::Good,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Written::Full
        }
        Err(error) => Written::Failed(error.to_string()),
    }
}

fn write_with(path: &Path, flags: OFlag) -> io::Result<()> {
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)?;
    // A file that keeps its block would not notice a full disk: it is given back first.
    file.set_len(0)?;
    file.write_all_at(&BLOCK.0, 0)
}

/// Free space of a directory's file system, for accounts without privileges.
pub fn disk_free_bytes(directory: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(directory)?;
    Ok(found.blocks_available() * found.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_disk_is_good_and_a_missing_directory_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk-probe");
        for _ in 0..3 {
            assert_eq!(write_block(&path), Written::Good);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
        assert!(disk_free_bytes(directory.path()).unwrap() > 0);
        let absent = write_block(&directory.path().join("absent").join("disk-probe"));
        assert!(matches!(absent, Written::Failed(_)), "{absent:?}");
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
