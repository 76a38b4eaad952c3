//! SHOW PROCESSLIST, SHOW VITRAIL SESSIONS and QUERIES, KILL, and clients that leave: what runs for nobody is ended at the server.

use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use vt_agent::router::users::hash_password;
use vt_proto::routing::ServingState;
use vt_wire::command::CommandByte;
use vt_wire::packet::put_packet;
use vt_wire::scanner::Answer;

use crate::raw::{NEW, RawClient};
use crate::server::{KeptUser, Mysqld, TestRouter, code, snapshot};

/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);

/// The session that runs a text that begins so.
async fn running(app: &mut Conn, part: &str) -> u32 {
    let until = Instant::now() + PATIENCE;
    loop {
        let rows: Vec<Row> = app.query("SHOW FULL PROCESSLIST").await.unwrap();
        let runs = |row: &&Row| {
            let text: Option<String> = row.get("Info").unwrap();
            let command: String = row.get("Command").unwrap();
            command != "Sleep" && text.is_some_and(|text| text.starts_with(part))
        };
        if let Some(row) = rows.iter().find(runs) {
            let user: String = row.get("User").unwrap();
            let database: Option<String> = row.get("db").unwrap();
            assert_eq!((user.as_str(), database.as_deref()), ("app", Some("shop")));
            return row.get("Id").unwrap();
        }
        assert!(Instant::now() < until, "nobody runs {part}: {rows:?}");
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until the server runs something like this, or nothing like this any more.
async fn wait_for_server(admin: &mut Conn, part: &str, wanted: bool) {
    let sql =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{part}%'");
    let until = Instant::now() + PATIENCE;
    loop {
        let count: u64 = admin.query_first(sql.as_str()).await.unwrap().unwrap();
        if (count > 0) == wanted {
            return;
        }
        assert!(Instant::now() < until, "{part} runs: {count}");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_killed_and_its_session_goes_on() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut killer = router.connect().await;
    for is_pinned in [false, true] {
        let mut app = router.connect().await;
        if is_pinned {
            app.query_drop("SET @kept = 7").await.unwrap();
            app.query_drop("BEGIN").await.unwrap();
        }
        let victim = tokio::spawn(async move {
            let slept: Option<u32> = app.query_first("SELECT SLEEP(61)").await.unwrap();
            (app, slept)
        });
        let id = running(&mut killer, "SELECT SLEEP(61)").await;
        killer.query_drop(format!("KILL QUERY {id}")).await.unwrap();
        let (mut app, slept) = victim.await.unwrap();
        // So it says that it was interrupted.
        assert_eq!(slept, Some(1));
        for _ in 0..3 {
            let kept: Option<Option<u32>> = app.query_first("SELECT @kept").await.unwrap();
            assert_eq!(kept, Some(is_pinned.then_some(7)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_killed() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    router.keep(&[KeptUser::new("other", &[("shop", "read")])]);
    let mut admin = server.admin().await;
    let mut killer = router.connect().await;
    let mut app = router.connect().await;
    let id = app.id();
    let victim = tokio::spawn(async move { app.query_drop("SELECT SLEEP(62)").await });
    assert_eq!(running(&mut killer, "SELECT SLEEP(62)").await, id);

    let mut other = Conn::new(router.options("shop").user(Some("other")))
        .await
        .unwrap();
    assert_eq!(code(other.query_drop(format!("KILL {id}")).await), 1095);
    assert_eq!(code(killer.query_drop("KILL 4000000").await), 1094);
    let seen: Vec<(u32, String)> = other
        .query_map("SHOW PROCESSLIST", |row: Row| {
            (row.get(0).unwrap(), row.get(1).unwrap())
        })
        .await
        .unwrap();
    assert_eq!(seen, [(other.id(), "other".to_owned())]);

    killer.query_drop(format!("KILL {id}")).await.unwrap();
    // Its last answer may still come.
    drop(victim.await.unwrap());
    wait_for_server(&mut admin, "SELECT SLEEP(62)", false).await;
    assert_eq!(code(killer.query_drop(format!("KILL {id}")).await), 1094);

    // One that is idle ends too, by the command of old tools.
    let mut idle = router.connect().await;
    let mut raw = RawClient::login(
        router.handle.local_address().port(),
        NEW,
        "caching_sha2_password",
    );
    let killed = raw.command(
        CommandByte::PROCESS_KILL,
        &idle.id().to_le_bytes(),
        Answer::Single,
    );
    assert_eq!(killed.0.error, None);
    let until = Instant::now() + PATIENCE;
    while idle.query_drop("DO 1").await.is_ok() {
        assert!(Instant::now() < until);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_primary_is_killed() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let mut killer = router.connect().await;
    let mut app = router.connect().await;
    router
        .topology
        .publish(snapshot(2, 1, ServingState::Moving, None, &[]));
    let victim = tokio::spawn(async move {
        let result = app
            .query_drop("INSERT INTO product (name) VALUES ('x')")
            .await;
        (app, result)
    });
    let id = running(&mut killer, "INSERT INTO product").await;
    killer.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let (mut app, result) = victim.await.unwrap();
    assert_eq!(code(result), 1317);
    let endpoint = server.endpoint();
    router
        .topology
        .publish(snapshot(3, 2, ServingState::Serving, Some(endpoint), &[]));
    let count: Option<u32> = app
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap();
    assert_eq!(count, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_for_nobody_is_ended() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.pool.connections = 2);
    let mut admin = server.admin().await;
    let port = router.handle.local_address().port();
    // More than the pool has room for, one after the other.
    for _ in 0..5 {
        let mut leaver = RawClient::login(port, NEW, "caching_sha2_password");
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, b"\x03SELECT SLEEP(63)");
        leaver.stream.write_all(&wire).unwrap();
        wait_for_server(&mut admin, "SELECT SLEEP(63)", true).await;
        drop(leaver);
        wait_for_server(&mut admin, "SELECT SLEEP(63)", false).await;
    }
    let mut app = router.connect().await;
    let one: Option<u32> = app.query_first("SELECT 1").await.unwrap();
    assert_eq!(one, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_is_told_without_its_literals() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.threads = 2;
        config.users.push(hash_password("other", b"secret"));
    });
    let mut apps = [
        router.connect().await,
        router.connect().await,
        router.connect().await,
    ];
    for (number, app) in apps.iter_mut().enumerate() {
        app.query_drop(format!(
            "INSERT INTO product (name, amount) VALUES ('x{number}', {number})"
        ))
        .await
        .unwrap();
        let sql = "SELECT id FROM product WHERE amount >= ? ORDER BY id";
        let found: Vec<u32> = app.exec(sql, (0,)).await.unwrap();
        assert_eq!(found.len(), number + 1);
        assert_eq!(
            code(app.query_drop("SELECT nosuch FROM product").await),
            1054
        );
    }
    // The last is counted a moment after its client has the answer.
    let until = Instant::now() + PATIENCE;
    let rows = loop {
        let rows: Vec<Row> = apps[0].query("SHOW VITRAIL QUERIES").await.unwrap();
        let errors = rows.iter().map(|row| row.get::<u64, _>("Errors").unwrap());
        if errors.sum::<u64>() == 3 {
            break rows;
        }
        assert!(Instant::now() < until, "{rows:?}");
        tokio::time::sleep(STEP).await;
    };
    let figures = |text: &str| {
        let row = rows
            .iter()
            .find(|row| row.get::<String, _>("Query").unwrap().contains(text));
        let row = row.unwrap_or_else(|| panic!("{text} in {rows:?}"));
        ["Count", "Errors", "Rows", "Affected_rows"].map(|name| row.get::<u64, _>(name).unwrap())
    };
    assert_eq!(figures("INSERT INTO product"), [3, 0, 0, 3]);
    assert_eq!(figures("SELECT id FROM product"), [3, 0, 6, 0]);
    assert_eq!(figures("SELECT nosuch"), [3, 3, 0, 0]);
    for row in &rows {
        let us = |name: &str| row.get::<u64, _>(name).unwrap();
        assert!(
            us("P95_us") <= us("P99_us") && us("P99_us") <= us("Longest_us"),
            "{row:?}"
        );
        assert!(
            us("Total_us") >= us("Longest_us") && us("Average_us") > 0,
            "{row:?}"
        );
        assert!(
            !row.get::<String, _>("Query").unwrap().contains("x0"),
            "{row:?}"
        );
    }
    // An administrator sees what others ran, and nobody else does.
    router.keep(&[KeptUser::new("reader", &[("shop", "read")])]);
    for (user, sees) in [("other", true), ("reader", false)] {
        let mut conn = Conn::new(router.options("shop").user(Some(user)))
            .await
            .unwrap();
        let rows: Vec<Row> = conn.query("SHOW VITRAIL QUERIES").await.unwrap();
        let users: Vec<String> = rows.iter().map(|row| row.get("User").unwrap()).collect();
        assert_eq!(users.iter().any(|it| it != user), sees, "{user}: {users:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_ended() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.statement_time_max = Some(Duration::from_secs(1));
    });
    let mut app = router.connect().await;
    app.query_drop("SET @kept = 7").await.unwrap();
    let endless = "SELECT COUNT(*) FROM information_schema.columns a JOIN information_schema.columns b \
                   JOIN information_schema.columns c JOIN information_schema.columns d";
    match app.query_drop(endless).await {
        Err(mysql_async::Error::Server(error)) => {
            assert_eq!(error.code, 3024);
            assert!(error.message.contains("after 1000 ms"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let kept: Option<u32> = app.query_first("SELECT @kept").await.unwrap();
    assert_eq!(kept, Some(7));
}

/// What a process writes into its log, for a test to look at.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_is_in_the_log_without_its_literals() {
    let log = Written::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.slow_statement = Some(Duration::from_millis(300));
        config.log_one_of = NonZeroU32::new(1);
    });
    let mut app = router.connect().await;
    app.query_drop("SELECT 'quick'").await.unwrap();
    app.query_drop("SELECT SLEEP(0.4), 'secret' FROM DUAL")
        .await
        .unwrap();
    app.exec_drop("SELECT SLEEP(?)", (0.4,)).await.unwrap();
    // A line is written after the answer, and before the next one.
    for _ in 0..2 {
        app.query_drop("SELECT 'quick'").await.unwrap();
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("slow statement"))
        .collect();
    let slept = |line: &str| line.to_ascii_lowercase().contains("sleep");
    assert!(
        lines.iter().filter(|line| slept(line)).count() >= 2,
        "{text}"
    );
    for line in lines {
        assert!(
            !line.contains("secret") && line.contains("user=app"),
            "{line}"
        );
    }
    assert!(!text.contains("quick"));
    // The others are samples, without their literals as well.
    let is_sample = |line: &&str| line.contains("sampled statement");
    let mut samples = text.lines().filter(is_sample);
    assert!(
        samples.any(|line| line.ends_with("statement=SELECT ?")),
        "{text}"
    );
}

#[tokio::test]
async fn what_sessions_hold_is_told() {
    const LIMIT: Duration = Duration::from_secs(2);
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.transaction_time_max = Some(LIMIT));
    router.keep(&[KeptUser::new("reader", &[("shop", "read")])]);
    let mut looks = router.connect().await;
    let (mut open, mut warned, mut keeps) = (
        router.connect().await,
        router.connect().await,
        router.connect().await,
    );
    open.query_drop("BEGIN").await.unwrap();
    warned.query_drop("SELECT 1/0").await.unwrap();
    keeps.query_drop("SET @mine = 1").await.unwrap();
    let number = |conn: &Conn| u64::from(conn.id());
    let held = async |looks: &mut Conn, id: u64| {
        let rows: Vec<Row> = looks.query("SHOW VITRAIL SESSIONS").await.unwrap();
        let found = rows.iter().find(|row| row.get::<u64, _>("Id") == Some(id));
        let row = found.unwrap_or_else(|| panic!("no {id} in {rows:?}"));
        let transaction_ms: Option<u64> = row.get("Transaction_ms").unwrap();
        let kept_for: Option<String> = row.get("Kept_for").unwrap();
        (transaction_ms.is_some(), kept_for)
    };
    let why = |why: &str| Some(why.to_owned());
    let open_id = number(&open);
    assert_eq!(
        held(&mut looks, open_id).await,
        (true, why("an open transaction"))
    );
    assert_eq!(
        held(&mut looks, number(&warned)).await,
        (false, why("warnings or errors to be asked for"))
    );
    assert_eq!(
        held(&mut looks, number(&keeps)).await,
        (false, why("state that only that connection has"))
    );
    let own = number(&looks);
    assert_eq!(held(&mut looks, own).await, (false, None));
    // Whose transaction is ended holds nothing any more, although its client has said nothing.
    let until = Instant::now() + PATIENCE;
    while held(&mut looks, open_id).await != (false, None) {
        assert!(Instant::now() < until);
        tokio::time::sleep(STEP).await;
    }
    let mut reader = Conn::new(router.options("shop").user(Some("reader")))
        .await
        .unwrap();
    let rows: Vec<Row> = reader.query("SHOW VITRAIL SESSIONS").await.unwrap();
    assert_eq!(rows.len(), 1, "others are nobody's business: {rows:?}");
}

/// It takes nothing of a long answer, and does not go away either.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_answer_keeps_no_connection() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| {
        config.threads = 1;
        config.pool.connections = 1;
        config.pool.wait = PATIENCE;
        config.client_write_time_max = Duration::from_millis(500);
    });
    let port = router.handle.local_address().port();
    let mut silent = RawClient::login(port, NEW, "caching_sha2_password");
    // More than the buffers of all sockets on the way hold.
    let long = b"\x03WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT REPEAT('x', 100000) FROM n";
    silent.write_packet(0, long);
    let mut other = router.connect().await;
    let answer: Option<u8> = other.query_first("SELECT 7").await.unwrap();
    assert_eq!(answer, Some(7));
    // What it has not taken it gets no more.
    let (mut taken, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match silent.stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => taken += length,
        }
    }
    assert!(taken < 90_000_000, "{taken}");
}
