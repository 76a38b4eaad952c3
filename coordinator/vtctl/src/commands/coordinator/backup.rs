//! `vtctl coordinator backup` and `restore`: a copy of the topology in a file, checked whenever it is read.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use vt_proto::{
    backup::{BACKUP_BYTES_MAX, Backup},
    wire::{BackupTopologyRequest, TopologyChunk, maintenance_client::MaintenanceClient},
};
use vt_tls::files::TlsFiles;

use crate::{
    cli::Global,
    client::{dial, failure_of},
    failure::{Failure, Kind},
    output,
};

/// A large topology over a slow network.
const COPY_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a backup that travel in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// What a backup's file says of itself.
#[derive(Serialize)]
struct Shown {
    file: String,
    cluster_id: String,
    index: u64,
    /// UTC, RFC 3339.
    time: String,
    written_by: String,
    bytes: usize,
}

impl Shown {
    fn new(file: &Path, backup: &Backup, bytes: usize) -> Self {
        let milliseconds = i64::try_from(backup.time_unix_ms).unwrap_or(i64::MAX);
        let time = DateTime::<Utc>::from_timestamp_millis(milliseconds);
        Self {
            file: file.display().to_string(),
            cluster_id: backup.cluster_id.clone(),
            index: backup.index,
            time: time.map_or_else(
                || "?".to_owned(),
                |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
            ),
            written_by: backup.written_by.clone(),
            bytes,
        }
    }

    fn text(&self) -> String {
        format!(
            "{} holds the topology of cluster {} at log index {} of {} ({} bytes, whole)",
            self.file, self.cluster_id, self.index, self.time, self.bytes
        )
    }
}

pub async fn backup(global: &Global, file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        let failure = Failure::new(Kind::Refused, format!("{} exists already", file.display()));
        return Err(failure.next("name another file").into());
    }
    let mut failed = None;
    let (addresses, tls) = global.reach()?;
    for address in addresses {
        let fetching = fetch(&address, tls.as_ref());
        match timeout(global.timeout_or(COPY_TIMEOUT), fetching).await {
            Ok(Ok(bytes)) => {
                let backup = Backup::from_bytes(&bytes).context("what the coordinator sent")?;
                write(file, &bytes)?;
                let shown = Shown::new(file, &backup, bytes.len());
                return output::print(global.output, &shown, Shown::text);
            }
            Ok(Err(failure)) => failed = Some(failure),
            Err(_) => {
                let message = format!("{address} did not send its topology in time");
                failed = Some(Failure::new(Kind::Unreachable, message));
            }
        }
    }
    let nobody = || Failure::new(Kind::Unreachable, "no coordinator is named");
    Err(failed.unwrap_or_else(nobody).into())
}

/// Any member has the topology: each of them makes sure that it is the newest.
async fn fetch(address: &str, tls: Option<&TlsFiles>) -> Result<Vec<u8>, Failure> {
    let mut client = MaintenanceClient::new(dial(address, tls).await?);
    let refused = |status| failure_of(address, &status);
    let answer = client.backup_topology(BackupTopologyRequest {}).await;
    let mut chunks = answer.map_err(refused)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(refused)?.data);
        if bytes.len() > BACKUP_BYTES_MAX {
            let message = format!("{address} sends more than {BACKUP_BYTES_MAX} bytes");
            return Err(Failure::new(Kind::Failed, message));
        }
    }
    Ok(bytes)
}

/// Whole or not at all, for nobody else's eyes.
fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let cannot = || format!("cannot write {}", part.display());
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut out = options.open(part).with_context(cannot)?;
    out.write_all(bytes).with_context(cannot)?;
    out.sync_all().with_context(cannot)?;
    fs::rename(part, file).with_context(|| format!("cannot write {}", file.display()))?;
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot flush {}", directory.display()))
}

fn read(file: &Path) -> anyhow::Result<(Vec<u8>, Backup)> {
    let bytes = fs::read(file).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Failed,
        };
        Failure::new(kind, format!("{} cannot be read: {error}", file.display()))
    })?;
    let backup = Backup::from_bytes(&bytes)
        .map_err(|error| Failure::new(Kind::Failed, format!("{}: {error}", file.display())))?;
    Ok((bytes, backup))
}

pub fn verify(global: &Global, file: &Path) -> anyhow::Result<()> {
    let (bytes, backup) = read(file)?;
    let shown = Shown::new(file, &backup, bytes.len());
    output::print(global.output, &shown, Shown::text)
}

#[derive(Serialize)]
struct Restored {
    cluster_id: String,
    address: String,
    index: u64,
}

pub async fn restore(global: &Global, file: &Path, to: &str) -> anyhow::Result<()> {
    let (bytes, _) = read(file)?;
    let chunks: Vec<TopologyChunk> = bytes
        .chunks(CHUNK_BYTES)
        .map(|data| TopologyChunk {
            data: data.to_vec(),
        })
        .collect();
    // A fresh member is asked by its address; the others need not be named.
    let tls = global.tls()?;
    let mut client = MaintenanceClient::new(dial(to, tls.as_ref()).await?);
    let call = client.restore_topology(tokio_stream::iter(chunks));
    let answer = timeout(global.timeout_or(COPY_TIMEOUT), call).await;
    let late = || Failure::new(Kind::Unreachable, format!("{to} did not answer in time"));
    let answer = answer.map_err(|_| late())?;
    let answer = answer
        .map_err(|status| failure_of(to, &status))?
        .into_inner();
    let restored = Restored {
        cluster_id: answer.cluster_id,
        address: to.to_owned(),
        index: answer.index,
    };
    output::print(global.output, &restored, |it| {
        format!(
            "the coordinator at {} begins with the topology of cluster {}, at log index {}\n\
             every replica set stops its writes for a moment and begins a new epoch, as `vtctl events` tells\n\
             now add the other coordinators, each with an empty data directory: `vtctl coordinator add HOST:PORT`",
            it.address, it.cluster_id, it.index
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_whole_for_its_owner_alone_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("topology.vtb");
        let backup = Backup {
            cluster_id: "demo".to_owned(),
            index: 7,
            time_unix_ms: 1,
            written_by: "1".to_owned(),
            state: vec![1, 2, 3],
        };
        write(&file, &backup.to_bytes()).unwrap();
        assert_eq!(read(&file).unwrap().1, backup);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
