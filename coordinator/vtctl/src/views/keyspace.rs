//! A keyspace and where its shards live; its vschema.

use std::collections::BTreeMap;

use serde::Serialize;
use vt_proto::wire;

use crate::output::table;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keyspace {
    pub name: String,
    pub revision: u64,
    pub shards: Vec<Shard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    pub range: String,
    pub replica_set: String,
}

impl From<wire::KeyspaceView> for Keyspace {
    fn from(view: wire::KeyspaceView) -> Self {
        let shard = |it: wire::Shard| Shard {
            range: it.range,
            replica_set: it.replica_set,
        };
        Self {
            name: view.keyspace.unwrap_or_default().name,
            revision: view.revision,
            shards: view.shards.into_iter().map(shard).collect(),
        }
    }
}

/// One line for each shard.
pub fn summary(keyspaces: &[Keyspace]) -> String {
    let row = |keyspace: &Keyspace, shard: &Shard| {
        [
            keyspace.name.clone(),
            shard.range.clone(),
            shard.replica_set.clone(),
            keyspace.revision.to_string(),
        ]
    };
    let rows = keyspaces.iter().flat_map(|keyspace| {
        keyspace
            .shards
            .iter()
            .map(move |shard| row(keyspace, shard))
    });
    table(["KEYSPACE", "SHARD", "REPLICA SET", "REVISION"], rows)
}

/// The vschema of a keyspace: what `vschema apply` reads, so that it can be shown, changed and applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vschema {
    pub tables: BTreeMap<String, serde_json::Value>,
}

impl From<wire::Vschema> for Vschema {
    fn from(vschema: wire::Vschema) -> Self {
        let table = |view: wire::VschemaTableView| {
            let table = view.table.unwrap_or_default();
            // What the coordinators keep was JSON when it was given; if it is not, it is still shown.
            let spec = serde_json::from_str(&table.spec_json).unwrap_or(table.spec_json.into());
            (table.table, spec)
        };
        Self {
            tables: vschema.tables.into_iter().map(table).collect(),
        }
    }
}

impl Vschema {
    /// One line for each table.
    pub fn text(&self) -> String {
        table(
            ["TABLE", "SPECIFICATION"],
            self.tables
                .iter()
                .map(|(name, spec)| [name.clone(), spec.to_string()]),
        )
    }
}
