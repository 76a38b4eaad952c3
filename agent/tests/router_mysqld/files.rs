//! LOAD DATA LOCAL: the client's file passes through the router, and only where the client allows it.

use mysql_async::prelude::Queryable;
use vt_wire::command::encode_query;
use vt_wire::packet::put_packet;
use vt_wire::scanner::Answer;

use crate::raw::{NEW, NEWEST, RawClient};
use crate::server::{Mysqld, TestRouter};

const LOAD: &str = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE product FIELDS TERMINATED BY ','";

/// Asks for the file to be read, and takes the server's question for it.
fn ask(client: &mut RawClient, sql: &str) -> Vec<u8> {
    client.write_packet(0, &encode_query(sql.as_bytes(), NEWEST));
    client.read_packet().unwrap().1
}

/// Sends a file of rows, in packets of `rows_per_packet` rows.
fn send(client: &mut RawClient, first: usize, rows: usize, rows_per_packet: usize) {
    let mut sequence = 2;
    let mut wire = Vec::new();
    let numbers: Vec<usize> = (first..first + rows).collect();
    for some in numbers.chunks(rows_per_packet) {
        let text: String = some
            .iter()
            .map(|id| format!("{id},name {id},{id}\n"))
            .collect();
        sequence = put_packet(&mut wire, sequence, text.as_bytes());
    }
    put_packet(&mut wire, sequence, b"");
    std::io::Write::write_all(&mut client.stream, &wire).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_client() {
    let mut server = Mysqld::start().await;
    let mut admin = server.admin().await;
    admin
        .query_drop("SET GLOBAL local_infile = ON")
        .await
        .unwrap();
    let router = TestRouter::start(&server, |_| {});
    let port = router.handle.local_address().port();
    let mut client = RawClient::login(port, NEWEST, "caching_sha2_password");
    for (first, rows, rows_per_packet) in [(1, 3, 1), (1_000, 0, 1), (10_000, 100_000, 5_000)] {
        assert_eq!(ask(&mut client, LOAD), b"\xfbrows");
        send(&mut client, first, rows, rows_per_packet);
        let loaded = client.read_answer(Answer::Results).0;
        assert_eq!((loaded.error, loaded.affected_rows), (None, rows as u64));
    }
    // A wrong row in the middle; the connection goes on.
    assert_eq!(
        ask(
            &mut client,
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE nosuch"
        )[0],
        0xFF
    );
    let (summary, _) = client.query("SELECT COUNT(*) FROM product HAVING COUNT(*) = 100003");
    assert_eq!((summary.error, summary.has_rows), (None, true));

    // One that does not let itself be asked is not asked.
    let mut closed = RawClient::login(port, NEW, "caching_sha2_password");
    assert!(closed.query(LOAD).0.error.is_some());
    assert_eq!(closed.query("SELECT 1").0.error, None);

    // A client that vanishes in the middle, and a server that does.
    let mut leaver = RawClient::login(port, NEWEST, "caching_sha2_password");
    assert_eq!(ask(&mut leaver, LOAD), b"\xfbrows");
    leaver.write_packet(2, b"200000,half");
    drop(leaver);
    assert_eq!(ask(&mut client, LOAD), b"\xfbrows");
    client.write_packet(2, b"300000,name,1\n");
    server.kill();
    client.write_packet(3, b"300001,name,1\n");
    client.write_packet(4, b"");
    assert_eq!(client.read_answer(Answer::Single).0.error, Some(9001));
    server.restart().await;
    let (summary, _) = client.query("SELECT COUNT(*) FROM product HAVING COUNT(*) = 100003");
    assert_eq!((summary.error, summary.has_rows), (None, true));
}
