//! Simulated clusters: the shipped cores of coordinators and agents, a modelled mysqld and network, virtual time, one seed.
//!
//! One thread, no real time, no I/O: the same seed is the same story. Two phases per seed: first faults, under which nothing
//! may become unsafe; then everything is healed, and within [`LIVENESS_MS`] one primary must serve and all others follow.

mod agents;
mod coordinators;
mod deposed;
mod disk;
mod effects;
mod faults;
mod group;
mod host;
mod injure;
mod mysqld;
mod network;
pub(crate) mod random;
mod replication;
mod sabotage;
pub mod script;
mod world;

pub use faults::{Fault, Focus, Kind};
pub use sabotage::Sabotage;
pub use world::{Outcome, Plan, run};

/// Faults come until then.
pub const FAULTS_END_MS: u64 = 30_000;
/// After the last fault is healed, the cluster must be whole again within this: a copy of a tablet and some more.
pub const LIVENESS_MS: u64 = 60_000;
