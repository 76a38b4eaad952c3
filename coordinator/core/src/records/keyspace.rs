//! A logical database. It names nothing; shards and the vschema name it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::KeyspaceName,
    topology::Keyspace,
    wire,
};

use super::Record;

impl Record for Keyspace {
    type Key = KeyspaceName;
    type Wire = wire::Keyspace;
    type WireKey = String;
    const NOUN: &'static str = "keyspace";
    const IS_HELD: bool = true;

    fn key_to_wire(name: KeyspaceName) -> String {
        name.to_string()
    }

    fn key_from_wire(name: String) -> Result<KeyspaceName, ConvertError> {
        parse("key.keyspace", &name)
    }
}
