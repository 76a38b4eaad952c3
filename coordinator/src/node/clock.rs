//! The two clocks of a host: one for differences, one for people.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use vt_coordinator_core::event::Now;

/// What time it is.
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = since_epoch.map_or(0, |since| since.as_millis());
    // This clock also runs while the host sleeps: what was heard before is old afterwards.
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME);
    let monotonic_ms = boot.map_or(0, |time| {
        time.tv_sec().saturating_mul(1_000) + time.tv_nsec() / 1_000_000
    });
    Now {
        monotonic_ms: u64::try_from(monotonic_ms).unwrap_or(0),
        unix_ms: u64::try_from(unix_ms).unwrap_or(0),
    }
}
