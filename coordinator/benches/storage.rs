//! What a group commit costs: `Storage::persist` with batches of 1, 16 and 128 entries, next to a plain append and fdatasync
//! in the same run, in turns. `cargo bench -p vt-coordinator --bench storage -- [SECONDS [DIRECTORY]]`; asserts nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use prost::Message;
use vt_coordinator::storage::{DiskStorage, Storage};
use vt_coordinator_core::peer::{Batch, LogStart};
use vt_proto::wire::{RaftEntry, RaftHardState, RaftSnapshot};

const ENTRY_BYTES: usize = 300;
const BATCHES: &[u64] = &[1, 16, 128];
/// Entries after which the log is cut, as a member does it.
const SNAPSHOT_EVERY_ENTRIES: u64 = 50_000;
const TURNS: u32 = 4;
const SECONDS: f64 = 4.0;

/// What takes batches to the disk.
trait Store {
    fn name(&self) -> &'static str;
    fn persist(&mut self, batch: &Batch) -> Result<()>;
}

struct Ours(DiskStorage);

impl Store for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn persist(&mut self, batch: &Batch) -> Result<()> {
        self.0.persist(batch)?;
        Ok(self.0.work(false)?)
    }
}

/// The floor: the same bytes, appended to one file.
struct Append(File);

impl Store for Append {
    fn name(&self) -> &'static str {
        "append + fdatasync"
    }

    fn persist(&mut self, batch: &Batch) -> Result<()> {
        let mut bytes = Vec::new();
        for entry in &batch.entries {
            entry.encode_length_delimited(&mut bytes)?;
        }
        self.0.write_all(&bytes)?;
        Ok(self.0.sync_data()?)
    }
}

#[derive(Default)]
struct Figures {
    latencies: Vec<Duration>,
    took: Duration,
    cpu: Duration,
    bytes: u64,
    next: u64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let seconds = arguments.next().map_or(Ok(SECONDS), |s| s.parse())?;
    let directory = arguments.next().map_or(std::env::temp_dir(), PathBuf::from);
    let directory = directory.join(format!("storage-bench-{}", std::process::id()));
    let outcome = measure(
        &directory,
        Duration::from_secs_f64(seconds / f64::from(TURNS)),
    );
    fs::remove_dir_all(&directory)?;
    outcome
}

fn measure(directory: &Path, turn: Duration) -> Result<()> {
    println!(
        "{:20} {:>7} {:>10} {:>10} {:>8} {:>8} {:>8} {:>12} {:>10}",
        "store",
        "entries",
        "batches/s",
        "entries/s",
        "p50 µs",
        "p99 µs",
        "max ms",
        "bytes/entry",
        "cpu µs/b"
    );
    for batch in BATCHES {
        let directory = directory.join(batch.to_string());
        fs::create_dir_all(&directory)?;
        let mut ours = DiskStorage::open(&directory.join("ours"), 1)?;
        ours.load()?;
        let mut stores: Vec<Box<dyn Store>> = vec![
            Box::new(Ours(ours)),
            Box::new(Append(File::create(directory.join("append"))?)),
        ];
        let mut figures: Vec<Figures> = stores.iter().map(|_| Figures::default()).collect();
        for _ in 0..TURNS {
            for (store, figures) in stores.iter_mut().zip(&mut figures) {
                take_turn(store.as_mut(), *batch, turn, figures)?;
            }
        }
        for (store, figures) in stores.iter().zip(&mut figures) {
            print(store.name(), *batch, figures);
        }
    }
    Ok(())
}

fn take_turn(store: &mut dyn Store, size: u64, turn: Duration, into: &mut Figures) -> Result<()> {
    let (began, cpu, bytes) = (Instant::now(), cpu_used()?, bytes_written()?);
    while began.elapsed() < turn {
        let batch = next_batch(into.next, size);
        into.next += size;
        let one = Instant::now();
        store.persist(&batch)?;
        into.latencies.push(one.elapsed());
    }
    into.took += began.elapsed();
    into.cpu += cpu_used()?.saturating_sub(cpu);
    into.bytes += bytes_written()?.saturating_sub(bytes);
    Ok(())
}

/// The next entries, and now and then what cuts the log.
fn next_batch(after: u64, size: u64) -> Batch {
    let entry = |index| RaftEntry {
        index,
        term: 1,
        data: vec![b'x'; ENTRY_BYTES],
        ..RaftEntry::default()
    };
    let mut batch = Batch {
        hard_state: Some(RaftHardState {
            term: 1,
            vote: 1,
            commit: after,
        }),
        entries: (after + 1..=after + size).map(entry).collect(),
        ..Batch::default()
    };
    if after > 0 && after % SNAPSHOT_EVERY_ENTRIES < size {
        batch.snapshot = Some(RaftSnapshot {
            index: after,
            term: 1,
            data: vec![b's'; 100 << 10],
            ..RaftSnapshot::default()
        });
        let index = after.saturating_sub(SNAPSHOT_EVERY_ENTRIES / 2);
        batch.start = Some(LogStart { index, term: 1 });
    }
    batch
}

fn print(name: &str, batch: u64, figures: &mut Figures) {
    figures.latencies.sort_unstable();
    let count = figures.latencies.len().max(1);
    let at = |share: f64| {
        let position = ((count as f64) * share) as usize;
        let found = figures.latencies.get(position.min(count - 1));
        found.copied().unwrap_or_default().as_secs_f64()
    };
    let per_second = count as f64 / figures.took.as_secs_f64();
    let entries = count as f64 * batch as f64;
    println!(
        "{name:20} {batch:>7} {per_second:>10.0} {:>10.0} {:>8.0} {:>8.0} {:>8.1} {:>12.0} {:>10.0}",
        per_second * batch as f64,
        at(0.5) * 1e6,
        at(0.99) * 1e6,
        at(1.0) * 1e3,
        figures.bytes as f64 / entries,
        figures.cpu.as_secs_f64() * 1e6 / count as f64,
    );
}

fn cpu_used() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0),
        )
    };
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// As the kernel counts what this process sent to block devices.
fn bytes_written() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("/proc/self/io has no write_bytes")?.parse()?)
}
