//! Invariant 4: all coordinators at the same log index hold the same state, also one that restarted from a snapshot.

use std::collections::BTreeMap;

use super::Violation;

/// The hash of the state at each log index, and who had it first.
#[derive(Debug, Default)]
pub struct SameState {
    hashes: BTreeMap<u64, (u64, usize)>,
}

impl SameState {
    /// A member has applied the entry at `index`.
    pub fn applied(&mut self, member: usize, index: u64, hash: u64) -> Result<(), Violation> {
        let (known, first) = *self.hashes.entry(index).or_insert((hash, member));
        if known != hash {
            return Err(format!(
                "coordinators {first} and {member} differ at log index {index}"
            ));
        }
        Ok(())
    }
}
