//! Invariant 3: epochs and generations only grow, at the agents and at the routers. (The cores assert it of the log.)

use std::collections::BTreeMap;

use vt_proto::{
    epoch::{Epoch, Generation},
    ids::ReplicaSetName,
    routing::RoutingSnapshot,
};

use super::Violation;

/// The highest numbers that were seen where.
#[derive(Debug, Default)]
pub struct Epochs {
    agents: BTreeMap<usize, (Epoch, Generation)>,
    routers: BTreeMap<(usize, ReplicaSetName), Epoch>,
}

impl Epochs {
    /// What an agent has on disk.
    pub fn agent(
        &mut self,
        host: usize,
        promised: Epoch,
        generation: Generation,
    ) -> Result<(), Violation> {
        let before = self.agents.insert(host, (promised, generation));
        match before {
            Some((epoch, older)) if promised < epoch || generation < older => Err(format!(
                "agent {host} went from epoch {epoch}, generation {older} back to epoch {promised}, generation {generation}"
            )),
            _ => Ok(()),
        }
    }

    /// A snapshot that a router took because its version is newer.
    pub fn router(&mut self, host: usize, snapshot: &RoutingSnapshot) -> Result<(), Violation> {
        for set in &snapshot.replica_sets {
            let key = (host, set.name.clone());
            match self.routers.insert(key, set.epoch) {
                Some(before) if set.epoch < before => {
                    return Err(format!(
                        "router {host} went from epoch {before} of {} back to {}",
                        set.name, set.epoch
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
