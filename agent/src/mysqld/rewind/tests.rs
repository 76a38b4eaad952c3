//! On a real server: what was not acknowledged is gone after a cut, and everything else is there.

use std::{fs, time::Duration};

use vt_proto::{epoch::Epoch, gtid::GtidSet};

use super::{Rewind, rewind, server_uuid};
use crate::mysqld::{
    admin_conn::AdminConn,
    lost::list,
    testing::{TestTablet, until, value},
};

const NEVER: Duration = Duration::from_secs(3600);

async fn executed(conn: &mut AdminConn) -> GtidSet {
    value(conn, "SELECT @@GLOBAL.gtid_executed")
        .await
        .parse()
        .unwrap()
}

/// A primary with one acknowledged row, and semi-sync on with nobody to acknowledge.
async fn lonely_primary(tablet: &TestTablet) -> GtidSet {
    let mut admin = tablet.admin().await;
    for statement in [
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
        "CREATE DATABASE d",
        "CREATE TABLE d.t (i INT PRIMARY KEY)",
        "INSERT INTO d.t VALUES (1)",
        "SET GLOBAL rpl_semi_sync_source_enabled = ON",
    ] {
        admin.execute(statement).await.unwrap();
    }
    executed(&mut admin).await
}

/// Leaves a commit waiting for an acknowledgement that never comes.
async fn blocked_insert(tablet: &TestTablet) -> tokio::task::JoinHandle<()> {
    let mut writer = tablet.admin().await;
    let waiting = tokio::spawn(async move {
        let insert = writer
            .execute_within("INSERT INTO d.t VALUES (2)", NEVER)
            .await;
        assert!(insert.is_err(), "it was acknowledged by nobody");
    });
    let mut observer = tablet.admin().await;
    let query = "SELECT variable_value FROM performance_schema.global_status \
                 WHERE variable_name = 'Rpl_semi_sync_source_wait_sessions'";
    until("a waiting commit", async || {
        (value(&mut observer, query).await == "1").then_some(())
    })
    .await;
    waiting
}

async fn rows(conn: &mut AdminConn) -> String {
    value(conn, "SELECT GROUP_CONCAT(i ORDER BY i) FROM d.t").await
}

#[tokio::test]
async fn what_nobody_acknowledged_is_cut_off_and_kept_apart() {
    let tablet = TestTablet::up("zone1-100").await;
    let kept = lonely_primary(&tablet).await;
    let waiting = blocked_insert(&tablet).await;
    let epoch = Epoch(3);
    let cut = async || rewind(tablet.layout(), &tablet.binaries, &kept, epoch).await;
    assert!(cut().await.is_err(), "it runs");
    tablet.kill().await;
    waiting.await.unwrap();

    let uuid = server_uuid(&tablet.layout().mysql_dir).unwrap().unwrap();
    let lost = match cut().await.unwrap() {
        Rewind::Cut(lost) => lost,
        other => panic!("{other:?}"),
    };
    assert_eq!(lost.gtids.count(), 1);
    assert!(kept.subtract(&lost.gtids) == kept && lost.length_bytes > 0);
    let text = fs::read_to_string(lost.directory.join("tail.txt")).unwrap();
    assert!(text.contains("INSERT INTO `d`.`t`"), "{text}");
    let metadata = fs::read_to_string(lost.directory.join("metadata.json")).unwrap();
    assert!(metadata.contains(&lost.gtids.to_string()), "{metadata}");
    assert_eq!(cut().await.unwrap(), Rewind::Nothing);
    // What hosts report of it is exactly what vanished.
    let listed = list(&tablet.layout().lost_dir());
    let [only] = listed.kept.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!((&only.gtids, only.transactions), (&lost.gtids, 1));
    assert_eq!((only.epoch, only.bytes), (epoch, lost.length_bytes));
    assert!(only.readable && listed.left_out == 0, "{listed:?}");

    tablet.start().await;
    let mut admin = tablet.admin().await;
    assert_eq!(rows(&mut admin).await, "1");
    assert_eq!(executed(&mut admin).await, kept);
    assert_ne!(value(&mut admin, "SELECT @@server_uuid").await, uuid);
}

#[tokio::test]
async fn without_a_cut_the_row_would_appear_and_what_is_no_tail_is_not_cut() {
    let tablet = TestTablet::up("zone1-100").await;
    let kept = lonely_primary(&tablet).await;
    let waiting = blocked_insert(&tablet).await;
    tablet.kill().await;
    waiting.await.unwrap();
    tablet.start().await;
    let mut admin = tablet.admin().await;
    assert_eq!(rows(&mut admin).await, "1,2");
    drop(admin);
    tablet.kill().await;

    // The restart began another file, so the transaction is not in the last one any more: it has been committed.
    let found = rewind(tablet.layout(), &tablet.binaries, &kept, Epoch(3))
        .await
        .unwrap();
    assert!(matches!(found, Rewind::NeedsClone { .. }), "{found:?}");
    // And with nothing known, nothing is cut.
    let nothing = GtidSet::new();
    let found = rewind(tablet.layout(), &tablet.binaries, &nothing, Epoch(3))
        .await
        .unwrap();
    assert!(matches!(found, Rewind::NeedsClone { .. }), "{found:?}");
}

#[tokio::test]
async fn what_a_start_has_committed_before_it_was_ended_is_not_cut() {
    let tablet = TestTablet::up("zone1-100").await;
    let kept = lonely_primary(&tablet).await;
    let waiting = blocked_insert(&tablet).await;
    tablet.kill().await;
    waiting.await.unwrap();
    tablet.start().await;
    drop(tablet.admin().await);
    tablet.kill().await;
    // As if it had been killed between its recovery and its first own binary log file.
    let mysql_dir = &tablet.layout().mysql_dir;
    let index = mysql_dir.join("binlog.index");
    let files = fs::read_to_string(&index).unwrap();
    let (before, newest) = files.trim_end().rsplit_once('\n').unwrap();
    fs::write(&index, format!("{before}\n")).unwrap();
    fs::remove_file(mysql_dir.join(newest)).unwrap();

    let found = rewind(tablet.layout(), &tablet.binaries, &kept, Epoch(3)).await;
    let Rewind::NeedsClone { why } = found.unwrap() else {
        panic!("the row stays, and its number would be given again");
    };
    assert!(why.contains("may have committed"), "{why}");
    // For people all the same.
    let lost = fs::read_dir(tablet.layout().lost_dir()).unwrap();
    assert_eq!(lost.count(), 1);
}
