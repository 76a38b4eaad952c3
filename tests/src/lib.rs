//! The worlds that Vitrail is tried in: tidiness of the tree, simulated clusters, real clusters. Nothing here ships.

pub mod cluster;
pub mod tidy;
