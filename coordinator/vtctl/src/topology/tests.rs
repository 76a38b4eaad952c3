//! The document: every kind of record goes in and comes back, and each broken rule is told with its path.

use vt_proto::wire::{Record, RecordValue};

use super::{check::check, *};

/// A cluster in which everything is right.
const GOOD: &str = r#"
format: vitrail-topology-1
cluster_id: demo-1
revision: 12
cells:
  zone1: {revision: 1}
keyspaces:
  shop:
    revision: 2
    shards:
      "-80": {revision: 3, replica_set: main}
      "80-": {revision: 3, replica_set: main}
    vschema:
      orders: {revision: 4, spec: "{}"}
replica_sets:
  main:
    revision: 5
    epoch: 3
    phase: stable
    primary: zone1-100
    acks: 1
    ackers: [zone1-101]
    start_gtid: 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5
    history:
      - {epoch: 2, primary: zone1-101, kept: ""}
tablets:
  zone1-100: {revision: 6, kind: replica, replica_set: main, mysql: "db1:3306", router: "db1:3307"}
  zone1-101: {revision: 7, kind: replica, replica_set: main, mysql: "db2:3306"}
schema_changes:
  7: {revision: 8, keyspace: shop, status: done, statements: [CREATE TABLE t (i INT)]}
coordinators:
  1: {revision: 1, address: "c1:15100", directory_id: d1, standing: voter, formats: 2}
"#;

fn parse(text: &str) -> Topology {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn a_good_topology_has_no_mistakes_and_survives_a_round_trip() {
    let topology = parse(GOOD);
    assert_eq!(check(&topology), []);
    let text = serde_saphyr::to_string(&topology).unwrap();
    assert_eq!(parse(&text), topology, "{text}");
    assert_eq!(
        serde_saphyr::to_string(&parse(&text)).unwrap(),
        text,
        "diffable"
    );
}

/// What is right, what is written instead, and where that is wrong.
const BROKEN: &[(&str, &str, &str)] = &[
    ("vitrail-topology-1", "other", "format"),
    (
        "  zone1: {revision: 1}",
        "  Zone: {revision: 1}",
        "cells.Zone",
    ),
    (
        "zone1: {revision: 1}",
        "zone2: {revision: 1}",
        "tablets.zone1-100",
    ),
    (r#""-80": {"#, r#""-40": {"#, "keyspaces.shop.shards"),
    (r#""-80": {"#, r#""-8": {"#, "keyspaces.shop.shards.-8"),
    (
        r#""-80": {revision: 3, replica_set: main}"#,
        r#""-80": {revision: 3, replica_set: rs}"#,
        "keyspaces.shop.shards.-80.replica_set",
    ),
    (
        r#"spec: "{}""#,
        r#"spec: "{""#,
        "keyspaces.shop.vschema.orders.spec",
    ),
    ("phase: stable", "phase: other", "replica_sets.main.phase"),
    (
        "phase: stable",
        "phase: forming",
        "replica_sets.main.primary",
    ),
    (
        "phase: stable",
        "phase: switching",
        "replica_sets.main.candidate",
    ),
    ("    primary: zone1-100\n", "", "replica_sets.main.primary"),
    (
        "primary: zone1-100",
        "primary: zone1-999",
        "replica_sets.main.primary",
    ),
    ("acks: 1", "acks: 0", "replica_sets.main.acks"),
    (
        "ackers: [zone1-101]",
        "ackers: [zone1-100]",
        "replica_sets.main.ackers[0]",
    ),
    ("562:1-5", "x", "replica_sets.main.start_gtid"),
    (
        "{epoch: 2,",
        "{epoch: 3,",
        "replica_sets.main.history[0].epoch",
    ),
    (
        "revision: 7, kind: replica, replica_set: main",
        "revision: 7, kind: replica, replica_set: no",
        "replica_sets.main.ackers[0]",
    ),
    (
        "revision: 7, kind: replica",
        "revision: 7, kind: rdonly",
        "replica_sets.main.ackers[0]",
    ),
    ("db2:3306", "db1:3306", "tablets.zone1-101.mysql"),
    ("db2:3306", "db2", "tablets.zone1-101.mysql"),
    (
        "keyspace: shop, status: done",
        "keyspace: x, status: pending",
        "schema_changes.7.keyspace",
    ),
    ("status: done", "status: ready", "schema_changes.7.status"),
    ("c1:15100", "c1", "coordinators.1.address"),
    ("standing: voter", "standing: leaving", "coordinators"),
];

#[test]
fn every_broken_rule_is_told_with_its_path() {
    for (good, bad, path) in BROKEN {
        assert!(GOOD.contains(good), "{good}");
        let mistakes = check(&parse(&GOOD.replacen(good, bad, 1)));
        assert!(
            mistakes.iter().any(|it| it.path == *path),
            "{bad}: {mistakes:?}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_a_wrong_shape_by_its_line() {
    let bad = GOOD
        .replace("acks: 1", "acks: 0")
        .replace("standing: voter", "standing: x")
        .replace("\"80-\"", "\"90-\"");
    let paths: Vec<String> = check(&parse(&bad)).into_iter().map(|it| it.path).collect();
    let expected = [
        "coordinators",
        "coordinators.1.standing",
        "keyspaces.shop.shards",
        "replica_sets.main.acks",
    ];
    assert_eq!(paths, expected);
    let unknown = GOOD.replace("    acks: 1", "    ack: 1");
    let error = serde_saphyr::from_str::<Topology>(&unknown).unwrap_err();
    let line = 1 + unknown
        .lines()
        .position(|line| line.contains("ack: 1"))
        .unwrap();
    assert_eq!(error.location().map(|it| it.line()), Some(line as u64));
}

#[test]
fn every_kind_of_record_is_in_the_document() {
    let record = |revision, value| Record {
        key: None,
        revision,
        value: Some(RecordValue { value: Some(value) }),
    };
    let text = |text: &str| text.to_owned();
    let (host, port) = (text("db1"), 3306);
    let endpoint = wire::Endpoint { host, port };
    let switching = wire::phase::Phase::Switching(wire::Switching {
        candidate: text("zone1-101"),
        ..Default::default()
    });
    let values = [
        Value::Cell(wire::Cell {
            name: text("zone1"),
        }),
        Value::Keyspace(wire::Keyspace { name: text("shop") }),
        Value::Shard(wire::Shard {
            keyspace: text("shop"),
            range: text("-"),
            replica_set: text("main"),
        }),
        Value::ReplicaSet(wire::ReplicaSet {
            name: text("main"),
            phase: Some(wire::Phase {
                phase: Some(switching),
            }),
            primary: text("zone1-100"),
            ..wire::ReplicaSet::default()
        }),
        Value::Tablet(wire::Tablet {
            alias: text("zone1-100"),
            kind: wire::TabletKind::Rdonly.into(),
            replica_set: text("main"),
            mysql: Some(endpoint),
            router: None,
        }),
        Value::VschemaTable(wire::VschemaTable {
            keyspace: text("shop"),
            table: text("orders"),
            spec_json: text("{}"),
        }),
        Value::SchemaChange(wire::SchemaChange {
            id: 7,
            status: wire::SchemaChangeStatus::Pending.into(),
            ..wire::SchemaChange::default()
        }),
        Value::Coordinator(wire::Coordinator {
            id: 3,
            standing: wire::Standing::Leaving.into(),
            ..wire::Coordinator::default()
        }),
    ];
    let topology = Topology::of(wire::ReadRecordsResponse {
        revision: 9,
        records: (1..)
            .zip(values)
            .map(|(revision, value)| record(revision, value))
            .collect(),
        cluster_id: text("demo-1"),
    });
    let shop = &topology.keyspaces["shop"];
    assert_eq!((shop.revision, shop.shards["-"].revision), (Some(2), 3));
    assert_eq!(shop.vschema["orders"].revision, 6);
    let set = &topology.replica_sets["main"];
    assert_eq!(set.candidate.as_deref(), Some("zone1-101"));
    assert_eq!(topology.tablets["zone1-100"].mysql, "db1:3306");
    assert_eq!(topology.schema_changes[&7].status, "pending");
    assert_eq!(topology.coordinators[&3].standing, "leaving");
}
