//! The vocabulary that both programs share: names, epochs, GTID sets, key ranges, records, and what travels between them.
//!
//! Who sends what to whom:
//! - an agent sends [`report::Report`]s to the coordinator and receives [`desired::Desired`] states;
//! - routers receive [`routing::RoutingSnapshot`]s;
//! - coordinators replicate commands over [`topology`] records (see the crate `vt-coordinator-core`);
//! - `vtctl` speaks the admin API of [`wire`].
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub mod backup;
pub mod cluster;
#[cfg(feature = "rpc")]
pub mod codec;
pub mod convert;
pub mod desired;
pub mod epoch;
pub mod gtid;
pub mod ids;
pub mod keyrange;
pub mod report;
pub mod routing;
pub mod topology;
pub mod user;

/// What travels between processes, generated from `proto/*.proto`. Other code uses the domain types above.
#[allow(
    clippy::too_many_lines,
    reason = "generated code; what is generated depends on the features"
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/vitrail.v1.rs"));
    /// The descriptors of all messages and services, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/vitrail.v1.bin"));
}
