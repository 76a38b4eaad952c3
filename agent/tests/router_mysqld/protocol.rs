//! Corners of the protocol: old clients, cursors, long data, resets, refusals, and clients that misbehave.

use std::io::Write;

use mysql_async::SslOpts;
use mysql_async::prelude::Queryable;
use vt_wire::ServerStatus;
use vt_wire::command::CommandByte;
use vt_wire::packet::put_packet;
use vt_wire::response::ErrPacket;
use vt_wire::result_set::TextResult;
use vt_wire::scanner::Answer;

use crate::raw::{NEW, NEWEST, OLD, RawClient};
use crate::server::{Mysqld, TestRouter, code};

fn value(client: &mut RawClient, capabilities: vt_wire::Capabilities, sql: &str) -> Option<String> {
    let (_, wire) = client.query(sql);
    let result = TextResult::parse(&wire, capabilities).unwrap();
    result.rows[0][0]
        .clone()
        .map(|text| String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_new_clients() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let port = router.handle.local_address().port();
    for (capabilities, plugin) in [
        (OLD, "mysql_native_password"),
        (NEW, "mysql_native_password"),
        (OLD, "caching_sha2_password"),
        (NEW, "caching_sha2_password"),
        (NEW, "dialog"),
        (NEWEST, "caching_sha2_password"),
    ] {
        let mut client = RawClient::login(port, capabilities, plugin);
        assert_eq!(
            value(&mut client, capabilities, "SELECT DATABASE()").as_deref(),
            Some("shop")
        );
        // The OK of a SET carries reports that old clients must not get.
        let (summary, wire) = client.query("SET time_zone = '+01:00'");
        assert_eq!(summary.error, None);
        assert_eq!(wire.len() > 11, capabilities != OLD, "{wire:?}");
        assert_eq!(
            value(&mut client, capabilities, "SELECT @@time_zone").as_deref(),
            Some("+01:00")
        );
        cursor(&mut client);
        long_data(&mut client, capabilities);
        let reset = client
            .command(CommandByte::RESET_CONNECTION, b"", Answer::Single)
            .0;
        assert_eq!(reset.error, None);
        assert_eq!(
            value(&mut client, capabilities, "SELECT @@time_zone").as_deref(),
            Some("SYSTEM")
        );
        simple_commands(&mut client);
        client.write_packet(0, b"\x11app\0\x00shop\0\xff\x00caching_sha2_password\0");
        client.finish_login();
        assert_eq!(
            value(&mut client, capabilities, "SELECT DATABASE()").as_deref(),
            Some("shop")
        );
    }
}

/// Commands of one packet each, those that are refused among them.
fn simple_commands(client: &mut RawClient) {
    let statistics = client.command(CommandByte::STATISTICS, b"", Answer::Text).1;
    assert!(statistics.len() > 10);
    let cases: [(CommandByte, &[u8], Answer, Option<u16>); 8] = [
        (CommandByte::PING, b"", Answer::Single, None),
        (CommandByte::INIT_DB, b"nosuch", Answer::Single, Some(1049)),
        (CommandByte::SET_OPTION, b"\0\0", Answer::Single, None),
        (CommandByte::FIELD_LIST, b"product\0", Answer::Rows, None),
        (CommandByte::BINLOG_DUMP, b"", Answer::Single, Some(1047)),
        (CommandByte::SHUTDOWN, b"", Answer::Single, Some(1047)),
        (CommandByte::CLONE, b"", Answer::Single, Some(1047)),
        (CommandByte(0x77), b"", Answer::Single, Some(1047)),
    ];
    for (command, arguments, answer, error) in cases {
        assert_eq!(
            client.command(command, arguments, answer).0.error,
            error,
            "{}",
            command.name()
        );
    }
    assert_eq!(client.query("SELECT 1; SELECT 2").0.results, 2);
}

/// Executes with a read-only cursor and fetches row by row.
fn cursor(client: &mut RawClient) {
    let sql = b"SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3";
    let (_, wire) = client.command(CommandByte::STMT_PREPARE, sql, Answer::Prepare);
    let id = &wire[5..9];
    let execute = [id, &[1, 1, 0, 0, 0]].concat();
    let opened = client
        .command(CommandByte::STMT_EXECUTE, &execute, Answer::Results)
        .0;
    assert!(
        opened.status.contains(ServerStatus::CURSOR_EXISTS),
        "{opened:?}"
    );
    let fetch = [id, &2u32.to_le_bytes()].concat();
    let first = client
        .command(CommandByte::STMT_FETCH, &fetch, Answer::Rows)
        .0;
    assert!(
        !first.status.contains(ServerStatus::LAST_ROW_SENT),
        "{first:?}"
    );
    let last = client
        .command(CommandByte::STMT_FETCH, &fetch, Answer::Rows)
        .0;
    assert!(
        last.status.contains(ServerStatus::LAST_ROW_SENT),
        "{last:?}"
    );
    assert_eq!(
        client
            .command(CommandByte::STMT_RESET, id, Answer::Single)
            .0
            .error,
        None
    );
    client.write_packet(0, &[&[CommandByte::STMT_CLOSE.0], id].concat());
    assert_eq!(
        client
            .command(CommandByte::STMT_EXECUTE, &execute, Answer::Results)
            .0
            .error,
        Some(1243)
    );
}

/// Sends a parameter in pieces.
fn long_data(client: &mut RawClient, capabilities: vt_wire::Capabilities) {
    let (_, wire) = client.command(
        CommandByte::STMT_PREPARE,
        b"SELECT LENGTH(?) + 1",
        Answer::Prepare,
    );
    let id = &wire[5..9];
    for piece in [&b"abc"[..], b"de"] {
        client.write_packet(
            0,
            &[&[CommandByte::STMT_SEND_LONG_DATA.0], id, &[0, 0], piece].concat(),
        );
    }
    // A client with attributes sends how many values there are, and names, here an empty one.
    let (count, name): (&[u8], &[u8]) =
        match capabilities.contains(vt_wire::Capabilities::QUERY_ATTRIBUTES) {
            true => (&[1], &[0]),
            false => (&[], &[]),
        };
    let head = [id, &[0, 1, 0, 0, 0]].concat();
    let execute = [&head, count, &[0], &[1], &[0xFC, 0], name].concat();
    let (summary, wire) = client.command(CommandByte::STMT_EXECUTE, &execute, Answer::Results);
    assert_eq!(summary.error, None);
    let row = [0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    assert!(wire.windows(row.len()).any(|part| part == row), "{wire:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_clients_harm_nobody_else() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.packet_length_max = 1 << 20;
        config.connections_max = 8;
    });
    let port = router.handle.local_address().port();
    let mut good = RawClient::login(port, NEW, "caching_sha2_password");
    let error = |client: &mut RawClient| {
        ErrPacket::parse(&client.read_packet().unwrap().1)
            .unwrap()
            .code
    };

    let mut oversized = RawClient::login(port, NEW, "caching_sha2_password");
    oversized
        .stream
        .write_all(&[0xFF, 0xFF, 0xFF, 0, 3])
        .unwrap();
    assert_eq!(error(&mut oversized), 1153);
    assert_eq!(oversized.read_packet(), None);

    let mut disordered = RawClient::login(port, NEW, "caching_sha2_password");
    disordered.write_packet(7, b"\x03SELECT 1");
    assert_eq!(error(&mut disordered), 1156);

    let mut short = RawClient::login(port, NEW, "caching_sha2_password");
    short.write_packet(0, b"\x17\x01");
    assert_eq!(error(&mut short), 1835);

    let mut rude = RawClient::open(port, NEW);
    rude.read_packet().unwrap();
    rude.write_packet(1, b"GET / HTTP/1.1");
    assert_eq!(error(&mut rude), 1835);

    // Leaves while its answer is under way: the connection must not come back to the pool.
    let mut leaver = RawClient::login(port, NEW, "caching_sha2_password");
    let mut wire = Vec::new();
    put_packet(&mut wire, 0, b"\x03SELECT REPEAT('x', 30000000)");
    leaver.stream.write_all(&wire).unwrap();
    drop(leaver);

    for _ in 0..20 {
        assert_eq!(value(&mut good, NEW, "SELECT 42").as_deref(), Some("42"));
    }
    let crowd: Vec<RawClient> = (0..10).map(|_| RawClient::open(port, NEW)).collect();
    let refused = crowd
        .into_iter()
        .map(|mut client| client.read_packet().unwrap().1)
        .filter(|payload| payload[0] == 0xFF);
    assert!(refused.count() >= 2);
    assert_eq!(value(&mut good, NEW, "SELECT 42").as_deref(), Some("42"));
}

#[tokio::test]
async fn tls() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.tls = Some(server.tls());
        config.is_tls_required = true;
    });
    let in_clear_text = mysql_async::Conn::new(router.options("shop")).await;
    assert_eq!(code(in_clear_text), 3159);
    let tls = SslOpts::default()
        .with_danger_accept_invalid_certs(true)
        .with_danger_skip_domain_validation(true);
    let mut app = mysql_async::Conn::new(router.options("shop").ssl_opts(tls))
        .await
        .unwrap();
    let large = "x".repeat(3 << 20);
    let length: Option<usize> = app.exec_first("SELECT LENGTH(?)", (&large,)).await.unwrap();
    assert_eq!(length, Some(large.len()));
    let back: Option<String> = app
        .query_first("SELECT REPEAT('x', 3145728)")
        .await
        .unwrap();
    assert_eq!(back, Some(large));
}
