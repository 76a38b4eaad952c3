//! Batches of records: what operators may write, and what is said of the rest.

use vt_proto::{
    gtid::GtidSet,
    topology::{
        Cell, Coordinator, Durability, Endpoint, Keyspace, Phase, ReplicaSet, SchemaChange,
        SchemaChangeStatus, Shard, Standing, Tablet, TabletKind,
    },
};

use super::*;
use crate::apply;

const NOW: Now = Now {
    monotonic_ms: 1,
    unix_ms: 2,
};

fn cell(name: &str) -> RecordValue {
    let name = name.parse().unwrap();
    RecordValue::Cell(Cell { name })
}

fn keyspace(name: &str) -> RecordValue {
    let name = name.parse().unwrap();
    RecordValue::Keyspace(Keyspace { name })
}

fn shard(keyspace: &str, range: &str, set: &str) -> RecordValue {
    RecordValue::Shard(Shard {
        keyspace: keyspace.parse().unwrap(),
        range: range.parse().unwrap(),
        replica_set: set.parse().unwrap(),
    })
}

fn table(keyspace: &str, table: &str, spec: &str) -> RecordValue {
    RecordValue::VschemaTable(VschemaTable {
        keyspace: keyspace.parse().unwrap(),
        table: table.to_owned(),
        spec_json: spec.to_owned(),
    })
}

fn replica_set(name: &str) -> RecordValue {
    RecordValue::ReplicaSet(ReplicaSet {
        name: name.parse().unwrap(),
        epoch: vt_proto::epoch::Epoch(0),
        phase: Phase::Forming,
        primary: None,
        durability: Durability::SemiSync {
            acks: 1,
            cross_cell: false,
        },
        ackers: BTreeSet::new(),
        start_gtid: GtidSet::new(),
        restart_after: None,
        leaving: None,
        raising: None,
        locked_out: Default::default(),
        history: Vec::new(),
    })
}

fn tablet() -> RecordValue {
    RecordValue::Tablet(Tablet {
        alias: "zone1-100".parse().unwrap(),
        kind: TabletKind::Replica,
        replica_set: "main".parse().unwrap(),
        mysql: Endpoint {
            host: "db".to_owned(),
            port: 3306,
        },
        router: None,
    })
}

fn schema_change() -> RecordValue {
    RecordValue::SchemaChange(SchemaChange {
        id: 1,
        keyspace: "shop".parse().unwrap(),
        statements: Vec::new(),
        status: SchemaChangeStatus::Pending,
    })
}

fn coordinator() -> RecordValue {
    RecordValue::Coordinator(Coordinator {
        id: 1,
        address: "a:1".to_owned(),
        directory_id: String::new(),
        standing: Standing::Voter,
        formats: 1,
    })
}

fn create(value: RecordValue) -> Change {
    Change::put(Revision::ZERO, value)
}

/// At revision 1: a keyspace with two shards on one replica set, another set, and a tablet in cell zone1.
fn shop() -> State {
    let mut state = State::new("test".to_owned());
    state.format = crate::format::NEWEST;
    let records = [
        cell("zone1"),
        replica_set("main"),
        replica_set("other"),
        keyspace("shop"),
        shard("shop", "-80", "main"),
        shard("shop", "80-", "main"),
        tablet(),
    ];
    let changes = records.into_iter().map(create).collect();
    let command = Command::new("setup".to_owned(), changes, Vec::new());
    assert!(apply::apply(&mut state, 1, &command).is_ok());
    state
}

#[test]
fn operators_write_cells_keyspaces_with_their_shards_and_vschema_tables() {
    let delete = |value: RecordValue| Change::delete(Revision(1), value.key());
    let batches = [
        vec![create(cell("zone2"))],
        vec![create(keyspace("a")), create(shard("a", "-", "main"))],
        vec![
            create(keyspace("a")),
            create(shard("a", "80-", "other")),
            create(shard("a", "-80", "main")),
        ],
        vec![create(table("shop", "t", "{}"))],
        vec![Change::put(Revision(1), shard("shop", "-80", "main"))],
        vec![
            delete(keyspace("shop")),
            delete(shard("shop", "-80", "main")),
            delete(shard("shop", "80-", "main")),
        ],
    ];
    for changes in batches {
        let mut state = shop();
        let command = write_records(&state, &changes, "r", NOW);
        let command = command.unwrap_or_else(|refusal| panic!("{changes:?}: {refusal}"));
        assert_eq!(apply::apply(&mut state, 2, &command), Ok(Revision(2)));
    }
}

/// Why it is not written: said at once, or when it is applied.
fn refusal(state: &State, changes: &[Change]) -> Refusal {
    let written = write_records(state, changes, "r", NOW)
        .and_then(|command| apply::apply(&mut state.clone(), 2, &command));
    written.unwrap_err()
}

#[test]
fn what_may_not_be_written_is_refused_with_the_way() {
    let delete = |value: RecordValue| Change::delete(Revision(1), value.key());
    let long = "x".repeat(PROPOSAL_BYTES_MAX);
    let cases = [
        (vec![], "1 to 1024 changes"),
        (vec![create(cell("a")); CHANGES_MAX + 1], "split it"),
        (
            vec![create(replica_set("new"))],
            "vtctl replica-set switchover",
        ),
        (vec![create(tablet())], "configuration of its agent"),
        (vec![create(schema_change())], "vtctl schema apply"),
        (vec![create(coordinator())], "vtctl coordinator add"),
        (vec![delete(cell("zone1"))], "still has tablet/zone1-100"),
        (vec![create(keyspace("a"))], "there is no shard"),
        (
            vec![create(keyspace("a")), create(shard("a", "-80", "main"))],
            "from 80",
        ),
        (
            vec![create(shard("shop", "-40", "main"))],
            "rows would not follow",
        ),
        (
            vec![Change::put(Revision(1), shard("shop", "-80", "other"))],
            "rows would not follow",
        ),
        (
            vec![delete(shard("shop", "-80", "main"))],
            "rows would not follow",
        ),
        (vec![delete(keyspace("shop"))], "still has shard/shop/-80"),
        (
            vec![create(keyspace("shop")), create(shard("shop", "-", "main"))],
            "is at revision 1",
        ),
        (
            vec![create(keyspace("a")), create(shard("a", "-", "none"))],
            "replica set none",
        ),
        (vec![create(table("none", "t", "{}"))], "keyspace none"),
        (
            vec![create(table("shop", &"x".repeat(65), "{}"))],
            "more than 64",
        ),
        (vec![create(table("shop", "t", &long))], "split it"),
    ];
    let state = shop();
    for (changes, expected) in cases {
        let refusal = refusal(&state, &changes).to_string();
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn a_conflict_names_the_record() {
    let state = shop();
    let changes = [
        create(cell("zone2")),
        Change::put(Revision(9), keyspace("shop")),
    ];
    let refusal = refusal(&state, &changes);
    let key = keyspace("shop").key();
    assert!(matches!(refusal, Refusal::Conflict { key: found, .. } if found == key));
}

#[test]
fn everything_but_vschema_tables_is_audited() {
    let state = shop();
    let changes = [create(cell("zone2")), create(table("shop", "t", "{}"))];
    let command = write_records(&state, &changes, "r", NOW).unwrap();
    let kinds: Vec<&str> = command
        .events
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["cell.created"]);
}
