//! Semi-sync: an infinite wait, never a silent fall-back to asynchronous. When each side is switched is said by the core.

use std::time::Duration;

use crate::mysqld::admin_conn::{AdminConn, AdminError};

/// The longest time-out mysqld takes, in ms: longer than any outage. A finite one would be a deadline of the wall clock.
const TIMEOUT_MS: u64 = 1_000_000_000_000_000_000;
/// Switching off waits for the receiver of acknowledgements, up to a second.
const SWITCH_LIMIT: Duration = Duration::from_secs(4);

/// It waits for commits under way, which take as long as their disk; writers wait for it.
const ROTATE_LIMIT: Duration = Duration::from_millis(400);

/// Reading so much takes no time that counts: about a millisecond for each megabyte.
const ROTATE_BYTES_MIN: u64 = 1 << 20;

/// Each commit waits for `acks` replicas from now on, for ever.
pub async fn enable_source(conn: &mut AdminConn, acks: u32) -> Result<(), AdminError> {
    let statement = format!(
        "SET GLOBAL rpl_semi_sync_source_timeout = {TIMEOUT_MS}, \
         GLOBAL rpl_semi_sync_source_wait_no_replica = ON, \
         GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC', \
         GLOBAL rpl_semi_sync_source_wait_for_replica_count = {acks}, \
         GLOBAL rpl_semi_sync_source_enabled = ON"
    );
    conn.execute_within(&statement, SWITCH_LIMIT).await
}

/// The present binary log ends and a new one begins, unless it is short. It is written into none.
pub async fn rotate_binary_log(conn: &mut AdminConn) -> Result<(), AdminError> {
    // File, position, and what this version does not set.
    let status: Vec<(String, u64, String, String, String)> =
        conn.rows("SHOW BINARY LOG STATUS").await?;
    if status
        .iter()
        .all(|(_, bytes, ..)| *bytes < ROTATE_BYTES_MIN)
    {
        return Ok(());
    }
    conn.execute_within("FLUSH BINARY LOGS", ROTATE_LIMIT).await
}

/// Only on a closed server without waiting commits: it would release them.
pub async fn disable_source(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within(
        "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
        SWITCH_LIMIT,
    )
    .await
}

/// Takes effect when the IO thread starts.
pub async fn set_replica(conn: &mut AdminConn, enabled: bool) -> Result<(), AdminError> {
    let word = if enabled { "ON" } else { "OFF" };
    conn.execute_within(
        &format!("SET GLOBAL rpl_semi_sync_replica_enabled = {word}"),
        SWITCH_LIMIT,
    )
    .await
}

#[cfg(test)]
mod tests;
