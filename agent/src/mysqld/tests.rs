//! A real mysqld through one life: made, started, asked, restarted, killed.

use std::{fs, path::Path, process::Command, time::Instant};

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vt_proto::gtid::GtidSet;

use super::{
    admin_conn::AdminConn,
    error_log,
    init::Prepared,
    probe::{Liveness, probe},
    rewind::binlog_files,
    testing::{PATIENCE, TestTablet, until, value},
};
use crate::guard::protocol::Server;

#[tokio::test]
async fn one_life_of_a_tablet() {
    let mut tablet = TestTablet::up("zone1-100").await;
    let mut admin = tablet.admin().await;
    the_settings_hold(&mut admin).await;
    accounts_have_the_rights_they_need(&tablet, &mut admin).await;
    assert_eq!(tablet.prepare().await.unwrap(), Prepared::Found);
    assert!(!tablet.dir().join("accounts.sql").exists());
    assert!(!tablet.dir().join("mysql-initialising").exists());

    the_error_log_stays_bounded(&tablet, &mut admin).await;

    // Another guard adopts it, and still tells its exit.
    let before = tablet.service.status().await.unwrap();
    tablet.kill_guard();
    tablet.start_guard().await;
    let mut watch = tablet.service.watch();
    let adopted = watch
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(adopted.pid(), before.pid());
    assert!(matches!(
        adopted.server,
        Server::Running { adopted: true, .. }
    ));
    assert_eq!(value(&mut admin, "SELECT 'still'").await, "still");

    let socket = tablet.layout().socket();
    let mut held = Some(admin);
    let found = probe(&mut held, &socket, &tablet.passwords.admin).await;
    assert!(matches!(found, Liveness::Alive { .. }), "{found:?}");
    tablet.service.kill().await.unwrap();
    let is_down = |status: &Option<_>| {
        status
            .as_ref()
            .is_some_and(|status: &crate::guard::protocol::Status| status.server == Server::Down)
    };
    watch.wait_for(is_down).await.unwrap();
    let found = probe(&mut held, &socket, &tablet.passwords.admin).await;
    assert!(matches!(found, Liveness::Absent { .. }), "{found:?}");

    // A killed server starts again at once, and a clean stop ends it.
    assert_eq!(tablet.start().await.incarnation, before.incarnation + 1);
    let mut admin = tablet.admin().await;
    assert_eq!(value(&mut admin, "SELECT @@GLOBAL.gtid_executed").await, "");
    tablet.service.stop(super::testing::PATIENCE).await.unwrap();
    watch.wait_for(is_down).await.unwrap();
    let exit = tablet.service.status().await.unwrap().last_exit.unwrap();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

async fn the_error_log_stays_bounded(tablet: &TestTablet, admin: &mut AdminConn) {
    let path = tablet.layout().error_log();
    assert!(
        !error_log::keep_bounded(tablet.layout(), admin)
            .await
            .unwrap()
    );
    let log = fs::File::options().append(true).open(&path).unwrap();
    log.set_len(crate::guard::process::LOG_LENGTH_MAX + 1)
        .unwrap();
    assert!(
        error_log::keep_bounded(tablet.layout(), admin)
            .await
            .unwrap()
    );
    assert!(fs::metadata(&path).unwrap().len() < 4096);
    fs::remove_file(tablet.dir().join("mysqld.log.1")).unwrap();
}

async fn the_settings_hold(admin: &mut AdminConn) {
    let expected = [
        ("gtid_executed", ""),
        ("super_read_only", "1"),
        ("relay_log_recovery", "0"),
        ("rpl_semi_sync_source_enabled", "0"),
        ("rpl_semi_sync_source_timeout", "1000000000000000000"),
        ("rpl_semi_sync_source_wait_no_replica", "1"),
        ("persisted_globals_load", "0"),
        ("partial_revokes", "1"),
        ("sync_binlog", "1"),
        ("performance_schema", "1"),
    ];
    for (name, wanted) in expected {
        let query = format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
        assert_eq!(value(admin, &query).await, wanted, "{name}");
    }
}

async fn accounts_have_the_rights_they_need(tablet: &TestTablet, admin: &mut AdminConn) {
    let statements = [
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
        "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1",
        "SET GLOBAL offline_mode = OFF",
        "SET SESSION sql_log_bin = 0",
        "CREATE DATABASE vitrail",
        "CREATE TABLE vitrail.t (i INT PRIMARY KEY)",
        "CREATE DATABASE commerce",
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_AUTO_POSITION = 1",
        "RESET REPLICA ALL",
        "SET GLOBAL clone_valid_donor_list = '127.0.0.1:1'",
        "FLUSH ERROR LOGS",
    ];
    for statement in statements {
        admin
            .execute(statement)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
    the_application_sees_no_internals(tablet).await;
    let mut clone = login(tablet, super::CLONE_USER, &tablet.passwords.replication).await;
    assert!(
        clone
            .query_drop("SELECT * FROM commerce.product")
            .await
            .is_err()
    );
    // Over the socket it is its operating system's account that tells root.
    let socket = tablet.layout().socket();
    let root = OptsBuilder::default()
        .socket(socket.to_str())
        .user(Some("root"));
    let is_root = nix::unistd::Uid::effective().is_root();
    assert_eq!(Conn::new(root).await.is_ok(), is_root);
    // Back to a server without transactions of its own.
    let version = tablet.settings.version;
    admin.execute(version.reset_binary_logs()).await.unwrap();
}

async fn the_application_sees_no_internals(tablet: &TestTablet) {
    let mut app = login(tablet, super::APP_USER, &tablet.passwords.app).await;
    for (statement, is_allowed) in [
        (
            "CREATE TABLE commerce.product (id INT PRIMARY KEY, name VARCHAR(20))",
            true,
        ),
        ("INSERT INTO commerce.product VALUES (1, 'one')", true),
        (
            "CREATE TRIGGER commerce.t BEFORE INSERT ON commerce.product FOR EACH ROW SET NEW.name = 'x'",
            true,
        ),
        (
            "CREATE VIEW commerce.v AS SELECT * FROM commerce.product",
            true,
        ),
        ("CREATE DATABASE other", true),
        ("DROP DATABASE other", true),
        ("SELECT * FROM vitrail.t", false),
        ("INSERT INTO vitrail.t VALUES (1)", false),
        ("DROP DATABASE vitrail", false),
        ("SELECT * FROM mysql.user", false),
        ("SET SESSION sql_log_bin = 0", false),
        ("SET GLOBAL super_read_only = OFF", false),
        ("SHUTDOWN", false),
        ("CREATE USER x", false),
    ] {
        let result = app.query_drop(statement).await;
        assert_eq!(result.is_ok(), is_allowed, "{statement}: {result:?}");
    }
}

async fn login(tablet: &TestTablet, user: &str, password: &str) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(tablet.settings.port)
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false);
    until("a login over TCP", async || {
        Conn::new(options.clone()).await.ok()
    })
    .await
}

/// Replicates from `source` with an account of this test.
async fn follow(replica: &mut AdminConn, source: &TestTablet) {
    let change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='copy', SOURCE_PASSWORD='copy', \
         SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
        source.settings.port
    );
    for statement in ["STOP REPLICA", &change, "START REPLICA"] {
        replica.execute(statement).await.unwrap();
    }
}

/// Waits until the table has these rows.
async fn has_rows(conn: &mut AdminConn, rows: &str) {
    until(rows, async || {
        let query = "SELECT COALESCE((SELECT GROUP_CONCAT(i ORDER BY i) FROM d.t), '')";
        let found: Vec<(String,)> = conn.rows(query).await.ok()?;
        (found[0].0 == rows).then_some(())
    })
    .await;
}

/// A server that comes back without transactions of its own, which others have: from a disk that had not kept what it said, or from
/// a backup. They bear its own server id, and must be received all the same.
#[tokio::test]
async fn what_it_has_forgotten_of_its_own_comes_back_from_others() {
    let first = TestTablet::up("zone1-100").await;
    let second = TestTablet::up("zone1-101").await;
    let mut admin = first.admin().await;
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "CREATE USER copy@'%' IDENTIFIED BY 'copy'",
        "GRANT REPLICATION SLAVE ON *.* TO copy@'%'",
        "CREATE DATABASE d",
        "CREATE TABLE d.t (i INT PRIMARY KEY)",
        "INSERT INTO d.t VALUES (1)",
    ] {
        admin.execute(statement).await.unwrap();
    }
    drop(admin);
    first.kill().await;
    let (data, older) = (&first.layout().mysql_dir, first.dir().join("older"));
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.unwrap().success());
    };
    copy(data, &older);
    first.start().await;
    let mut admin = first.admin().await;
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "INSERT INTO d.t VALUES (2)",
    ] {
        admin.execute(statement).await.unwrap();
    }
    let mut other = second.admin().await;
    follow(&mut other, &first).await;
    has_rows(&mut other, "1,2").await;
    drop(admin);
    first.kill().await;
    fs::remove_dir_all(data).unwrap();
    copy(&older, data);

    first.start().await;
    for statement in [
        "STOP REPLICA",
        "SET GLOBAL super_read_only = OFF",
        "INSERT INTO d.t VALUES (3)",
    ] {
        other.execute(statement).await.unwrap();
    }
    let mut admin = first.admin().await;
    follow(&mut admin, &second).await;
    has_rows(&mut admin, "1,2,3").await;
}

/// A start that is killed between making a binary log file and beginning it: what crash recovery committed before keeps its number.
#[tokio::test]
async fn a_start_that_was_killed_early_forgets_no_transaction() {
    let tablet = TestTablet::up("zone1-100").await;
    let mut admin = tablet.admin().await;
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "CREATE DATABASE d",
        "CREATE TABLE d.t (i INT PRIMARY KEY)",
    ] {
        admin.execute(statement).await.unwrap();
    }
    drop(admin);
    let (mut written, mut was_early) = (0, false);
    while !was_early {
        written += 1;
        assert!(written < 20, "no start was killed early enough");
        kill_over_waiting_row(&tablet, written).await;
        was_early = kill_start_early(&tablet).await;
        tablet.start().await;
    }
    let mut admin = tablet.admin().await;
    let rows: Vec<String> = (1..=written).map(|row| row.to_string()).collect();
    has_rows(&mut admin, &rows.join(",")).await;
    let purged = value(&mut admin, "SELECT @@GLOBAL.gtid_purged").await;
    assert_eq!(purged, "", "all are in the binary log");
    let executed = value(&mut admin, "SELECT @@GLOBAL.gtid_executed").await;
    let executed: GtidSet = executed.parse().unwrap();
    assert_eq!(executed.count(), 2 + written, "{executed}");
}

/// Leaves a row that nobody has acknowledged: it stands in the binary log and is not committed.
async fn kill_over_waiting_row(tablet: &TestTablet, row: u64) {
    let mut admin = tablet.admin().await;
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL rpl_semi_sync_source_enabled = ON",
    ] {
        admin.execute(statement).await.unwrap();
    }
    let mut writer = tablet.admin().await;
    let insert = format!("INSERT INTO d.t VALUES ({row})");
    let writing = tokio::spawn(async move { writer.execute(&insert).await });
    until("a transaction that waits", async || {
        let asked = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                     WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'";
        (value(&mut admin, asked).await == "1").then_some(())
    })
    .await;
    tablet.kill().await;
    writing.await.unwrap().unwrap_err();
}

/// Starts mysqld and kills it as soon as it has made a binary log file. Returns whether that one had not begun.
async fn kill_start_early(tablet: &TestTablet) -> bool {
    let newest = || {
        let files = binlog_files::list(&tablet.layout().mysql_dir).unwrap();
        // None while mysqld exchanges its index.
        files.last().cloned()
    };
    let (last, deadline) = (newest(), Instant::now() + PATIENCE);
    let pid = tablet.start().await.pid().unwrap();
    // Without a pause: what is to be hit may last less than a millisecond.
    while newest().is_none_or(|newest| Some(newest) == last) {
        assert!(Instant::now() < deadline, "no binary log file was made");
    }
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    tablet.kill().await;
    // Magic and format description of servers of 8.0 and later.
    fs::metadata(newest().unwrap()).unwrap().len() < 140
}

#[tokio::test]
async fn what_cannot_be_a_data_directory_is_refused_and_left_alone() {
    let tablet = TestTablet::new("zone1-100").await;
    let dir = tablet.layout().mysql_dir.clone();
    let refused = async || match tablet.prepare().await {
        Err(error) => error.to_string(),
        Ok(prepared) => panic!("{prepared:?}"),
    };
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ibdata1"), "somebody's").unwrap();
    assert!(refused().await.contains("not made by Vitrail"));
    fs::write(dir.join("vitrail-tablet"), "zone1-101").unwrap();
    assert!(refused().await.contains("zone1-101"));
    assert_eq!(
        fs::read_to_string(dir.join("ibdata1")).unwrap(),
        "somebody's"
    );
    assert_eq!(fs::read_dir(tablet.dir()).unwrap().count(), 1);

    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "a file").unwrap();
    assert!(refused().await.contains("not a directory"));
}

#[tokio::test]
async fn a_half_made_data_directory_is_made_anew() {
    let tablet = TestTablet::new("zone1-100").await;
    let dir = tablet.layout().mysql_dir.clone();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ibdata1"), "half a page").unwrap();
    let marker = tablet.dir().join("mysql-initialising");
    fs::write(&marker, dir.to_str().unwrap()).unwrap();
    assert_eq!(tablet.prepare().await.unwrap(), Prepared::Made);
    assert!(!marker.exists());
    assert_eq!(
        fs::read_to_string(dir.join("vitrail-tablet")).unwrap(),
        "zone1-100"
    );
}
