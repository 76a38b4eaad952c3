//! One suite that every storage must pass, and what only the one on disk must do.

use std::{fs, path::Path};

use vt_coordinator_core::peer::{Batch, LogStart, Stored};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use super::{
    DiskStorage, Storage, StorageError,
    memory::MemoryStorage,
    sled::{Contained, Label, Tree},
};

fn entry(index: u64, term: u64, bytes: usize) -> RaftEntry {
    RaftEntry {
        index,
        term,
        data: vec![u8::try_from(index % 251).unwrap(); bytes],
        ..RaftEntry::default()
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Batch {
    Batch {
        entries: range.map(|index| entry(index, term, 20)).collect(),
        ..Batch::default()
    }
}

fn snapshot(index: u64, bytes: usize) -> RaftSnapshot {
    RaftSnapshot {
        index,
        term: 1,
        data: vec![7; bytes],
        ..RaftSnapshot::default()
    }
}

fn start(index: u64) -> Option<LogStart> {
    Some(LogStart { index, term: 1 })
}

/// Batches as a member makes them in its life.
fn life() -> Vec<Batch> {
    let voted = |term| Batch {
        hard_state: Some(RaftHardState {
            term,
            vote: 2,
            commit: 0,
        }),
        ..Batch::default()
    };
    let compacted = |index, bytes| Batch {
        snapshot: Some(snapshot(index, bytes)),
        start: start(index),
        ..Batch::default()
    };
    let large = Batch {
        entries: (41..=44).map(|index| entry(index, 4, 130_000)).collect(),
        ..Batch::default()
    };
    vec![
        voted(1),
        entries(1..=5, 1),
        Batch::default(),
        voted(2),
        // Another leader replaces the tail, also by a shorter one.
        entries(4..=30, 2),
        entries(20..=22, 3),
        compacted(10, 100_000),
        entries(23..=40, 3),
        // Small replaces large, and the log starts at its end.
        compacted(40, 10),
        large,
        entries(42..=50, 5),
        // The leader's snapshot replaces everything.
        Batch {
            snapshot: Some(snapshot(100, 50_000)),
            reset: true,
            start: start(100),
            ..Batch::default()
        },
        entries(101..=103, 6),
    ]
}

/// `open` opens the same place again each time.
fn conforms(mut open: impl FnMut() -> Box<dyn Storage>) {
    let mut expected = Stored::default();
    for batch in life() {
        let mut storage = open();
        assert_eq!(storage.load().unwrap(), expected);
        storage.probe().unwrap();
        storage.persist(&batch).unwrap();
        expected.apply(&batch);
    }
    assert_eq!(open().load().unwrap(), expected);
}

/// The same without opening it in between.
fn conforms_in_one_life(mut open: impl FnMut() -> Box<dyn Storage>) {
    let mut expected = Stored::default();
    let mut storage = open();
    assert_eq!(storage.load().unwrap(), expected);
    for batch in life() {
        storage.persist(&batch).unwrap();
        storage.probe().unwrap();
        expected.apply(&batch);
    }
    assert_eq!(storage.load().unwrap(), expected);
    drop(storage);
    assert_eq!(open().load().unwrap(), expected);
}

fn open(path: &Path) -> DiskStorage {
    DiskStorage::open(path, 1).unwrap()
}

#[test]
fn memory_conforms() {
    let storage = MemoryStorage::default();
    conforms(|| Box::new(storage.clone()));
    let storage = MemoryStorage::default();
    conforms_in_one_life(|| Box::new(storage.clone()));
}

#[test]
fn disk_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(|| Box::new(open(directory.path())));
    let directory = tempfile::tempdir().unwrap();
    conforms_in_one_life(|| Box::new(open(directory.path())));
}

#[test]
fn the_directory_of_another_member_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    let fresh = storage.identity().clone();
    assert_eq!((fresh.member_id, fresh.cluster_id), (1, None));
    storage.bind("demo-1").unwrap();
    storage.bind("demo-1").unwrap();
    drop(storage);
    let outcome = DiskStorage::open(directory.path(), 2);
    assert!(matches!(outcome, Err(StorageError::Foreign { .. })));
    let mut storage = open(directory.path());
    assert_eq!(storage.identity().directory_id, fresh.directory_id);
    assert_eq!(storage.identity().cluster_id.as_deref(), Some("demo-1"));
    // A newer group of the cluster takes the place of the one before, and never the other way.
    storage.bind("demo-1.7").unwrap();
    drop(storage);
    let mut storage = open(directory.path());
    assert_eq!(storage.identity().cluster_id.as_deref(), Some("demo-1.7"));
    assert_eq!(storage.identity().directory_id, fresh.directory_id);
    let outcome = storage.bind("demo-1");
    assert!(matches!(outcome, Err(StorageError::Foreign { .. })));
    let outcome = storage.bind("demo-2");
    assert!(matches!(outcome, Err(StorageError::Foreign { .. })));
}

#[test]
fn a_directory_of_format_1_is_converted() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Stored::default();
    life().iter().for_each(|batch| expected.apply(batch));
    let old = expected.clone();
    let sled = Contained::open(&directory.path().join("raft")).unwrap();
    let written = sled.call(move |tree| tree.write_format_1("1", "demo-1", &old));
    written.unwrap();
    drop(sled);
    for _ in 0..2 {
        let mut storage = open(directory.path());
        assert_eq!(storage.identity().cluster_id.as_deref(), Some("demo-1"));
        assert_eq!(storage.load().unwrap(), expected);
        let next = entries(104..=105, 7);
        storage.persist(&next).unwrap();
        expected.apply(&next);
    }
    let outcome = DiskStorage::open(directory.path(), 2);
    assert!(matches!(outcome, Err(StorageError::Foreign { .. })));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let sled = Contained::open(&directory.path().join("raft")).unwrap();
    let newer = |tree: &Tree| {
        let format = Some(9);
        let label = tree.label()?;
        tree.set_label(&Label { format, ..label })
    };
    sled.call(newer).unwrap();
    drop(sled);
    let error = DiskStorage::open(directory.path(), 1).err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("format 9") && text.contains("up to 2"),
        "{text}"
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let second = DiskStorage::open(directory.path(), 1);
    assert!(matches!(second, Err(StorageError::Locked { .. })));
    drop(first);
    open(directory.path());
}

#[test]
fn what_cannot_be_a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let outcome = DiskStorage::open(&file.join("below"), 1);
    assert!(matches!(outcome, Err(StorageError::Io { .. })));
}
