//! Which formats of log entries and states there are, and what differs between them. Members of two neighbouring versions live in one
//! group, in both directions of an upgrade, by this rule:
//!
//! - A member reads every format up to [`NEWEST`] and refuses what is newer by name.
//! - An entry is written in the lowest format that can say it, a state in the group's format ([`crate::state::State::format`]).
//! - The group's format is the lowest that any of its members understands, as their records say, and never shrinks. So it grows in
//!   the moment in which the last member has been upgraded, on all of them at the same log index.
//! - What a new format adds (kinds, fields, rules of `apply`, bounds of what is remembered) has no effect below it. So the states of
//!   old and new members stay equal, byte by byte, as long as an old one is there.
//!
//! Until then an upgrade can be taken back; afterwards an older member refuses to start and names the version that it needs.

/// The first format.
pub const FIRST: u32 = 1;
/// Coordinators are records; more requests are remembered, and events within a bound of bytes; a tablet holds its cell.
pub const COORDINATORS: u32 = 2;
/// What was refused from the leader's state is remembered too.
pub const REFUSALS: u32 = 3;
/// A lost acker leaves the set of ackers, be it by being locked out: part of the same format.
pub const LEAVING: u32 = REFUSALS;
/// Tablets are drained: part of the same format.
pub const DRAINS: u32 = REFUSALS;
/// A replica set's policy changes: part of the same format.
pub const RAISING: u32 = REFUSALS;
/// Users are records: part of the same format.
pub const USERS: u32 = REFUSALS;
/// The newest format that this member understands.
pub const NEWEST: u32 = REFUSALS;

/// Request ids that are remembered: far more than can be retried at one time.
pub fn requests_max(format: u32) -> usize {
    match format {
        ..COORDINATORS => 4_096,
        // At tens of thousands of writes per second the retries of one second would not fit into less.
        _ => 32_768,
    }
}

/// Bytes of all audit events that are kept; the oldest go first.
pub fn events_bytes_max(format: u32) -> usize {
    match format {
        ..COORDINATORS => usize::MAX,
        // What a few decisions with much evidence take; a snapshot carries them all.
        _ => 8 << 20,
    }
}
