//! The replicated topology: typed records with revisions, the audit, and which requests were applied. Ordered maps only.

use std::collections::{BTreeMap, VecDeque};

use vt_proto::{
    epoch::Revision,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{AuditEvent, Cell, Keyspace, ReplicaSet, SchemaChange, Shard, Tablet, VschemaTable},
};

use crate::apply::Refusal;

/// Audit events that are kept; older ones are dropped.
pub const EVENTS_MAX: usize = 10_000;
/// Request ids that are remembered, oldest forgotten first: far more than can be retried at one time.
pub const REQUESTS_MAX: usize = 4_096;

/// A record and the revision that last changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    pub revision: Revision,
    pub value: T,
}

/// Everything that the coordinators replicate, at one log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub cluster_id: String,
    /// The log index that was applied last.
    pub applied: u64,
    pub next_schema_change: u64,
    /// The sequence number of the next audit event; grows for ever.
    pub next_event: u64,
    pub cells: BTreeMap<CellName, Versioned<Cell>>,
    pub keyspaces: BTreeMap<KeyspaceName, Versioned<Keyspace>>,
    pub shards: BTreeMap<(KeyspaceName, KeyRange), Versioned<Shard>>,
    pub replica_sets: BTreeMap<ReplicaSetName, Versioned<ReplicaSet>>,
    pub tablets: BTreeMap<TabletAlias, Versioned<Tablet>>,
    pub vschema_tables: BTreeMap<(KeyspaceName, String), Versioned<VschemaTable>>,
    pub schema_changes: BTreeMap<u64, Versioned<SchemaChange>>,
    /// Oldest first, with their sequence numbers; at most [`EVENTS_MAX`].
    pub events: VecDeque<(u64, AuditEvent)>,
    /// Outcome by request id, in order of application; at most [`REQUESTS_MAX`].
    pub requests: VecDeque<(String, Result<Revision, Refusal>)>,
}

impl State {
    /// The tablets of a replica set, in order of their aliases.
    pub fn tablets_of<'a>(
        &'a self,
        set: &'a ReplicaSetName,
    ) -> impl Iterator<Item = &'a Versioned<Tablet>> {
        self.tablets
            .values()
            .filter(move |tablet| tablet.value.replica_set == *set)
    }

    /// The shards that a replica set holds.
    pub fn shards_of<'a>(
        &'a self,
        set: &'a ReplicaSetName,
    ) -> impl Iterator<Item = &'a Versioned<Shard>> {
        self.shards
            .values()
            .filter(move |shard| shard.value.replica_set == *set)
    }

    /// The shards of a keyspace, in order of their ranges.
    pub fn shards_in<'a>(
        &'a self,
        keyspace: &'a KeyspaceName,
    ) -> impl Iterator<Item = &'a Versioned<Shard>> {
        self.shards
            .values()
            .filter(move |shard| shard.value.keyspace == *keyspace)
    }
}
