//! Users that the coordinators keep: what each may do, and that it holds for sessions that are open.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::server::{KeptUser, Mysqld, TestRouter, code};

const TABLE_ACCESS_DENIED: u16 = 1142;
const DATABASE_ACCESS_DENIED: u16 = 1044;
const ACCESS_DENIED: u16 = 1045;
const USER_LIMIT_REACHED: u16 = 1226;
/// What holds within a second in a cluster holds here at once; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);

async fn login(router: &TestRouter, user: &'static str, database: &str) -> Result<Conn, Error> {
    Conn::new(router.options(database).user(Some(user))).await
}

const INSERT: &str = "INSERT INTO product (name, amount) VALUES ('a', ?)";

#[tokio::test(flavor = "multi_thread")]
async fn rights_hold_for_open_sessions() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    router.keep(&[KeptUser::new("reader", &[("shop", "read")])]);
    let mut conn = login(&router, "reader", "shop").await.unwrap();
    let count: Option<u32> = conn
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap();
    assert_eq!(count, Some(0));
    for sql in [
        "INSERT INTO product (name) VALUES ('a')",
        "SELECT 1; DELETE FROM product",
        "SELECT * FROM product FOR UPDATE",
        "DROP TABLE product",
        "PREPARE s FROM 'DELETE FROM product'",
        "SELECT * FROM mysql.user",
    ] {
        assert_eq!(
            code(conn.query_drop(sql).await),
            TABLE_ACCESS_DENIED,
            "{sql}"
        );
    }
    assert_eq!(code(conn.prep(INSERT).await), TABLE_ACCESS_DENIED);
    // What was refused here left no trace at the server: neither rows nor a transaction.
    let names: Vec<String> = conn.query("SHOW DATABASES").await.unwrap();
    assert_eq!(names, ["information_schema", "shop"]);

    router.keep(&[KeptUser::new("reader", &[("shop", "read,write")])]);
    let insert = conn.prep(INSERT).await.unwrap();
    conn.exec_drop(&insert, (1,)).await.unwrap();
    router.keep(&[KeptUser::new("reader", &[("shop", "read")])]);
    assert_eq!(
        code(conn.exec_drop(&insert, (2,)).await),
        TABLE_ACCESS_DENIED
    );
    let amounts: Vec<u32> = conn.query("SELECT amount FROM product").await.unwrap();
    assert_eq!(amounts, [1]);

    router.keep(&[KeptUser::new("reader", &[])]);
    let refused = conn.query_drop("SELECT amount FROM product").await;
    assert_eq!(code(refused), DATABASE_ACCESS_DENIED);
    assert_eq!(
        code(conn.query_drop("USE shop").await),
        DATABASE_ACCESS_DENIED
    );
    let names: Vec<String> = conn.query("SHOW DATABASES").await.unwrap();
    assert_eq!(names, ["information_schema"]);
    let refused = login(&router, "reader", "shop").await;
    assert_eq!(code(refused.map(drop)), DATABASE_ACCESS_DENIED);
    login(&router, "reader", "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_dropped_is_gone() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let grants = [("shop", "read,write")];
    router.keep(&[KeptUser::new("one", &grants), KeptUser::new("two", &grants)]);
    let mut one = login(&router, "one", "shop").await.unwrap();
    let mut two = login(&router, "two", "shop").await.unwrap();
    let mut open = two.start_transaction(Default::default()).await.unwrap();
    open.query_drop("INSERT INTO product (name) VALUES ('never')")
        .await
        .unwrap();
    router.keep(&[KeptUser::new("one", &grants)]);
    // Nobody asks for it: it only waits, and ends all the same.
    let mut admin = router.connect().await;
    let until = Instant::now() + PATIENCE;
    loop {
        let users: Vec<String> = admin
            .query_map("SHOW PROCESSLIST", |row: mysql_async::Row| {
                row.get("User").unwrap()
            })
            .await
            .unwrap();
        if !users.contains(&"two".to_owned()) {
            assert!(users.contains(&"one".to_owned()), "{users:?}");
            break;
        }
        assert!(Instant::now() < until, "{users:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let kept: Option<u32> = one
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap();
    assert_eq!(kept, Some(0), "its transaction is rolled back");
    assert_eq!(
        code(login(&router, "two", "shop").await.map(drop)),
        ACCESS_DENIED
    );
}

/// The router's own file has a user of this name, who may do everything.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_dropped_does_not_become_the_files_user() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    router.keep(&[KeptUser::new("app", &[("shop", "read")])]);
    let mut conn = login(&router, "app", "shop").await.unwrap();
    let insert = "INSERT INTO product (name) VALUES ('never')";
    assert_eq!(code(conn.query_drop(insert).await), TABLE_ACCESS_DENIED);
    router.keep(&[]);
    assert!(conn.query_drop(insert).await.is_err());
    let mut own = router.connect().await;
    let count: Option<u32> = own
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap();
    assert_eq!(count, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let grants = [("*", "read")];
    let mut few = KeptUser::new("few", &grants);
    few.connections_max = Some(2);
    router.keep(&[few]);
    let first = login(&router, "few", "shop").await.unwrap();
    let second = login(&router, "few", "shop").await.unwrap();
    assert_eq!(
        code(login(&router, "few", "shop").await.map(drop)),
        USER_LIMIT_REACHED
    );
    router.connect().await.disconnect().await.unwrap();
    first.disconnect().await.unwrap();
    let until = Instant::now() + PATIENCE;
    while let Err(error) = login(&router, "few", "shop").await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_limited() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let grants = [("*", "read")];
    let limited = |limit| {
        let mut user = KeptUser::new("slow", &grants);
        user.statements_per_second_max = limit;
        router.keep(&[user]);
    };
    limited(None);
    let mut first = login(&router, "slow", "shop").await.unwrap();
    let mut second = login(&router, "slow", "shop").await.unwrap();
    // On a slow machine a second may go by between two statements.
    limited(Some(1));
    let until = Instant::now() + PATIENCE;
    while first.query_drop("DO 1").await.is_ok() {
        assert!(Instant::now() < until, "no statement is refused");
    }
    while second.exec_drop("SELECT ?", (1,)).await.is_ok() {
        assert!(Instant::now() < until, "no execution is refused");
    }
    let mut refused = second.query_drop("DO 1").await;
    while refused.is_ok() {
        assert!(Instant::now() < until, "no statement is refused");
        refused = second.query_drop("DO 1").await;
    }
    assert_eq!(code(refused), USER_LIMIT_REACHED);
    // Nobody else is, and it holds for sessions that are open.
    router.connect().await.query_drop("DO 1").await.unwrap();
    limited(None);
    second.query_drop("DO 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_who_it_is() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    router.keep(&[KeptUser::new("app-1", &[("shop", "read"), ("*", "write")])]);
    let mut conn = login(&router, "app-1", "shop").await.unwrap();
    for (sql, expected) in [
        ("SELECT CURRENT_USER()", "app-1@%"),
        ("select user()", "app-1@127.0.0.1"),
    ] {
        let told: Option<String> = conn.query_first(sql).await.unwrap();
        assert_eq!(told.as_deref(), Some(expected), "{sql}");
    }
    for sql in ["SHOW GRANTS", "SHOW GRANTS FOR CURRENT_USER()"] {
        let told: Vec<String> = conn.query(sql).await.unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            told[1],
            "GRANT SELECT, SHOW VIEW ON `shop`.* TO `app-1`@`%`"
        );
    }
}
