//! DDL for a keyspace. It needs its keyspace when it is asked for, and does not hold it.

use vt_proto::{convert::ConvertError, topology::SchemaChange, wire};

use super::{Record, RecordKey};

impl Record for SchemaChange {
    type Key = u64;
    type Wire = wire::SchemaChange;
    type WireKey = u64;
    const NOUN: &'static str = "schema change";
    const WRITTEN_BY: Option<&'static str> = Some("`vtctl schema apply`");

    fn key_to_wire(id: u64) -> u64 {
        id
    }

    fn key_from_wire(id: u64) -> Result<u64, ConvertError> {
        Ok(id)
    }

    fn needs(&self, created: bool, _format: u32) -> Vec<RecordKey> {
        let keyspace = created.then(|| RecordKey::Keyspace(self.keyspace.clone()));
        keyspace.into_iter().collect()
    }
}
