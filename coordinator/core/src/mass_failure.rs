//! Too many replica sets are suspect at once: then silence is likelier this coordinator's than theirs.

use crate::event::Now;

/// With fewer replica sets than this, one suspect is too large a share to mean anything.
pub const MASS_FAILURE_SETS_MIN: usize = 4;
/// From this share of suspect replica sets on, silence is taken for our own.
pub const MASS_FAILURE_PERCENT: usize = 30;
/// For how long it is: evidence that lasts beyond is confirmed by the ackers, who hear nothing either.
pub const MASS_FAILURE_HOLD_MS: u64 = 10_000;

/// Since when it looks so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MassFailure {
    since_ms: Option<u64>,
}

impl MassFailure {
    /// Takes the number of replica sets, and of those whose primary is silent.
    pub fn look(&mut self, sets: usize, silent: usize, now: Now) {
        let many = sets >= MASS_FAILURE_SETS_MIN && silent * 100 > sets * MASS_FAILURE_PERCENT;
        self.since_ms = match self.since_ms {
            Some(since_ms) if many => Some(since_ms),
            _ => many.then_some(now.monotonic_ms),
        };
    }

    /// Whether silence proves nothing now.
    pub fn is_on(&self, now: Now) -> bool {
        self.since_ms.is_some_and(|since_ms| {
            now.monotonic_ms.saturating_sub(since_ms) < MASS_FAILURE_HOLD_MS
        })
    }
}
