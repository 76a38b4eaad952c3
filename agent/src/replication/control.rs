//! The replication channel and its threads. `relay_log_recovery` is off and must be: what is acknowledged and not yet applied
//! stands in the relay log alone, and a full CHANGE throws that away.

use std::time::Duration;

use tokio::time::timeout;
use vt_proto::topology::Endpoint;

use super::quoted;
use crate::mysqld::admin_conn::{AdminConn, AdminError};

/// `rpl_stop_replica_timeout` is 2 s; a little more for the answer.
const STOP_LIMIT: Duration = Duration::from_millis(2_400);
/// A thread that can be stopped has stopped by then, also one that is connecting.
const KILL_AFTER: Duration = Duration::from_millis(150);
const START_LIMIT: Duration = Duration::from_secs(5);
/// So often is the source's silence seen: a heartbeat each 0.2 s on an idle stream.
const HEARTBEAT_PERIOD_S: &str = "0.2";
/// Tries one a second, for years: giving up would leave nobody to start it again.
const RETRY_COUNT: u32 = 100_000_000;

/// STOP REPLICA IO_THREAD, whatever state it shows. Success means that STOP has returned.
///
/// STOP wakes the thread once every two seconds, and one that waits for a source which hangs may miss that: so it is woken from
/// beside, by a kill. What it has half received is owed to nobody.
pub async fn stop_io_thread(conn: &mut AdminConn, spare: &mut AdminConn) -> Result<(), AdminError> {
    stop(
        conn,
        spare,
        "STOP REPLICA IO_THREAD",
        "'thread/sql/replica_io'",
    )
    .await
}

/// STOP, with a kill of the threads when it is late, again and again until it returns.
async fn stop(
    conn: &mut AdminConn,
    spare: &mut AdminConn,
    statement: &str,
    threads: &str,
) -> Result<(), AdminError> {
    let stopping = conn.execute_within(statement, STOP_LIMIT);
    tokio::pin!(stopping);
    loop {
        match timeout(KILL_AFTER, &mut stopping).await {
            Ok(result) => return result,
            Err(_) => {
                if let Err(error) = kill_threads(spare, threads).await {
                    tracing::warn!(%error, "a replication thread that does not stop cannot be killed");
                    return stopping.await;
                }
            }
        }
    }
}

async fn kill_threads(conn: &mut AdminConn, names: &str) -> Result<(), AdminError> {
    let query = format!(
        "SELECT processlist_id FROM performance_schema.threads \
         WHERE name IN ({names}) AND processlist_id IS NOT NULL"
    );
    let ids: Vec<u64> = conn.rows(&query).await?;
    for id in ids {
        match conn.execute(&format!("KILL {id}")).await {
            // It may have ended meanwhile.
            Err(error) if error.ends_connection() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Starts the IO thread alone.
pub async fn start_io_thread(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within("START REPLICA IO_THREAD", START_LIMIT)
        .await
}

/// Starts the applier alone.
pub async fn start_sql_thread(conn: &mut AdminConn) -> Result<(), AdminError> {
    conn.execute_within("START REPLICA SQL_THREAD", START_LIMIT)
        .await
}

/// Stops both threads and forgets the channel, with its relay log: only after everything whole in it is applied.
///
/// An applier in the middle of a transaction whose rest never came would wait for it and keep its locks: it is killed, which
/// rolls that transaction back.
pub async fn reset(conn: &mut AdminConn, spare: &mut AdminConn) -> Result<(), AdminError> {
    let threads = "'thread/sql/replica_io', 'thread/sql/replica_sql', 'thread/sql/replica_worker'";
    stop(conn, spare, "STOP REPLICA", threads).await?;
    conn.execute_within("RESET REPLICA ALL", START_LIMIT).await
}

/// Configures a channel where there is none.
pub async fn configure(
    conn: &mut AdminConn,
    source: &Endpoint,
    user: &str,
    password: &str,
) -> Result<(), AdminError> {
    // TLS without verification where the source has its automatic certificate; the public key serves where it has none.
    let statement = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = '{}', \
         SOURCE_PASSWORD = '{}', SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, GET_SOURCE_PUBLIC_KEY = 1, \
         SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = {RETRY_COUNT}, SOURCE_HEARTBEAT_PERIOD = {HEARTBEAT_PERIOD_S}",
        quoted(&source.host),
        source.port,
        quoted(user),
        quoted(password)
    );
    conn.execute_secret("CHANGE REPLICATION SOURCE", &statement, START_LIMIT)
        .await
}

/// Another source on the same channel, with the IO thread stopped and the SQL thread running: keeps the relay log.
/// The heartbeat is named again, since each CHANGE sets it back to half of `replica_net_timeout`.
pub async fn repoint(conn: &mut AdminConn, source: &Endpoint) -> Result<(), AdminError> {
    let statement = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, \
         SOURCE_HEARTBEAT_PERIOD = {HEARTBEAT_PERIOD_S}",
        quoted(&source.host),
        source.port
    );
    conn.execute_within(&statement, START_LIMIT).await
}
