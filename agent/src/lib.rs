//! The agent of one host: supervises its mysqld and embeds the router. `main` only calls into here.
//!
//! Control: `uplink` receives desired states, `supervisor` compares them with what `mysqld` and `replication` observe
//! (through the pure `vt-agent-core`) and carries out one action at a time. Queries: `router`. The two never import each other.

pub mod config;
pub mod guard;
pub mod mysqld;
