//! How far the log has come, kept apart from it: a log that ends earlier has lost what this member promised.
//!
//! Two slots are written in turn, after each flush of the log and before anybody is told, without a flush of their own: the end
//! of the process loses nothing, and a power failure loses steps of what is a lower bound anyway. The log is what counts then.

use std::io;

use super::super::files::{Folder, LogFile};

pub(super) const FILE: &str = "acknowledged";
const MAGIC: [u8; 4] = *b"VtA2";
/// magic, checksum, sequence, segment, last entry.
const SLOT_BYTES: usize = 32;
const SLOTS: usize = 2;

/// What is on disk for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) sequence: u64,
    pub(super) segment: u64,
    pub(super) last_index: u64,
}

pub(super) struct Acknowledged {
    file: Box<dyn LogFile>,
    /// Mixed into the checksums, so that the file of another directory is not taken for this one's.
    salt: u32,
    /// What was found or written last.
    reached: Reached,
    unsynced: bool,
}

impl Acknowledged {
    pub(super) fn create(folder: &dyn Folder, directory_id: &str) -> io::Result<Self> {
        let mut acknowledged = Self {
            file: folder.create(FILE)?,
            salt: crc32fast::hash(directory_id.as_bytes()),
            reached: Reached::default(),
            unsynced: false,
        };
        for turn in 0..SLOTS as u64 {
            acknowledged.write(Reached::default(), turn)?;
        }
        acknowledged.sync()?;
        Ok(acknowledged)
    }

    /// The file and the higher of its slots; none if no slot can be read.
    pub(super) fn open(
        folder: &dyn Folder,
        directory_id: &str,
    ) -> io::Result<(Self, Option<Reached>)> {
        let file = folder.open(FILE)?;
        let salt = crc32fast::hash(directory_id.as_bytes());
        let bytes = file.read()?;
        let reached = bytes.chunks(SLOT_BYTES).take(SLOTS);
        let reached = reached.filter_map(|slot| read_slot(slot, salt));
        let reached = reached.max_by_key(|reached| reached.sequence);
        let acknowledged = Self {
            file,
            salt,
            reached: reached.unwrap_or_default(),
            unsynced: false,
        };
        Ok((acknowledged, reached))
    }

    pub(super) fn put(&mut self, reached: Reached) -> io::Result<()> {
        self.reached = reached;
        self.write(reached, reached.sequence)
    }

    /// Writes what stands in one of the slots to it again, and flushes that.
    pub(super) fn write_again(&mut self) -> io::Result<()> {
        self.write(self.reached, self.reached.sequence)?;
        self.sync()
    }

    fn write(&mut self, reached: Reached, turn: u64) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES];
        slot[0..4].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&reached.sequence.to_le_bytes());
        slot[16..24].copy_from_slice(&reached.segment.to_le_bytes());
        slot[24..32].copy_from_slice(&reached.last_index.to_le_bytes());
        let checksum = checksum(&slot, self.salt);
        slot[4..8].copy_from_slice(&checksum.to_le_bytes());
        let offset = turn % SLOTS as u64 * SLOT_BYTES as u64;
        self.unsynced = true;
        self.file.write_at(&slot, offset)
    }

    /// Flushes it, if there is something to flush.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn read_slot(slot: &[u8], salt: u32) -> Option<Reached> {
    let slot: &[u8; SLOT_BYTES] = slot.try_into().ok()?;
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&slot[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    let sound = slot[0..4] == MAGIC && slot[4..8] == checksum(slot, salt).to_le_bytes();
    sound.then(|| Reached {
        sequence: number(8),
        segment: number(16),
        last_index: number(24),
    })
}

fn checksum(slot: &[u8; SLOT_BYTES], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&slot[8..]);
    hasher.finalize()
}
