//! On what a mysqld 9.7 wrote: a table, rows of many types, rows that were compressed, and a transaction with a tag.

use serde_json::{Value, json};

use super::*;

const LOG: &[u8] = include_bytes!("mysql-9.7.binlog");
const SERVER: &str = "87740951-ea98-11f1-a174-02fc00000001";
const ALL: Limits = Limits {
    transactions: 100,
    rows: 100,
};

fn read(limits: Limits) -> Reader {
    let mut reader = Reader::new(limits);
    let used = reader.read(LOG).unwrap();
    assert!(reader.is_full() || used == LOG.len(), "{used}");
    reader
}

fn changes(reader: &Reader) -> Vec<Value> {
    let all = reader.transactions.iter();
    all.map(|it| serde_json::to_value(&it.changes).unwrap())
        .collect()
}

/// A row of the table with these values and nothing else.
fn row(values: &[(usize, Value)]) -> Value {
    let mut row: serde_json::Map<_, _> =
        (1..=12).map(|at| (format!("@{at}"), Value::Null)).collect();
    for (at, value) in values {
        row[&format!("@{at}")] = value.clone();
    }
    Value::Object(row)
}

fn change(operation: &str, rows: Value) -> Value {
    json!([{"operation": operation, "database": "shop", "table": "t", "rows": rows}])
}

#[test]
fn every_transaction_is_told_with_its_changes() {
    let reader = read(ALL);
    let names: Vec<_> = reader.transactions.iter().map(|it| &it.gtid).collect();
    let numbered = [":1", ":2", ":3", ":4", ":tagged:1"].map(|end| format!("{SERVER}{end}"));
    assert_eq!(names, numbered.iter().collect::<Vec<_>>());
    for transaction in &reader.transactions {
        let committed = transaction.committed.as_deref().unwrap();
        assert!(
            committed.starts_with("2026-") && committed.ends_with('Z'),
            "{committed}"
        );
    }
    let changes = changes(&reader);
    let [made, inserted, changed, compressed, tagged] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!(made[0]["operation"], "statement");
    let sql = made[0]["sql"].as_str().unwrap();
    assert!(
        sql.starts_with("CREATE TABLE shop.t (id BIGINT UNSIGNED"),
        "{sql}"
    );
    let full = row(&[
        (1, json!(u64::MAX)),
        (2, json!("größer")),
        (3, json!("-2.50")),
        (4, json!("2026-01-02 03:04:05.600000")),
        (5, json!("2026-01-02")),
        (6, json!("-838:59:59")),
        (7, json!("2026-01-02T03:04:05.500000Z")),
        (8, json!({"hex": "00ff"})),
        (9, json!({"a": [1, null, "x"]})),
        (10, json!(2)),
        (11, json!(0.5)),
        (12, json!({"hex": "05"})),
    ]);
    let bare = row(&[(1, json!(1))]);
    let named = row(&[(1, json!(1)), (2, json!("eins"))]);
    assert_eq!(*inserted, change("insert", json!([full, bare])));
    assert_eq!(
        changed[0],
        change("update", json!([{"before": bare, "after": named}]))[0]
    );
    assert_eq!(changed[1], change("delete", json!([full]))[0]);
    let three = "drei".repeat(10);
    let rows: Vec<_> = (11..15)
        .map(|id| row(&[(1, json!(id)), (2, json!(three))]))
        .collect();
    assert_eq!(*compressed, change("insert", json!(rows)));
    let ratio = row(&[(1, json!(1)), (2, json!("eins")), (11, json!(1.25))]);
    assert_eq!(
        *tagged,
        change("update", json!([{"before": named, "after": ratio}]))
    );
    assert!(reader.ends_whole() && reader.rows_left_out == 0);
}

#[test]
fn it_is_the_same_however_it_comes_in_pieces() {
    let whole = changes(&read(ALL));
    for length in [1, 7, 100, 1_000] {
        let (mut reader, mut bytes) = (Reader::new(ALL), Vec::new());
        for piece in LOG.chunks(length) {
            bytes.extend(piece);
            let used = reader.read(&bytes).unwrap();
            bytes.drain(..used);
        }
        assert!(bytes.is_empty());
        assert_eq!(changes(&reader), whole, "{length}");
    }
}

#[test]
fn no_more_is_told_than_was_asked_for() {
    let reader = read(Limits {
        transactions: 3,
        rows: 3,
    });
    assert!(reader.is_full());
    assert_eq!((reader.transactions.len(), reader.rows_left_out), (3, 1));
    let reader = read(Limits {
        transactions: 100,
        rows: 0,
    });
    assert_eq!(reader.rows_left_out, 9);
    assert!(changes(&reader)[1] == json!([]));
}

#[test]
fn a_tail_that_ends_early_is_told_as_far_as_it_goes() {
    for cut in [1, 30, 40] {
        let mut reader = Reader::new(ALL);
        let used = reader.read(&LOG[..LOG.len() - cut]).unwrap();
        assert!(used < LOG.len() - cut || !reader.ends_whole(), "{cut}");
        assert_eq!(reader.transactions.len(), 5);
    }
}

#[test]
fn what_is_damaged_is_an_error_and_no_panic() {
    assert!(Reader::new(ALL).read(b"no binary log").is_err());
    // Behind the description of the format: there everything has a checksum.
    for at in 200..LOG.len() {
        let mut log = LOG.to_vec();
        log[at] ^= 0x20;
        let mut reader = Reader::new(ALL);
        let is_whole = reader.read(&log).is_ok_and(|used| used == log.len());
        assert!(!is_whole, "byte {at}");
    }
}
