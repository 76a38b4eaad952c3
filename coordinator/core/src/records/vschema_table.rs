//! The vschema of one table. It needs its keyspace, which does not go before it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::KeyspaceName,
    topology::VschemaTable,
    wire,
};

use super::{Record, RecordKey};

impl Record for VschemaTable {
    type Key = (KeyspaceName, String);
    type Wire = wire::VschemaTable;
    type WireKey = wire::TableKey;
    const NOUN: &'static str = "vschema table";

    fn key_to_wire((keyspace, table): Self::Key) -> wire::TableKey {
        wire::TableKey {
            keyspace: keyspace.to_string(),
            table,
        }
    }

    fn key_from_wire(key: wire::TableKey) -> Result<Self::Key, ConvertError> {
        let keyspace = parse("key.vschema_table.keyspace", &key.keyspace)?;
        Ok((keyspace, key.table))
    }

    fn needs(&self, _created: bool, _format: u32) -> Vec<RecordKey> {
        vec![RecordKey::Keyspace(self.keyspace.clone())]
    }

    fn holds(&self, format: u32) -> Vec<RecordKey> {
        self.needs(false, format)
    }
}
