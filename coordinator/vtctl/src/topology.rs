//! The topology as a document that people read and diff: every record, sorted, with the revision that last changed it. Made of what
//! the coordinators answer; what it means is checked in `check`. Texts stay texts, so that all mistakes can be told at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vt_proto::wire::{self, record_value::Value};

pub mod check;

/// What the first line of a document says.
pub const FORMAT: &str = "vitrail-topology-1";

/// All records of a cluster at one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub format: String,
    #[serde(default)]
    pub cluster_id: String,
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub cells: BTreeMap<String, Cell>,
    #[serde(default)]
    pub keyspaces: BTreeMap<String, Keyspace>,
    #[serde(default)]
    pub replica_sets: BTreeMap<String, ReplicaSet>,
    #[serde(default)]
    pub tablets: BTreeMap<String, Tablet>,
    #[serde(default)]
    pub schema_changes: BTreeMap<u64, SchemaChange>,
    #[serde(default)]
    pub coordinators: BTreeMap<u64, Coordinator>,
    /// By the alias of the tablet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drains: BTreeMap<String, Drain>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, User>,
}

/// Without a password: coordinators give none away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub revision: u64,
    /// Rights by keyspace, as in `read,write`.
    #[serde(default)]
    pub grants: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements_per_second_max: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    #[serde(default)]
    pub revision: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    #[serde(default)]
    pub revision: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyspace {
    /// None while only its shards or tables were seen.
    #[serde(default)]
    pub revision: Option<u64>,
    #[serde(default)]
    pub shards: BTreeMap<String, Shard>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vschema: BTreeMap<String, VschemaTable>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    #[serde(default)]
    pub revision: u64,
    pub replica_set: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VschemaTable {
    #[serde(default)]
    pub revision: u64,
    /// JSON, as it was given.
    pub spec: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaSet {
    #[serde(default)]
    pub revision: u64,
    pub epoch: u64,
    pub phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Who is to take over; of a switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Who was primary, and why it is no more; of a failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Acknowledgements behind each write.
    pub acks: u32,
    /// Only tablets outside the primary's cell acknowledge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cross_cell: bool,
    /// More acknowledgements, which are asked for and not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raising: Option<u32>,
    #[serde(default)]
    pub ackers: Vec<String>,
    #[serde(default)]
    pub start_gtid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<u64>,
    /// The lost acker that is being taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
    /// Whom the primary refuses until they have stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locked_out: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<FinishedEpoch>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedEpoch {
    pub epoch: u64,
    pub primary: String,
    pub kept: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tablet {
    #[serde(default)]
    pub revision: u64,
    pub kind: String,
    pub replica_set: String,
    /// host:port.
    pub mysql: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaChange {
    #[serde(default)]
    pub revision: u64,
    pub keyspace: String,
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    pub statements: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    #[serde(default)]
    pub revision: u64,
    pub address: String,
    #[serde(default)]
    pub directory_id: String,
    pub standing: String,
    #[serde(default)]
    pub formats: u32,
}

impl Topology {
    /// The document of these records.
    pub fn of(answer: wire::ReadRecordsResponse) -> Self {
        let mut topology = Self {
            format: FORMAT.to_owned(),
            cluster_id: answer.cluster_id,
            revision: answer.revision,
            ..Self::default()
        };
        for record in answer.records {
            if let Some(value) = record.value.and_then(|value| value.value) {
                topology.add(record.revision, value);
            }
        }
        topology
    }

    fn add(&mut self, revision: u64, value: Value) {
        match value {
            Value::Cell(cell) => drop(self.cells.insert(cell.name, Cell { revision })),
            Value::Keyspace(keyspace) => {
                self.keyspaces.entry(keyspace.name).or_default().revision = Some(revision);
            }
            Value::Shard(shard) => {
                let keyspace = self.keyspaces.entry(shard.keyspace).or_default();
                let replica_set = shard.replica_set;
                let shard_of = Shard {
                    revision,
                    replica_set,
                };
                keyspace.shards.insert(shard.range, shard_of);
            }
            Value::VschemaTable(table) => {
                let keyspace = self.keyspaces.entry(table.keyspace).or_default();
                let spec = table.spec_json;
                keyspace
                    .vschema
                    .insert(table.table, VschemaTable { revision, spec });
            }
            Value::ReplicaSet(set) => {
                let name = set.name.clone();
                self.replica_sets
                    .insert(name, ReplicaSet::of(revision, set));
            }
            Value::Tablet(tablet) => {
                let alias = tablet.alias.clone();
                self.tablets.insert(alias, Tablet::of(revision, tablet));
            }
            Value::SchemaChange(change) => {
                let id = change.id;
                self.schema_changes
                    .insert(id, SchemaChange::of(revision, change));
            }
            Value::Coordinator(coordinator) => {
                let id = coordinator.id;
                self.coordinators
                    .insert(id, Coordinator::of(revision, coordinator));
            }
            Value::Drain(drain) => drop(self.drains.insert(drain.tablet, Drain { revision })),
            Value::User(user) => {
                let user_of = User {
                    revision,
                    grants: crate::views::user::grants(user.grants),
                    connections_max: user.connections_max,
                    statements_per_second_max: user.statements_per_second_max,
                };
                self.users.insert(user.name, user_of);
            }
        }
    }
}

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn endpoint(endpoint: &wire::Endpoint) -> String {
    format!("{}:{}", endpoint.host, endpoint.port)
}

impl ReplicaSet {
    fn of(revision: u64, set: wire::ReplicaSet) -> Self {
        use wire::phase::Phase;
        let (mut candidate, mut previous, mut reason) = (None, None, None);
        let phase = match set.phase.and_then(|phase| phase.phase) {
            None => "unknown",
            Some(Phase::Forming(_)) => "forming",
            Some(Phase::Stable(_)) => "stable",
            Some(Phase::Switching(switching)) => {
                candidate = unless_empty(switching.candidate);
                "switching"
            }
            Some(Phase::Revoking(revoking)) => {
                previous = unless_empty(revoking.previous);
                reason = unless_empty(revoking.reason);
                "revoking"
            }
            Some(Phase::Establishing(_)) => "establishing",
        };
        let policy = set.durability.and_then(|durability| durability.policy);
        let (acks, cross_cell) = match policy {
            Some(wire::durability::Policy::SemiSync(it)) => (it.acks, it.cross_cell),
            None => (0, false),
        };
        let history = set.history.into_iter().map(|finished| FinishedEpoch {
            epoch: finished.epoch,
            primary: finished.primary,
            kept: finished.kept,
        });
        Self {
            revision,
            epoch: set.epoch,
            phase: phase.to_owned(),
            primary: unless_empty(set.primary),
            candidate,
            previous,
            reason,
            acks,
            cross_cell,
            raising: set.raising.map(|raising| raising.acks),
            ackers: set.ackers,
            start_gtid: set.start_gtid,
            restart_after: set.restart_after,
            leaving: set.leaving.map(|leaving| leaving.acker),
            locked_out: set.locked_out,
            history: history.collect(),
        }
    }
}

impl Tablet {
    fn of(revision: u64, tablet: wire::Tablet) -> Self {
        let kind = match tablet.kind() {
            wire::TabletKind::Replica => "replica",
            wire::TabletKind::Rdonly => "rdonly",
            wire::TabletKind::Unspecified => "unknown",
        };
        Self {
            revision,
            kind: kind.to_owned(),
            replica_set: tablet.replica_set,
            mysql: tablet.mysql.as_ref().map(endpoint).unwrap_or_default(),
            router: tablet.router.as_ref().map(endpoint),
        }
    }
}

impl SchemaChange {
    fn of(revision: u64, change: wire::SchemaChange) -> Self {
        let status = match change.status() {
            wire::SchemaChangeStatus::Pending => "pending",
            wire::SchemaChangeStatus::Done => "done",
            wire::SchemaChangeStatus::Failed => "failed",
            wire::SchemaChangeStatus::Unspecified => "unknown",
        };
        Self {
            revision,
            keyspace: change.keyspace,
            status: status.to_owned(),
            error: change.error,
            statements: change.statements,
        }
    }
}

impl Coordinator {
    fn of(revision: u64, coordinator: wire::Coordinator) -> Self {
        let standing = match coordinator.standing() {
            wire::Standing::Voter => "voter",
            wire::Standing::Leaving => "leaving",
            wire::Standing::Unspecified => "unknown",
        };
        Self {
            revision,
            address: coordinator.address,
            directory_id: coordinator.directory_id,
            standing: standing.to_owned(),
            formats: coordinator.formats,
        }
    }
}

#[cfg(test)]
mod tests;
