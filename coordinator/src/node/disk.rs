//! The thread that owns the storage: writes what waits in one batch with one flush, and says what is on disk.
//!
//! A full disk ends nothing: what waits is kept and tried again until there is space. Any other failure of the disk is for good.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;
use tracing::{info, warn};
use vt_coordinator_core::peer::Batch;

use crate::{
    metrics::Metrics,
    storage::{Free, Space, Storage, StorageError},
};

/// Batches that wait for the disk. More wait as proposals and are written together then.
pub(crate) const WRITES_MAX: usize = 256;
/// Entries that one flush carries, so that a flush takes about as long as its neighbours.
const ENTRIES_PER_FLUSH_MAX: usize = 4_096;
/// Bytes of entries after which nothing more joins a flush.
const BYTES_PER_FLUSH_MAX: usize = 4 << 20;
/// How often free space is looked at, and what was left for later is done while nothing else is to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause between two tries to write to a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// A batch and its number, which grows by one each time.
struct Write {
    sequence: u64,
    batch: Batch,
    /// The disk is to show that it takes things, also where nothing is to be written.
    probe: bool,
}

/// What the disk says.
#[derive(Debug)]
pub(crate) enum Told {
    /// All writes up to this number are on disk.
    Written(u64),
    /// Space ran out, or came back.
    Space(Space),
}

/// An error: the storage has failed for good.
pub(crate) type Written = Result<Told, StorageError>;

/// Where batches are left to be written. The thread ends after writing all when this is dropped.
pub(crate) struct Disk {
    writes: SyncSender<Write>,
    pub(crate) written: mpsc::Receiver<Written>,
}

impl Disk {
    /// Starts the thread.
    pub(crate) fn start(
        storage: Box<dyn Storage>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (writes, to_write) = sync_channel(WRITES_MAX);
        let (told, written) = mpsc::channel(WRITES_MAX);
        let mut writer = Writer {
            storage,
            writes: to_write,
            told,
            metrics,
            space: Space::Enough,
            looked: None,
        };
        let thread = thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || writer.run())?;
        Ok((Self { writes, written }, thread))
    }

    /// Hands a batch over; false if more than [`WRITES_MAX`] wait or the thread has ended.
    pub(crate) fn write(&self, sequence: u64, batch: Batch) -> bool {
        let probe = false;
        let write = Write {
            sequence,
            batch,
            probe,
        };
        self.writes.try_send(write).is_ok()
    }

    /// The same with nothing to write: answered when something would be on disk.
    pub(crate) fn probe(&self, sequence: u64) -> bool {
        let write = Write {
            sequence,
            batch: Batch::default(),
            probe: true,
        };
        self.writes.try_send(write).is_ok()
    }
}

/// Nobody listens any more, or nothing can be written any more: the thread ends.
struct Ended;

/// The state of the thread.
struct Writer {
    storage: Box<dyn Storage>,
    writes: Receiver<Write>,
    told: mpsc::Sender<Written>,
    metrics: Arc<Metrics>,
    space: Space,
    /// When free space was looked at last.
    looked: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Ended> {
        self.look()?;
        match self.writes.recv_timeout(LOOK_EVERY) {
            Ok(first) => {
                let all = self.gather(first);
                if all.probe && all.batch.is_empty() {
                    self.probe()?;
                }
                self.write(&all.batch)?;
                self.tell(Ok(Told::Written(all.sequence)))?;
                self.work(false)
            }
            Err(RecvTimeoutError::Timeout) => self.work(true),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    /// Everything that waits, as one batch, with the number of the last.
    fn gather(&self, first: Write) -> Write {
        let bytes_of = |batch: &Batch| batch.entries.iter().map(|e| e.data.len()).sum::<usize>();
        let mut all = first;
        let mut bytes = bytes_of(&all.batch);
        let mut count = 1u32;
        while all.batch.entries.len() < ENTRIES_PER_FLUSH_MAX && bytes < BYTES_PER_FLUSH_MAX {
            let Ok(next) = self.writes.try_recv() else {
                break;
            };
            bytes += bytes_of(&next.batch);
            all.sequence = next.sequence;
            all.batch.merge(next.batch);
            all.probe |= next.probe;
            count += 1;
        }
        self.metrics
            .disk
            .batches_per_flush
            .observe(f64::from(count));
        all
    }

    fn probe(&mut self) -> Result<(), Ended> {
        match self.storage.probe() {
            // That there is no space is told by what is written next, and by a look at it.
            Ok(()) | Err(StorageError::Full { .. }) => Ok(()),
            Err(error) => self.fail(error),
        }
    }

    /// Returns when it is on disk, however long there is no space for it.
    fn write(&mut self, batch: &Batch) -> Result<(), Ended> {
        if batch.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut outcome = self.storage.persist(batch);
        while let Err(StorageError::Full { .. }) = outcome {
            let since = match self.space {
                Space::Full { since } => since,
                Space::Enough | Space::AlmostFull { .. } => SystemTime::now(),
            };
            self.say(Space::Full { since })?;
            if self.told.is_closed() {
                return Err(Ended);
            }
            thread::sleep(FULL_PAUSE);
            outcome = self.storage.recover();
            if outcome.is_ok() {
                outcome = self.storage.persist(batch);
            }
        }
        let took = began.elapsed().as_secs_f64();
        self.metrics.disk.persist_seconds.observe(took);
        if let Err(error) = outcome {
            return self.fail(error);
        }
        if matches!(self.space, Space::Full { .. }) {
            info!("the disk takes what waited");
            self.looked = None;
            self.look()?;
        }
        Ok(())
    }

    fn work(&mut self, idle: bool) -> Result<(), Ended> {
        match self.storage.work(idle) {
            // A snapshot that finds no place is tried again; free space is looked at anyway.
            Ok(()) | Err(StorageError::Full { .. }) => Ok(()),
            Err(error) => self.fail(error),
        }
    }

    /// Looks at free space, if it is time to.
    fn look(&mut self) -> Result<(), Ended> {
        if self.looked.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let Some(free) = self.storage.free() else {
            return Ok(());
        };
        self.say(self.space.next(free))?;
        let Free { free_bytes, .. } = free;
        let free_bytes = i64::try_from(free_bytes).unwrap_or(i64::MAX);
        self.metrics.disk.free_bytes.set(free_bytes);
        Ok(())
    }

    /// Tells the loop what has changed, once.
    fn say(&mut self, space: Space) -> Result<(), Ended> {
        let kind = std::mem::discriminant(&space);
        if kind == std::mem::discriminant(&self.space) {
            return Ok(());
        }
        if space.is_enough() {
            info!("{space}");
        } else {
            warn!("{space}");
        }
        self.space = space;
        self.tell(Ok(Told::Space(space)))
    }

    fn fail(&self, error: StorageError) -> Result<(), Ended> {
        self.tell(Err(error))?;
        Err(Ended)
    }

    fn tell(&self, told: Written) -> Result<(), Ended> {
        self.told.blocking_send(told).map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests;
