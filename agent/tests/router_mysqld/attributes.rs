//! Query attributes reach the server with the statement that they belong to, and none else.

use mysql_async::prelude::Queryable;
use vt_wire::command::CommandByte;
use vt_wire::result_set::TextResult;
use vt_wire::scanner::Answer;

use crate::raw::{NEWEST, RawClient};
use crate::server::{Mysqld, TestRouter};

const ASKED: &str = "SELECT mysql_query_attribute_string('trace')";

/// Type of a text.
const VAR_STRING: [u8; 2] = [0xFD, 0];

fn named(name: &str) -> Vec<u8> {
    [&VAR_STRING[..], &[name.len() as u8], name.as_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

/// A client whose server can tell the attributes that came.
async fn ask_for_attributes(server: &Mysqld) -> (TestRouter, RawClient) {
    let mut admin = server.admin().await;
    admin
        .query_drop("INSTALL COMPONENT 'file://component_query_attributes'")
        .await
        .unwrap();
    let router = TestRouter::start(server, |_| {});
    let port = router.handle.local_address().port();
    let client = RawClient::login(port, NEWEST, "caching_sha2_password");
    (router, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_reach_the_server() {
    let server = Mysqld::start().await;
    let (_router, mut client) = ask_for_attributes(&server).await;
    for trace in ["a", "00-b7ad6b7169203331-01"] {
        let attributes = [&[1, 1, 0, 1][..], &named("trace"), &text(trace)].concat();
        let payload = [&attributes, ASKED.as_bytes()].concat();
        let (_, wire) = client.command(CommandByte::QUERY, &payload, Answer::Results);
        let result = TextResult::parse(&wire, NEWEST).unwrap();
        assert_eq!(result.rows, [[Some(trace.as_bytes().to_vec())]]);
        // And the next statement has none.
        let (_, wire) = client.query(ASKED);
        assert_eq!(TextResult::parse(&wire, NEWEST).unwrap().rows, [[None]]);
        // A setting makes the router send a statement of its own on another connection.
        assert_eq!(client.query("SET time_zone = '+02:00'").0.error, None);
    }
}

/// An execution with an attribute behind its parameter; then without types, on a server that never saw them.
#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_prepared_statements() {
    let mut server = Mysqld::start().await;
    let (_router, mut client) = ask_for_attributes(&server).await;
    let sql = b"SELECT CONCAT(?, mysql_query_attribute_string('trace'))";
    let (_, wire) = client.command(CommandByte::STMT_PREPARE, sql, Answer::Prepare);
    let id = wire[5..9].to_vec();
    let head = [&id[..], &[8, 1, 0, 0, 0], &[2, 0]].concat();
    let types = [named(""), named("trace")].concat();
    let values = [text("left-"), text("right")].concat();
    for is_first in [true, false] {
        let (has_types, types) = match is_first {
            true => ([1], &types[..]),
            false => ([0], &[][..]),
        };
        let execute = [&head[..], &has_types, types, &values].concat();
        let (summary, wire) = client.command(CommandByte::STMT_EXECUTE, &execute, Answer::Results);
        assert_eq!(summary.error, None);
        let expected = b"\x0aleft-right";
        assert!(
            wire.windows(expected.len()).any(|part| part == expected),
            "{wire:?}"
        );
        if is_first {
            server.kill();
            server.restart().await;
        }
    }
}
