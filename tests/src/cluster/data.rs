//! What the tablets of a cluster hold, asked of each mysqld directly: whether all hold the same, and all that was
//! acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mysql_async::{Conn, prelude::Queryable};
use vt_proto::gtid::GtidSet;

use super::{
    local::{LocalCluster, PATIENCE},
    login::Login,
    writer::{self, Ledger},
};

/// Between two looks at tablets that are not equal yet.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A mysqld that takes no connection by then is asked again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What one tablet holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub executed: GtidSet,
    pub rows: u64,
    /// Of all ids and payloads together.
    pub checksum: u64,
    pub is_open: bool,
}

/// Reads what a tablet holds in the schema of `keyspace`.
pub async fn holding(login: &Login, keyspace: &str) -> anyhow::Result<Holding> {
    let mut conn = connect(login, keyspace).await?;
    let query = "SELECT COUNT(*), CAST(COALESCE(BIT_XOR(CRC32(CONCAT(id, payload))), 0) AS UNSIGNED), \
                 @@GLOBAL.gtid_executed, @@GLOBAL.super_read_only = 0 AND @@GLOBAL.read_only = 0 FROM acknowledged_write";
    let row: Option<(u64, u64, String, bool)> = conn.query_first(query).await?;
    let (rows, checksum, executed, is_open) = row.context("an aggregate has one row")?;
    Ok(Holding {
        executed: executed.parse()?,
        rows,
        checksum,
        is_open,
    })
}

async fn connect(login: &Login, database: &str) -> anyhow::Result<Conn> {
    let connecting = Conn::new(login.options(Some(database)));
    let conn = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    Ok(conn.context("wait for a connection")??)
}

/// Waits until all tablets hold the same, then finds every acknowledged write on each and exactly one that is open.
pub async fn check(cluster: &LocalCluster, keyspace: &str, ledger: &Ledger) -> anyhow::Result<()> {
    ensure!(
        !ledger.acknowledged.is_empty(),
        "nothing was acknowledged: {ledger:?}"
    );
    let overview = cluster
        .wait("a whole cluster", |overview| overview.is_whole())
        .await?;
    let mut logins = Vec::new();
    for agent in overview.agents() {
        let alias = agent.tablet.as_deref().unwrap_or_default();
        logins.push((alias.to_owned(), cluster.mysqld(alias).await?));
    }
    check_tablets(&logins, keyspace, ledger).await
}

/// The same, of tablets that are known by their logins.
pub async fn check_tablets(
    logins: &[(String, Login)],
    keyspace: &str,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let holdings = wait_until_equal(logins, keyspace).await?;
    let open: Vec<_> = holdings.iter().filter(|(_, it)| it.is_open).collect();
    ensure!(
        open.len() == 1,
        "not one tablet is open for writes: {holdings:#?}"
    );
    for (alias, login) in logins {
        let missing = writer::missing(login, keyspace, ledger).await?;
        ensure!(
            missing.is_empty(),
            "{alias} lacks {} acknowledged writes: {missing:?}",
            missing.len()
        );
    }
    Ok(())
}

/// Waits until all tablets hold the same.
pub async fn wait_until_equal(
    logins: &[(String, Login)],
    keyspace: &str,
) -> anyhow::Result<Vec<(String, Holding)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut holdings = Vec::new();
        for (alias, login) in logins {
            match holding(login, keyspace).await {
                Ok(holding) => holdings.push((alias.clone(), holding)),
                Err(error) => ensure!(
                    Instant::now() < deadline,
                    "{alias} does not answer: {error:#}"
                ),
            }
        }
        let same = |(_, it): &(String, Holding)| {
            let first = &holdings[0].1;
            (&it.executed, it.rows, it.checksum) == (&first.executed, first.rows, first.checksum)
        };
        if holdings.len() == logins.len() && holdings.iter().all(same) {
            return Ok(holdings);
        }
        ensure!(
            Instant::now() < deadline,
            "the tablets do not get equal: {holdings:#?}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
