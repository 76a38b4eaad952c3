//! Whole clusters on hosts that fail: each host is a network namespace with a coordinator, an agent, a mysqld and a disk of its own.
//! Writers go through the router of one more host, and keep account of what they were promised. Needs root; leaves nothing behind.

pub mod bed;
pub mod bench;
pub mod fault;
pub mod files;
pub mod host;
pub mod matrix;
pub mod play;
pub mod reader;
pub mod row;
pub mod rows;
pub mod soak;
pub mod stage;
pub mod step;
pub mod trial;
pub mod verdict;

/// Hosts with a coordinator and a tablet.
pub const HOSTS: usize = 3;
/// The host of the application, with a router alone.
pub const FRONT: usize = HOSTS;
/// The replica set of all tablets.
pub const REPLICA_SET: &str = "main";
/// What is written to.
pub const KEYSPACE: &str = "commerce";

/// The tablet of a host.
pub fn alias(host: usize) -> String {
    format!("zone1-{}", 100 + host)
}
