//! The thread on a storage that is full for a while.

use std::{
    io, mem,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio::time::timeout;
use vt_coordinator_core::peer::Stored;
use vt_proto::wire::RaftEntry;

use super::*;
use crate::storage::memory::MemoryStorage;

const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Disc {
    full: AtomicBool,
    damaged: AtomicBool,
    free: Mutex<Option<Free>>,
    probes: AtomicU32,
}

struct FullAtTimes {
    disc: Arc<Disc>,
    inner: MemoryStorage,
    recovered: bool,
}

impl Storage for FullAtTimes {
    fn load(&mut self) -> Result<Stored, StorageError> {
        self.inner.load()
    }

    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError> {
        assert!(mem::take(&mut self.recovered), "it must be looked at first");
        if self.disc.full.load(Ordering::SeqCst) {
            return Err(StorageError::Full {
                path: PathBuf::from("log"),
                source: io::ErrorKind::StorageFull.into(),
            });
        }
        self.recovered = true;
        self.inner.persist(batch)
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        self.disc.probes.fetch_add(1, Ordering::SeqCst);
        let path = PathBuf::from("log");
        if self.disc.damaged.load(Ordering::SeqCst) {
            let source = io::ErrorKind::InvalidData.into();
            return Err(StorageError::Io { path, source });
        }
        if self.disc.full.load(Ordering::SeqCst) {
            let source = io::ErrorKind::StorageFull.into();
            return Err(StorageError::Full { path, source });
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), StorageError> {
        self.recovered = true;
        if self.disc.damaged.load(Ordering::SeqCst) {
            let path = PathBuf::from("log");
            let source = io::ErrorKind::InvalidData.into();
            return Err(StorageError::Io { path, source });
        }
        Ok(())
    }

    fn free(&self) -> Option<Free> {
        *self.disc.free.lock().unwrap()
    }
}

fn start(disc: &Arc<Disc>, inner: &MemoryStorage) -> (Disk, thread::JoinHandle<()>) {
    let storage = FullAtTimes {
        disc: disc.clone(),
        inner: inner.clone(),
        recovered: true,
    };
    Disk::start(Box::new(storage), Arc::default()).unwrap()
}

fn entry(index: u64) -> Batch {
    Batch {
        entries: vec![RaftEntry {
            index,
            ..RaftEntry::default()
        }],
        ..Batch::default()
    }
}

async fn next(disk: &mut Disk) -> Told {
    let told = timeout(LONG, disk.written.recv()).await;
    told.expect("in time").expect("not ended").unwrap()
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_recovers() {
    let (disc, mut inner) = (Arc::<Disc>::default(), MemoryStorage::default());
    let (mut disk, thread) = start(&disc, &inner);
    assert!(disk.write(1, entry(1)));
    assert!(matches!(next(&mut disk).await, Told::Written(1)));
    disc.full.store(true, Ordering::SeqCst);
    assert!(disk.write(2, entry(2)));
    let told = next(&mut disk).await;
    assert!(matches!(told, Told::Space(Space::Full { .. })), "{told:?}");
    // Others wait behind it, as many as may.
    assert!(disk.write(3, entry(3)));
    assert_eq!(inner.load().unwrap().last_index(), 1);
    let free = |free_bytes| {
        let total_bytes = 100 << 30;
        let free = Free {
            free_bytes,
            total_bytes,
        };
        *disc.free.lock().unwrap() = Some(free);
    };
    free(1 << 20);
    disc.full.store(false, Ordering::SeqCst);
    let told = next(&mut disk).await;
    assert!(
        matches!(told, Told::Space(Space::AlmostFull { .. })),
        "{told:?}"
    );
    assert!(matches!(next(&mut disk).await, Told::Written(2)));
    assert!(matches!(next(&mut disk).await, Told::Written(3)));
    free(1 << 30);
    let told = next(&mut disk).await;
    assert!(matches!(told, Told::Space(Space::Enough)), "{told:?}");
    assert_eq!(inner.load().unwrap().last_index(), 3);
    drop(disk);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_member_with_a_full_disk_can_be_stopped() {
    let (disc, inner) = (Arc::<Disc>::default(), MemoryStorage::default());
    disc.full.store(true, Ordering::SeqCst);
    let (mut disk, thread) = start(&disc, &inner);
    assert!(disk.write(1, entry(1)));
    assert!(matches!(next(&mut disk).await, Told::Space(_)));
    drop(disk);
    thread.join().unwrap();
}

#[tokio::test]
async fn what_is_not_there_after_a_full_disk_is_no_success() {
    let (disc, inner) = (Arc::<Disc>::default(), MemoryStorage::default());
    disc.full.store(true, Ordering::SeqCst);
    let (mut disk, thread) = start(&disc, &inner);
    disc.damaged.store(true, Ordering::SeqCst);
    assert!(disk.write(1, entry(1)));
    assert!(matches!(next(&mut disk).await, Told::Space(_)));
    let told = timeout(LONG, disk.written.recv()).await.unwrap().unwrap();
    assert!(matches!(told, Err(StorageError::Io { .. })));
    thread.join().unwrap();
}

#[tokio::test]
async fn an_idle_disk_is_tried_and_answers_in_turn() {
    let (disc, inner) = (Arc::<Disc>::default(), MemoryStorage::default());
    let (mut disk, thread) = start(&disc, &inner);
    let probes = || disc.probes.load(Ordering::SeqCst);
    // What waits behind other batches with nothing to write costs nothing.
    assert!(disk.write(1, Batch::default()));
    assert!(matches!(next(&mut disk).await, Told::Written(1)));
    assert_eq!(probes(), 0);
    assert!(disk.probe(2));
    assert!(matches!(next(&mut disk).await, Told::Written(2)));
    assert_eq!(probes(), 1);
    // No space is told by those who need some; a disk that fails is told at once.
    disc.full.store(true, Ordering::SeqCst);
    assert!(disk.probe(3));
    assert!(matches!(next(&mut disk).await, Told::Written(3)));
    disc.damaged.store(true, Ordering::SeqCst);
    assert!(disk.probe(4));
    let told = timeout(LONG, disk.written.recv()).await.unwrap().unwrap();
    assert!(matches!(told, Err(StorageError::Io { .. })));
    thread.join().unwrap();
}
