//! One mysqld under one agent. Its replica set does not go before it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::TabletAlias,
    topology::Tablet,
    wire,
};

use super::{Record, RecordKey};

impl Record for Tablet {
    type Key = TabletAlias;
    type Wire = wire::Tablet;
    type WireKey = String;
    const NOUN: &'static str = "tablet";
    const WRITTEN_BY: Option<&'static str> = Some("the configuration of its agent");

    fn key_to_wire(alias: TabletAlias) -> String {
        alias.to_string()
    }

    fn key_from_wire(alias: String) -> Result<TabletAlias, ConvertError> {
        parse("key.tablet", &alias)
    }

    fn holds(&self) -> Vec<RecordKey> {
        vec![RecordKey::ReplicaSet(self.replica_set.clone())]
    }
}
