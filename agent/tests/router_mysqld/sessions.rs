//! Sessions that share few connections never see each other's state, and keep their own.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::server::{Mysqld, TestRouter, code};

async fn one<T: mysql_async::prelude::FromValue + Send + 'static>(
    connection: &mut Conn,
    sql: &str,
) -> T {
    connection.query_first(sql).await.unwrap().unwrap()
}

#[tokio::test]
async fn statements_of_all_kinds() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut app = router.connect().await;
    assert_eq!(one::<String>(&mut app, "SELECT DATABASE()").await, "shop");
    app.query_drop("INSERT INTO product (name, amount) VALUES ('chair', 3), ('table', NULL)")
        .await
        .unwrap();
    assert_eq!((app.affected_rows(), app.last_insert_id()), (2, Some(1)));
    let rows: Vec<(i64, String, Option<i32>)> = app
        .query("SELECT * FROM product ORDER BY id")
        .await
        .unwrap();
    assert_eq!(
        rows,
        [
            (1, "chair".to_owned(), Some(3)),
            (2, "table".to_owned(), None)
        ]
    );

    let rows: Vec<Row> = app
        .exec("SELECT ?, ?, name FROM product WHERE id = ?", (7, "x", 2))
        .await
        .unwrap();
    assert_eq!(rows[0].as_ref(0), Some(&Value::Int(7)));
    assert_eq!(rows[0].get::<String, _>(2).unwrap(), "table");

    let mut several = app.query_iter("SELECT 1; SELECT 2, 3; DO 1").await.unwrap();
    assert_eq!(several.collect::<i32>().await.unwrap(), [1]);
    assert_eq!(several.collect::<(i32, i32)>().await.unwrap(), [(2, 3)]);
    several.drop_result().await.unwrap();

    let large = "x".repeat(17 << 20);
    let back: Option<String> = app
        .exec_first("SELECT CONCAT(?, 'y')", (&large,))
        .await
        .unwrap();
    assert_eq!(back.unwrap().len(), large.len() + 1);
}

#[tokio::test]
async fn names_and_refusals() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut app = router.connect().await;
    app.query_drop("INSERT INTO product (name) VALUES ('chair'), ('table')")
        .await
        .unwrap();
    assert_eq!(code(app.query_drop("SELECT * FROM nosuch").await), 1146);
    assert_eq!(code(app.query_drop("USE nosuch").await), 1049);
    assert_eq!(code(app.query_drop("CREATE DATABASE other").await), 1235);
    assert_eq!(
        code(
            app.query_drop("LOAD DATA INFILE 'f' INTO TABLE product")
                .await
        ),
        1227
    );
    assert_eq!(
        one::<i32>(&mut app, "SELECT COUNT(*) FROM shop.product").await,
        2
    );
    let keyspaces: Vec<String> = app.query("SHOW DATABASES").await.unwrap();
    assert_eq!(keyspaces, ["information_schema", "shop"]);

    assert_eq!(code(Conn::new(router.options("nosuch")).await), 1049);
    assert_eq!(
        code(Conn::new(router.options("shop").pass(Some("wrong"))).await),
        1045
    );
    assert_eq!(
        code(Conn::new(router.options("shop").user(Some("nobody"))).await),
        1045
    );
    let mut without = Conn::new(router.options("")).await.unwrap();
    assert_eq!(
        one::<Option<String>>(&mut without, "SELECT DATABASE()").await,
        None
    );
    assert_eq!(
        code(without.query_drop("SELECT * FROM product").await),
        1046
    );
    assert_eq!(
        one::<i32>(&mut without, "SELECT COUNT(*) FROM `shop`.product").await,
        2
    );
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &router.registry).unwrap();
    assert!(
        metrics.contains("queries_total{kind=\"read\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn two_sessions_on_one_connection() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.pool.connections = 1;
        config.pool.wait = Duration::from_millis(200);
    });
    let (mut one_app, mut other) = (router.connect().await, router.connect().await);
    one_app
        .query_drop("SET time_zone = '+03:00', sql_mode = 'ANSI_QUOTES', max_execution_time = 9000")
        .await
        .unwrap();
    one_app.query_drop("SET NAMES latin1").await.unwrap();
    one_app
        .query_drop("SET character_set_results = NULL")
        .await
        .unwrap();
    one_app
        .query_drop("INSERT INTO product (name) VALUES ('a')")
        .await
        .unwrap();
    let state = "SELECT CONCAT_WS('|', @@time_zone, @@sql_mode, @@max_execution_time, @@character_set_client, \
                 IFNULL(@@character_set_results, 'NULL'), LAST_INSERT_ID())";
    let fresh: String = one(&mut other, state).await;
    for _ in 0..3 {
        let own: Vec<u8> = one(&mut one_app, state).await;
        assert_eq!(
            String::from_utf8_lossy(&own),
            "+03:00|ANSI_QUOTES|9000|latin1|NULL|1"
        );
        assert_eq!(one::<String>(&mut other, state).await, fresh);
        assert!(fresh.ends_with("|0"), "{fresh}");
    }
    // An explicit id is in the OK, and yet is not the LAST_INSERT_ID().
    one_app
        .query_drop("INSERT INTO product (id, name) VALUES (50, 'b')")
        .await
        .unwrap();
    assert_eq!(one::<String>(&mut other, state).await, fresh);
    assert_eq!(one::<u64>(&mut one_app, "SELECT LAST_INSERT_ID()").await, 1);

    // The connection is anybody's again only when the session is over.
    one_app.query_drop("SET @mine = 5").await.unwrap();
    assert_eq!(code(other.query_drop("SELECT 1").await), 9006);
    assert_eq!(one::<i32>(&mut one_app, "SELECT @mine").await, 5);
    one_app
        .query_drop("CREATE TEMPORARY TABLE t (id INT)")
        .await
        .unwrap();
    one_app.disconnect().await.unwrap();
    assert_eq!(one::<Option<i32>>(&mut other, "SELECT @mine").await, None);
    assert_eq!(code(other.query_drop("SELECT * FROM t").await), 1146);
    other.query_drop("DO 1/0").await.unwrap();
    assert_eq!(one::<String>(&mut other, state).await, fresh);
}

#[tokio::test]
async fn warnings_and_counts_belong_to_their_session() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.pool.connections = 2);
    let (mut app, mut other) = (router.connect().await, router.connect().await);
    app.query_drop("SELECT 1/0").await.unwrap();
    other.query_drop("SELECT 1").await.unwrap();
    let warnings: Vec<(String, u16, String)> = app.query("SHOW WARNINGS").await.unwrap();
    assert_eq!(warnings[0].1, 1365);
    assert_eq!(code(app.query_drop("SELECT * FROM nosuch").await), 1146);
    let errors: Vec<(String, u16, String)> = app.query("SHOW ERRORS").await.unwrap();
    assert_eq!(errors[0].1, 1146);
    app.query_drop("INSERT INTO product (name) VALUES ('a'), ('b'), ('c')")
        .await
        .unwrap();
    assert_eq!(one::<i64>(&mut app, "SELECT ROW_COUNT()").await, 3);
    app.query_drop("SELECT * FROM product LIMIT 2")
        .await
        .unwrap();
    assert_eq!(one::<i64>(&mut app, "SELECT FOUND_ROWS()").await, 2);
}

#[tokio::test]
async fn what_was_to_be_asked_for_goes_with_its_connection_and_that_is_told() {
    const DIAGNOSTICS_LOST: u16 = 9009;
    const SESSION_STATE_LOST: u16 = 9003;
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut app = router.connect().await;
    for (before, asked, expected) in [
        ("SELECT 1/0", "SHOW WARNINGS", DIAGNOSTICS_LOST),
        ("SELECT 1/0", "SELECT @@warning_count", DIAGNOSTICS_LOST),
        ("SELECT 1/0", "SELECT ROW_COUNT()", DIAGNOSTICS_LOST),
        (
            "SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2 LIMIT 1",
            "SELECT FOUND_ROWS()",
            DIAGNOSTICS_LOST,
        ),
        ("SET TRANSACTION READ ONLY", "BEGIN", SESSION_STATE_LOST),
    ] {
        app.query_drop(before).await.unwrap();
        server.kill_sessions_of_the_router().await;
        assert_eq!(code(app.query_drop(asked).await), expected, "{asked}");
        // Told once; nothing of it is left.
        let warnings: Vec<(String, u16, String)> = app.query("SHOW WARNINGS").await.unwrap();
        assert_eq!(warnings, []);
        app.query_drop("SELECT 1/0").await.unwrap();
        server.kill_sessions_of_the_router().await;
        assert_eq!(one::<i32>(&mut app, "SELECT 7").await, 7);
    }
    app.query_drop("INSERT INTO product (name) VALUES ('chair')")
        .await
        .unwrap();
    // Who selects a database has nothing to ask for any more, as on a server.
    app.query_drop("SELECT 1/0").await.unwrap();
    app.query_drop("USE information_schema").await.unwrap();
    let warnings: Vec<(String, u16, String)> = app.query("SHOW WARNINGS").await.unwrap();
    assert_eq!(warnings, []);
}

/// Who rolls back after an error gets what it wants; what else is gone is the next statement's to hear.
#[tokio::test]
async fn a_rollback_of_nothing_is_no_error() {
    const TRANSACTION_LOST: u16 = 9002;
    const SESSION_STATE_LOST: u16 = 9003;
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut app = router.connect().await;
    for statement in ["SET @mine = 7", "BEGIN", "DELETE FROM product"] {
        app.query_drop(statement).await.unwrap();
    }
    server.kill_sessions_of_the_router().await;
    assert_eq!(code(app.query_drop("COMMIT").await), TRANSACTION_LOST);
    for _ in 0..2 {
        app.query_drop("ROLLBACK").await.unwrap();
    }
    assert_eq!(
        code(app.query_drop("SELECT @mine").await),
        SESSION_STATE_LOST
    );
    assert_eq!(one::<i32>(&mut app, "SELECT 7").await, 7);
}

#[tokio::test]
async fn what_the_next_transaction_shall_be_waits_for_it() {
    const READ_ONLY_TRANSACTION: u16 = 1792;
    const INSERT: &str = "INSERT INTO product (name) VALUES ('chair')";
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.pool.connections = 1;
        config.pool.wait = Duration::from_millis(200);
    });
    let (mut app, mut other) = (router.connect().await, router.connect().await);
    app.query_drop("SET TRANSACTION READ ONLY").await.unwrap();
    assert_eq!(one::<i32>(&mut app, "SELECT 1").await, 1);
    // Nobody else's transaction becomes what this one's shall be.
    assert_eq!(code(other.query_drop("BEGIN").await), 9006);
    app.query_drop("BEGIN").await.unwrap();
    let refused = code(app.query_drop(INSERT).await);
    assert_eq!(refused, READ_ONLY_TRANSACTION);
    app.query_drop("ROLLBACK").await.unwrap();
    // The one after it is as any other, and the connection is anybody's.
    for session in [&mut app, &mut other] {
        for statement in ["BEGIN", INSERT, "COMMIT"] {
            session.query_drop(statement).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_transaction_that_is_forgotten_is_rolled_back() {
    const TRANSACTION_TOO_LONG: u16 = 9012;
    const SESSION_STATE_LOST: u16 = 9003;
    let server = Mysqld::start().await;
    // Long enough for three statements on a slow machine.
    let limit = Some(Duration::from_secs(3));
    let router = TestRouter::start(&server, |config| config.transaction_time_max = limit);
    let (mut forgetful, mut other) = (router.connect().await, router.connect().await);
    other
        .query_drop("INSERT INTO product (name, amount) VALUES ('chair', 3)")
        .await
        .unwrap();
    for statement in ["SET @mine = 7", "BEGIN", "UPDATE product SET amount = 4"] {
        forgetful.query_drop(statement).await.unwrap();
    }
    // Waits for the row, and gets it without the forgetful one's doing anything.
    other
        .query_drop("UPDATE product SET amount = amount + 10")
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            code(forgetful.query_drop("SELECT amount FROM product").await),
            TRANSACTION_TOO_LONG
        );
    }
    forgetful.query_drop("ROLLBACK").await.unwrap();
    // What the connection alone held is gone, and that is told as well.
    assert_eq!(
        code(forgetful.query_drop("SELECT @mine").await),
        SESSION_STATE_LOST
    );
    let amount = "SELECT amount FROM product";
    assert_eq!(one::<i32>(&mut forgetful, amount).await, 13);
}

#[tokio::test]
async fn transactions_keep_their_connection() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.pool.connections = 2);
    let (mut writer, mut reader) = (router.connect().await, router.connect().await);
    let count = "SELECT COUNT(*) FROM product";
    writer.query_drop("BEGIN").await.unwrap();
    writer
        .query_drop("INSERT INTO product (name) VALUES ('a')")
        .await
        .unwrap();
    assert_eq!(one::<i32>(&mut writer, count).await, 1);
    assert_eq!(one::<i32>(&mut reader, count).await, 0);
    writer.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(one::<i32>(&mut writer, count).await, 0);

    writer.query_drop("SET autocommit = 0").await.unwrap();
    writer
        .query_drop("INSERT INTO product (name) VALUES ('a')")
        .await
        .unwrap();
    assert_eq!(
        code(
            writer
                .query_drop("INSERT INTO product (nosuch) VALUES (1)")
                .await
        ),
        1054
    );
    assert_eq!(one::<i32>(&mut reader, count).await, 0);
    writer.query_drop("COMMIT").await.unwrap();
    assert_eq!(one::<i32>(&mut reader, count).await, 1);

    // A client that leaves in the middle leaves nothing behind: neither rows nor locks.
    writer
        .query_drop("UPDATE product SET amount = 9")
        .await
        .unwrap();
    drop(writer);
    reader
        .query_drop("SET innodb_lock_wait_timeout = 10")
        .await
        .unwrap();
    reader
        .query_drop("UPDATE product SET amount = 1")
        .await
        .unwrap();
    assert_eq!(
        one::<i32>(&mut reader, "SELECT amount FROM product").await,
        1
    );
}

#[tokio::test]
async fn prepared_statements_follow_their_session() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.pool.connections = 1);
    let (mut one_app, mut other) = (router.connect().await, router.connect().await);
    let insert = one_app
        .prep("INSERT INTO product (name, amount) VALUES (?, ?)")
        .await
        .unwrap();
    let select = other
        .prep("SELECT name FROM product WHERE amount = ? AND name <> ?")
        .await
        .unwrap();
    for amount in 0..5 {
        one_app.exec_drop(&insert, ("a", amount)).await.unwrap();
        let names: Vec<String> = other.exec(&select, (amount, "b")).await.unwrap();
        assert_eq!(names, ["a"]);
        // Sets differ, so the connection is reset in between and forgets all statements.
        other
            .query_drop(format!("SET max_execution_time = {}", 1000 + amount))
            .await
            .unwrap();
    }
    one_app.close(insert.clone()).await.unwrap();
    other.query_drop("DO 1").await.unwrap();
    let mut admin = server.admin().await;
    let prepared: (String, u32) = admin
        .query_first("SHOW STATUS LIKE 'Prepared_stmt_count'")
        .await
        .unwrap()
        .unwrap();
    assert!(prepared.1 <= 2, "{prepared:?}");
    assert_eq!(code(one_app.prep("SELECT FROM").await), 1064);
}
