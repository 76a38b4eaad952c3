//! Invariant 2: an acknowledged write survives. Here no disk is ever destroyed, so that not a single one may be missing.

use std::collections::BTreeMap;

use super::Violation;

/// From this value on, no client of the cluster wrote it: it belongs on no primary.
pub const STRANGERS: u64 = 1 << 60;

/// Every value that was acknowledged, and where.
#[derive(Debug, Default)]
pub struct AckedWrites {
    acknowledged: BTreeMap<u64, String>,
}

impl AckedWrites {
    /// A client got OK for this value.
    pub fn acknowledged(&mut self, value: u64, place: String) {
        self.acknowledged.insert(value, place);
    }

    /// Whether a client got OK for it.
    pub fn has(&self, value: u64) -> bool {
        self.acknowledged.contains_key(&value)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// A tablet opens as primary, or the world ends with it as primary, with these values in its tables.
    pub fn held_by(&self, who: &str, values: &BTreeMap<u64, u32>) -> Result<(), Violation> {
        if let Some((value, _)) = values.range(STRANGERS..).next() {
            return Err(format!("{who} has value {value}, which a stranger wrote"));
        }
        for (value, place) in &self.acknowledged {
            match values.get(value) {
                None => {
                    return Err(format!("{who} lacks value {value}, acknowledged {place}"));
                }
                Some(1) => {}
                Some(times) => return Err(format!("{who} has value {value} {times} times")),
            }
        }
        Ok(())
    }
}
