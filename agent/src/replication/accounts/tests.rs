//! On real servers: accounts are made and locked past the binary log, and who is locked out acknowledges nothing.

use std::{io::Read, net::TcpStream};

use vt_proto::topology::Endpoint;

use super::*;
use crate::{
    mysqld::testing::{PATIENCE, TestTablet, until, value},
    replication::{control, semisync},
};

#[test]
fn every_tablet_has_an_account_name_of_its_own_that_mysql_takes() {
    let user = |alias: &str| replication_user(&alias.parse().unwrap());
    assert_eq!(user("zone1-100"), "vtr_zone1-100");
    let (one, other) = (
        user("a_cell_with_a_long_nam_1-4294967295"),
        user("a_cell_with_a_long_nam_2-4294967295"),
    );
    assert!(
        one.len() <= NAME_LENGTH_MAX && one.starts_with("vtr_4294967295_"),
        "{one}"
    );
    assert_ne!(one, other);
}

/// A replica makes them too, so that a failover finds them: past the binary log, and closed again afterwards.
#[tokio::test]
async fn accounts_are_made_on_a_closed_server_and_leave_no_trace_in_its_log() {
    let tablet = TestTablet::up("zone1-100").await;
    let mut admin = tablet.admin().await;
    let executed = "SELECT @@GLOBAL.gtid_executed";
    let before = value(&mut admin, executed).await;
    let password = &tablet.passwords.replication;
    let others: [TabletAlias; 2] = ["zone1-101", "zone1-102"].map(|it| it.parse().unwrap());
    for open in [&others[..1], &others[..], &others[..]] {
        let settled = settle(tablet.admin().await, &mut admin, open, password);
        settled.await.unwrap();
    }
    let rights = "SELECT GROUP_CONCAT(CONCAT(user, repl_slave_priv, account_locked, priv) ORDER BY user) \
         FROM mysql.user JOIN mysql.global_grants USING (user, host) WHERE user LIKE 'vtr%'";
    assert_eq!(
        value(&mut admin, rights).await,
        "vtr_zone1-101YNCONNECTION_ADMIN,vtr_zone1-102YNCONNECTION_ADMIN"
    );
    assert_eq!(value(&mut admin, executed).await, before);
    let closed = "SELECT CAST(@@GLOBAL.super_read_only AS CHAR)";
    assert_eq!(value(&mut admin, closed).await, "1");
    // Whatever an earlier call still does in mysqld comes first.
    let mut earlier = tablet.admin().await;
    earlier.rows::<Option<u8>>(ONE_AT_A_TIME).await.unwrap();
    let late = settle(tablet.admin().await, &mut admin, &others, password).await;
    assert!(matches!(late, Err(AccountsError::Busy)), "{late:?}");
    let late = lock_out(tablet.admin().await, &others).await;
    assert!(matches!(late, Err(AccountsError::Busy)), "{late:?}");
}

const DUMPS: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM performance_schema.threads \
     WHERE processlist_command LIKE 'Binlog Dump%'";

/// A source that waits for one acknowledgement, and a replica that acknowledges to it.
async fn acknowledging_pair() -> (TestTablet, TestTablet) {
    let (source, replica) = (TestTablet::up("z-1").await, TestTablet::up("z-2").await);
    let (mut ours, mut theirs) = (source.admin().await, replica.admin().await);
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
        "CREATE DATABASE d",
        "CREATE TABLE d.t (i INT PRIMARY KEY)",
    ] {
        ours.execute(statement).await.unwrap();
    }
    let password = &source.passwords.replication;
    let replicas = ["z-2".parse().unwrap()];
    let settled = settle(source.admin().await, &mut ours, &replicas, password);
    settled.await.unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: source.settings.port,
    };
    let user = replication_user(&replicas[0]);
    let configured = control::configure(&mut theirs, &endpoint, &user, password);
    configured.await.unwrap();
    semisync::set_replica(&mut theirs, true).await.unwrap();
    semisync::enable_source(&mut ours, 1).await.unwrap();
    control::start_io_thread(&mut theirs).await.unwrap();
    ours.execute_within("INSERT INTO d.t VALUES (1)", PATIENCE)
        .await
        .unwrap();
    (source, replica)
}

#[tokio::test]
async fn who_is_locked_out_acknowledges_nothing_until_it_is_let_in() {
    let (source, replica) = acknowledging_pair().await;
    let (mut ours, mut theirs) = (source.admin().await, replica.admin().await);
    let replicas: [TabletAlias; 1] = ["z-2".parse().unwrap()];
    assert_eq!(value(&mut ours, DUMPS).await, "1");
    lock_out(source.admin().await, &replicas).await.unwrap();
    assert_eq!(value(&mut ours, DUMPS).await, "0");
    let clients = "SELECT variable_value FROM performance_schema.global_status \
         WHERE variable_name = 'Rpl_semi_sync_source_clients'";
    assert_eq!(value(&mut ours, clients).await, "0");

    // It tries again and again, in vain; a commit waits meanwhile, and locking waits for no commit.
    let mut writer = source.admin().await;
    let waiting = tokio::spawn(async move {
        let insert = "INSERT INTO d.t VALUES (2)";
        writer.execute_within(insert, PATIENCE).await
    });
    let error = "SELECT CAST(last_error_number AS CHAR) FROM performance_schema.replication_connection_status";
    until("a refusal", async || {
        (value(&mut theirs, error).await == "3118").then_some(())
    })
    .await;
    lock_out(source.admin().await, &replicas).await.unwrap();
    assert!(!waiting.is_finished());
    assert_eq!(value(&mut ours, DUMPS).await, "0");

    let password = &source.passwords.replication;
    let settled = settle(source.admin().await, &mut ours, &replicas, password);
    settled.await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// It read its account before the lock and may pass after it.
#[tokio::test]
async fn a_login_that_began_before_the_lock_is_waited_for() {
    let source = TestTablet::up("z-1").await;
    let mut ours = source.admin().await;
    fence::open_for_agent(&mut ours).await.unwrap();
    let replicas: [TabletAlias; 1] = ["z-2".parse().unwrap()];
    let address = ("127.0.0.1", source.settings.port);
    let mut login = until("a connection", async || TcpStream::connect(address).ok()).await;
    let mut greeting = [0; 16];
    login.read_exact(&mut greeting).unwrap();
    let locked = lock_out(source.admin().await, &replicas).await;
    assert!(
        matches!(locked, Err(AccountsError::Connected(1))),
        "{locked:?}"
    );
    drop(login);
    until("the end of that login", async || {
        lock_out(source.admin().await, &replicas).await.ok()
    })
    .await;
}
