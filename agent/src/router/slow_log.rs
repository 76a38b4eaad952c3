//! Which statements are slow enough for a line in the log, and how many lines there may be.
//!
//! It never sees a text.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lines of one router thread in one second: enough to find what is wrong, too few to fill a disk while everything is slow.
const LINES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// The log of one thread.
#[derive(Debug)]
pub struct SlowLog {
    /// What takes so long is slow; `None`: nothing is.
    limit: Option<Duration>,
    period: Cell<Option<Instant>>,
    lines: Cell<u32>,
    left_out: Cell<u64>,
}

impl SlowLog {
    #[must_use]
    pub fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            period: Cell::new(None),
            lines: Cell::new(0),
            left_out: Cell::new(0),
        }
    }

    /// Whether a statement that took so long gets a line, and how many got none since the line before.
    pub fn admit(&self, elapsed: Duration, now: Instant) -> Option<u64> {
        if self.limit.is_none_or(|limit| elapsed < limit) {
            return None;
        }
        let begun = self.period.get();
        if begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            self.period.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() >= LINES_MAX {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_get_a_line_and_many_of_them_are_counted() {
        let slow = Duration::from_millis(100);
        let log = SlowLog::new(Some(slow));
        let start = Instant::now();
        let fast = slow.saturating_sub(Duration::from_micros(1));
        assert_eq!(log.admit(fast, start), None);
        for _ in 0..LINES_MAX {
            assert_eq!(log.admit(slow, start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(log.admit(slow, start + PERIOD / 2), None);
        }
        assert_eq!(log.admit(slow, start + PERIOD), Some(7));
        assert_eq!(log.admit(slow, start + PERIOD), Some(0));
        assert_eq!(SlowLog::new(None).admit(slow, start), None);
    }
}
