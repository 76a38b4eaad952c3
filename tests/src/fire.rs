//! Real coordinators under fire: three processes, each with a network namespace and a small filesystem of its own, are killed,
//! paused, cut off and starved while clients write and read; then their history is judged. Needs root; leaves nothing behind.

pub mod bed;
pub mod clients;
pub mod diary;
pub mod faults;
pub mod first;
pub mod inside;
pub mod member;
pub mod observer;
pub mod plan;
pub mod recorder;
pub mod register;
pub mod verdict;
pub mod watchers;

/// Coordinators in the group.
pub const MEMBERS: usize = 3;
