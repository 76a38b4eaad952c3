//! Entries of the replicated log: compare-and-set changes of records, all or none, with the audit that explains them.

use std::fmt;

use vt_proto::{
    epoch::Revision,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{AuditEvent, Cell, Keyspace, ReplicaSet, SchemaChange, Shard, Tablet, VschemaTable},
};

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    Cell(CellName),
    Keyspace(KeyspaceName),
    Shard(KeyspaceName, KeyRange),
    ReplicaSet(ReplicaSetName),
    Tablet(TabletAlias),
    VschemaTable(KeyspaceName, String),
    SchemaChange(u64),
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordKey::Cell(name) => write!(f, "cell/{name}"),
            RecordKey::Keyspace(name) => write!(f, "keyspace/{name}"),
            RecordKey::Shard(keyspace, range) => write!(f, "shard/{keyspace}/{range}"),
            RecordKey::ReplicaSet(name) => write!(f, "replica-set/{name}"),
            RecordKey::Tablet(alias) => write!(f, "tablet/{alias}"),
            RecordKey::VschemaTable(keyspace, table) => write!(f, "vschema/{keyspace}/{table}"),
            RecordKey::SchemaChange(id) => write!(f, "schema-change/{id}"),
        }
    }
}

/// The content of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordValue {
    Cell(Cell),
    Keyspace(Keyspace),
    Shard(Shard),
    ReplicaSet(ReplicaSet),
    Tablet(Tablet),
    VschemaTable(VschemaTable),
    SchemaChange(SchemaChange),
}

impl RecordValue {
    /// The key under which it is kept.
    pub fn key(&self) -> RecordKey {
        match self {
            RecordValue::Cell(cell) => RecordKey::Cell(cell.name.clone()),
            RecordValue::Keyspace(keyspace) => RecordKey::Keyspace(keyspace.name.clone()),
            RecordValue::Shard(shard) => {
                RecordKey::Shard(shard.keyspace.clone(), shard.range.clone())
            }
            RecordValue::ReplicaSet(set) => RecordKey::ReplicaSet(set.name.clone()),
            RecordValue::Tablet(tablet) => RecordKey::Tablet(tablet.alias.clone()),
            RecordValue::VschemaTable(table) => {
                RecordKey::VschemaTable(table.keyspace.clone(), table.table.clone())
            }
            RecordValue::SchemaChange(change) => RecordKey::SchemaChange(change.id),
        }
    }
}

/// One compare-and-set. `expected` is the record's revision, zero if it must not exist; no value deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: RecordKey,
    pub expected: Revision,
    pub value: Option<RecordValue>,
}

impl Change {
    /// Creates or replaces a record that is at `expected`.
    pub fn put(expected: Revision, value: RecordValue) -> Self {
        Self {
            key: value.key(),
            expected,
            value: Some(value),
        }
    }

    /// Deletes a record that is at `expected`.
    pub fn delete(expected: Revision, key: RecordKey) -> Self {
        Self {
            key,
            expected,
            value: None,
        }
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Applied once per id, also when it is proposed again by another leader.
    pub request_id: String,
    pub changes: Vec<Change>,
    pub events: Vec<AuditEvent>,
}
