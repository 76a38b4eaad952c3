//! The accounts of the other tablets, one for each, with which they replicate from here. They are in no binary log: an account statement
//! that waited for an acknowledgement would hold the lock which the acker needs to log in.
//!
//! Locking one out takes three things, since an account that is locked is refused at the next login only: the lock, a kill of every
//! connection that is there, and the end of every login that began before the lock and may still pass. A connection that has ended is
//! read by nobody: mysqld's dump thread waits at its end until the receiver of acknowledgements has let go of it.
//!
//! A statement that is given up may still run in mysqld and take effect later. So each call holds a lock of its session, which mysqld
//! gives back only when that session's last statement has ended: what is settled later is never undone by what was ordered before.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};
use vt_proto::ids::TabletAlias;

use super::{fence, quoted};
use crate::mysqld::{
    REPLICATION_RIGHTS,
    admin_conn::{AdminConn, AdminError},
};

/// MySQL's limit for names of accounts.
const NAME_LENGTH_MAX: usize = 32;
/// What the names of these accounts begin with.
const PREFIX: &str = "vtr_";
/// How long a connection that was killed may take to end: the receiver of acknowledgements looks up once a second.
const LEAVE_LIMIT: Duration = Duration::from_millis(2_500);
/// Between two looks at those that are left.
const LEAVE_PAUSE: Duration = Duration::from_millis(20);
/// Connections that were too many to be told of.
const LOST_THREADS: &str = "SELECT variable_value FROM performance_schema.global_status \
     WHERE variable_name = 'Performance_schema_thread_instances_lost'";
/// Given back by the end of the session.
const ONE_AT_A_TIME: &str = "SELECT GET_LOCK('vitrail_accounts', 0)";

/// Why the accounts are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(
        "an earlier account statement has not ended: see what holds it in mysqld's process list"
    )]
    Busy,
    #[error(transparent)]
    Close(#[from] fence::CloseError),
    #[error("{0} connections that a locked account may have, or get, are still there")]
    Connected(usize),
    #[error(
        "mysqld's performance schema has lost {0} threads, so that connections may be there which nobody sees: raise performance_schema_max_thread_instances"
    )]
    Unseen(String),
}

/// The account with which a tablet replicates, on every other tablet.
pub fn replication_user(tablet: &TabletAlias) -> String {
    let alias = tablet.to_string();
    let name = format!("{PREFIX}{alias}");
    match name.len() <= NAME_LENGTH_MAX {
        true => name,
        // Two tablets with one uid have different server ids.
        false => format!("{PREFIX}{}_{:08x}", tablet.uid(), tablet.server_id()),
    }
}

/// Makes what is missing. `conn` is a session of its own and used up by this; `spare` helps where closing is late.
pub async fn settle(
    mut conn: AdminConn,
    spare: &mut AdminConn,
    open: &[TabletAlias],
    password: &str,
) -> Result<(), AccountsError> {
    be_alone(&mut conn).await?;
    let query = format!(
        "SELECT user FROM mysql.user WHERE host = '%' AND user LIKE '{PREFIX}%' AND repl_slave_priv = 'Y' \
         AND account_locked = 'N'"
    );
    let known: Vec<String> = conn.rows(&query).await?;
    let known: BTreeSet<String> = known.into_iter().collect();
    let wanted = open.iter().map(replication_user);
    let missing: Vec<String> = wanted.filter(|user| !known.contains(user)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let flags: Vec<bool> = conn.rows("SELECT @@global.super_read_only").await?;
    let is_closed = flags == [true];
    if is_closed {
        // `read_only` stays on: nobody but this session may write, and what it writes is in no binary log.
        fence::open_for_agent(&mut conn).await?;
    }
    let made = make(&mut conn, &missing, password).await;
    if is_closed {
        fence::close(&mut conn, spare).await?;
    }
    Ok(made?)
}

/// Waits for nobody: an earlier call that still runs is told as such.
async fn be_alone(conn: &mut AdminConn) -> Result<(), AccountsError> {
    let alone: Vec<Option<u8>> = conn.rows(ONE_AT_A_TIME).await?;
    match alone == [Some(1)] {
        true => Ok(()),
        false => Err(AccountsError::Busy),
    }
}

/// Locks the tablets' accounts and ends their connections; returns when none is left and none can come. `conn` is a session of its own.
pub async fn lock_out(mut conn: AdminConn, tablets: &[TabletAlias]) -> Result<(), AccountsError> {
    be_alone(&mut conn).await?;
    let users: Vec<String> = tablets
        .iter()
        .map(|it| format!("'{}'", replication_user(it)))
        .collect();
    let accounts: Vec<String> = users.iter().map(|user| format!("{user}@'%'")).collect();
    conn.execute("SET SESSION sql_log_bin = 0").await?;
    let lock = format!("ALTER USER IF EXISTS {} ACCOUNT LOCK", accounts.join(", "));
    conn.execute(&lock).await?;
    let lost: Vec<String> = conn.rows(LOST_THREADS).await?;
    if let Some(lost) = lost.into_iter().find(|lost| lost != "0") {
        return Err(AccountsError::Unseen(lost));
    }
    // A login reads its account once it has a number and before it is known by name: whoever has a later number than this finds the lock.
    let newest: Vec<Option<u64>> = conn
        .rows("SELECT MAX(processlist_id) FROM performance_schema.threads")
        .await?;
    let newest = newest.into_iter().next().flatten().unwrap_or(u64::MAX);
    let query = format!(
        "SELECT processlist_id, processlist_user IS NOT NULL FROM performance_schema.threads \
         WHERE processlist_user IN ({}) OR (type = 'FOREGROUND' AND processlist_user IS NULL \
         AND processlist_command <> 'Daemon' AND processlist_id <= {newest})",
        users.join(", ")
    );
    let deadline = Instant::now() + LEAVE_LIMIT;
    loop {
        let left: Vec<(u64, bool)> = conn.rows(&query).await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(AccountsError::Connected(left.len()));
        }
        for (id, _) in left.iter().filter(|(_, is_known)| *is_known) {
            match conn.execute(&format!("KILL {id}")).await {
                // It may have ended meanwhile.
                Err(error) if error.ends_connection() => return Err(error.into()),
                _ => {}
            }
        }
        sleep(LEAVE_PAUSE).await;
    }
}

/// Whoever has its rights, given in one statement, and no lock is whole.
async fn make(conn: &mut AdminConn, users: &[String], password: &str) -> Result<(), AdminError> {
    conn.execute("SET SESSION sql_log_bin = 0").await?;
    let each = |end: &str| {
        let accounts = users.iter().map(|user| format!("'{user}'@'%'{end}"));
        accounts.collect::<Vec<_>>().join(", ")
    };
    let identified = format!(
        " IDENTIFIED WITH caching_sha2_password BY '{}'",
        quoted(password)
    );
    let create = format!(
        "CREATE USER IF NOT EXISTS {} PASSWORD EXPIRE NEVER",
        each(&identified)
    );
    let limit = crate::mysqld::admin_conn::QUERY_TIMEOUT;
    conn.execute_secret("CREATE USER", &create, limit).await?;
    let grant = format!("GRANT {REPLICATION_RIGHTS} ON *.* TO {}", each(""));
    conn.execute(&grant).await?;
    let unlock = format!("ALTER USER {} ACCOUNT UNLOCK", each(""));
    conn.execute(&unlock).await
}

#[cfg(test)]
mod tests;
