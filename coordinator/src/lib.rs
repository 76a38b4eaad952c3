//! vt-coordinator, the shell: sockets, disk and clock around the deciding core. What is decided stands in `vt-coordinator-core`.

pub mod api;
pub mod app;
pub mod config;
pub mod dial;
pub mod first;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod news;
pub mod node;
pub mod panics;
pub mod raft;
pub mod relay;
pub mod restore;
pub mod storage;
