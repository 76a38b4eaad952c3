//! A storage in memory, for tests: the plain meaning of batches, and what the storage on disk is compared with.

use std::sync::{Arc, Mutex, PoisonError};

use vt_coordinator_core::peer::{Batch, Stored};

use super::{Storage, StorageError};

/// Clones share what is stored, as openings of one directory do.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    stored: Arc<Mutex<Stored>>,
}

impl Storage for MemoryStorage {
    fn load(&mut self) -> Result<Stored, StorageError> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(stored.clone())
    }

    fn persist(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.apply(batch);
        Ok(())
    }
}
