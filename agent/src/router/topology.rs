//! Holds the newest routing snapshot: read on every statement, swapped whole, never patched.
//!
//! It never asks the coordinator; whoever has a snapshot publishes it here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use vt_proto::cluster::{Kinship, kinship};
use vt_proto::epoch::Epoch;
use vt_proto::ids::ReplicaSetName;
use vt_proto::routing::{RoutingSnapshot, ServingState};

/// The routers' view of the cluster. Clones share it.
#[derive(Debug, Clone)]
pub struct Topology {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<RoutingSnapshot>,
    /// Counts the snapshots that were taken over; those who wait for a change wait on it.
    taken: watch::Sender<u64>,
    /// The highest epoch ever seen of each replica set: a primary below it is never used again.
    highest: Mutex<BTreeMap<ReplicaSetName, Epoch>>,
}

impl Default for Topology {
    fn default() -> Self {
        Self::new(RoutingSnapshot::default())
    }
}

impl Topology {
    #[must_use]
    pub fn new(first: RoutingSnapshot) -> Self {
        let topology = Self {
            shared: Arc::new(Shared {
                current: ArcSwap::from_pointee(RoutingSnapshot::default()),
                taken: watch::Sender::new(0),
                highest: Mutex::new(BTreeMap::new()),
            }),
        };
        topology.publish(first);
        topology
    }

    /// Takes a snapshot over, unless it is older than the one in use. A replica set whose epoch is
    /// below the highest seen is shown as moving: its primary was replaced. Returns whether it was taken.
    pub fn publish(&self, snapshot: impl Into<Arc<RoutingSnapshot>>) -> bool {
        let mut snapshot = snapshot.into();
        let mut highest = self
            .shared
            .highest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = self.shared.current.load();
        match kinship(&snapshot.cluster_id, &current.cluster_id) {
            Kinship::Older => return false,
            // A newer group of the cluster goes on above all numbers of the one before.
            Kinship::Same | Kinship::Newer if snapshot.version < current.version => return false,
            Kinship::Same | Kinship::Newer => {}
            Kinship::Foreign => highest.clear(),
        }
        let mut held = Vec::new();
        for (index, set) in snapshot.replica_sets.iter().enumerate() {
            // Almost all of them are those that were looked at before.
            let before = current.replica_sets.get(index);
            if before.is_some_and(|before| Arc::ptr_eq(before, set)) {
                continue;
            }
            match highest.get_mut(&set.name) {
                Some(seen) if set.epoch < *seen => {
                    tracing::warn!(replica_set = %set.name, epoch = %set.epoch, highest = %seen,
                        "a routing snapshot names an older primary: its replica set is held until a newer one comes");
                    held.push(index);
                }
                Some(seen) => *seen = set.epoch,
                None => drop(highest.insert(set.name.clone(), set.epoch)),
            }
        }
        if !held.is_empty() {
            let snapshot = Arc::make_mut(&mut snapshot);
            for index in held {
                let set = Arc::make_mut(&mut snapshot.replica_sets[index]);
                set.state = ServingState::Moving;
                set.primary = None;
            }
        }
        self.shared.current.store(snapshot);
        self.shared.taken.send_modify(|count| *count += 1);
        true
    }

    #[must_use]
    pub fn load(&self) -> Arc<RoutingSnapshot> {
        self.shared.current.load_full()
    }

    /// Is `snapshot` the one in use? Cheap: no count is touched.
    #[must_use]
    pub fn is_current(&self, snapshot: &Arc<RoutingSnapshot>) -> bool {
        Arc::ptr_eq(&self.shared.current.load(), snapshot)
    }

    /// Is woken by every snapshot that is taken over.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.taken.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vt_proto::epoch::Revision;
    use vt_proto::routing::{ReplicaSetRoute, RoutingVersion};
    use vt_proto::topology::Endpoint;

    fn snapshot(revision: u64, epoch: u64) -> RoutingSnapshot {
        let primary = (
            "zone1-1".parse().unwrap(),
            Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 3306,
            },
        );
        RoutingSnapshot {
            cluster_id: "c".to_owned(),
            version: RoutingVersion {
                revision: Revision(revision),
                health: 0,
            },
            replica_sets: vec![Arc::new(ReplicaSetRoute {
                name: "rs0".parse().unwrap(),
                epoch: Epoch(epoch),
                state: ServingState::Serving,
                primary: Some(primary),
                replicas: Vec::new(),
            })],
            ..RoutingSnapshot::default()
        }
    }

    #[test]
    fn older_snapshots_are_not_taken() {
        let topology = Topology::new(snapshot(5, 1));
        assert!(!topology.publish(snapshot(4, 1)));
        assert!(topology.publish(snapshot(5, 1)));
        assert_eq!(topology.load().version.revision, Revision(5));
    }

    #[test]
    fn an_older_epoch_is_shown_as_moving() {
        let topology = Topology::new(snapshot(1, 3));
        let mut changes = topology.subscribe();
        changes.mark_unchanged();
        assert!(topology.publish(snapshot(2, 2)));
        assert!(changes.has_changed().unwrap());
        let held = topology.load();
        assert_eq!(held.replica_sets[0].state, ServingState::Moving);
        assert_eq!(held.replica_sets[0].primary, None);
        assert!(topology.publish(snapshot(3, 4)));
        assert_eq!(topology.load().replica_sets[0].state, ServingState::Serving);
    }
}
