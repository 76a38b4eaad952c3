//! Looks now and then at the transactions that were cut off and are kept in the agent's directory. It never removes any: that is an
//! operator's to do, and seen here within seconds.
//!
//! A thread of its own, because the directory's disk may hang; what was seen last is told meanwhile.

use std::{fs, io::Read, path::Path, thread, time::Duration};

use serde::Deserialize;
use tokio::sync::watch;
use vt_proto::{
    epoch::Epoch,
    report::{Lost, LostTransactions},
};

use super::{
    Layout,
    rewind::{METADATA_FILE, READABLE_FILE},
};

pub mod shelf;

/// Between two looks: nobody waits for what is seen, and a new one is told within a moment.
const PERIOD: Duration = Duration::from_secs(1);
/// Told in each report, five times a second: a host loses its primary seldom, and operators look at the newest first.
const LOST_MAX: usize = 16;
/// A description takes some hundred bytes.
const METADATA_BYTES_MAX: u64 = 16 << 10;

/// What is read of a description.
#[derive(Deserialize)]
struct Metadata {
    epoch: u64,
    gtids: String,
    transactions: u64,
    length_bytes: u64,
    cut_at_utc: String,
}

/// Starts the thread. It ends when nobody looks any more.
pub fn watch_lost(layout: Layout) -> watch::Receiver<Lost> {
    let (sender, receiver) = watch::channel(Lost::default());
    thread::spawn(move || {
        while !sender.is_closed() {
            let found = list(&layout.lost_dir());
            sender.send_if_modified(|known| {
                let changed = *known != found;
                *known = found;
                changed
            });
            thread::sleep(PERIOD);
        }
    });
    receiver
}

/// The newest that are kept, oldest first, and how many more there are.
pub fn list(directory: &Path) -> Lost {
    let Ok(entries) = fs::read_dir(directory) else {
        return Lost::default();
    };
    let directories = entries.flatten().map(|entry| entry.path());
    let mut kept: Vec<LostTransactions> = directories
        .filter(|path| path.is_dir())
        .map(|path| describe(&path))
        .collect();
    kept.sort_by(|one, other| {
        let key = |lost: &LostTransactions| (lost.epoch, lost.cut_at.clone());
        key(one)
            .cmp(&key(other))
            .then_with(|| one.directory.cmp(&other.directory))
    });
    let left_out = kept.len().saturating_sub(LOST_MAX);
    kept.drain(..left_out);
    Lost {
        kept,
        left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
    }
}

/// What lies there is told also where its description cannot be read: then by its name alone.
fn describe(directory: &Path) -> LostTransactions {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let epoch = name.split('-').next().and_then(|epoch| epoch.parse().ok());
    let mut lost = LostTransactions {
        epoch: Epoch(epoch.unwrap_or_default()),
        gtids: Default::default(),
        transactions: 0,
        bytes: 0,
        cut_at: String::new(),
        directory: directory.display().to_string(),
        readable: directory.join(READABLE_FILE).is_file(),
    };
    if let Some(metadata) = metadata(&directory.join(METADATA_FILE))
        && let Ok(gtids) = metadata.gtids.parse()
    {
        lost.epoch = Epoch(metadata.epoch);
        lost.gtids = gtids;
        lost.transactions = metadata.transactions;
        lost.bytes = metadata.length_bytes;
        lost.cut_at = metadata.cut_at_utc;
    }
    lost
}

fn metadata(path: &Path) -> Option<Metadata> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(METADATA_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_told_newest_last_and_within_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(list(directory.path()), Lost::default());
        assert_eq!(list(&directory.path().join("none")), Lost::default());
        for epoch in 1..=18 {
            let kept = directory.path().join(format!("{epoch}-uuid"));
            fs::create_dir(&kept).unwrap();
            let gtids = "aaaaaaaa-1111-2222-3333-444444444444:5-7";
            let metadata = format!(
                r#"{{"epoch": {epoch}, "gtids": "{gtids}", "transactions": 3, "length_bytes": 99,
                    "cut_at_utc": "2026-01-01T00:00:00Z", "binlog_file": "binlog.000001"}}"#
            );
            // The last one was not described before the host ended.
            if epoch < 18 {
                fs::write(kept.join(METADATA_FILE), metadata).unwrap();
                fs::write(kept.join(READABLE_FILE), "").unwrap();
            }
        }
        let lost = list(directory.path());
        assert_eq!((lost.kept.len(), lost.left_out), (LOST_MAX, 2));
        let [.., described, bare] = lost.kept.as_slice() else {
            panic!("{lost:?}");
        };
        assert_eq!((described.epoch, described.transactions), (Epoch(17), 3));
        assert_eq!((described.bytes, described.gtids.count()), (99, 3));
        assert!(described.readable && described.directory.ends_with("17-uuid"));
        assert_eq!((bare.epoch, bare.transactions), (Epoch(18), 0));
        assert!(!bare.readable && bare.cut_at.is_empty());
    }
}
