//! On a real server.

use super::*;
use crate::mysqld::testing::{TestTablet, value};

/// As it is when a replica becomes primary: closed, and nothing of it is written anywhere.
#[tokio::test]
async fn a_long_binary_log_is_ended_and_a_short_one_goes_on() {
    let tablet = TestTablet::up("zone1-100").await;
    let mut admin = tablet.admin().await;
    let executed = "SELECT @@GLOBAL.gtid_executed";
    let log = async |admin: &mut AdminConn| {
        let rows: Vec<(String, u64, String, String, String)> =
            admin.rows("SHOW BINARY LOG STATUS").await.unwrap();
        rows[0].0.clone()
    };
    let short = log(&mut admin).await;
    rotate_binary_log(&mut admin).await.unwrap();
    assert_eq!(log(&mut admin).await, short);
    admin
        .execute("SET GLOBAL super_read_only = 0")
        .await
        .unwrap();
    admin.execute("CREATE SCHEMA long_log").await.unwrap();
    admin
        .execute("CREATE TABLE long_log.t (bytes LONGBLOB)")
        .await
        .unwrap();
    let row = format!(
        "INSERT INTO long_log.t SELECT REPEAT('x', {})",
        ROTATE_BYTES_MIN / 4
    );
    for _ in 0..4 {
        admin.execute(&row).await.unwrap();
    }
    admin
        .execute("SET GLOBAL super_read_only = 1")
        .await
        .unwrap();
    let before = value(&mut admin, executed).await;
    rotate_binary_log(&mut admin).await.unwrap();
    assert_ne!(log(&mut admin).await, short);
    assert_eq!(value(&mut admin, executed).await, before);
}
