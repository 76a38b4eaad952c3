//! What the tablets of a cluster hold, asked of each mysqld directly: whether all hold the same, and all that was
//! acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mysql_async::{Conn, prelude::Queryable};
use serde::Deserialize;
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

/// `vtctl lost list`.
#[derive(Debug, Deserialize)]
struct Lost {
    kept: Vec<KeptLost>,
}

#[derive(Debug, Deserialize)]
struct KeptLost {
    gtids: String,
    transactions: u64,
}

/// What one tablet holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub executed: GtidSet,
    pub rows: u64,
    /// Of all ids and payloads together.
    pub checksum: u64,
    /// Each table of the schema, with what the server counts of it.
    pub tables: Vec<(String, Option<u64>)>,
    pub is_open: bool,
}

/// Reads what a tablet holds in the schema of `keyspace`.
pub async fn holding(login: &Login, keyspace: &str) -> anyhow::Result<Holding> {
    let mut conn = connect(login, Some(keyspace)).await?;
    let query = "SELECT COUNT(*), CAST(COALESCE(BIT_XOR(CRC32(CONCAT(id, payload))), 0) AS UNSIGNED), \
                 @@GLOBAL.gtid_executed, @@GLOBAL.super_read_only = 0 AND @@GLOBAL.read_only = 0 FROM acknowledged_write";
    let row: Option<(u64, u64, String, bool)> = conn.query_first(query).await?;
    let (rows, checksum, executed, is_open) = row.context("an aggregate has one row")?;
    let query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name";
    let names: Vec<String> = conn.query(query).await?;
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let tables = conn
        .query(format!("CHECKSUM TABLE {}", names.join(", ")))
        .await?;
    Ok(Holding {
        executed: executed.parse()?,
        rows,
        checksum,
        tables,
        is_open,
    })
}

async fn connect(login: &Login, database: Option<&str>) -> anyhow::Result<Conn> {
    let connecting = Conn::new(login.options(database));
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
    check_tablets(&logins, keyspace, ledger).await?;
    let (_, any) = logins.first().context("a tablet")?;
    let listed = cluster.vtctl(&["lost", "list", "-o", "json"]).await?;
    check_lost(&listed, &holding(any, keyspace).await?.executed)
}

/// What returning primaries gave up is exactly what is nowhere any more: none of it was executed, and it follows without a gap on what
/// was kept of the same server, or no row of which was.
fn check_lost(listed: &str, executed: &GtidSet) -> anyhow::Result<()> {
    let listed: Lost = serde_json::from_str(listed)?;
    for kept in &listed.kept {
        let lost: GtidSet = kept.gtids.parse()?;
        ensure!(
            !lost.is_empty() && lost.count() == kept.transactions,
            "{kept:?}"
        );
        ensure!(
            executed.subtract(&lost) == *executed,
            "{kept:?} is listed as lost and was executed: {executed}"
        );
        let server = kept.gtids.split(':').next().unwrap_or_default();
        let whole = executed.union(&lost).to_string();
        let of_server = whole.split(',').map(str::trim);
        let mut of_server = of_server.filter(|part| part.starts_with(server));
        let is_whole = of_server.next().is_some_and(|part| {
            part.matches(':').count() == 1 && part[server.len()..].starts_with(":1")
        });
        ensure!(
            is_whole,
            "{kept:?} does not follow on what was kept: {executed}"
        );
    }
    Ok(())
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

/// Waits until all tablets hold the same, for as long as those that lack something come nearer.
pub async fn wait_until_equal(
    logins: &[(String, Login)],
    keyspace: &str,
) -> anyhow::Result<Vec<(String, Holding)>> {
    let (mut deadline, mut least) = (Instant::now() + PATIENCE, u64::MAX);
    loop {
        let state = match executed_by_all(logins).await {
            // Reading all rows costs those that still apply.
            Ok(sets) if missing(&sets) == 0 => holdings(logins, keyspace).await,
            Ok(sets) => {
                let missing = missing(&sets);
                if missing < least {
                    (deadline, least) = (Instant::now() + PATIENCE, missing);
                }
                Err(anyhow::anyhow!(told(logins, &sets)))
            }
            Err(error) => Err(error),
        };
        match state {
            Ok(holdings) if all_same(&holdings) => return Ok(holdings),
            Ok(holdings) => ensure!(
                Instant::now() < deadline,
                "the tablets do not get equal: {holdings:#?}"
            ),
            Err(error) => ensure!(
                Instant::now() < deadline,
                "the tablets do not get equal: {error:#}"
            ),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn all_same(holdings: &[(String, Holding)]) -> bool {
    let same = |(_, it): &(String, Holding)| {
        let first = &holdings[0].1;
        (&it.executed, it.rows, it.checksum, &it.tables)
            == (&first.executed, first.rows, first.checksum, &first.tables)
    };
    holdings.iter().all(same)
}

async fn holdings(
    logins: &[(String, Login)],
    keyspace: &str,
) -> anyhow::Result<Vec<(String, Holding)>> {
    let mut holdings = Vec::new();
    for (alias, login) in logins {
        let holding = holding(login, keyspace).await;
        let holding = holding.with_context(|| format!("{alias} does not answer"))?;
        holdings.push((alias.clone(), holding));
    }
    Ok(holdings)
}

async fn executed_by_all(logins: &[(String, Login)]) -> anyhow::Result<Vec<GtidSet>> {
    let mut sets = Vec::new();
    for (alias, login) in logins {
        let executed = async {
            let mut conn = connect(login, None).await?;
            let executed: Option<String> =
                conn.query_first("SELECT @@GLOBAL.gtid_executed").await?;
            anyhow::Ok(executed.context("a variable has a value")?.parse()?)
        };
        let executed = executed.await;
        sets.push(executed.with_context(|| format!("{alias} does not answer"))?);
    }
    Ok(sets)
}

/// How many transactions are missing, of all that somebody has.
fn missing(sets: &[GtidSet]) -> u64 {
    let empty = GtidSet::new();
    let all = sets.iter().fold(empty, |all, set| all.union(set));
    sets.iter().map(|set| all.subtract(set).count()).sum()
}

fn told(logins: &[(String, Login)], sets: &[GtidSet]) -> String {
    let parts = logins.iter().zip(sets);
    let parts: Vec<_> = parts
        .map(|((alias, _), set)| format!("{alias} has executed {set}"))
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted() {
        let set = |parts: &str| -> GtidSet {
            let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
            format!("{uuid}:{parts}").parse().unwrap()
        };
        assert_eq!(missing(&[set("1-9"), set("1-9")]), 0);
        assert_eq!(missing(&[set("1-9"), set("1-7"), set("1-5:11")]), 1 + 3 + 4);
    }
}
