//! Commands, and what each does to a state: applied whole, refused whole, remembered.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Epoch,
    gtid::GtidSet,
    keyrange::KeyRange,
    topology::{
        AuditEvent, Coordinator, Durability, Endpoint, FinishedEpoch, Keyspace, Phase, ReplicaSet,
        SchemaChange, SchemaChangeStatus, Shard, Standing, Tablet, TabletKind,
    },
};

use super::*;
use crate::format;

fn keyspace(name: &str) -> RecordValue {
    RecordValue::Keyspace(Keyspace {
        name: name.parse().unwrap(),
    })
}

fn shard(keyspace: &str, set: &str) -> RecordValue {
    RecordValue::Shard(Shard {
        keyspace: keyspace.parse().unwrap(),
        range: KeyRange::full(),
        replica_set: set.parse().unwrap(),
    })
}

fn replica_set(name: &str, epoch: u64, phase: Phase, primary: Option<&str>) -> ReplicaSet {
    ReplicaSet {
        name: name.parse().unwrap(),
        epoch: Epoch(epoch),
        phase,
        primary: primary.map(|alias| alias.parse().unwrap()),
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
    }
}

fn forming(name: &str) -> RecordValue {
    RecordValue::ReplicaSet(replica_set(name, 0, Phase::Forming, None))
}

fn tablet(alias: &str, set: &str) -> RecordValue {
    RecordValue::Tablet(Tablet {
        alias: alias.parse().unwrap(),
        kind: TabletKind::Replica,
        replica_set: set.parse().unwrap(),
        mysql: Endpoint {
            host: "db".to_owned(),
            port: 3306,
        },
        router: None,
    })
}

fn event(message: &str) -> AuditEvent {
    AuditEvent {
        time_unix_ms: 1,
        kind: "test".to_owned(),
        subject: "cluster".to_owned(),
        message: message.to_owned(),
        evidence: Vec::new(),
    }
}

fn command(id: &str, changes: Vec<Change>) -> Command {
    Command::new(id.to_owned(), changes, vec![event(id)])
}

/// Applies at the next index.
fn next(state: &mut State, command: &Command) -> Result<Revision, Refusal> {
    let index = state.applied + 1;
    apply(state, index, command)
}

/// At revision 1: keyspace shop with one shard on replica set main, and tablet zone1-100.
fn shop() -> State {
    let mut state = State::new("test".to_owned());
    let records = vec![
        forming("main"),
        keyspace("shop"),
        shard("shop", "main"),
        tablet("zone1-100", "main"),
    ];
    let create = |value| Change::put(Revision::ZERO, value);
    let create = command("setup", records.into_iter().map(create).collect());
    assert_eq!(next(&mut state, &create), Ok(Revision(1)));
    state
}

fn key(value: &RecordValue) -> RecordKey {
    value.key()
}

#[test]
fn a_command_is_applied_whole() {
    let state = shop();
    assert_eq!(state.revision_of(&key(&keyspace("shop"))), Revision(1));
    assert_eq!(state.revision_of(&key(&shard("shop", "main"))), Revision(1));
    assert_eq!(state.events.len(), 1);
    assert_eq!(state.events[0].0, 1);
    assert_eq!((state.applied, state.next_event), (1, 2));
}

#[test]
fn what_is_refused_changes_nothing_but_the_index_and_the_memory() {
    let put = |expected, value| Change::put(Revision(expected), value);
    let delete = |expected, value: &RecordValue| Change::delete(Revision(expected), key(value));
    let renamed = Change {
        key: key(&keyspace("a")),
        expected: Revision::ZERO,
        value: Some(keyspace("b")),
    };
    let cases = [
        ("exists", vec![put(0, keyspace("shop"))]),
        ("old revision", vec![put(7, keyspace("shop"))]),
        ("not there", vec![put(1, keyspace("other"))]),
        (
            "second of two",
            vec![put(0, keyspace("b")), put(9, keyspace("shop"))],
        ),
        ("twice", vec![put(0, keyspace("b")), put(0, keyspace("b"))]),
        ("another name", vec![renamed]),
        ("no keyspace", vec![put(0, shard("none", "main"))]),
        (
            "no replica set",
            vec![put(0, keyspace("b")), put(0, shard("b", "none"))],
        ),
        ("keyspace in use", vec![delete(1, &keyspace("shop"))]),
        ("set in use", vec![delete(1, &forming("main"))]),
        (
            "set still has a tablet",
            vec![
                delete(1, &forming("main")),
                delete(1, &shard("shop", "main")),
            ],
        ),
        ("too many", vec![put(0, keyspace("b")); CHANGES_MAX + 1]),
    ];
    for (name, changes) in cases {
        let before = shop();
        let mut state = before.clone();
        let outcome = next(&mut state, &command(name, changes));
        assert!(outcome.is_err(), "{name}");
        assert_eq!(state.applied, 2, "{name}");
        assert_eq!(state.requests.get(name), Some(&outcome), "{name}");
        state.requests = before.requests.clone();
        state.applied = before.applied;
        assert_eq!(state, before, "{name}");
    }
}

#[test]
fn a_conflict_says_what_was_found() {
    let mut state = shop();
    let outcome = next(
        &mut state,
        &command("x", vec![Change::put(Revision(5), keyspace("shop"))]),
    );
    let conflict = Refusal::Conflict {
        key: key(&keyspace("shop")),
        expected: Revision(5),
        found: Revision(1),
    };
    assert_eq!(outcome, Err(conflict));
}

#[test]
fn deleting_together_what_belongs_together_works() {
    let mut state = shop();
    let records = [
        keyspace("shop"),
        shard("shop", "main"),
        tablet("zone1-100", "main"),
        forming("main"),
    ];
    let delete = records.iter().map(|r| Change::delete(Revision(1), r.key()));
    assert_eq!(
        next(&mut state, &command("drop", delete.collect())),
        Ok(Revision(2))
    );
    assert!(state.keyspaces.is_empty() && state.shards.is_empty());
    assert!(state.tablets.is_empty() && state.replica_sets.is_empty());
}

#[test]
fn a_repeated_request_returns_what_it_returned() {
    let mut state = shop();
    let good = command("good", vec![Change::put(Revision::ZERO, keyspace("b"))]);
    let bad = command("bad", vec![Change::put(Revision(9), keyspace("b"))]);
    let first = (next(&mut state, &good), next(&mut state, &bad));
    let events = state.events.clone();
    assert_eq!((next(&mut state, &good), next(&mut state, &bad)), first);
    assert_eq!(state.events, events);
    assert_eq!(state.applied, 5);
}

#[test]
fn request_ids_are_demanded_and_bounded() {
    for id in [String::new(), "x".repeat(REQUEST_ID_LENGTH_MAX + 1)] {
        let mut state = shop();
        assert!(next(&mut state, &command(&id, Vec::new())).is_err());
        assert_eq!(state.requests.len(), 1);
    }
}

#[test]
fn memory_of_requests_and_events_is_bounded() {
    let mut state = State::new("test".to_owned());
    for index in 1..=(EVENTS_MAX as u64 + 10) {
        let outcome = apply(
            &mut state,
            index,
            &command(&format!("r{index}"), Vec::new()),
        );
        assert_eq!(outcome, Ok(Revision(index)));
    }
    assert_eq!(state.requests.len(), requests_max(format::FIRST));
    assert_eq!(state.events.len(), EVENTS_MAX);
    assert_eq!(state.events[0].0, 11);
}

#[test]
#[should_panic(expected = "comes after")]
fn an_index_is_applied_once() {
    let mut state = shop();
    drop(apply(&mut state, 1, &command("again", Vec::new())));
}

#[test]
fn losing_a_shard_or_tablet_shows_in_the_replica_set() {
    for lost in [shard("shop", "main"), tablet("zone1-100", "main")] {
        let mut state = shop();
        let delete = Change::delete(Revision(1), lost.key());
        assert_eq!(
            next(&mut state, &command("drop", vec![delete])),
            Ok(Revision(2))
        );
        assert_eq!(state.revision_of(&key(&forming("main"))), Revision(2));
    }
}

#[test]
fn ids_of_schema_changes_are_never_used_again() {
    let change = |id| {
        RecordValue::SchemaChange(SchemaChange {
            id,
            keyspace: "shop".parse().unwrap(),
            statements: vec!["CREATE TABLE t (i INT)".to_owned()],
            status: SchemaChangeStatus::Pending,
        })
    };
    let mut state = shop();
    let create = |id| Change::put(Revision::ZERO, change(id));
    assert!(next(&mut state, &command("a", vec![create(1)])).is_ok());
    assert_eq!(state.next_schema_change, 2);
    let delete = Change::delete(Revision(2), key(&change(1)));
    assert!(next(&mut state, &command("b", vec![delete])).is_ok());
    assert!(next(&mut state, &command("c", vec![create(1)])).is_err());
    assert!(next(&mut state, &command("d", vec![create(2)])).is_ok());
}

fn coordinator(id: u64, directory_id: &str, standing: Standing) -> Coordinator {
    Coordinator {
        id,
        address: format!("host-{id}:15100"),
        directory_id: directory_id.to_owned(),
        standing,
        formats: 1,
    }
}

#[test]
fn ids_of_coordinators_are_never_used_again() {
    let create = |id| {
        let value = coordinator(id, "", Standing::Voter);
        Change::put(Revision::ZERO, RecordValue::Coordinator(value))
    };
    let mut state = State::new("test".to_owned());
    let all = [1, 2, 3].into_iter().map(create).collect();
    assert!(next(&mut state, &command("a", all)).is_ok());
    assert_eq!(state.next_coordinator, 4);
    let delete = Change::delete(Revision(1), RecordKey::Coordinator(2));
    assert!(next(&mut state, &command("b", vec![delete])).is_ok());
    let refused = next(&mut state, &command("c", vec![create(2)])).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("the next one is 4"), "{refused}");
    assert!(next(&mut state, &command("d", vec![create(4)])).is_ok());
    assert_eq!(state.next_coordinator, 5);
}

#[test]
fn a_coordinator_stays_in_its_directory_and_does_not_come_back() {
    use Standing::{Leaving, Voter};
    let cases = [
        ("joins", true, ("", Voter), ("a", Voter)),
        ("moves", false, ("a", Voter), ("b", Voter)),
        ("forgets", false, ("a", Voter), ("", Voter)),
        ("leaves", true, ("a", Voter), ("a", Leaving)),
        ("comes back", false, ("a", Leaving), ("a", Voter)),
    ];
    for (name, good, old, new) in cases {
        let record =
            |(directory, standing)| RecordValue::Coordinator(coordinator(1, directory, standing));
        let outcome = validate_change(Some(&record(old)), Some(&record(new)));
        assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
    }
    for (id, address) in [(0, "a:1"), (1, "a"), (1, ":1"), (1, "a:0"), (1, "a:x")] {
        let value = Coordinator {
            address: address.to_owned(),
            ..coordinator(id, "", Standing::Voter)
        };
        let outcome = validate_change(None, Some(&RecordValue::Coordinator(value)));
        assert!(outcome.is_err(), "{id} {address}");
    }
}

#[test]
fn phases_follow_the_protocol() {
    let switching = || Phase::Switching {
        candidate: "zone1-101".parse().unwrap(),
        holds: true,
    };
    let revoking = || Phase::Revoking {
        previous: "zone1-100".parse().unwrap(),
        reason: "exited".to_owned(),
    };
    let (one, two) = (Some("zone1-100"), Some("zone1-101"));
    let set = |epoch, phase, primary| replica_set("main", epoch, phase, primary);
    let forming = || set(0, Phase::Forming, None);
    let stable = |epoch, primary| set(epoch, Phase::Stable, primary);
    let establishing = |epoch, primary| set(epoch, Phase::Establishing, primary);
    let cases = [
        ("first primary", true, forming(), establishing(1, one)),
        ("no epoch", false, forming(), establishing(0, one)),
        ("forming opens", false, forming(), stable(1, one)),
        ("opened", true, establishing(1, one), stable(1, one)),
        ("other opened", false, establishing(1, one), stable(1, two)),
        ("later opened", false, establishing(1, one), stable(2, one)),
        (
            "dies early",
            true,
            establishing(1, one),
            set(2, revoking(), None),
        ),
        ("suspected", true, stable(1, one), set(2, revoking(), None)),
        (
            "same epoch",
            false,
            stable(1, one),
            set(1, revoking(), None),
        ),
        (
            "chosen",
            true,
            set(2, revoking(), None),
            establishing(2, two),
        ),
        (
            "again",
            true,
            set(2, revoking(), None),
            set(3, revoking(), None),
        ),
        ("skipped", false, set(2, revoking(), None), stable(2, two)),
        ("intent", true, stable(1, one), set(1, switching(), one)),
        ("taken back", true, set(1, switching(), one), stable(1, one)),
        (
            "switched",
            true,
            set(1, switching(), one),
            establishing(2, two),
        ),
        (
            "hijacked",
            false,
            set(1, switching(), one),
            establishing(1, two),
        ),
        ("back in time", false, stable(2, one), stable(1, one)),
        ("swapped", false, stable(2, one), stable(2, two)),
        ("nobody", false, stable(2, one), stable(2, None)),
        ("reborn", false, stable(2, one), forming()),
    ];
    for (name, good, old, new) in cases {
        let (old, new) = (RecordValue::ReplicaSet(old), RecordValue::ReplicaSet(new));
        let outcome = validate_change(Some(&old), Some(&new));
        assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
    }
}

#[test]
fn history_holds_finished_epochs_in_order() {
    let finished = |epoch| FinishedEpoch {
        epoch: Epoch(epoch),
        primary: "zone1-100".parse().unwrap(),
        kept: GtidSet::new(),
    };
    for (epochs, good) in [
        (vec![1, 2], true),
        (vec![2, 1], false),
        (vec![1, 3], false),
        ((0..70).collect(), false),
    ] {
        let set = ReplicaSet {
            history: epochs.iter().copied().map(finished).collect(),
            ..replica_set("main", 3, Phase::Stable, Some("zone1-100"))
        };
        let outcome = validate_change(None, Some(&RecordValue::ReplicaSet(set)));
        assert_eq!(outcome.is_ok(), good, "{epochs:?}");
    }
}
