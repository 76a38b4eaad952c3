//! What is stored reads back the same; what is not ours is refused by name.

use proptest::{collection::vec, option, prelude::*};
use vt_proto::{
    epoch::{Epoch, Incarnation},
    gtid::GtidSet,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{
        AuditEvent, Cell, Coordinator, Drain, Durability, Endpoint, FinishedEpoch, Keyspace,
        Leaving, Phase, Raising, ReplicaSet, SchemaChange, SchemaChangeStatus, Shard, Standing,
        Tablet, TabletKind, VschemaTable,
    },
    user::{PasswordHashes, Place, Rights, User},
};

use super::*;

fn cell_name() -> impl Strategy<Value = CellName> {
    "[a-z][a-z0-9_]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn keyspace_name() -> impl Strategy<Value = KeyspaceName> {
    "[a-z][a-z0-9_]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn set_name() -> impl Strategy<Value = ReplicaSetName> {
    "[a-z][a-z0-9_-]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn alias() -> impl Strategy<Value = TabletAlias> {
    (cell_name(), 1..u32::MAX).prop_map(|(cell, uid)| TabletAlias::new(cell, uid))
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop::sample::select(vec!["-", "-80", "80-", "40-80"]).prop_map(|range| range.parse().unwrap())
}

fn gtid() -> impl Strategy<Value = GtidSet> {
    (0..1_000u64).prop_map(|to| match to {
        0 => GtidSet::new(),
        to => format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{to}")
            .parse()
            .unwrap(),
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    ("[a-z.]{1,12}", 1..u16::MAX).prop_map(|(host, port)| Endpoint { host, port })
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Forming),
        Just(Phase::Stable),
        (alias(), any::<bool>())
            .prop_map(|(candidate, holds)| Phase::Switching { candidate, holds }),
        (alias(), ".{0,20}").prop_map(|(previous, reason)| Phase::Revoking { previous, reason }),
        Just(Phase::Establishing),
    ]
}

fn finished() -> impl Strategy<Value = FinishedEpoch> {
    (any::<u64>(), alias(), gtid()).prop_map(|(epoch, primary, kept)| FinishedEpoch {
        epoch: Epoch(epoch),
        primary,
        kept,
    })
}

fn replica_set() -> impl Strategy<Value = ReplicaSet> {
    let who = (set_name(), any::<u64>(), phase(), option::of(alias()));
    let what = (1..5u32, vec(alias(), 0..4), gtid(), any::<bool>());
    let raising = option::of((1..9u32, any::<bool>()));
    let leaving = option::of((alias(), any::<bool>()));
    let leaving = (leaving, vec(alias(), 0..3));
    let rest = (
        option::of(any::<u64>()),
        vec(finished(), 0..4),
        leaving,
        raising,
    );
    (who, what, rest).prop_map(|(who, what, rest)| ReplicaSet {
        name: who.0,
        epoch: Epoch(who.1),
        phase: who.2,
        primary: who.3,
        durability: Durability::SemiSync {
            acks: what.0,
            cross_cell: what.3,
        },
        ackers: what.1.into_iter().collect(),
        start_gtid: what.2,
        restart_after: rest.0.map(Incarnation),
        leaving: rest.2.0.map(|(acker, silent)| Leaving { acker, silent }),
        locked_out: rest.2.1.into_iter().collect(),
        raising: rest.3.map(|(acks, ordered)| Raising { acks, ordered }),
        history: rest.1,
    })
}

fn tablet() -> impl Strategy<Value = Tablet> {
    let kind = prop::sample::select(vec![TabletKind::Replica, TabletKind::Rdonly]);
    (
        alias(),
        kind,
        set_name(),
        endpoint(),
        option::of(endpoint()),
    )
        .prop_map(|(alias, kind, replica_set, mysql, router)| Tablet {
            alias,
            kind,
            replica_set,
            mysql,
            router,
        })
}

fn schema_change() -> impl Strategy<Value = SchemaChange> {
    let status = prop_oneof![
        Just(SchemaChangeStatus::Pending),
        Just(SchemaChangeStatus::Done),
        ".{0,20}".prop_map(|error| SchemaChangeStatus::Failed { error }),
    ];
    (any::<u64>(), keyspace_name(), vec(".{0,20}", 0..3), status).prop_map(
        |(id, keyspace, statements, status)| SchemaChange {
            id,
            keyspace,
            statements,
            status,
        },
    )
}

fn coordinator() -> impl Strategy<Value = Coordinator> {
    let standing = prop::sample::select(vec![Standing::Voter, Standing::Leaving]);
    let texts = (".{1,10}", ".{0,10}");
    (any::<u64>(), texts, standing, any::<u32>()).prop_map(|(id, texts, standing, formats)| {
        Coordinator {
            id,
            address: texts.0,
            directory_id: texts.1,
            standing,
            formats,
        }
    })
}

fn value() -> impl Strategy<Value = RecordValue> {
    prop_oneof![
        cell_name().prop_map(|name| RecordValue::Cell(Cell { name })),
        keyspace_name().prop_map(|name| RecordValue::Keyspace(Keyspace { name })),
        (keyspace_name(), range(), set_name()).prop_map(|(keyspace, range, replica_set)| {
            RecordValue::Shard(Shard {
                keyspace,
                range,
                replica_set,
            })
        }),
        replica_set().prop_map(RecordValue::ReplicaSet),
        tablet().prop_map(RecordValue::Tablet),
        (keyspace_name(), ".{1,10}", ".{0,20}").prop_map(|(keyspace, table, spec_json)| {
            RecordValue::VschemaTable(VschemaTable {
                keyspace,
                table,
                spec_json,
            })
        }),
        schema_change().prop_map(RecordValue::SchemaChange),
        coordinator().prop_map(RecordValue::Coordinator),
        tablet().prop_map(|tablet| RecordValue::Drain(Drain {
            alias: tablet.alias
        })),
        user().prop_map(RecordValue::User),
    ]
}

fn user() -> impl Strategy<Value = User> {
    let place = prop_oneof![
        Just(Place::Everywhere),
        keyspace_name().prop_map(Place::Keyspace)
    ];
    let rights = any::<[bool; 3]>().prop_map(|[write, ddl, admin]| Rights {
        read: true,
        write,
        ddl,
        admin,
    });
    let hashes = (any::<[u8; 20]>(), any::<[u8; 32]>());
    let grants = proptest::collection::btree_map(place, rights, 0..4);
    let limit = || proptest::option::of(1_u32..9);
    ("[a-z']{1,8}", hashes, grants, limit(), limit()).prop_map(
        |(name, (native, sha2), grants, connections_max, statements_per_second_max)| User {
            name: name.parse().unwrap(),
            password: PasswordHashes { native, sha2 },
            grants,
            connections_max,
            statements_per_second_max,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    (any::<u64>(), value(), any::<bool>()).prop_map(|(expected, value, deleted)| Change {
        key: value.key(),
        expected: Revision(expected),
        value: (!deleted).then_some(value),
    })
}

fn event() -> impl Strategy<Value = AuditEvent> {
    let evidence = vec((".{0,8}", ".{0,8}"), 0..3);
    (any::<u64>(), ".{0,8}", ".{0,8}", ".{0,20}", evidence).prop_map(
        |(time_unix_ms, kind, subject, message, evidence)| AuditEvent {
            time_unix_ms,
            kind,
            subject,
            message,
            evidence,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        ".{1,20}".prop_map(|reason| Refusal::Invalid { reason }),
        ".{1,20}".prop_map(|reason| Refusal::Missing { reason }),
        ".{1,20}".prop_map(|reason| Refusal::Exists { reason }),
        (value(), any::<u64>(), any::<u64>()).prop_map(|(value, expected, found)| {
            Refusal::Conflict {
                key: value.key(),
                expected: Revision(expected),
                found: Revision(found),
            }
        }),
    ]
}

fn outcome() -> impl Strategy<Value = Result<Revision, Refusal>> {
    prop_oneof![
        any::<u64>().prop_map(|revision| Ok(Revision(revision))),
        refusal().prop_map(Err),
    ]
}

fn state() -> impl Strategy<Value = State> {
    let records = vec((any::<u64>(), value()), 0..20);
    let events = vec((any::<u64>(), event()), 0..4);
    let requests = vec((".{0,8}", outcome()), 0..4);
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    (numbers, records, events, requests).prop_map(|(numbers, records, events, requests)| {
        let mut state = State::new("test".to_owned());
        for (revision, value) in records {
            state.put(Revision(revision), value);
        }
        (state.applied, state.next_event) = (numbers.0, numbers.1);
        // An id that was handed out is below the next one.
        state.next_schema_change = state.next_schema_change.max(numbers.2);
        if !state.coordinators.is_empty() {
            state.format = format::NEWEST;
        }
        for (sequence, event) in events {
            state.events.push(sequence, event);
        }
        for (id, outcome) in requests {
            state.requests.push(id, outcome, usize::MAX);
        }
        state
    })
}

proptest! {
    #[test]
    fn commands_round_trip(id in ".{0,20}", changes in vec(change(), 0..6), events in vec(event(), 0..3)) {
        let command = Command::new(id, changes, events);
        prop_assert_eq!(decode_command(&encode_command(&command)), Ok(command));
    }

    #[test]
    fn refusals_round_trip(id in ".{0,20}", refusal in refusal()) {
        let command = Command::refusal(id, refusal);
        prop_assert_eq!(decode_command(&encode_command(&command)), Ok(command));
    }

    #[test]
    fn states_round_trip_with_their_hash(state in state()) {
        let bytes = encode_state(&state);
        let again = decode_state(&bytes).unwrap();
        prop_assert_eq!(&again, &state);
        prop_assert_eq!(again.hash(), state.hash());
        prop_assert_eq!(encode_state(&again), bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read_but_never_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(decode_command(&bytes));
        drop(decode_state(&bytes));
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    for version in [0, format::NEWEST + 1] {
        let message = wire::Command {
            version,
            ..wire::Command::default()
        };
        let error = decode_command(&message.encode_to_vec()).unwrap_err();
        let newer = matches!(error, CodecError::Newer { found, .. } if found == version);
        assert_eq!(newer, version > format::NEWEST, "{error}");
    }
    let message = wire::StoredState {
        version: format::NEWEST + 1,
        ..wire::StoredState::default()
    };
    let error = decode_state(&message.encode_to_vec()).unwrap_err();
    assert!(
        error.to_string().contains("install the newer version"),
        "{error}"
    );
}

#[test]
fn another_state_has_another_hash() {
    let state = State::new("test".to_owned());
    let mut other = state.clone();
    other.applied = 1;
    assert_ne!(state.hash(), other.hash());
}
