//! Replaces this tablet's data by a copy of a donor's. Whether this may be done, that is whether another good copy exists,
//! is decided before anybody calls this.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use vt_proto::topology::Endpoint;

use super::{
    CLONE_USER,
    admin_conn::{AdminConn, AdminError},
};

/// Between two looks at the progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// mysqld's errors at the end of a clone that went well: it cannot restart by itself, or broke the connection for it.
const RESTART_FAILED: u16 = 3707;
const CONNECTION_LOST_CODES: [u16; 2] = [2006, 2013];

/// How a clone ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// The data is there and mysqld ends, to be started again by its guard; where the guard had adopted it, by the agent.
    Restarting,
}

/// Why there is no copy. The data that was there before may be gone.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the copy from {donor} was not complete after {limit_s} s; it was broken off")]
    Late { donor: String, limit_s: u64 },
}

/// Bytes copied so far and in all, as mysqld estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub copied_bytes: u64,
    pub total_bytes: u64,
}

/// Copies the donor's data over ours. `conn` is used up; `observer` is a second connection for the progress.
pub async fn clone_from(
    mut conn: AdminConn,
    mut observer: AdminConn,
    donor: &Endpoint,
    password: &str,
    limit: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<Cloned, CloneError> {
    end_prepared(&mut conn).await?;
    let address = format!("{}:{}", donor.host, donor.port);
    let allow = format!(
        "SET GLOBAL clone_valid_donor_list = '{}'",
        escaped(&address)
    );
    conn.execute(&allow).await?;
    let statement = format!(
        "CLONE INSTANCE FROM '{CLONE_USER}'@'{}':{} IDENTIFIED BY '{}'",
        escaped(&donor.host),
        donor.port,
        escaped(password)
    );
    let what = format!("CLONE INSTANCE FROM {address}");
    let id = conn.id();
    let deadline = Instant::now() + limit;
    let cloning = conn.execute_secret(&what, &statement, limit);
    tokio::pin!(cloning);
    loop {
        match timeout(PROGRESS_PAUSE, &mut cloning).await {
            Ok(result) => return finish(result, address, limit),
            Err(_) if Instant::now() >= deadline => {
                if let Some(id) = id {
                    // Best effort: the statement is given up in any case.
                    let _ = observer.execute(&format!("KILL {id}")).await;
                }
                return Err(late(address, limit));
            }
            Err(_) => {
                if let Ok(now) = read_progress(&mut observer).await {
                    progress(now);
                }
            }
        }
    }
}

/// Rolls back what is prepared by XA: its locks would keep the old tables from being dropped, without end. Past the binary log:
/// the copy has its own answer to whether they commit.
async fn end_prepared(conn: &mut AdminConn) -> Result<(), AdminError> {
    let prepared: Vec<(i64, usize, usize, String)> = conn.rows("XA RECOVER CONVERT XID").await?;
    if prepared.is_empty() {
        return Ok(());
    }
    conn.execute("SET SESSION sql_log_bin = OFF").await?;
    for (format, global_length, branch_length, data) in prepared {
        let digits = data.trim_start_matches("0x");
        let (global, branch) = digits.split_at(digits.len().min(2 * global_length));
        let branch = &branch[..branch.len().min(2 * branch_length)];
        tracing::info!(xid = %data, "a prepared transaction is rolled back before its table is replaced by a copy");
        let statement = format!("XA ROLLBACK X'{global}', X'{branch}', {format}");
        conn.execute(&statement).await?;
    }
    conn.execute("SET SESSION sql_log_bin = ON").await
}

fn finish(
    result: Result<(), AdminError>,
    donor: String,
    limit: Duration,
) -> Result<Cloned, CloneError> {
    match result {
        Ok(()) | Err(AdminError::Broken { .. }) => Ok(Cloned::Restarting),
        Err(error) => match error.code() {
            Some(code) if code == RESTART_FAILED || CONNECTION_LOST_CODES.contains(&code) => {
                Ok(Cloned::Restarting)
            }
            _ if matches!(error, AdminError::Late { .. }) => Err(late(donor, limit)),
            _ => Err(error.into()),
        },
    }
}

fn late(donor: String, limit: Duration) -> CloneError {
    CloneError::Late {
        donor,
        limit_s: limit.as_secs(),
    }
}

async fn read_progress(observer: &mut AdminConn) -> Result<Progress, AdminError> {
    let query = "SELECT CAST(COALESCE(SUM(data), 0) AS UNSIGNED), CAST(COALESCE(SUM(estimate), 0) AS UNSIGNED) \
                 FROM performance_schema.clone_progress";
    let rows: Vec<(u64, u64)> = observer.rows(query).await?;
    let (copied_bytes, total_bytes) = rows.first().copied().unwrap_or_default();
    Ok(Progress {
        copied_bytes,
        total_bytes,
    })
}

/// Whether the data that mysqld runs on came whole from a clone, asked after its restart; the text says why not.
pub async fn verify(conn: &mut AdminConn) -> Result<Result<(), String>, AdminError> {
    let query =
        "SELECT state, error_no, COALESCE(error_message, '') FROM performance_schema.clone_status";
    let rows: Vec<(String, i64, String)> = conn.rows(query).await?;
    Ok(match rows.first() {
        Some((state, _, _)) if state == "Completed" => Ok(()),
        Some((state, code, message)) => Err(format!("{state}: error {code}: {message}")),
        None => Err("mysqld knows of no clone".to_owned()),
    })
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::testing::{PATIENCE, TestTablet, until, value};

    /// Transactions that are prepared and whose session is gone: they hold their locks for ever.
    async fn leave_prepared(tablet: &TestTablet) {
        let mut admin = tablet.admin().await;
        for statement in [
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
            "CREATE DATABASE here",
            "CREATE TABLE here.t (i INT PRIMARY KEY)",
        ] {
            admin.execute(statement).await.unwrap();
        }
        for (number, xid) in ["'tail'", "'tail','branch',7", "X'00ff'"]
            .iter()
            .enumerate()
        {
            let mut session = tablet.admin().await;
            for statement in [
                &format!("XA START {xid}"),
                &format!("INSERT INTO here.t VALUES ({number})"),
                &format!("XA END {xid}"),
                &format!("XA PREPARE {xid}"),
            ] {
                session.execute(statement).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_clone_replaces_the_data_and_starts_again_by_the_guard() {
        let (donor, recipient) =
            tokio::join!(TestTablet::up("zone1-100"), TestTablet::up("zone1-101"));
        let mut source = donor.admin().await;
        for statement in [
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
            "CREATE DATABASE d",
            "CREATE TABLE d.t (i INT PRIMARY KEY)",
            "INSERT INTO d.t VALUES (42)",
        ] {
            source.execute(statement).await.unwrap();
        }
        leave_prepared(&recipient).await;
        let executed = value(&mut source, "SELECT @@GLOBAL.gtid_executed").await;
        let (conn, observer) = (recipient.admin().await, recipient.admin().await);
        let address = |port| Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
        };
        let donor_at = address(donor.settings.port);
        let password = &recipient.passwords.replication;
        let cloned = clone_from(conn, observer, &donor_at, password, PATIENCE, |_| {}).await;
        assert_eq!(cloned.unwrap(), Cloned::Restarting);
        until("its second life", async || {
            let status = recipient.service.status().await.unwrap();
            (status.incarnation == 2 && status.pid().is_some()).then_some(())
        })
        .await;
        let mut copy = recipient.admin().await;
        assert_eq!(verify(&mut copy).await.unwrap(), Ok(()));
        assert_eq!(
            value(&mut copy, "SELECT CAST(i AS CHAR) FROM d.t").await,
            "42"
        );
        assert_eq!(
            value(&mut copy, "SELECT @@GLOBAL.gtid_executed").await,
            executed
        );
        let uuid = "SELECT @@server_uuid";
        assert_ne!(value(&mut copy, uuid).await, value(&mut source, uuid).await);
        assert_eq!(
            recipient.prepare().await.unwrap(),
            crate::mysqld::init::Prepared::Found
        );

        // A donor that refuses is told in its own words, without the password.
        let (conn, observer) = (recipient.admin().await, recipient.admin().await);
        let refused = clone_from(conn, observer, &donor_at, "secret", PATIENCE, |_| {}).await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("CLONE INSTANCE FROM") && !text.contains("secret"),
            "{text}"
        );
    }
}
