//! What real processes are tried on: network namespaces as hosts, small filesystems as disks, all of it in namespaces that vanish with
//! the run. Needs root; leaves nothing behind.

pub mod disk;
pub mod leftovers;
pub mod namespaces;
pub mod network;
pub mod programs;
pub mod shell;
