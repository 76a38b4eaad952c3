//! Memory that the router asks for while it passes statements on: nothing for each of them, once a session runs.
//!
//! The client here asks for none itself, so that everything that is counted is the router's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]
#![allow(
    dead_code,
    reason = "the server and the client are those of the router's other tests, which use more of them"
)]

#[path = "router_mysqld/raw.rs"]
mod raw;
#[path = "router_mysqld/server.rs"]
mod server;

use std::alloc::System;
use std::io::{Read, Write};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vt_wire::command::{CommandByte, encode, encode_query};
use vt_wire::packet::put_packet;
use vt_wire::scanner::Answer;

use self::raw::{NEW, RawClient};
use self::server::{Mysqld, TestRouter};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Until buffers have their size.
const WARM_UP: usize = 500;
const STATEMENTS: usize = 5_000;
/// What timers and the sweeping of the pool ask for meanwhile, in all.
const BESIDES_MAX: usize = 200;

/// Allocations of all threads while the same packets are answered again and again.
fn count(client: &mut RawClient, command: &[u8], answer: Answer) -> usize {
    client.stream.write_all(command).unwrap();
    let (_, first) = client.read_answer(answer);
    let mut buffer = vec![0; first.len()];
    let mut ask = |times: usize| {
        for _ in 0..times {
            client.stream.write_all(command).unwrap();
            client.stream.read_exact(&mut buffer).unwrap();
        }
    };
    ask(WARM_UP);
    let region = Region::new(ALLOCATOR);
    ask(STATEMENTS);
    region.change().allocations
}

#[tokio::test]
async fn statements_that_pass_ask_for_no_memory() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let port = router.handle.local_address().port();
    let mut client = RawClient::login(port, NEW, "caching_sha2_password");
    client.query("INSERT INTO product (name, amount) VALUES ('chair', 3)");

    let mut text = Vec::new();
    let select = encode_query(b"SELECT name FROM product WHERE id = 1", NEW);
    put_packet(&mut text, 0, &select);

    let prepare = b"SELECT name FROM product WHERE id = ?";
    let (summary, _) = client.command(CommandByte::STMT_PREPARE, prepare, Answer::Prepare);
    assert!(summary.error.is_none());
    // The first statement of the session, without a cursor, once; no NULL, types follow: a 64-bit number, which is 1.
    let arguments = [
        &1_u32.to_le_bytes()[..],
        &[0],
        &1_u32.to_le_bytes(),
        &[0, 1, 8, 0],
        &1_u64.to_le_bytes(),
    ]
    .concat();
    let mut execute = Vec::new();
    put_packet(
        &mut execute,
        0,
        &encode(CommandByte::STMT_EXECUTE, &arguments),
    );

    for (what, command) in [("text", &text), ("prepared", &execute)] {
        let allocations = count(&mut client, command, Answer::Results);
        println!("{what}: {allocations} allocations for {STATEMENTS} statements");
        assert!(
            allocations <= BESIDES_MAX,
            "{what}: {allocations} allocations for {STATEMENTS} statements"
        );
    }
}
