//! Bounds how many statements wait, how large, and for how long, while a primary moves.
//!
//! It never keeps a statement: each waits in its own session, with a place counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::error::RouterError;
use super::metrics::Metrics;

/// How long a statement may wait, unless configured: longer than any failover that goes well,
/// shorter than the time-outs of most applications.
pub const HOLD_TIME_DEFAULT: Duration = Duration::from_secs(10);
/// How many may wait: each is a session that waits anyway, so memory is bounded by their bytes.
pub const HELD_STATEMENTS_DEFAULT: usize = 10_000;
/// How many bytes may wait.
pub const HELD_BYTES_DEFAULT: usize = 64 << 20;

/// Between two writes to a primary that hands over soon: slow enough for its successor to catch up, and writers that ask for
/// the longest gap between two writes see less than the handing over itself takes.
const PACE: Duration = Duration::from_millis(4);

/// Bounds of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    pub time: Duration,
    pub statements: usize,
    pub bytes: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self {
            time: HOLD_TIME_DEFAULT,
            statements: HELD_STATEMENTS_DEFAULT,
            bytes: HELD_BYTES_DEFAULT,
        }
    }
}

/// Counts what waits, over all threads of the router.
#[derive(Debug)]
pub struct Hold {
    limits: HoldLimits,
    statements: AtomicUsize,
    bytes: AtomicUsize,
    /// When the next slowed write may pass. The one who waits for it keeps the lock, the others wait in their order.
    next: Mutex<Instant>,
    metrics: Metrics,
}

impl Hold {
    #[must_use]
    pub fn new(limits: HoldLimits, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            limits,
            statements: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            next: Mutex::new(Instant::now()),
            metrics,
        })
    }

    /// Takes a place for a statement of `length` bytes; dropping the place gives it back.
    pub fn enter(self: &Arc<Self>, replica_set: &str, length: usize) -> Result<Place, RouterError> {
        let statements = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        self.metrics.held.inc();
        let place = Place {
            hold: Arc::clone(self),
            length,
            deadline: Instant::now() + self.limits.time,
        };
        if statements > self.limits.statements || bytes > self.limits.bytes {
            return Err(RouterError::HoldFull {
                replica_set: replica_set.to_owned(),
                held: statements - 1,
            });
        }
        Ok(place)
    }

    /// Waits until it is this statement's turn among all slowed ones of the router. One who stops waiting takes no turn.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + PACE;
    }
}

/// The right of one statement to wait.
#[derive(Debug)]
pub struct Place {
    hold: Arc<Hold>,
    length: usize,
    deadline: Instant,
}

impl Place {
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.hold.limits.time
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hold.statements.fetch_sub(1, Ordering::Relaxed);
        self.hold.bytes.fetch_sub(self.length, Ordering::Relaxed);
        self.hold.metrics.held.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn count_and_bytes_are_bounded_and_given_back() {
        let limits = HoldLimits {
            statements: 2,
            bytes: 100,
            ..HoldLimits::default()
        };
        let hold = Hold::new(limits, Metrics::default());
        let first = hold.enter("rs0", 60).unwrap();
        assert!(matches!(
            hold.enter("rs0", 41),
            Err(RouterError::HoldFull { held: 1, .. })
        ));
        let second = hold.enter("rs0", 40).unwrap();
        assert!(hold.enter("rs0", 0).is_err());
        drop(second);
        drop(first);
        assert!(hold.enter("rs0", 100).is_ok());
    }

    #[tokio::test]
    async fn slowed_statements_pass_one_by_one_in_their_order() {
        let hold = Hold::new(HoldLimits::default(), Metrics::default());
        let started = Instant::now();
        let passed = std::cell::RefCell::new(Vec::new());
        let turn = async |name: u32| {
            hold.turn().await;
            passed.borrow_mut().push((name, started.elapsed()));
        };
        let gives_up = tokio::time::timeout(Duration::ZERO, async {
            turn(1).await;
            turn(2).await;
        });
        let (gave_up, _, _) = tokio::join!(gives_up, turn(3), turn(4));
        assert!(gave_up.is_err());
        let passed = passed.into_inner();
        assert_eq!(
            passed.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert!(passed.windows(2).all(|pair| pair[1].1 >= pair[0].1 + PACE));
    }
}
