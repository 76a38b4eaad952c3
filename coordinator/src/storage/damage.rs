//! What happens to every file of a data directory, and what must come of it: exactly what was acknowledged, or an error that
//! names the file and the way out. Never anything else.

use std::{fs, path::Path, path::PathBuf};

use vt_coordinator_core::peer::{Batch, LogStart, Stored};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

use super::{DiskStorage, Storage, StorageError};

/// Flipped bytes and lengths cut per file: beginning, end and places in between.
const PLACES: usize = 24;

fn batch(index: u64) -> Batch {
    Batch {
        hard_state: Some(RaftHardState {
            term: 1,
            vote: index % 3,
            commit: index - 1,
        }),
        entries: vec![RaftEntry {
            index,
            term: 1,
            data: vec![index as u8; 40],
            ..RaftEntry::default()
        }],
        ..Batch::default()
    }
}

fn snapshot(index: u64) -> Batch {
    Batch {
        snapshot: Some(RaftSnapshot {
            index,
            term: 1,
            data: vec![index as u8; 40_000],
            ..RaftSnapshot::default()
        }),
        start: Some(LogStart { index, term: 1 }),
        ..Batch::default()
    }
}

/// Copies of a directory at two times of its life, and what was acknowledged at the second.
struct Life {
    directory: tempfile::TempDir,
    expected: Stored,
}

impl Life {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (live, older) = (
            directory.path().join("live"),
            directory.path().join("older"),
        );
        let mut expected = Stored::default();
        let mut storage = DiskStorage::open(&live, 1).unwrap();
        storage.bind("demo-1").unwrap();
        let mut persist = |storage: &mut DiskStorage, batch: Batch| {
            storage.persist(&batch).unwrap();
            expected.apply(&batch);
        };
        for index in 1..=20 {
            persist(&mut storage, batch(index));
        }
        persist(&mut storage, snapshot(10));
        drop(storage);
        copy(&live, &older);
        let mut storage = DiskStorage::open(&live, 1).unwrap();
        for index in 21..=40 {
            persist(&mut storage, batch(index));
        }
        persist(&mut storage, snapshot(30));
        persist(&mut storage, batch(41));
        drop(storage);
        Self {
            directory,
            expected,
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let live = self.directory.path().join("live");
        let mut found = Vec::new();
        let mut folders = vec![live.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&live).unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// What comes of a copy after `spoil` was there.
    fn after(&self, what: &str, spoil: impl FnOnce(&Path)) -> bool {
        let copied = tempfile::tempdir().unwrap();
        let spoiled = copied.path().join("data");
        copy(&self.directory.path().join("live"), &spoiled);
        spoil(&spoiled);
        let loaded = DiskStorage::open(&spoiled, 1).and_then(|mut storage| storage.load());
        match loaded {
            Ok(stored) => {
                assert!(stored == self.expected, "{what}: another state was loaded");
                true
            }
            Err(error @ StorageError::Damaged { .. }) => {
                let text = error.to_string();
                assert!(
                    text.contains("vtctl coordinator replace 1"),
                    "{what}: {text}"
                );
                false
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Places in a file: the first bytes, the last, and some between.
fn places(length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..PLACES).map(|n| length * n / PLACES).collect();
    places.extend([1, 5, 9, 13, 17, 25, length.saturating_sub(1)]);
    places.retain(|place| *place < length);
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn an_untouched_directory_is_loaded() {
    assert!(Life::new().after("untouched", |_| ()));
}

#[test]
fn flipped_bytes_are_harmless_or_refused() {
    let life = Life::new();
    for file in life.files() {
        let bytes = fs::read(life.directory.path().join("live").join(&file)).unwrap();
        let used = bytes
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1);
        for place in places(used) {
            let what = format!("byte {place} of {}", file.display());
            life.after(&what, |data| {
                let mut bytes = bytes.clone();
                bytes[place] ^= 0x5a;
                fs::write(data.join(&file), bytes).unwrap();
            });
        }
    }
}

#[test]
fn every_byte_of_the_last_records_is_guarded() {
    let life = Life::new();
    let file = Path::new("log/0000000000000001.log");
    let bytes = fs::read(life.directory.path().join("live").join(file)).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    for place in used - 100..used {
        let what = format!("byte {place} of {}", file.display());
        let loaded = life.after(&what, |data| {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            fs::write(data.join(file), bytes).unwrap();
        });
        assert!(!loaded, "{what}");
    }
}

#[test]
fn cut_files_are_harmless_or_refused() {
    let life = Life::new();
    for file in life.files() {
        let bytes = fs::read(life.directory.path().join("live").join(&file)).unwrap();
        let used = bytes
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1);
        for length in places(used) {
            let what = format!("{} cut to {length} bytes", file.display());
            life.after(&what, |data| {
                fs::write(data.join(&file), &bytes[..length]).unwrap();
            });
        }
    }
}

#[test]
fn missing_grown_and_old_files_are_harmless_or_refused() {
    let life = Life::new();
    let older = life.directory.path().join("older");
    for file in life.files() {
        life.after(&format!("without {}", file.display()), |data| {
            fs::remove_file(data.join(&file)).unwrap();
        });
        life.after(&format!("grown {}", file.display()), |data| {
            let mut bytes = fs::read(data.join(&file)).unwrap();
            bytes.extend((0..5_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()));
            fs::write(data.join(&file), bytes).unwrap();
        });
        if older.join(&file).exists() {
            life.after(&format!("older {}", file.display()), |data| {
                fs::copy(older.join(&file), data.join(&file)).unwrap();
            });
        }
    }
    for folder in ["log", "raft"] {
        let loaded = life.after(&format!("older {folder}"), |data| {
            fs::remove_dir_all(data.join(folder)).unwrap();
            copy(&older.join(folder), &data.join(folder));
        });
        // An older log continues an older snapshot; an older sled lacks the one that the log names.
        assert!(!loaded, "older {folder}");
        let loaded = life.after(&format!("without {folder}"), |data| {
            fs::remove_dir_all(data.join(folder)).unwrap();
        });
        assert!(!loaded, "without {folder}");
    }
}
