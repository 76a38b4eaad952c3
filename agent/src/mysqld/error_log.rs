//! Keeps mysqld's error log bounded while it runs. The guard does the same at each start.

use std::fs;

use super::{
    Layout,
    admin_conn::{AdminConn, AdminError, QUERY_TIMEOUT},
};
use crate::guard::process::LOG_LENGTH_MAX;

/// Begins a fresh log if the present one is large. Returns whether it did.
pub async fn keep_bounded(layout: &Layout, conn: &mut AdminConn) -> Result<bool, AdminError> {
    let path = layout.error_log();
    if fs::metadata(&path).is_ok_and(|found| found.len() <= LOG_LENGTH_MAX) {
        return Ok(false);
    }
    // mysqld goes on writing to the renamed file until it is told to open its log again; nothing is lost.
    if let Err(error) = fs::rename(&path, path.with_extension("log.1")) {
        tracing::warn!(path = %path.display(), %error, "mysqld's error log cannot be renamed and grows on");
        return Ok(false);
    }
    conn.execute_within("FLUSH ERROR LOGS", QUERY_TIMEOUT)
        .await?;
    Ok(true)
}
