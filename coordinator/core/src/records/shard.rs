//! A range of keyspace ids and the replica set that holds it. It needs both and neither goes before it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::KeyspaceName,
    keyrange::KeyRange,
    topology::Shard,
    wire,
};

use super::{Record, RecordKey};

impl Record for Shard {
    type Key = (KeyspaceName, KeyRange);
    type Wire = wire::Shard;
    type WireKey = wire::ShardKey;
    const NOUN: &'static str = "shard";

    fn key_to_wire((keyspace, range): Self::Key) -> wire::ShardKey {
        wire::ShardKey {
            keyspace: keyspace.to_string(),
            range: range.to_string(),
        }
    }

    fn key_from_wire(key: wire::ShardKey) -> Result<Self::Key, ConvertError> {
        Ok((
            parse("key.shard.keyspace", &key.keyspace)?,
            parse("key.shard.range", &key.range)?,
        ))
    }

    fn needs(&self, _created: bool, _format: u32) -> Vec<RecordKey> {
        vec![
            RecordKey::Keyspace(self.keyspace.clone()),
            RecordKey::ReplicaSet(self.replica_set.clone()),
        ]
    }

    fn holds(&self, format: u32) -> Vec<RecordKey> {
        self.needs(false, format)
    }
}
