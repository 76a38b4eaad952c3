//! How many statements a user may send in a second: a pace that is kept on average, with a second's worth of them at once.
//!
//! It never reads a clock and never waits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// All statements of one user through this router.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next one would be due, had they come evenly.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// Whether one more may pass now. Those that may not do not count.
    pub fn admit(&self, per_second_max: u32, now: Instant) -> bool {
        let interval = SECOND / per_second_max.max(1);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.map_or(now, |due| due.max(now));
        if next + interval > now + SECOND {
            return false;
        }
        *due = Some(next + interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_and_the_pace_from_then_on() {
        let pace = Pace::default();
        let start = Instant::now();
        let admitted = |at_ms: u64, asked: usize| {
            let now = start + Duration::from_millis(at_ms);
            (0..asked).filter(|_| pace.admit(10, now)).count()
        };
        for (at_ms, asked, expected) in [
            (0, 20, 10),
            (50, 5, 0),
            (100, 5, 1),
            (450, 2, 2),
            (450, 5, 1),
            (5_000, 20, 10),
        ] {
            assert_eq!(admitted(at_ms, asked), expected, "at {at_ms} ms");
        }
    }

    #[test]
    fn one_in_a_second() {
        let pace = Pace::default();
        let start = Instant::now();
        assert!(pace.admit(1, start));
        assert!(!pace.admit(1, start + Duration::from_millis(999)));
        assert!(pace.admit(1, start + SECOND));
        // A limit that was raised meanwhile.
        assert!(pace.admit(1_000, start + SECOND + Duration::from_millis(1)));
    }
}
