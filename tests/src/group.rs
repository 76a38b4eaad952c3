//! The whole coordinator group in a simulated world: the shipped member (raft, core, waiting requests, snapshots, membership) on
//! modelled disks and links, with clients that read and write records, virtual time, one seed.
//!
//! One thread, no real time, no I/O: the same seed is the same story. Two phases per seed: first faults, under which nothing may
//! become unsafe; then everything is healed, and within [`LIVENESS_MS`] the group must be whole and serve. It differs from the
//! world in `sim` in what is real: here the log is, there the agents are.

mod client;
mod disk;
mod end;
mod faults;
mod host;
mod judge;
mod network;
mod operator;
mod sabotage;
mod serve;
mod stalled;
mod watcher;
mod world;

pub use faults::Focus;
pub use sabotage::Sabotage;
pub use world::{Outcome, Plan, run};

/// Faults come until then.
pub const FAULTS_END_MS: u64 = 8_000;
/// After the last fault is healed, the group must be whole within this: some elections, a snapshot and some changes of members.
pub const LIVENESS_MS: u64 = 20_000;
