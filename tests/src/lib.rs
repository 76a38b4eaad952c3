//! The worlds that Vitrail is tried in: tidiness of the tree, simulated clusters, real clusters. Nothing here ships.

pub mod bed;
pub mod bench;
pub mod chaos;
pub mod check;
pub mod cluster;
pub mod fire;
pub mod group;
pub mod pki;
pub mod router_soak;
pub mod sim;
pub mod tidy;
