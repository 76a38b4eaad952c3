//! What applications see while the primary of their keyspace moves, stops, or is gone.

use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;
use vt_proto::routing::ServingState::{Moving, Serving, Slowed};

use crate::server::{Mysqld, TestRouter, code, snapshot};

/// Longer than any of these tests waits when all goes well.
const PATIENCE: Duration = Duration::from_secs(20);

async fn count(connection: &mut Conn) -> i64 {
    connection
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap()
        .unwrap()
}

/// A commit that could not write its binary log may be found there all the same when the server starts again, and on replicas.
#[tokio::test]
async fn an_error_that_leaves_the_outcome_open_is_told_as_such() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut app = router.connect().await;
    for number in [1598, 1180] {
        let fails = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}");
        let outcome = app.query_drop(&fails).await;
        assert_eq!(code(outcome), 9001, "{number}");
        let outcome = app.query_drop(format!("SELECT 1; {fails}")).await;
        assert_eq!(code(outcome), 9001, "{number} after a result");
        // What is not committed is known to be gone.
        app.query_drop("BEGIN").await.unwrap();
        app.query_drop("INSERT INTO product (name) VALUES ('a')")
            .await
            .unwrap();
        assert_eq!(code(app.query_drop(&fails).await), 9002, "{number}");
        app.query_drop("ROLLBACK").await.unwrap();
        assert_eq!(count(&mut app).await, 0);
    }
    let other = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1599";
    assert_eq!(code(app.query_drop(other).await), 1599);
}

async fn wait_for_held(router: &TestRouter, wanted: u32) {
    let wanted = format!("held_statements {wanted}\n");
    let reached = timeout(PATIENCE, async {
        loop {
            let mut metrics = String::new();
            prometheus_client::encoding::text::encode(&mut metrics, &router.registry).unwrap();
            if metrics.contains(&wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    reached.await.expect("as many statements wait");
}

#[tokio::test]
async fn a_planned_move_is_not_seen_outside_transactions() {
    let (old, new) = (Mysqld::start().await, Mysqld::start().await);
    let router = TestRouter::start(&old, |_| {});
    let mut waits = router.connect().await;
    let (mut app, mut in_transaction) = (router.connect().await, router.connect().await);
    app.query_drop("INSERT INTO product (name) VALUES ('old')")
        .await
        .unwrap();
    in_transaction.query_drop("BEGIN").await.unwrap();
    in_transaction
        .query_drop("INSERT INTO product (name) VALUES ('old')")
        .await
        .unwrap();
    let mut warned = router.connect().await;
    warned.query_drop("SELECT 1/0").await.unwrap();

    assert!(
        router
            .topology
            .publish(snapshot(2, 1, Moving, Some(old.endpoint()), &[]))
    );
    let held = tokio::spawn(async move {
        waits
            .query_drop("INSERT INTO product (name) VALUES ('new')")
            .await
            .unwrap();
        let rows: i64 = waits
            .exec_first("SELECT COUNT(*) FROM product", ())
            .await
            .unwrap()
            .unwrap();
        rows
    });
    wait_for_held(&router, 1).await;
    // What is open may come to its end.
    in_transaction.query_drop("COMMIT").await.unwrap();
    old.admin()
        .await
        .query_drop("SET GLOBAL super_read_only = ON")
        .await
        .unwrap();
    assert!(
        router
            .topology
            .publish(snapshot(3, 2, Serving, Some(new.endpoint()), &[]))
    );
    assert_eq!(timeout(PATIENCE, held).await.unwrap().unwrap(), 1);
    assert_eq!(count(&mut app).await, 1);
    assert_eq!(count(&mut in_transaction).await, 1);
    assert_eq!(
        code(warned.query_drop("SHOW WARNINGS").await),
        9009,
        "its warnings were the old server's to tell"
    );
    // A straggling snapshot with the old primary is not believed.
    router
        .topology
        .publish(snapshot(4, 1, Serving, Some(old.endpoint()), &[]));
    router
        .topology
        .publish(snapshot(5, 2, Serving, Some(new.endpoint()), &[]));
    assert_eq!(count(&mut app).await, 1);
}

fn held_seconds(router: &TestRouter) -> String {
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &router.registry).unwrap();
    let line = metrics
        .lines()
        .find(|line| line.contains("held_seconds_total "));
    line.expect("a counter of the time that statements were held")
        .to_owned()
}

/// Slower than one in 4 ms, whoever writes.
#[tokio::test(flavor = "multi_thread")]
async fn writes_to_a_primary_that_hands_over_soon_pass_one_by_one() {
    const WRITERS: u32 = 4;
    const WRITES: u32 = 20;
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut in_transaction = router.connect().await;
    let insert = "INSERT INTO product (name) VALUES ('slowed')";
    in_transaction.query_drop("BEGIN").await.unwrap();
    in_transaction.query_drop(insert).await.unwrap();
    let endpoint = server.endpoint();
    assert!(
        router
            .topology
            .publish(snapshot(2, 1, Slowed, Some(endpoint), &[]))
    );
    let before = held_seconds(&router);
    in_transaction.query_drop(insert).await.unwrap();
    in_transaction.query_drop("COMMIT").await.unwrap();
    assert_eq!(count(&mut in_transaction).await, 2);
    assert_eq!(held_seconds(&router), before, "no turn is taken for these");

    let started = Instant::now();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let mut app = router.connect().await;
        writers.push(tokio::spawn(async move {
            for _ in 0..WRITES {
                app.query_drop(insert).await.unwrap();
            }
        }));
    }
    for writer in writers {
        timeout(PATIENCE, writer).await.unwrap().unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(4) * (WRITERS * WRITES - 1));
    assert_eq!(
        count(&mut in_transaction).await,
        2 + i64::from(WRITERS * WRITES)
    );
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_waited_out() {
    let (old, new) = (Mysqld::start().await, Mysqld::start().await);
    let router = TestRouter::start(&old, |_| {});
    let (mut app, mut cut) = (router.connect().await, router.connect().await);
    let insert = app
        .prep("INSERT INTO product (name) VALUES (?)")
        .await
        .unwrap();
    app.exec_drop(&insert, ("old",)).await.unwrap();
    cut.query_drop("BEGIN").await.unwrap();
    old.admin()
        .await
        .query_drop("SET GLOBAL super_read_only = ON")
        .await
        .unwrap();
    let held = tokio::spawn(async move {
        app.exec_drop(&insert, ("new",)).await.unwrap();
        app
    });
    wait_for_held(&router, 1).await;
    assert_eq!(
        code(
            cut.query_drop("INSERT INTO product (name) VALUES ('cut')")
                .await
        ),
        9002
    );
    router
        .topology
        .publish(snapshot(2, 2, Serving, Some(new.endpoint()), &[]));
    let mut app = timeout(PATIENCE, held).await.unwrap().unwrap();
    assert_eq!(count(&mut app).await, 1);
    assert_eq!(code(cut.query_drop("SELECT 1").await), 9002);
    assert_eq!(code(cut.query_drop("COMMIT").await), 9002);
    assert_eq!(count(&mut cut).await, 1);
}

/// Waits until so many statements that sleep run on the server.
async fn wait_for_sleepers(server: &Mysqld, wanted: usize) {
    let mut admin = server.admin().await;
    let seen = timeout(PATIENCE, async {
        loop {
            let rows: Vec<mysql_async::Row> = admin.query("SHOW PROCESSLIST").await.unwrap();
            let texts = rows
                .iter()
                .filter_map(|row| row.get::<Option<String>, _>(7).flatten());
            if texts.filter(|text| text.contains("SLEEP")).count() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    seen.await.expect("the statements run");
}

#[tokio::test]
async fn a_killed_primary() {
    let (mut old, new) = (Mysqld::start().await, Mysqld::start().await);
    let router = TestRouter::start(&old, |_| {});
    let mut cut = router.connect().await;
    let (mut reader, mut writer) = (router.connect().await, router.connect().await);
    cut.query_drop("BEGIN").await.unwrap();
    cut.query_drop("INSERT INTO product (name) VALUES ('cut')")
        .await
        .unwrap();
    let mut sleeper = router.connect().await;
    let running = tokio::spawn(async move {
        code(
            sleeper
                .query_drop("UPDATE product SET amount = SLEEP(30)")
                .await,
        )
    });
    let mut dreamer = router.connect().await;
    let read = tokio::spawn(async move {
        dreamer
            .query_first::<i64, _>("SELECT 5 + SLEEP(1)")
            .await
            .unwrap()
    });
    wait_for_sleepers(&old, 2).await;
    old.kill();
    assert_eq!(timeout(PATIENCE, running).await.unwrap().unwrap(), 9001);
    let held = tokio::spawn(async move {
        writer
            .query_drop("INSERT INTO product (name) VALUES ('new')")
            .await
            .unwrap();
    });
    let held_read = tokio::spawn(async move { count(&mut reader).await });
    wait_for_held(&router, 3).await;
    assert_eq!(
        code(
            cut.query_drop("INSERT INTO product (name) VALUES ('cut')")
                .await
        ),
        9002
    );
    router
        .topology
        .publish(snapshot(2, 2, Serving, Some(new.endpoint()), &[]));
    timeout(PATIENCE, held).await.unwrap().unwrap();
    assert!(timeout(PATIENCE, held_read).await.unwrap().unwrap() <= 1);
    assert_eq!(timeout(PATIENCE, read).await.unwrap().unwrap(), Some(5));
    assert_eq!(code(cut.query_drop("SELECT 1").await), 9002);
    cut.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(count(&mut cut).await, 1);
}

/// Rows that come one after the other for some seconds.
const SLOW_ROWS: &str = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a+1 FROM n WHERE a<900) \
                         SELECT SLEEP(0.01), REPEAT('x', 4000) FROM n";

#[tokio::test]
async fn a_hanging_primary_that_was_replaced() {
    let (old, new) = (Mysqld::start().await, Mysqld::start().await);
    let router = TestRouter::start(&old, |_| {});
    let (mut reader, mut writer) = (router.connect().await, router.connect().await);
    writer
        .query_drop("INSERT INTO product (name) VALUES ('old')")
        .await
        .unwrap();
    let mut rows = reader.query_iter(SLOW_ROWS).await.unwrap();
    rows.next().await.unwrap().unwrap();
    let write = async {
        let update = "UPDATE product SET amount = SLEEP(30)";
        code(writer.query_drop(update).await)
    };
    let read = async { while let Ok(Some(_)) = rows.next().await {} };
    tokio::pin!(write, read);
    tokio::select! {
        _ = &mut write => panic!("it waits"),
        () = wait_for_sleepers(&old, 2) => {}
    }
    old.freeze();
    router
        .topology
        .publish(snapshot(2, 2, Serving, Some(new.endpoint()), &[]));
    // An answer that has begun may come to its end; one that has not is not waited for as long.
    let first = timeout(PATIENCE, async {
        tokio::select! {
            code = &mut write => Some(code),
            () = &mut read => None,
        }
    });
    assert_eq!(first.await.unwrap(), Some(9001));
    timeout(PATIENCE, read).await.unwrap();
}

#[tokio::test]
async fn waiting_ends() {
    let mut server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.hold.time = Duration::from_millis(300);
        config.hold.statements = 1;
    });
    let (mut app, mut other, mut pinned) = (
        router.connect().await,
        router.connect().await,
        router.connect().await,
    );
    app.query_drop("INSERT INTO product (name) VALUES ('a')")
        .await
        .unwrap();
    pinned.query_drop("SET @mine = 1").await.unwrap();
    server.kill();
    assert_eq!(
        code(
            pinned
                .query_drop("INSERT INTO product (name) VALUES (@mine)")
                .await
        ),
        9003
    );
    let first = tokio::spawn(async move { code(app.query_drop("SELECT 1").await) });
    wait_for_held(&router, 1).await;
    assert_eq!(code(other.query_drop("SELECT 1").await), 9005);
    assert_eq!(timeout(PATIENCE, first).await.unwrap().unwrap(), 9004);
    server.restart().await;
    assert_eq!(count(&mut other).await, 1);
    let nothing: Option<Option<i32>> = pinned.query_first("SELECT @mine").await.unwrap();
    assert_eq!(nothing, Some(None));
}

#[tokio::test]
async fn replicas_and_drain() {
    let (primary, replica) = (Mysqld::start().await, Mysqld::start().await);
    let router = TestRouter::start(&primary, |_| {});
    router.topology.publish(snapshot(
        2,
        1,
        Serving,
        Some(primary.endpoint()),
        &[replica.endpoint()],
    ));
    replica
        .admin()
        .await
        .query_drop("INSERT INTO shop.product (name) VALUES ('r1'), ('r2')")
        .await
        .unwrap();
    replica
        .admin()
        .await
        .query_drop("SET GLOBAL super_read_only = ON")
        .await
        .unwrap();
    let mut app = router.connect().await;
    assert_eq!(count(&mut app).await, 0);
    app.query_drop("USE `shop@replica`").await.unwrap();
    assert_eq!(count(&mut app).await, 2);
    assert_eq!(
        code(
            app.query_drop("INSERT INTO product (name) VALUES ('x')")
                .await
        ),
        1290
    );
    assert_eq!(
        app.query_first::<String, _>("SELECT DATABASE()")
            .await
            .unwrap()
            .unwrap(),
        "shop"
    );
    app.query_drop("USE shop@primary").await.unwrap();
    assert_eq!(count(&mut app).await, 0);

    let mut busy = router.connect().await;
    busy.query_drop("BEGIN").await.unwrap();
    let drained = tokio::spawn(router.handle.drain(PATIENCE));
    timeout(PATIENCE, async {
        while app.query_drop("SELECT 1").await.is_ok() {}
    })
    .await
    .unwrap();
    busy.query_drop("INSERT INTO product (name) VALUES ('last')")
        .await
        .unwrap();
    busy.query_drop("COMMIT").await.unwrap();
    timeout(PATIENCE, drained).await.unwrap().unwrap();
    let rows: Option<i64> = primary
        .admin()
        .await
        .query_first("SELECT COUNT(*) FROM shop.product")
        .await
        .unwrap();
    assert_eq!(rows, Some(1));
}
