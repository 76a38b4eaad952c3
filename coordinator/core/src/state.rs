//! The replicated topology: typed records with revisions, the audit, and which requests were applied. Ordered maps only.

use std::collections::{BTreeMap, VecDeque};

use vt_proto::{
    epoch::Revision,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{AuditEvent, Cell, Keyspace, ReplicaSet, SchemaChange, Shard, Tablet, VschemaTable},
};

use crate::{
    command::{RecordKey, RecordValue},
    refusal::Refusal,
};

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
    /// The state before the first command. Sequence numbers and ids start at 1, so that 0 can mean "from the start".
    pub fn new(cluster_id: String) -> Self {
        Self {
            cluster_id,
            next_schema_change: 1,
            next_event: 1,
            ..Self::default()
        }
    }

    /// The revision of a record; zero if it does not exist.
    pub fn revision_of(&self, key: &RecordKey) -> Revision {
        fn of<T>(record: Option<&Versioned<T>>) -> Revision {
            record.map_or(Revision::ZERO, |record| record.revision)
        }
        match key {
            RecordKey::Cell(name) => of(self.cells.get(name)),
            RecordKey::Keyspace(name) => of(self.keyspaces.get(name)),
            RecordKey::Shard(keyspace, range) => {
                of(self.shards.get(&(keyspace.clone(), range.clone())))
            }
            RecordKey::ReplicaSet(name) => of(self.replica_sets.get(name)),
            RecordKey::Tablet(alias) => of(self.tablets.get(alias)),
            RecordKey::VschemaTable(keyspace, table) => {
                of(self.vschema_tables.get(&(keyspace.clone(), table.clone())))
            }
            RecordKey::SchemaChange(id) => of(self.schema_changes.get(id)),
        }
    }

    /// A copy of a record.
    pub fn value_of(&self, key: &RecordKey) -> Option<RecordValue> {
        fn of<T: Clone>(
            record: Option<&Versioned<T>>,
            wrap: fn(T) -> RecordValue,
        ) -> Option<RecordValue> {
            record.map(|record| wrap(record.value.clone()))
        }
        match key {
            RecordKey::Cell(name) => of(self.cells.get(name), RecordValue::Cell),
            RecordKey::Keyspace(name) => of(self.keyspaces.get(name), RecordValue::Keyspace),
            RecordKey::Shard(keyspace, range) => {
                let key = (keyspace.clone(), range.clone());
                of(self.shards.get(&key), RecordValue::Shard)
            }
            RecordKey::ReplicaSet(name) => of(self.replica_sets.get(name), RecordValue::ReplicaSet),
            RecordKey::Tablet(alias) => of(self.tablets.get(alias), RecordValue::Tablet),
            RecordKey::VschemaTable(keyspace, table) => {
                let key = (keyspace.clone(), table.clone());
                of(self.vschema_tables.get(&key), RecordValue::VschemaTable)
            }
            RecordKey::SchemaChange(id) => {
                of(self.schema_changes.get(id), RecordValue::SchemaChange)
            }
        }
    }

    /// Creates or replaces a record. Nothing is checked here: see [`crate::apply`].
    pub(crate) fn put(&mut self, revision: Revision, value: RecordValue) {
        match value {
            RecordValue::Cell(value) => {
                let key = value.name.clone();
                self.cells.insert(key, Versioned { revision, value });
            }
            RecordValue::Keyspace(value) => {
                let key = value.name.clone();
                self.keyspaces.insert(key, Versioned { revision, value });
            }
            RecordValue::Shard(value) => {
                let key = (value.keyspace.clone(), value.range.clone());
                self.shards.insert(key, Versioned { revision, value });
            }
            RecordValue::ReplicaSet(value) => {
                let key = value.name.clone();
                self.replica_sets.insert(key, Versioned { revision, value });
            }
            RecordValue::Tablet(value) => {
                let key = value.alias.clone();
                self.tablets.insert(key, Versioned { revision, value });
            }
            RecordValue::VschemaTable(value) => {
                let key = (value.keyspace.clone(), value.table.clone());
                self.vschema_tables
                    .insert(key, Versioned { revision, value });
            }
            RecordValue::SchemaChange(value) => {
                let key = value.id;
                self.schema_changes
                    .insert(key, Versioned { revision, value });
            }
        }
    }

    /// Deletes a record if it is there. Nothing is checked here: see [`crate::apply`].
    pub(crate) fn remove(&mut self, key: &RecordKey) {
        match key {
            RecordKey::Cell(name) => drop(self.cells.remove(name)),
            RecordKey::Keyspace(name) => drop(self.keyspaces.remove(name)),
            RecordKey::Shard(keyspace, range) => {
                drop(self.shards.remove(&(keyspace.clone(), range.clone())));
            }
            RecordKey::ReplicaSet(name) => drop(self.replica_sets.remove(name)),
            RecordKey::Tablet(alias) => drop(self.tablets.remove(alias)),
            RecordKey::VschemaTable(keyspace, table) => {
                let key = (keyspace.clone(), table.clone());
                drop(self.vschema_tables.remove(&key));
            }
            RecordKey::SchemaChange(id) => drop(self.schema_changes.remove(id)),
        }
    }

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
