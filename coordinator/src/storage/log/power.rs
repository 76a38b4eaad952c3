//! Power failures and full disks at every step, on a folder in memory that keeps only what was synced.
//!
//! A life of a log is recorded as the list of everything it did to files. Each beginning of that list is a power failure: what
//! was synced is there, every other sector may be and may not, names are as far as some point. What was acknowledged must be
//! there then, and nothing that was never written.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use vt_coordinator_core::peer::LogStart;
use vt_proto::wire::{LogRecord, RaftEntry, RaftHardState};

use super::{super::files::LogFile, *};

const SECTOR: usize = 512;
const DIRECTORY: &str = "0123456789abcdef";
/// So small that a short life has many of them.
const SMALL: Sizes = Sizes {
    segment_bytes: 4_096,
    growth_bytes: 1_024,
    first_bytes: 600,
};
/// Different choices of what survives, for each power failure.
const CHOICES: u64 = 6;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64, Vec<u8>),
    SyncFile(usize),
    /// What became of the names.
    Names(BTreeMap<String, usize>),
    SyncNames,
}

/// Everything that was done, and what everybody sees who does not lose power.
#[derive(Default)]
struct World {
    steps: Vec<Step>,
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    /// Steps that still find space; after them, half of one write and no more.
    space: Option<u64>,
}

impl World {
    fn take_space(&mut self) -> io::Result<()> {
        match &mut self.space {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        put(&mut self.files[file], offset, bytes);
        self.steps.push(Step::Write(file, offset, bytes.to_vec()));
    }

    fn name(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        change(&mut self.names);
        self.steps.push(Step::Names(self.names.clone()));
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let at = offset as usize;
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<World>>);

struct RecordedFile(Recorder, usize);

impl Folder for Recorder {
    fn path(&self) -> PathBuf {
        PathBuf::from("log")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut world = self.0.lock().unwrap();
        world.take_space()?;
        world.files.push(Vec::new());
        let file = world.files.len() - 1;
        world.name(|names| {
            names.insert(name.to_owned(), file);
        });
        Ok(Box::new(RecordedFile(self.clone(), file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = self.0.lock().unwrap().names.get(name).copied();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(RecordedFile(self.clone(), file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.take_space()?;
        world.name(|names| {
            let file = names.remove(from).unwrap();
            names.insert(to.to_owned(), file);
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.name(|names| {
            names.remove(name);
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().steps.push(Step::SyncNames);
        Ok(())
    }
}

impl LogFile for RecordedFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.0.lock().unwrap().files[self.1].clone())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.0.0.lock().unwrap();
        let space = world.take_space();
        let written = if space.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        world.write(self.1, offset, &bytes[..written]);
        space
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.0.0.lock().unwrap();
        world.take_space()?;
        world.steps.push(Step::SyncFile(self.1));
        Ok(())
    }
}

/// Draws that replay.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// What a disk holds after the power failed behind these steps.
fn after_power_failure(steps: &[Step], draws: &mut Draws) -> Recorder {
    let synced_later = |at: usize, file: usize| {
        let later = steps[at..].iter();
        later
            .clone()
            .any(|s| matches!(s, Step::SyncFile(f) if *f == file))
    };
    let mut world = World::default();
    let names_synced = steps.iter().rposition(|s| matches!(s, Step::SyncNames));
    let mut names_end = false;
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Write(file, offset, bytes) => {
                if world.files.len() <= *file {
                    world.files.resize(file + 1, Vec::new());
                }
                let whole = synced_later(at, *file);
                let mut from = 0;
                while from < bytes.len() {
                    let position = *offset as usize + from;
                    let to = bytes.len().min(from + SECTOR - position % SECTOR);
                    if whole || draws.below(2) == 0 {
                        put(&mut world.files[*file], position as u64, &bytes[from..to]);
                    }
                    from = to;
                }
            }
            // Names reach the disk in order, as far as they do.
            Step::Names(names) => {
                let synced = names_synced.is_some_and(|last| at < last);
                names_end |= !synced && draws.below(2) == 0;
                if !names_end {
                    world.names.clone_from(names);
                }
            }
            Step::SyncFile(_) | Step::SyncNames => (),
        }
    }
    let last = world.names.values().copied().max().unwrap_or(0);
    if world.files.len() <= last {
        world.files.resize(last + 1, Vec::new());
    }
    Recorder(Arc::new(Mutex::new(world)))
}

/// What a log holds.
type Held = (Situation, Vec<RaftEntry>);

/// Records as they come in a life, each with its entries: growing, replacing tails, cutting the log, starting anew.
fn life() -> Vec<(LogRecord, Vec<RaftEntry>)> {
    let entry = |index: u64, term: u64| RaftEntry {
        index,
        term,
        data: vec![index as u8; 20 + (index as usize * 37) % 400],
        ..RaftEntry::default()
    };
    let position = |index| Some(to_position(LogStart { index, term: 1 }));
    let mut life = Vec::new();
    let (mut last, mut start, mut draws) = (0u64, 0u64, Draws(7));
    for turn in 1..=60u64 {
        let mut record = LogRecord {
            hard_state: Some(RaftHardState {
                term: turn / 9,
                vote: turn % 3,
                commit: last,
            }),
            ..LogRecord::default()
        };
        if turn == 40 {
            record.reset = true;
            last += 100;
        }
        if turn == 40 || turn % 11 == 0 {
            start = last;
            record.start = position(start);
        }
        // Now and then another leader replaces the last two.
        let back = if turn % 7 == 0 { 2 } else { 0 };
        let first = last.saturating_sub(back).max(start) + 1;
        let count = if turn % 5 == 0 { 0 } else { 1 + draws.below(4) };
        let entries: Vec<_> = (first..first + count).map(|i| entry(i, turn)).collect();
        last = entries.last().map_or(last, |e| e.index);
        life.push((record, entries));
    }
    life
}

fn hold(held: &Held, record: &LogRecord, entries: &[RaftEntry]) -> Held {
    let (situation, mut kept) = held.clone();
    let situation = situation.after(record, entries);
    if record.reset {
        kept.clear();
    }
    kept.retain(|e| e.index > situation.start.index);
    if let Some(first) = entries.first() {
        kept.retain(|e| e.index < first.index);
        kept.extend_from_slice(entries);
    }
    (situation, kept)
}

fn open(folder: &Recorder, passed: Option<Link>) -> Result<(Log, Held), LogError> {
    let (log, entries) = Log::open(Box::new(folder.clone()), DIRECTORY, SMALL, passed)?;
    let held = (log.situation().clone(), entries);
    Ok((log, held))
}

fn new_log(folder: &Recorder) -> Log {
    let record = LogRecord::default();
    Log::create(Box::new(folder.clone()), DIRECTORY, SMALL, &record, &[]).unwrap()
}

#[test]
fn what_was_acknowledged_survives_every_power_failure() {
    let folder = Recorder::default();
    let mut log = new_log(&folder);
    let steps = || folder.0.lock().unwrap().steps.len();
    // What is held after each record, with the steps after which it was begun and acknowledged.
    let mut history = vec![(0, steps(), Held::default())];
    for (turn, (record, entries)) in life().iter().enumerate() {
        let held = hold(&history.last().unwrap().2, record, entries);
        let begun = steps();
        log.append(record, entries).unwrap();
        history.push((begun, steps(), held));
        log.drop_oldest().unwrap();
        if turn % 4 == 0 {
            log.sync_acknowledged().unwrap();
        }
        if turn % 4 == 2 {
            log.probe().unwrap();
        }
    }
    assert!(
        log.active.number > 5 && log.closed.len() < 5,
        "segments come and go"
    );
    let all = folder.0.lock().unwrap().steps.clone();
    let created = history[0].1;
    for cut in created..=all.len() {
        for choice in 0..CHOICES {
            let disk = after_power_failure(&all[..cut], &mut Draws(cut as u64 * CHOICES + choice));
            let acknowledged = history.iter().rposition(|h| h.1 <= cut).unwrap();
            let begun = history.iter().rposition(|h| h.0 <= cut).unwrap();
            let (mut log, held) = open(&disk, None)
                .unwrap_or_else(|error| panic!("cut {cut}, choice {choice}: {error:?}"));
            let expected = &history[acknowledged..=begun];
            assert!(
                expected.iter().any(|(.., h)| *h == held),
                "cut {cut}, choice {choice}: neither {acknowledged} nor {begun}"
            );
            // Trying the disk claims nothing that another power failure could take away.
            let taken_over = disk.0.lock().unwrap().steps.len();
            log.probe().unwrap();
            let done = disk.0.lock().unwrap().steps[taken_over..].to_vec();
            assert!(matches!(done[..], [Step::Write(..), Step::SyncFile(_)]));
            let again = open(&disk, None).unwrap().1;
            assert!(again == held, "cut {cut}, choice {choice}");
            // It goes on from there, and the next opening finds that.
            let record = LogRecord::default();
            let index = held.0.last_index + 1;
            let entries = [RaftEntry {
                index,
                term: 99,
                ..RaftEntry::default()
            }];
            log.append(&record, &entries).unwrap();
            let later = hold(&held, &record, &entries);
            drop(log);
            assert!(
                open(&disk, None).unwrap().1 == later,
                "cut {cut}, choice {choice}"
            );
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_step_loses_nothing() {
    for space in 0..400 {
        let folder = Recorder::default();
        let mut log = new_log(&folder);
        folder.0.lock().unwrap().space = Some(space);
        let mut held = Held::default();
        let mut was_full = false;
        for (record, entries) in &life() {
            let next = hold(&held, record, entries);
            while let Err(error) = log.append(record, entries) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                was_full = true;
                // Others see the state before or after, nothing else.
                folder.0.lock().unwrap().space = None;
                let (again, found) = open(&folder, Some(log.link())).unwrap();
                assert!(found == held || found == next, "space {space}");
                log = again;
            }
            held = next;
            // Cleaning up may find no space either, and is done later.
            log.drop_oldest().ok();
        }
        folder.0.lock().unwrap().space = None;
        assert!(open(&folder, None).unwrap().1 == held, "space {space}");
        if !was_full && space > 50 {
            return;
        }
    }
    panic!("the disk was full at every number of steps");
}

#[test]
fn another_log_than_the_one_that_was_written_is_refused() {
    let folder = Recorder::default();
    let mut log = new_log(&folder);
    let (record, entries) = life().remove(0);
    log.append(&record, &entries).unwrap();
    let passed = log.link();
    assert!(open(&folder, Some(passed)).is_ok());
    let checksum = passed.checksum ^ 1;
    let other = open(&folder, Some(Link { checksum, ..passed }));
    assert!(matches!(other, Err(LogError::Damaged { .. })));
}
