//! What routers need, and no more. Versioned, swapped whole, also kept on disk by every agent.
//!
//! Snapshots share what did not change between them: taking a delta over copies pointers, not routes.

use std::sync::Arc;

mod delta;

pub use delta::{DeltaError, RoutingDelta, RoutingUpdate};

use crate::{
    epoch::{Epoch, Revision},
    ids::{KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{Endpoint, TabletKind},
    user::User,
};

/// Orders snapshots: first by what was committed, then by what the leader saw since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingVersion {
    pub revision: Revision,
    /// Counts changes of health under one revision.
    pub health: u64,
}

/// A shard and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRoute {
    pub range: KeyRange,
    /// The MySQL schema to use on the backend.
    pub schema: String,
    pub replica_set: ReplicaSetName,
}

/// A keyspace and its shards, in order of their ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceRoute {
    pub name: KeyspaceName,
    pub shards: Vec<ShardRoute>,
}

/// Whether writes may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingState {
    /// The primary is open.
    Serving,
    /// The primary is being replaced: hold new statements and transactions.
    Moving,
    /// It will be replaced soon, by one that has to catch up first: let new writes and transactions pass one by one.
    Slowed,
}

/// A tablet that answers reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRoute {
    pub alias: TabletAlias,
    pub kind: TabletKind,
    pub mysql: Endpoint,
    /// Replicates without error, as last reported.
    pub healthy: bool,
    pub lag_ms: Option<u64>,
}

/// A replica set as routers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSetRoute {
    pub name: ReplicaSetName,
    pub epoch: Epoch,
    pub state: ServingState,
    /// None before the first primary and while one is being chosen.
    pub primary: Option<(TabletAlias, Endpoint)>,
    pub replicas: Vec<ReplicaRoute>,
}

/// Everything a router knows about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingSnapshot {
    pub cluster_id: String,
    pub version: RoutingVersion,
    /// In order of their names.
    pub keyspaces: Vec<Arc<KeyspaceRoute>>,
    /// In order of their names.
    pub replica_sets: Vec<Arc<ReplicaSetRoute>>,
    /// In order of their names.
    pub users: Vec<Arc<User>>,
}

impl RoutingSnapshot {
    /// The keyspace of that name.
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceRoute> {
        let found = self
            .keyspaces
            .binary_search_by(|keyspace| keyspace.name.as_str().cmp(name));
        found.ok().map(|index| &*self.keyspaces[index])
    }

    /// The replica set of that name.
    pub fn replica_set(&self, name: &ReplicaSetName) -> Option<&ReplicaSetRoute> {
        let found = self.replica_sets.binary_search_by(|set| set.name.cmp(name));
        found.ok().map(|index| &*self.replica_sets[index])
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        let found = self
            .users
            .binary_search_by(|user| user.name.as_str().cmp(name));
        found.ok().map(|index| &self.users[index])
    }
}
