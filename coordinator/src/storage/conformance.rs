//! One suite that every storage must pass, and what only the one on disk must do.

use std::{fs, path::Path};

use vt_coordinator_core::peer::{Batch, LogStart, Stored};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use super::{Identity, Storage, StorageError, memory::MemoryStorage, sled::SledStorage};

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
        expected.apply(&batch);
    }
    assert_eq!(storage.load().unwrap(), expected);
    drop(storage);
    assert_eq!(open().load().unwrap(), expected);
}

fn identity() -> Identity {
    Identity {
        cluster_id: "demo-1".to_owned(),
        member_id: 1,
        members: "1=a:1,2=b:1,3=c:1".to_owned(),
    }
}

fn open(path: &Path) -> SledStorage {
    SledStorage::open(path, &identity()).unwrap()
}

#[test]
fn memory_conforms() {
    let storage = MemoryStorage::default();
    conforms(|| Box::new(storage.clone()));
    let storage = MemoryStorage::default();
    conforms_in_one_life(|| Box::new(storage.clone()));
}

#[test]
fn sled_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(|| Box::new(open(directory.path())));
    let directory = tempfile::tempdir().unwrap();
    conforms_in_one_life(|| Box::new(open(directory.path())));
}

#[test]
fn dropped_entries_are_deleted_bit_by_bit() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    let mut expected = storage.load().unwrap();
    let drop_most = Batch {
        snapshot: Some(snapshot(3_000, 10)),
        start: start(3_000),
        ..Batch::default()
    };
    let mut life = vec![entries(1..=3_001, 1), drop_most];
    life.extend((3_002..3_010).map(|index| entries(index..=index, 1)));
    for batch in &life {
        storage.persist(batch).unwrap();
        expected.apply(batch);
    }
    assert_eq!(storage.load().unwrap(), expected);
    assert!(storage.pieces_stored() < 30, "{}", storage.pieces_stored());
}

#[test]
fn the_directory_of_another_member_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let other_cluster = Identity {
        cluster_id: "demo-2".to_owned(),
        ..identity()
    };
    let other_member = Identity {
        member_id: 2,
        ..identity()
    };
    let other_members = Identity {
        members: "1=a:1".to_owned(),
        ..identity()
    };
    for identity in [other_cluster, other_member, other_members] {
        let outcome = SledStorage::open(directory.path(), &identity);
        assert!(matches!(outcome, Err(StorageError::Foreign { .. })));
    }
    open(directory.path());
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let second = SledStorage::open(directory.path(), &identity());
    assert!(matches!(second, Err(StorageError::Locked { .. })));
    drop(first);
    open(directory.path());
}

#[test]
fn a_flipped_bit_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    storage.persist(&entries(1..=100, 1)).unwrap();
    storage.damage(b"entry/\0\0\0\0\0\0\0\x09\0\0\0\0");
    let error = storage.load().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("raft is damaged"), "{text}");
    assert!(text.contains("move that directory aside"), "{text}");
}

#[test]
fn what_cannot_be_a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let outcome = SledStorage::open(&file.join("below"), &identity());
    assert!(matches!(outcome, Err(StorageError::Io { .. })));
}
