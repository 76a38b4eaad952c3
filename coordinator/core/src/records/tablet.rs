//! One mysqld under one agent. Its cell and its replica set do not go before it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::TabletAlias,
    topology::Tablet,
    wire,
};

use super::{Record, RecordKey};
use crate::format;

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

    fn needs(&self, _created: bool, format: u32) -> Vec<RecordKey> {
        let cell = (format >= format::COORDINATORS).then(|| self.alias.cell().clone());
        cell.map(RecordKey::Cell).into_iter().collect()
    }

    fn holds(&self, format: u32) -> Vec<RecordKey> {
        let mut holds = self.needs(false, format);
        holds.push(RecordKey::ReplicaSet(self.replica_set.clone()));
        holds
    }
}
