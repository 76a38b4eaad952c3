//! Cuts off what a returning primary had written to its binary log and nobody had acknowledged, before mysqld starts.
//!
//! Crash recovery then rolls these transactions back, since it takes the last binary log for the truth. They are kept,
//! readable, and never replayed. It cuts nothing but a contiguous tail of the last file, never while mysqld runs, and never where a
//! start of mysqld may have committed it: also one that was ended before it began a file of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{process::Command, task::spawn_blocking, time::timeout};
use vt_proto::{epoch::Epoch, gtid::GtidSet};

use self::binlog_files::Tail;
use super::{Layout, binaries::Binaries};
use crate::guard::{process, sync_parent, write_durably};

pub mod binlog_files;

/// The description beside a tail that is kept.
pub const METADATA_FILE: &str = "metadata.json";
/// Its rows as pseudo-SQL, if they could be decoded.
pub const READABLE_FILE: &str = "tail.txt";
/// What is kept in any case.
pub const TAIL_FILE: &str = "tail.binlog";
/// Decoding a tail for people may take long if it is large; the cut does not wait longer for it.
const DUMP_TIMEOUT: Duration = Duration::from_secs(60);
/// A larger tail is not decoded before the start: the text takes several times its size of the disk, and whoever wants it can make it
/// from the binary copy.
const DUMP_TAIL_BYTES_MAX: u64 = 256 << 20;

/// What became of a returning tablet's binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewind {
    /// It has nothing that was not kept.
    Nothing,
    /// The tail is off, and the server will have a new uuid. After the start, `gtid_executed` must hold none of it.
    Cut(LostTail),
    /// It cannot be undone here. Nothing was touched.
    NeedsClone { why: String },
}

/// What was cut off, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTail {
    pub gtids: GtidSet,
    pub length_bytes: u64,
    pub directory: PathBuf,
}

/// Why it could not be found out, or not be done.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    #[error("mysqld runs in {}: its binary log cannot be cut", .0.display())]
    Running(PathBuf),
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl RewindError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Lies in the agent's data directory from before the first change until after the last, so that a cut that was
/// interrupted is finished, new uuid included.
#[derive(Debug, Serialize, Deserialize)]
struct UnderWay {
    server_uuid: String,
    gtids: String,
    length_bytes: u64,
    directory: PathBuf,
}

/// The description beside a tail that is kept.
#[derive(Serialize)]
struct Metadata<'a> {
    epoch: u64,
    server_uuid: &'a str,
    gtids: String,
    transactions: u64,
    binlog_file: &'a str,
    offset: u64,
    length_bytes: u64,
    cut_at_utc: String,
}

/// Cuts off this server's own transactions that are not in `kept`, the union of what was kept of all finished epochs.
/// `epoch` is the one in which they were lost; it names the directory where they are kept.
pub async fn rewind(
    layout: &Layout,
    binaries: &Binaries,
    kept: &GtidSet,
    epoch: Epoch,
) -> Result<Rewind, RewindError> {
    let cut = Cut {
        layout: layout.clone(),
        kept: kept.clone(),
        epoch,
    };
    let (cut, found) = blocking(move || {
        let found = cut.save_tail();
        (cut, found)
    })
    .await?;
    let (tail, directory) = match found? {
        Found::Decided(rewind) => return Ok(rewind),
        Found::Saved(tail, directory) => (tail, directory),
    };
    dump_readable(binaries, &directory, tail.length_bytes()).await;
    blocking(move || cut.carry_out(&tail, &directory)).await?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RewindError> {
    let gone = |error| RewindError::Io {
        what: "the work was broken off in",
        path: PathBuf::from("a thread"),
        source: io::Error::other(error),
    };
    spawn_blocking(work).await.map_err(gone)
}

enum Found {
    Decided(Rewind),
    Saved(Tail, PathBuf),
}

struct Cut {
    layout: Layout,
    kept: GtidSet,
    epoch: Epoch,
}

impl Cut {
    /// Finds the tail and keeps a copy of it.
    fn save_tail(&self) -> Result<Found, RewindError> {
        let dir = &self.layout.mysql_dir;
        if process::find_in(dir).is_some() {
            return Err(RewindError::Running(dir.clone()));
        }
        let under_way = self.under_way()?;
        let uuid = match &under_way {
            Some(under_way) => Some(under_way.server_uuid.clone()),
            None => server_uuid(dir)?,
        };
        let Some(uuid) = uuid else {
            // It never ran, or its uuid was taken away: nothing in it is its own.
            return Ok(Found::Decided(Rewind::Nothing));
        };
        let tail = match binlog_files::find_tail(dir, &uuid, &self.kept) {
            Ok(Some(tail)) => tail,
            Ok(None) => {
                let rewind = match under_way {
                    Some(under_way) => self.finish(under_way)?,
                    None => Rewind::Nothing,
                };
                return Ok(Found::Decided(rewind));
            }
            Err(why) => return Ok(Found::Decided(Rewind::NeedsClone { why })),
        };
        let directory = self.keep(&tail)?;
        if started_on(&self.layout)?.is_some_and(|file| file == tail.name()) {
            let why = format!(
                "mysqld was started after {} were written: its recovery may have committed them",
                tail.gtids
            );
            return Ok(Found::Decided(Rewind::NeedsClone { why }));
        }
        Ok(Found::Saved(tail, directory))
    }

    /// Keeps a copy of what is to go, and returns where.
    fn keep(&self, tail: &Tail) -> Result<PathBuf, RewindError> {
        let name = format!("{}-{}", self.epoch, tail.server_uuid);
        let directory = self.layout.lost_dir().join(name);
        fs::create_dir_all(&directory).map_err(RewindError::io("cannot create", &directory))?;
        let copy = directory.join(TAIL_FILE);
        tail.copy_to(&copy)
            .map_err(RewindError::io("cannot copy the tail to", &copy))?;
        self.write_metadata(tail, &directory)?;
        for path in [&directory, &self.layout.lost_dir()] {
            sync_parent(path).map_err(RewindError::io("cannot sync", path))?;
        }
        Ok(directory)
    }

    fn carry_out(&self, tail: &Tail, directory: &Path) -> Result<Rewind, RewindError> {
        let under_way = UnderWay {
            server_uuid: tail.server_uuid.clone(),
            gtids: tail.gtids.to_string(),
            length_bytes: tail.length_bytes(),
            directory: directory.to_owned(),
        };
        let marker = self.marker();
        let text = serde_json::to_vec(&under_way).map_err(io::Error::from);
        text.and_then(|text| write_durably(&marker, &text))
            .map_err(RewindError::io("cannot write", &marker))?;
        let truncated = fs::File::options()
            .write(true)
            .open(&tail.path)
            .and_then(|file| file.set_len(tail.offset).and_then(|()| file.sync_all()));
        truncated.map_err(RewindError::io("cannot truncate", &tail.path))?;
        self.finish(under_way)
    }

    /// The numbers of the transactions will be given again, so the server needs another uuid.
    fn finish(&self, under_way: UnderWay) -> Result<Rewind, RewindError> {
        let auto_cnf = self.layout.mysql_dir.join("auto.cnf");
        for path in [auto_cnf, self.marker()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RewindError::io("cannot remove", &path)(error));
                }
                _ => sync_parent(&path).map_err(RewindError::io("cannot sync", &path))?,
            }
        }
        Ok(Rewind::Cut(LostTail {
            gtids: under_way.gtids.parse().unwrap_or_default(),
            length_bytes: under_way.length_bytes,
            directory: under_way.directory,
        }))
    }

    fn write_metadata(&self, tail: &Tail, directory: &Path) -> Result<(), RewindError> {
        let path = directory.join(METADATA_FILE);
        let metadata = Metadata {
            epoch: self.epoch.0,
            server_uuid: &tail.server_uuid,
            gtids: tail.gtids.to_string(),
            transactions: tail.gtids.count(),
            binlog_file: tail.name(),
            offset: tail.offset,
            length_bytes: tail.length_bytes(),
            cut_at_utc: chrono::Utc::now().to_rfc3339(),
        };
        serde_json::to_vec_pretty(&metadata)
            .map_err(io::Error::from)
            .and_then(|text| write_durably(&path, &text))
            .map_err(RewindError::io("cannot write", &path))
    }

    fn marker(&self) -> PathBuf {
        self.layout.data_dir.join("rewind-under-way")
    }

    fn under_way(&self) -> Result<Option<UnderWay>, RewindError> {
        let path = self.marker();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| RewindError::io("cannot understand", &path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RewindError::io("cannot read", &path)(error)),
        }
    }
}

/// Before each start of mysqld: its recovery commits what stands in the newest binary log file, and only a recovery that was not
/// broken off begins another one.
pub fn note_start(layout: &Layout) -> io::Result<()> {
    let newest = binlog_files::list(&layout.mysql_dir)?.pop();
    let name = newest.and_then(|path| path.file_name().map(ToOwned::to_owned));
    let name = name.unwrap_or_default();
    write_durably(&start_note(layout), name.as_encoded_bytes())
}

/// Before the data are replaced: the copy counts its binary log files from one again, and is started by the guard.
pub fn forget_start(layout: &Layout) -> io::Result<()> {
    match fs::remove_file(start_note(layout)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The newest binary log file at the last start.
fn started_on(layout: &Layout) -> Result<Option<String>, RewindError> {
    let path = start_note(layout);
    match fs::read_to_string(&path) {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RewindError::io("cannot read", &path)(error)),
    }
}

fn start_note(layout: &Layout) -> PathBuf {
    layout.data_dir.join("started-on")
}

/// The uuid of the server in this data directory; `None` where it has none yet.
pub fn server_uuid(mysql_dir: &Path) -> Result<Option<String>, RewindError> {
    let path = mysql_dir.join("auto.cnf");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server-uuid="))
            .map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RewindError::io("cannot read", &path)(error)),
    }
}

/// Rows in readable form, for whoever decides about them: whole or not at all. Without the program, or in vain, the binary copy must do.
async fn dump_readable(binaries: &Binaries, directory: &Path, length_bytes: u64) {
    let Some(program) = binaries.beside("mysqlbinlog") else {
        return;
    };
    if length_bytes > DUMP_TAIL_BYTES_MAX {
        tracing::warn!(directory = %directory.display(), length_bytes,
            "the lost tail is too long to be made readable before mysqld starts: use mysqlbinlog --verbose on it");
        return;
    }
    let unfinished = directory.join("tail.txt.unfinished");
    let Ok(dump) = fs::File::create(&unfinished) else {
        return;
    };
    let dumping = Command::new(program)
        .args(["--no-defaults", "--base64-output=DECODE-ROWS", "-vv"])
        .arg(directory.join(TAIL_FILE))
        .stdin(Stdio::null())
        .stdout(dump)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let outcome = timeout(DUMP_TIMEOUT, dumping).await;
    let moved = match &outcome {
        Ok(Ok(status)) if status.success() => {
            fs::rename(&unfinished, directory.join(READABLE_FILE))
        }
        _ => fs::remove_file(&unfinished).and_then(|()| Err(io::Error::other("it failed"))),
    };
    if let Err(error) = moved {
        tracing::warn!(directory = %directory.display(), ?outcome, %error,
            "mysqlbinlog did not make a readable copy of the lost tail");
    }
}

#[cfg(test)]
mod tests;
