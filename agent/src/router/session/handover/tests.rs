//! One process writes a session to a socket, another one goes on with it.

use std::env;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use prost::Message;

use super::*;
use crate::router::digests::Digests;
use crate::router::processlist::{Listed, Processlist};
use crate::router::state::Role;

/// Where the first process listens.
const SOCKET_VARIABLE: &str = "VT_TEST_SESSION_SOCKET";
/// An OK's list of changes: the time zone was set.
const TIME_ZONE_SET: &[u8] = b"\x00\x11\x09time_zone\x06+02:00";

fn listed(id: u64) -> Listed {
    let list = Arc::new(Processlist::default());
    list.enter(id as u32, "127.0.0.1:1".parse().unwrap())
}

fn prepared(text: &[u8], lex: LexOptions) -> Prepared {
    let mut wire = Vec::new();
    put_packet(
        &mut wire,
        0,
        &command::encode(CommandByte::STMT_PREPARE, text),
    );
    analysed(&wire, lex, analyse(text, &lex).unwrap())
}

/// A session with something in every field that travels.
fn lived_in(digests: &ThreadDigests) -> (State, Listed) {
    let listed = listed(4_000_000_007);
    let mut state = State::new(4_000_000_007, Arc::clone(listed.process()));
    state.capabilities = Capabilities::FOUND_ROWS.with(Capabilities::DEPRECATE_EOF);
    // sjis_japanese_ci
    state.set_collation(13);
    state.user = "app".to_owned();
    state.database = parse_database(b"shop@replica");
    let before = prepared(
        b"SELECT name FROM other.t WHERE id = ? AND \"b\" = 'c'",
        state.lex,
    );
    assert!(state.record(b"\x00\x1d\x08sql_mode\x13ANSI_QUOTES,REAL_AS"));
    let after = prepared(
        b"INSERT INTO \"u\" VALUES (?, LAST_INSERT_ID(9))",
        state.lex,
    );
    state.insert_id.set(u64::MAX);
    state.status = ServerStatus::AUTOCOMMIT.with(ServerStatus::NO_BACKSLASH_ESCAPES);
    state.lex.no_backslash_escapes = true;
    state.chooses_reports = true;
    state.variables = Variables {
        replica_lag_max_ms: Some(0),
        read_wait_ms: Some(3_000),
    };
    state.has_run = true;
    state.written = Written::parse(b"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7");
    state.broken = Some(Broken::TooLong { limit_ms: 7_000 });
    for (id, statement) in [(3, before), (u32::MAX, after)] {
        let text = &join_payload(&statement.prepare_wire)[1..];
        let digest = digests.find(&state.user, state.database_name(), text, &statement.lex);
        let statement = Prepared {
            parameters: 1,
            types: vec![0xfd, 0],
            typed: 1,
            long_data: b"\x07\0\0\0\x18\x03\0\0\0\0\0".to_vec(),
            digest: Some(digest),
            ..statement
        };
        state.statements.insert(id, statement);
    }
    state.next_statement_id = 4;
    (state, listed)
}

#[test]
#[ignore = "started by the other test, in a process of its own"]
fn successor() {
    let mut socket = UnixStream::connect(env::var_os(SOCKET_VARIABLE).unwrap()).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let session = wire::Session::decode(&bytes[..]).unwrap();
    let listed = listed(session.id);
    let digests = Digests::default().join();
    let mut state = take(session, Arc::clone(listed.process()), &digests).unwrap();
    assert!(state.record(TIME_ZONE_SET));
    let session = give(&state).unwrap();
    socket.write_all(&session.encode_to_vec()).unwrap();
}

#[test]
fn another_process_goes_on_with_it() {
    let digests = Digests::default().join();
    let (mut state, _listed) = lived_in(&digests);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "router::session::handover::tests::successor"])
        .args(["--ignored", "--nocapture"])
        .env(SOCKET_VARIABLE, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket
        .write_all(&give(&state).unwrap().encode_to_vec())
        .unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success());

    let session = wire::Session::decode(&bytes[..]).unwrap();
    assert!(state.record(TIME_ZONE_SET));
    assert_eq!(session, give(&state).unwrap());
    // What does not travel is found again.
    let back = take(session, Arc::clone(&state.process), &digests).unwrap();
    assert_eq!(back.statements, state.statements);
    assert_eq!(back.statements[&3].schemas, ["other"]);
    assert!(back.statements[&3].is_read_only && !back.statements[&u32::MAX].is_read_only);
    assert_eq!(back.lex, state.lex);
    assert_eq!(back.lex.charset, ClientCharset::Sjis);
    assert_eq!(back.role(), Role::Replica);
    assert_eq!(back.broken, state.broken);
}

#[test]
fn what_only_a_connection_holds_is_not_given_away() {
    let digests = Digests::default().join();
    type Bind = fn(&mut State);
    let bind: [(Bind, &str); 4] = [
        (
            |state| state.status = ServerStatus::IN_TRANSACTION,
            "an open transaction",
        ),
        (
            |state| state.pins.state = true,
            "state that only that connection has",
        ),
        (
            |state| {
                state.pins.cursors.insert(3);
            },
            "an open cursor",
        ),
        (
            |state| state.pins.diagnostics = true,
            "warnings or errors to be asked for",
        ),
    ];
    for (bind, reason) in bind {
        let (mut state, _listed) = lived_in(&digests);
        assert!(give(&state).is_ok());
        bind(&mut state);
        let bound = give(&state).unwrap_err();
        assert_eq!(bound.reasons, [reason]);
        assert_eq!(
            bound.to_string(),
            format!("session 4000000007 keeps its connection for {reason}")
        );
    }
}

#[test]
fn what_cannot_go_on_is_refused() {
    use wire::session_database::Database::{Keyspace, System};
    let digests = Digests::default().join();
    let (state, _listed) = lived_in(&digests);
    let named = |database| {
        Some(wire::SessionDatabase {
            database: Some(database),
        })
    };
    let statement = |text: &[u8], parameters| {
        vec![wire::SessionStatement {
            id: 8,
            text: text.to_vec(),
            parameters,
            ..wire::SessionStatement::default()
        }]
    };
    type Spoil<'a> = &'a dyn Fn(&mut wire::Session);
    let spoil: [(Spoil<'_>, &str); 6] = [
        (
            &|session| session.database = named(Keyspace("shop@nowhere".to_owned())),
            "session 4000000007 has selected what is no database here: 'shop@nowhere'",
        ),
        (
            &|session| session.database = named(System("shop".to_owned())),
            "session 4000000007 has selected what is no database here: 'shop'",
        ),
        (
            &|session| session.collation = 256,
            "session 4000000007 has collation = 256, which is out of range",
        ),
        (
            &|session| session.status = 1 << 16,
            "session 4000000007 has status = 65536, which is out of range",
        ),
        (
            &|session| session.statements = statement(b"CREATE DATABASE a", 0),
            "session 4000000007 has prepared a statement (number 8) that is refused here",
        ),
        (
            &|session| session.statements = statement(b"SELECT 1", 1 << 16),
            "session 4000000007 has prepared a statement (number 8) that is refused here",
        ),
    ];
    for (spoil, refusal) in spoil {
        let mut session = give(&state).unwrap();
        spoil(&mut session);
        let error = take(session, Arc::clone(&state.process), &digests).unwrap_err();
        assert_eq!(error.to_string(), refusal);
    }
}
