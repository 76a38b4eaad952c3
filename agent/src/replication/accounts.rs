//! The accounts of the other tablets, one for each, with which they replicate from here. They are in no binary log: an account statement
//! that waited for an acknowledgement would hold the lock which the acker needs to log in.
//!
//! A statement that is given up may still run in mysqld and take effect later. So each call holds a lock of its session, which mysqld
//! gives back only when that session's last statement has ended: what is settled later is never undone by what was ordered before.

use std::collections::BTreeSet;

use vt_proto::ids::TabletAlias;

use super::{fence, quoted};
use crate::mysqld::{
    REPLICATION_RIGHTS,
    admin_conn::{AdminConn, AdminError},
    my_cnf::server_id,
};

/// MySQL's limit for names of accounts.
const NAME_LENGTH_MAX: usize = 32;
/// What the names of these accounts begin with.
const PREFIX: &str = "vtr_";
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
}

/// The account with which a tablet replicates, on every other tablet.
pub fn replication_user(tablet: &TabletAlias) -> String {
    let alias = tablet.to_string();
    let name = format!("{PREFIX}{alias}");
    match name.len() <= NAME_LENGTH_MAX {
        true => name,
        // Two tablets with one uid have different server ids, or could not replicate at all.
        false => format!("{PREFIX}{}_{:08x}", tablet.uid(), server_id(&alias)),
    }
}

/// Makes what is missing. `conn` is a session of its own and used up by this; `spare` helps where closing is late.
pub async fn settle(
    mut conn: AdminConn,
    spare: &mut AdminConn,
    open: &[TabletAlias],
    password: &str,
) -> Result<(), AccountsError> {
    let alone: Vec<Option<u8>> = conn.rows(ONE_AT_A_TIME).await?;
    if alone != [Some(1)] {
        return Err(AccountsError::Busy);
    }
    let query = format!(
        "SELECT user FROM mysql.user WHERE host = '%' AND user LIKE '{PREFIX}%' AND repl_slave_priv = 'Y'"
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

/// Rights come last, in one statement: whoever has them is whole.
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
    conn.execute(&grant).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::testing::{TestTablet, value};

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
        let rights = "SELECT GROUP_CONCAT(CONCAT(user, repl_slave_priv, priv) ORDER BY user) FROM mysql.user \
             JOIN mysql.global_grants USING (user, host) WHERE user LIKE 'vtr%'";
        assert_eq!(
            value(&mut admin, rights).await,
            "vtr_zone1-101YCONNECTION_ADMIN,vtr_zone1-102YCONNECTION_ADMIN"
        );
        assert_eq!(value(&mut admin, executed).await, before);
        let closed = "SELECT CAST(@@GLOBAL.super_read_only AS CHAR)";
        assert_eq!(value(&mut admin, closed).await, "1");
        // Whatever an earlier call still does in mysqld comes first.
        let mut earlier = tablet.admin().await;
        earlier.execute(ONE_AT_A_TIME).await.unwrap();
        let late = settle(tablet.admin().await, &mut admin, &others, password).await;
        assert!(matches!(late, Err(AccountsError::Busy)), "{late:?}");
    }
}
