//! Which statements get a line in the log: slow ones, and one of so many; and how many lines there may be.
//!
//! It never sees a text.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Lines about slow statements of one router thread in one second: enough to find what is wrong, too few to fill a disk while
/// everything is slow.
const SLOW_LINES_MAX: u32 = 10;
/// The same of those that are there as samples.
const SAMPLE_LINES_MAX: u32 = 100;
const PERIOD: Duration = Duration::from_secs(1);

/// Which statements are wanted in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What takes so long is slow; `None`: nothing is.
    pub slow: Option<Duration>,
    /// One of so many is a sample; `None`: none is.
    pub one_of: Option<NonZeroU32>,
}

/// Why a statement gets a line, and how many got none since the line before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Slow { left_out: u64 },
    Sample { left_out: u64 },
}

/// The log of one thread.
#[derive(Debug)]
pub struct StatementLog {
    wanted: Wanted,
    slow: Limited,
    samples: Limited,
    /// Statements since the last sample.
    passed: Cell<u32>,
}

/// Lines of one kind, so many in a period.
#[derive(Debug)]
struct Limited {
    lines_max: u32,
    period: Cell<Option<Instant>>,
    lines: Cell<u32>,
    left_out: Cell<u64>,
}

impl StatementLog {
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            slow: Limited::new(SLOW_LINES_MAX),
            samples: Limited::new(SAMPLE_LINES_MAX),
            passed: Cell::new(0),
        }
    }

    /// Whether a statement that took so long gets a line.
    pub fn admit(&self, elapsed: Duration, now: Instant) -> Option<Line> {
        let is_sample = self.is_sample();
        if self.wanted.slow.is_some_and(|limit| elapsed >= limit) {
            let left_out = self.slow.admit(now)?;
            return Some(Line::Slow { left_out });
        }
        let left_out = is_sample.then(|| self.samples.admit(now)).flatten()?;
        Some(Line::Sample { left_out })
    }

    fn is_sample(&self) -> bool {
        let Some(one_of) = self.wanted.one_of else {
            return false;
        };
        let passed = self.passed.get() + 1;
        let is_sample = passed >= one_of.get();
        self.passed.set(if is_sample { 0 } else { passed });
        is_sample
    }
}

impl Limited {
    fn new(lines_max: u32) -> Self {
        Self {
            lines_max,
            period: Cell::new(None),
            lines: Cell::new(0),
            left_out: Cell::new(0),
        }
    }

    fn admit(&self, now: Instant) -> Option<u64> {
        let begun = self.period.get();
        if begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            self.period.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() >= self.lines_max {
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

    const SLOW: Duration = Duration::from_millis(100);

    #[test]
    fn slow_ones_get_a_line_and_many_of_them_are_counted() {
        let log = StatementLog::new(Wanted {
            slow: Some(SLOW),
            one_of: None,
        });
        let start = Instant::now();
        let line = |left_out| Some(Line::Slow { left_out });
        let fast = SLOW.saturating_sub(Duration::from_micros(1));
        assert_eq!(log.admit(fast, start), None);
        for _ in 0..SLOW_LINES_MAX {
            assert_eq!(log.admit(SLOW, start), line(0));
        }
        for _ in 0..7 {
            assert_eq!(log.admit(SLOW, start + PERIOD / 2), None);
        }
        assert_eq!(log.admit(SLOW, start + PERIOD), line(7));
        assert_eq!(log.admit(SLOW, start + PERIOD), line(0));
        let none = StatementLog::new(Wanted::default());
        assert_eq!(none.admit(SLOW, start), None);
    }

    #[test]
    fn one_of_so_many_is_a_sample() {
        let log = StatementLog::new(Wanted {
            slow: Some(SLOW),
            one_of: NonZeroU32::new(3),
        });
        let now = Instant::now();
        let fast = Duration::ZERO;
        let lines = [fast, fast, fast, fast, SLOW, SLOW, fast, fast, fast];
        let lines: String = lines
            .map(|elapsed| match log.admit(elapsed, now) {
                None => '-',
                Some(Line::Slow { .. }) => 'S',
                Some(Line::Sample { .. }) => 's',
            })
            .iter()
            .collect();
        // One that is slow as well has one line.
        assert_eq!(lines, "--s-SS--s");
        let all = StatementLog::new(Wanted {
            slow: None,
            one_of: NonZeroU32::new(1),
        });
        let lines = (0..SAMPLE_LINES_MAX + 5).filter_map(|_| all.admit(fast, now));
        assert_eq!(lines.count() as u32, SAMPLE_LINES_MAX);
        let next = all.admit(fast, now + PERIOD);
        assert_eq!(next, Some(Line::Sample { left_out: 5 }));
    }
}
