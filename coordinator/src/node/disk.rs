//! The thread that owns the storage: writes what waits in one batch with one flush, and says what is on disk.

use std::{sync::Arc, thread, time::Instant};

use tokio::sync::mpsc;
use vt_coordinator_core::peer::Batch;

use crate::{
    metrics::Metrics,
    storage::{Storage, StorageError},
};

/// Batches that wait for the disk. More wait as proposals and are written together then.
pub(crate) const WRITES_MAX: usize = 256;
/// Entries that one flush carries, so that a flush takes about as long as its neighbours.
const ENTRIES_PER_FLUSH_MAX: usize = 4_096;

/// A batch and its number, which grows by one each time.
struct Write {
    sequence: u64,
    batch: Batch,
}

/// All writes up to this number are on disk, or the storage has failed for good.
pub(crate) type Written = Result<u64, StorageError>;

/// Where batches are left to be written. The thread ends after writing all when this is dropped.
pub(crate) struct Disk {
    writes: mpsc::Sender<Write>,
    pub(crate) written: mpsc::Receiver<Written>,
}

impl Disk {
    /// Starts the thread.
    pub(crate) fn start(
        storage: Box<dyn Storage>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (writes, to_write) = mpsc::channel(WRITES_MAX);
        let (done, written) = mpsc::channel(WRITES_MAX);
        let thread = thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || run(storage, to_write, &done, &metrics))?;
        Ok((Self { writes, written }, thread))
    }

    /// Hands a batch over; false if more than [`WRITES_MAX`] wait or the thread has ended.
    pub(crate) fn write(&self, sequence: u64, batch: Batch) -> bool {
        self.writes.try_send(Write { sequence, batch }).is_ok()
    }
}

fn run(
    mut storage: Box<dyn Storage>,
    mut writes: mpsc::Receiver<Write>,
    done: &mpsc::Sender<Written>,
    metrics: &Metrics,
) {
    while let Some(Write {
        mut sequence,
        mut batch,
    }) = writes.blocking_recv()
    {
        let mut count = 1u32;
        while batch.entries.len() < ENTRIES_PER_FLUSH_MAX {
            let Ok(next) = writes.try_recv() else { break };
            sequence = next.sequence;
            batch.merge(next.batch);
            count += 1;
        }
        let began = Instant::now();
        let outcome = if batch.is_empty() {
            Ok(())
        } else {
            storage.persist(&batch)
        };
        metrics
            .persist_seconds
            .observe(began.elapsed().as_secs_f64());
        metrics.batches_per_flush.observe(f64::from(count));
        let failed = outcome.is_err();
        if done.blocking_send(outcome.map(|()| sequence)).is_err() || failed {
            return;
        }
    }
}
