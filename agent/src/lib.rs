//! The agent of one host: supervises its mysqld and embeds the router. `main` only calls into here.
//!
//! Control: `uplink` receives desired states, `supervisor` compares them with what `mysqld` and `replication` observe
//! (through the pure `vt-agent-core`) and carries out one action at a time. Queries: `router`. The two never import each other.

pub mod app;
pub mod config;
pub mod disk_writes;
pub mod guard;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod mysqld;
pub mod replication;
pub mod router;
pub mod state_file;
pub mod supervisor;
pub mod uplink;
