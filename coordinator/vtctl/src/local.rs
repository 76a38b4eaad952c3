//! A whole cluster on this machine: its directory and ports, its files, its processes. It knows nothing of the admin API.

pub mod cluster;
pub mod files;
pub mod guard;
pub mod lock;
pub mod ports;
pub mod process;
