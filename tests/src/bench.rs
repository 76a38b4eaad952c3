//! The coordinator beside etcd: groups of three real processes, closed-loop clients, figures. Judges nothing but goals; never ends a
//! process that it did not start.

pub mod agents;
pub mod client;
pub mod etcd;
pub mod group;
pub mod load;
pub mod ours;
pub mod process;
pub mod report;
pub mod run;
pub mod scale;
pub mod startup;
pub mod watch;
