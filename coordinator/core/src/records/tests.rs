//! The list of kinds: words and keys as people read them.

use super::*;

#[test]
fn keys_are_shown_by_kind_and_name() {
    let keyspace = || "shop".parse().unwrap();
    let cases = [
        (RecordKey::Cell("zone1".parse().unwrap()), "cell/zone1"),
        (RecordKey::Keyspace(keyspace()), "keyspace/shop"),
        (
            RecordKey::Shard(keyspace(), "-80".parse().unwrap()),
            "shard/shop/-80",
        ),
        (
            RecordKey::ReplicaSet("rs-1".parse().unwrap()),
            "replica-set/rs-1",
        ),
        (
            RecordKey::Tablet("zone1-100".parse().unwrap()),
            "tablet/zone1-100",
        ),
        (
            RecordKey::VschemaTable(keyspace(), "orders".to_owned()),
            "vschema/shop/orders",
        ),
        (RecordKey::SchemaChange(7), "schema-change/7"),
        (RecordKey::Coordinator(3), "coordinator/3"),
        (
            RecordKey::Drain("zone1-100".parse().unwrap()),
            "drain/zone1-100",
        ),
        (RecordKey::User("o'hara".parse().unwrap()), "user/o'hara"),
    ];
    assert_eq!(cases.len(), RecordKind::ALL.len(), "every kind");
    for ((key, shown), kind) in cases.into_iter().zip(RecordKind::ALL) {
        assert_eq!(key.to_string(), shown);
        assert_eq!(key.kind(), *kind);
        assert_eq!(kind.word().parse(), Ok(*kind));
        assert_eq!(RecordKey::from_wire(Some(key.to_wire())), Ok(key));
    }
    let error = "table".parse::<RecordKind>().unwrap_err().to_string();
    assert!(error.contains("replica-set, tablet, vschema"), "{error}");
}
