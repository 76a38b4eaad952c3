//! The line to the coordinator: reports go up, desired states and routing snapshots come down.
//!
//! It follows the leader and reconnects for ever; with no coordinator there, everything else goes on as it was.

pub mod desired;
pub mod kept;
pub mod leader;
pub mod report;
pub mod routing;
