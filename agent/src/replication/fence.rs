//! Closing and opening for writes. Every closing is certain when it returns: it has taken effect, or it never will.

use std::time::Duration;

use tokio::time::timeout;

use super::status::APP_TRANSACTIONS;
use crate::mysqld::{
    APP_USER,
    admin_conn::{AdminConn, AdminError},
};

/// Who waits for it waits with all writers.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
/// `lock_wait_timeout` is 1 s, the least that mysqld takes, for each of two locks; then the statement has ended by itself.
const CERTAIN_LIMIT: Duration = Duration::from_millis(2_500);
const OPEN_LIMIT: Duration = Duration::from_secs(4);

/// Why the server is not closed. It stays as it was, for good.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("a commit waits longer than 300 ms for its acknowledgement")]
    CommitWaits,
}

/// Disconnects applications and keeps them away. Replication stays: its account may connect.
pub async fn cut_sessions(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within("SET GLOBAL offline_mode = ON", CLOSE_LIMIT)
        .await
}

/// Lets applications connect again.
pub async fn restore_sessions(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within("SET GLOBAL offline_mode = OFF", OPEN_LIMIT)
        .await
}

/// `super_read_only`. Behind a commit that waits it would hang, outlive its client and fire later: so the statement itself gives
/// up after a second, is killed before, and its end is awaited.
pub async fn close(conn: &mut AdminConn, spare: &mut AdminConn) -> Result<(), CloseError> {
    conn.execute("SET SESSION lock_wait_timeout = 1").await?;
    let id = conn.id();
    let closing = conn.execute_within("SET GLOBAL super_read_only = ON", CERTAIN_LIMIT);
    tokio::pin!(closing);
    if let Ok(result) = timeout(CLOSE_LIMIT, &mut closing).await {
        return Ok(result?);
    }
    if let Some(id) = id {
        spare.execute(&format!("KILL QUERY {id}")).await?;
    }
    match closing.await {
        // It was about to succeed.
        Ok(()) => Ok(()),
        Err(_) => Err(CloseError::CommitWaits),
    }
}

/// Ends what applications still have open, then closes.
pub async fn close_for_demotion(
    conn: &mut AdminConn,
    spare: &mut AdminConn,
) -> Result<(), CloseError> {
    let query = format!(
        "SELECT processlist_id FROM {APP_TRANSACTIONS} AND processlist_user = '{APP_USER}'"
    );
    let ids: Vec<u64> = conn.rows(&query).await?;
    for id in ids {
        // It may have ended by itself meanwhile.
        match conn.execute(&format!("KILL {id}")).await {
            Err(error) if error.ends_connection() => return Err(error.into()),
            _ => {}
        }
    }
    close(conn, spare).await
}

/// The agent may write, applications may not.
pub async fn open_for_agent(conn: &mut AdminConn) -> Result<(), AdminError> {
    // Setting super_read_only off leaves read_only as it is; it is set first all the same.
    conn.execute_within("SET GLOBAL read_only = ON", OPEN_LIMIT)
        .await?;
    conn.execute_within("SET GLOBAL super_read_only = OFF", OPEN_LIMIT)
        .await
}

/// Everybody may write.
pub async fn open_for_all(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within("SET GLOBAL read_only = OFF", OPEN_LIMIT)
        .await
}
