//! Reads that replicas answer: who answers what, and that a session finds what it wrote.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use vt_proto::routing::ServingState::Serving;
use vt_wire::command::CommandByte;
use vt_wire::packet::HEADER_LENGTH;
use vt_wire::response::OkPacket;
use vt_wire::scanner::Answer;
use vt_wire::session_track::{SessionChange, SessionChanges};

use crate::raw::{NEW, RawClient};
use crate::server::{Mysqld, TestRouter, code, snapshot};

/// Longer than a replica of an idle machine needs for a row.
const PATIENCE: Duration = Duration::from_secs(60);

struct Pair {
    primary: Mysqld,
    replica: Mysqld,
}

impl Pair {
    async fn start() -> Self {
        let (primary, replica) = (Mysqld::start_logging().await, Mysqld::start_logging().await);
        replica.follow(&primary).await;
        Self { primary, replica }
    }

    fn router(&self, read_wait: Duration) -> TestRouter {
        let router = TestRouter::start(&self.primary, |config| config.read_wait = read_wait);
        let (primary, replica) = (self.primary.endpoint(), self.replica.endpoint());
        let routes = snapshot(2, 1, Serving, Some(primary), &[replica]);
        assert!(router.topology.publish(routes));
        router
    }

    async fn at_replica(&self, sql: &str) {
        self.replica.admin().await.query_drop(sql).await.unwrap();
    }
}

async fn connect(router: &TestRouter, database: &str) -> Conn {
    Conn::new(router.options(database)).await.unwrap()
}

const INSERT: &str = "INSERT INTO product (name) VALUES ('own')";
const WHO: &str = "SELECT COUNT(*), @@port FROM product";

/// How many rows there are, and who says so.
async fn read(app: &mut Conn) -> (u32, u16) {
    app.query_first(WHO).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_reads_alone_is_answered_by_a_replica_and_all_else_by_the_primary() {
    let pair = Pair::start().await;
    let (primary, replica) = (pair.primary.port, pair.replica.port);
    let router = pair.router(PATIENCE);
    let mut app = connect(&router, "shop@split").await;
    assert_eq!(read(&mut app).await, (0, replica));
    for rows in 1..4 {
        app.query_drop(INSERT).await.unwrap();
        assert_eq!(
            read(&mut app).await,
            (rows, replica),
            "it waits for what was written"
        );
        let prepared: Option<(u32, u16)> = app.exec_first(WHO, ()).await.unwrap();
        assert_eq!(prepared, Some((rows, replica)));
    }
    app.exec_drop("INSERT INTO product (name) VALUES (?)", ("prepared",))
        .await
        .unwrap();
    let id: Option<u32> = app.query_first("SELECT LAST_INSERT_ID()").await.unwrap();
    assert_eq!(id, Some(4));
    for transaction in ["BEGIN", "START TRANSACTION READ ONLY", "SET autocommit = 0"] {
        app.query_drop(transaction).await.unwrap();
        assert_eq!(read(&mut app).await, (4, primary), "{transaction}");
        app.query_drop("COMMIT").await.unwrap();
    }
    app.query_drop("SET autocommit = 1").await.unwrap();
    let port: Option<u16> = app
        .query_first("SELECT @@port FROM product LIMIT 1 FOR UPDATE")
        .await
        .unwrap();
    assert_eq!(port, Some(primary));
    // A warning is asked for where it arose.
    app.query_drop("SELECT 1 / 0, @@port").await.unwrap();
    let warnings: Vec<(String, u16, String)> = app.query("SHOW WARNINGS").await.unwrap();
    assert_eq!(warnings.first().map(|warning| warning.1), Some(1365));
    assert_eq!(read(&mut app).await, (4, replica));
    app.query_drop("SET @pinned = 1").await.unwrap();
    assert_eq!(
        read(&mut app).await,
        (4, primary),
        "the session keeps its connection"
    );
}

#[tokio::test]
async fn what_a_replica_has_not_in_time_the_primary_answers() {
    let pair = Pair::start().await;
    let (primary, replica) = (pair.primary.port, pair.replica.port);
    let router = pair.router(Duration::from_millis(20));
    let mut app = connect(&router, "shop@split").await;
    pair.at_replica("STOP REPLICA SQL_THREAD").await;
    app.query_drop(INSERT).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(&mut app).await, (1, primary));
    }
    app.query_drop("SET vitrail_read_wait_ms = 0")
        .await
        .unwrap();
    assert_eq!(read(&mut app).await, (0, replica), "it does not mind");
    app.query_drop("SET vitrail_read_wait_ms = DEFAULT")
        .await
        .unwrap();
    assert_eq!(read(&mut app).await, (1, primary));
    let several = "SET vitrail_read_wait_ms = 1; SELECT 1";
    assert_eq!(code(app.query_drop(several).await), 1235);
    assert_eq!(
        code(app.query_drop("SET vitrail_none = 1").await),
        1193,
        "as of any other variable that is not there"
    );
    let mut stranger = connect(&router, "shop@split").await;
    assert_eq!(read(&mut stranger).await, (0, replica), "it wrote nothing");
    // The same where a session reads from replicas by name; what it keeps there, nobody else has.
    app.query_drop("USE `shop@replica`").await.unwrap();
    assert_eq!(read(&mut app).await, (1, primary));
    app.query_drop("USE `shop@rdonly`").await.unwrap();
    assert_eq!(code(app.query_drop(WHO).await), 9007, "there is none");
    // What a session keeps on a replica that has not its own write yet: neither the replica nor the primary may answer.
    let mut bound = connect(&router, "shop").await;
    bound.query_drop(INSERT).await.unwrap();
    for statement in [
        "USE `shop@replica`",
        "SET vitrail_read_wait_ms = 0",
        "SET @kept = 1",
        "SET vitrail_read_wait_ms = DEFAULT",
    ] {
        bound.query_drop(statement).await.unwrap();
    }
    assert_eq!(code(bound.query_drop(WHO).await), 9011);
    bound
        .query_drop("SET vitrail_read_wait_ms = 0")
        .await
        .unwrap();
    let kept: Option<u8> = bound.query_first("SELECT @kept").await.unwrap();
    assert_eq!(kept, Some(1), "the session goes on");
    let mut keeps = connect(&router, "shop@replica").await;
    keeps.query_drop("SET @kept = 1").await.unwrap();
    keeps.query_drop("USE shop").await.unwrap();
    assert_eq!(code(keeps.query_drop(INSERT).await), 9003);
    pair.at_replica("START REPLICA SQL_THREAD").await;
    let patient = pair.router(PATIENCE);
    let mut app = connect(&patient, "shop@split").await;
    app.query_drop(INSERT).await.unwrap();
    assert_eq!(read(&mut app).await, (3, replica));
}

#[tokio::test]
async fn what_the_router_would_do_is_told_without_doing_it() {
    let primary = Mysqld::start_logging().await;
    let router = TestRouter::start(&primary, |_| {});
    let mut app = connect(&router, "shop@split").await;
    app.query_drop(INSERT).await.unwrap();
    let server = format!("127.0.0.1:{}", primary.port);
    let cases: [(&str, &[(&str, &str)]); 5] = [
        (
            "SELECT 1 FROM product",
            &[
                ("plan", "forward read"),
                ("target", "replica (of split)"),
                ("replica set", "rs0"),
                ("server", &server),
                ("schema there", "shop"),
                ("connection", "any of the pool"),
            ],
        ),
        (
            "INSERT INTO product (name) VALUES ('never')",
            &[("plan", "forward write"), ("target", "primary (of split)")],
        ),
        ("SELECT GET_LOCK('a', 1)", &[("traits", "advisory_lock")]),
        ("SHOW DATABASES", &[("answered by", "this router")]),
        ("SELECT * FROM elsewhere.t", &[("plan", "forward read")]),
    ];
    for (sql, expected) in cases {
        let rows: Vec<(String, String)> = app.query(format!("VEXPLAIN {sql}")).await.unwrap();
        for (name, value) in expected {
            let has = rows.contains(&((*name).to_owned(), (*value).to_owned()));
            assert!(has, "{sql}: no {name} = {value} in {rows:?}");
        }
    }
    let rows: Vec<(String, String)> = app.query("VEXPLAIN SELECT 1").await.unwrap();
    let waits = rows.iter().find(|(name, _)| name == "waits for");
    assert!(
        waits.is_some_and(|(_, what)| what.contains(":1 for 200 ms")),
        "{rows:?}"
    );
    app.query_drop("BEGIN").await.unwrap();
    app.query_drop(INSERT).await.unwrap();
    let rows: Vec<(String, String)> = app.query("VEXPLAIN SELECT 1").await.unwrap();
    let kept = (
        "connection".to_owned(),
        "kept for an open transaction".to_owned(),
    );
    assert!(rows.contains(&kept), "{rows:?}");
    app.query_drop("ROLLBACK").await.unwrap();
    let count: Option<u32> = app
        .query_first("SELECT COUNT(*) FROM product")
        .await
        .unwrap();
    assert_eq!(count, Some(1), "nothing of what was explained was done");
    let several = app.query_drop("VEXPLAIN SELECT 1; SELECT 2").await;
    assert_eq!(code(several), 1235);
}

#[tokio::test]
async fn a_replica_that_is_lost_is_not_missed() {
    let mut pair = Pair::start().await;
    let router = pair.router(PATIENCE);
    let mut app = connect(&router, "shop@split").await;
    app.query_drop(INSERT).await.unwrap();
    assert_eq!(read(&mut app).await, (1, pair.replica.port));
    pair.replica.kill();
    for _ in 0..3 {
        assert_eq!(read(&mut app).await, (1, pair.primary.port));
    }
    let none = snapshot(3, 1, Serving, Some(pair.primary.endpoint()), &[]);
    assert!(router.topology.publish(none));
    assert_eq!(read(&mut app).await, (1, pair.primary.port));
}

/// Two that have the same; one of them is near.
#[tokio::test]
async fn a_session_reads_in_its_own_cell_from_one_that_does_not_lag() {
    let pair = Pair::start().await;
    let other = Mysqld::start_logging().await;
    other.follow(&pair.primary).await;
    let router = TestRouter::start(&pair.primary, |config| {
        config.cell = Some("zone2".parse().unwrap());
        config.replica_lag_ms_max = Some(1_000);
    });
    let publish = |revision, lag_ms| {
        let replicas = [pair.replica.endpoint(), other.endpoint()];
        let primary = pair.primary.endpoint();
        let mut routes = snapshot(revision, 1, Serving, Some(primary), &replicas);
        let set = std::sync::Arc::make_mut(&mut routes.replica_sets[0]);
        set.replicas[1].alias = "zone2-7".parse().unwrap();
        set.replicas[1].lag_ms = lag_ms;
        assert!(router.topology.publish(routes));
    };
    publish(2, Some(0));
    let mut app = connect(&router, "shop@replica").await;
    assert_eq!(read(&mut app).await.1, other.port);
    for (revision, lag_ms) in [(3, Some(1_001)), (4, None)] {
        publish(revision, lag_ms);
        assert_eq!(read(&mut app).await.1, pair.replica.port, "{lag_ms:?}");
    }
    publish(5, Some(1_000));
    assert_eq!(read(&mut app).await.1, other.port, "it comes back");
    // A session may want more or less than the router is configured for.
    const LAG: &str = "SELECT @@vitrail_replica_lag_max_ms";
    let shown: Option<u64> = app.query_first(LAG).await.unwrap();
    assert_eq!(shown, Some(1_000));
    for (limit, port) in [
        ("999", pair.replica.port),
        ("1000", other.port),
        ("999", pair.replica.port),
        ("DEFAULT", other.port),
    ] {
        app.query_drop(format!("SET vitrail_replica_lag_max_ms = {limit}"))
            .await
            .unwrap();
        assert_eq!(read(&mut app).await.1, port, "{limit}");
    }
    app.query_drop("SET @@session.vitrail_replica_lag_max_ms = 999")
        .await
        .unwrap();
    app.reset().await.unwrap();
    assert_eq!(read(&mut app).await.1, other.port);
}

/// Sessions that come while others read go where less is under way.
#[tokio::test]
async fn sessions_go_where_the_least_is_under_way() {
    let pair = Pair::start().await;
    let other = Mysqld::start_logging().await;
    other.follow(&pair.primary).await;
    let router = TestRouter::start(&pair.primary, |config| config.threads = 1);
    let replicas = [pair.replica.endpoint(), other.endpoint()];
    let primary = pair.primary.endpoint();
    let routes = snapshot(2, 1, Serving, Some(primary), &replicas);
    assert!(router.topology.publish(routes));
    let mut busy = connect(&router, "shop@replica").await;
    let (_, first) = read(&mut busy).await;
    busy.query_drop("SELECT GET_LOCK('a', 0)").await.unwrap();
    for _ in 0..4 {
        let mut app = connect(&router, "shop@replica").await;
        let (_, next) = read(&mut app).await;
        assert_ne!(next, first, "its one connection is in use");
    }
}

#[tokio::test]
async fn clients_are_told_gtids_if_they_ask() {
    let primary = Mysqld::start_logging().await;
    let router = TestRouter::start(&primary, |_| {});
    let port = router.handle.local_address().port();
    let mut app = RawClient::login(port, NEW, "caching_sha2_password");
    let mut run = |sql: &str| app.command(CommandByte::QUERY, sql.as_bytes(), Answer::Results);
    let cases = [
        (None, false),
        (Some("OWN_GTID"), true),
        (Some("ALL_GTIDS"), true),
        (Some("OFF"), false),
    ];
    for (setting, is_told) in cases {
        if let Some(setting) = setting {
            run(&format!("SET SESSION session_track_gtids = {setting}"));
        }
        let (_, wire) = run(INSERT);
        let ok = OkPacket::parse(&wire[HEADER_LENGTH..], NEW).unwrap();
        let mut changes = SessionChanges::new(ok.session_state).flatten();
        let told = changes.any(|change| matches!(change, SessionChange::Gtids(_)));
        assert_eq!(told, is_told, "{setting:?}");
    }
}

/// What a session has chosen to be told goes with its connection, as all that only the connection knows.
#[tokio::test]
async fn who_loses_its_connection_is_told_what_everybody_is() {
    const SESSION_STATE_LOST: u16 = 9003;
    let primary = Mysqld::start().await;
    let router = TestRouter::start(&primary, |_| {});
    let port = router.handle.local_address().port();
    let mut app = RawClient::login(port, NEW, "caching_sha2_password");
    let told = |app: &mut RawClient| {
        let set = b"SET SESSION group_concat_max_len = 2000";
        let (_, wire) = app.command(CommandByte::QUERY, set, Answer::Results);
        let ok = OkPacket::parse(&wire[HEADER_LENGTH..], NEW).unwrap();
        SessionChanges::new(ok.session_state).flatten().count()
    };
    assert_eq!(told(&mut app), 0);
    app.query("SET SESSION session_track_system_variables = '*'");
    assert!(told(&mut app) > 0);
    primary.kill_sessions_of_the_router().await;
    let (lost, _) = app.query("DO 1");
    assert_eq!(lost.error, Some(SESSION_STATE_LOST));
    assert_eq!(told(&mut app), 0);
}
