//! One version of skew, both ways: what members of older formats wrote is read, and what is written in a group that has one of them
//! is what they would have written. The bytes under `first_format/` and `second_format/` were written by such members.

use vt_proto::{
    epoch::{Epoch, Revision},
    ids::TabletAlias,
    topology::{
        AuditEvent, Cell, Coordinator, Endpoint, Leaving, Phase, ReplicaSet, Standing, Tablet,
        TabletKind,
    },
};

use crate::{
    apply::apply,
    codec::{
        CodecError, command_from, decode_command, decode_state, encode_command, encode_state,
        state_from,
    },
    command::{Change, Command, RecordKey, RecordValue},
    failover::membership::forming_set,
    format,
    intent::refused,
    refusal::Refusal,
    state::State,
};

/// What a member of an older format wrote, and what it said of its state.
struct Written {
    format: u32,
    command: &'static str,
    state: &'static str,
    hash: u64,
}

const FIRST: Written = Written {
    format: format::FIRST,
    command: include_str!("first_format/command.hex"),
    state: include_str!("first_format/state.hex"),
    hash: 455195590537104616,
};
const SECOND: Written = Written {
    format: format::COORDINATORS,
    command: include_str!("second_format/command.hex"),
    state: include_str!("second_format/state.hex"),
    hash: 12391226754799670804,
};

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.split_whitespace().flat_map(str::chars).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn put(value: RecordValue) -> Change {
    Change::put(Revision::ZERO, value)
}

fn member(id: u64, formats: u32) -> RecordValue {
    RecordValue::Coordinator(Coordinator {
        id,
        address: format!("host-{id}:15100"),
        directory_id: format!("d{id}"),
        standing: Standing::Voter,
        formats,
    })
}

fn command(id: &str, changes: Vec<Change>) -> Command {
    Command::new(id.to_owned(), changes, Vec::new())
}

fn cell(name: &str) -> RecordValue {
    let name = name.parse().unwrap();
    RecordValue::Cell(Cell { name })
}

#[test]
fn what_older_formats_wrote_is_read_and_written_again_bit_by_bit() {
    let of_each_kind = 8;
    // Changes of the command; next coordinator, records, events and requests of the state.
    let cases = [
        (FIRST, of_each_kind, (1, [7, 1, 3])),
        (SECOND, 3, (4, [11, 2, 7])),
    ];
    for (older, changes, numbers) in cases {
        let bytes = unhex(older.command);
        let read = decode_command(&bytes).unwrap();
        assert_eq!(read.changes.len(), changes);
        assert_eq!(encode_command(&read), bytes);

        let bytes = unhex(older.state);
        let state = decode_state(&bytes).unwrap();
        assert_eq!(state.format, older.format);
        let counts = [
            state.records().count(),
            state.events.len(),
            state.requests.len(),
        ];
        assert_eq!((state.next_coordinator, counts), numbers);
        assert_eq!(encode_state(&state), bytes);
        assert_eq!(state.hash(), older.hash);
    }
}

/// A new member leads, an old one follows: the same bytes go to both until the old one is gone.
#[test]
fn a_mixed_group_holds_one_state_until_the_last_member_is_upgraded() {
    for older in [FIRST, SECOND] {
        let mut new = decode_state(&unhex(older.state)).unwrap();
        let mut old = new.clone();
        let mut index = new.applied;
        for number in 0..20 {
            index += 1;
            let name = format!("cell{}", number / 2);
            // The second of the same name is refused when it is applied, and a refusal from the state is not written.
            let id = format!("{number}");
            assert_eq!(refused(&new, &id, &Refusal::invalid("no")), None);
            let bytes = encode_command(&command(&id, vec![put(cell(&name))]));
            let at_old = command_from(&bytes, older.format).unwrap();
            let at_new = decode_command(&bytes).unwrap();
            assert_eq!(
                apply(&mut old, index, &at_old),
                apply(&mut new, index, &at_new)
            );
            let written = encode_state(&new);
            assert_eq!(written, encode_state(&old));
            assert_eq!(state_from(&written, older.format).as_ref(), Ok(&old));
        }
        assert_eq!(new.format, older.format);
    }
}

/// What was refused from the state stands in the log, in snapshots and for every later attempt, once all understand that.
#[test]
fn a_refusal_is_written_when_the_last_member_is_upgraded() {
    const ID: &str = "refused";
    let mut state = decode_state(&unhex(SECOND.state)).unwrap();
    let missing = Refusal::Missing {
        reason: "there is no cell late".to_owned(),
    };
    let mut index = state.applied;
    for id in 1..=3 {
        assert_eq!(refused(&state, ID, &missing), None, "{id} is old");
        index += 1;
        let key = RecordKey::Coordinator(id);
        let upgraded = Change::put(state.revision_of(&key), member(id, format::REFUSALS));
        let upgrade = command(&format!("upgrade-{id}"), vec![upgraded]);
        assert_eq!(apply(&mut state, index, &upgrade), Ok(Revision(index)));
    }
    assert_eq!(state.format, format::REFUSALS);
    let bytes = encode_command(&refused(&state, ID, &missing).unwrap());
    let error = command_from(&bytes, format::COORDINATORS).unwrap_err();
    let newer = |error: &CodecError| {
        matches!(
            error,
            CodecError::Newer {
                found: 3,
                understood: 2,
                ..
            }
        )
    };
    assert!(newer(&error), "{error}");
    let told = apply(&mut state, index + 1, &decode_command(&bytes).unwrap());
    assert_eq!(told, Err(missing.clone()));
    let bytes = encode_state(&state);
    let error = state_from(&bytes, format::COORDINATORS).unwrap_err();
    assert!(newer(&error), "{error}");
    let mut restarted = decode_state(&bytes).unwrap();
    assert_eq!(restarted, state);
    let late = command(ID, vec![put(cell("late"))]);
    assert_eq!(apply(&mut restarted, index + 2, &late), Err(missing));
    assert_eq!(restarted.revision_of(&cell("late").key()), Revision::ZERO);
}

#[test]
fn an_old_member_refuses_what_it_cannot_understand() {
    let joins = command("join", vec![put(member(1, format::COORDINATORS))]);
    let error = command_from(&encode_command(&joins), format::FIRST).unwrap_err();
    assert!(
        matches!(
            error,
            CodecError::Newer {
                found: 2,
                understood: 1,
                ..
            }
        ),
        "{error}"
    );
    let mut state = State::new("test".to_owned());
    assert!(apply(&mut state, 1, &joins).is_ok());
    let error = state_from(&encode_state(&state), format::FIRST).unwrap_err();
    assert!(
        error.to_string().contains("install the newer version"),
        "{error}"
    );
}

#[test]
fn the_format_grows_with_the_slowest_member_and_never_shrinks() {
    let mut state = State::new("test".to_owned());
    let all = [(1, 2), (2, 2), (3, 1)];
    let all = all.map(|(id, formats)| put(member(id, formats)));
    assert_eq!(
        apply(&mut state, 1, &command("a", all.into())),
        Ok(Revision(1))
    );
    assert_eq!(state.format, 1, "one is old");
    let mut step = |index, change| {
        let outcome = apply(
            &mut state,
            index,
            &command(&index.to_string(), vec![change]),
        );
        assert_eq!(outcome, Ok(Revision(index)));
        let bytes = encode_state(&state);
        assert_eq!(decode_state(&bytes).as_ref(), Ok(&state));
        state.format
    };
    let upgraded = Change::put(Revision(1), member(3, 2));
    assert_eq!(step(2, upgraded), 2);
    let older = Change::put(Revision(2), member(3, 1));
    assert_eq!(step(3, older), 2, "never shrinks");
    let unknown = put(member(4, 0));
    assert_eq!(step(4, unknown), 2);
}

/// What a format adds has no effect below it: else the states of old and new members would part.
#[test]
fn rules_and_bounds_of_a_format_begin_with_it() {
    let in_cell = RecordValue::Tablet(Tablet {
        alias: "zone1-100".parse().unwrap(),
        kind: TabletKind::Replica,
        replica_set: "main".parse().unwrap(),
        mysql: Endpoint {
            host: "db".to_owned(),
            port: 3306,
        },
        router: None,
    });
    for format in [format::FIRST, format::COORDINATORS] {
        let mut state = State::new("test".to_owned());
        state.format = format;
        let create = command("a", vec![put(cell("zone1")), put(in_cell.clone())]);
        assert!(apply(&mut state, 1, &create).is_ok());
        let delete = Change::delete(Revision(1), cell("zone1").key());
        let deleted = apply(&mut state, 2, &command("b", vec![delete]));
        assert_eq!(deleted.is_ok(), format == format::FIRST, "{deleted:?}");

        let message = "x".repeat(100_000);
        for index in 3..203 {
            let big = Command {
                events: vec![AuditEvent {
                    time_unix_ms: 0,
                    kind: String::new(),
                    subject: String::new(),
                    message: message.clone(),
                    evidence: Vec::new(),
                }],
                ..command(&index.to_string(), Vec::new())
            };
            assert!(apply(&mut state, index, &big).is_ok());
        }
        let kept = state.events.len();
        assert_eq!(kept == 200, format == format::FIRST, "{kept} events");
        assert!(kept * message.len() <= format::events_bytes_max(format));
    }
}

/// An acker that leaves is said in the format that has it, and to nobody who would not understand.
#[test]
fn an_acker_that_leaves_needs_the_third_format() {
    let mut set = forming_set("main".parse().unwrap());
    let acker: TabletAlias = "zone1-101".parse().unwrap();
    set.phase = Phase::Stable;
    set.primary = Some("zone1-100".parse().unwrap());
    set.epoch = Epoch(1);
    set.ackers = [acker.clone()].into();
    let said = |set: &ReplicaSet| {
        encode_command(&command(
            "a",
            vec![put(RecordValue::ReplicaSet(set.clone()))],
        ))
    };
    assert!(command_from(&said(&set), format::FIRST).is_ok());
    set.leaving = Some(Leaving {
        acker,
        silent: false,
    });
    let bytes = said(&set);
    assert!(command_from(&bytes, format::COORDINATORS).is_err());
    assert_eq!(
        decode_command(&bytes).unwrap().changes[0].value,
        Some(RecordValue::ReplicaSet(set))
    );
}
