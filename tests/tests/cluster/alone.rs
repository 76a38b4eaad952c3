//! All coordinators are gone for good: everything goes on, also across restarts of agents and of mysqld.

use std::{fs, time::Instant};

use anyhow::{Context, ensure};
use mysql_async::{Conn, OptsBuilder, SslOpts, prelude::Queryable};
use vt_tests::cluster::{
    local::{LocalCluster, PATIENCE, kill_now},
    login::Login,
    view::Overview,
    writer::{Writers, missing},
};

use super::{
    ASK_AGAIN, KEYSPACE, finish, more_writes, mysqld_pids, on_a_cluster, primary, writers,
};

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_mysqlds_come_back_without_coordinators() -> anyhow::Result<()> {
    on_a_cluster(go_on_alone).await
}

async fn go_on_alone(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    let before = cluster.overview().await?;
    let routers = cluster.routers().await?;
    orders_are_kept(cluster, &before).await?;
    for coordinator in before.coordinators() {
        kill_now(coordinator.pid)?;
    }
    let nobody = |overview: &Overview| overview.coordinators().all(|it| it.pid.is_none());
    cluster.wait("no coordinator", nobody).await?;
    for router in &routers {
        serves(router, false).await?;
    }
    more_writes(&writers).await?;
    let ledger = writers.so_far();
    ensure!(ledger.client_errors() == 0, "{:#?}", ledger.errors);

    restart_agents(cluster, &before, &routers).await?;
    more_writes(&writers).await?;
    let (alias, _) = primary(&before);
    bring_replicas_back(cluster, &alias, &writers).await?;

    let alone = cluster.overview().await?;
    let after = cluster.heal().await?;
    ensure!(primary(&after) == primary(&before), "{after:#?}");
    ensure!(mysqld_pids(&after) == mysqld_pids(&alone), "{after:#?}");
    let agents = |overview: &Overview| overview.agents().map(|it| it.pid).collect::<Vec<_>>();
    ensure!(agents(&after) == agents(&alone), "{after:#?}");
    finish(cluster, writers).await
}

/// One agent after another is killed and started again; its router serves from what stands on its disk, over TLS too.
async fn restart_agents(
    cluster: &LocalCluster,
    before: &Overview,
    routers: &[Login],
) -> anyhow::Result<()> {
    for (agent, router) in before.agents().zip(routers) {
        kill_now(agent.pid)?;
        let config = cluster.dir().join(format!("config/{}.toml", agent.name));
        show_certificate(&config)?;
        cluster.start_agent(&agent.name)?;
        served_again(router).await?;
        let mut stranger = router.clone();
        stranger.password.push('x');
        ensure!(serves(&stranger, true).await.is_err(), "{}", agent.name);
    }
    let after = cluster.overview().await?;
    ensure!(mysqld_pids(&after) == mysqld_pids(before), "{after:#?}");
    Ok(())
}

/// The mysqld of one replica is killed, of another its agent and its guard with it: both come back and acknowledge.
async fn bring_replicas_back(
    cluster: &LocalCluster,
    primary: &str,
    writers: &Writers,
) -> anyhow::Result<()> {
    for with_host in [false, true] {
        let now = cluster.overview().await?;
        let mut replicas = now
            .agents()
            .filter(|it| it.tablet.as_deref() != Some(primary));
        let replica = replicas.nth(usize::from(with_host)).context("a replica")?;
        let alias = replica.tablet.as_deref().unwrap_or_default();
        if with_host {
            kill_now(replica.pid)?;
            kill_now(replica.guard_pid)?;
        }
        kill_now(replica.mysqld_pid)?;
        if with_host {
            cluster.start_agent(&replica.name)?;
        }
        let is_back = |overview: &Overview| {
            let pid = overview.agent(alias).mysqld_pid;
            pid.is_some() && pid != replica.mysqld_pid
        };
        cluster.wait("the replica's mysqld", is_back).await?;
        more_writes(writers).await?;
        follows(cluster, alias, writers).await?;
    }
    Ok(())
}

/// Waits until a tablet has what is acknowledged now, and acknowledges itself.
async fn follows(cluster: &LocalCluster, alias: &str, writers: &Writers) -> anyhow::Result<()> {
    let ledger = writers.so_far();
    let login = cluster.mysqld(alias).await?;
    let look = async || {
        let missing = missing(&login, KEYSPACE, &ledger).await?;
        ensure!(missing.is_empty(), "{alias} lacks {}", missing.len());
        let mut conn = Conn::new(login.options(None)).await?;
        let query = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_replica_status'";
        let status: Option<(String, String)> = conn.query_first(query).await?;
        let status = status.context("the status of semi-sync")?;
        ensure!(status.1 == "ON", "{alias} does not acknowledge");
        Ok(())
    };
    until(look).await
}

/// An order is kept a moment after it was carried out.
async fn orders_are_kept(cluster: &LocalCluster, overview: &Overview) -> anyhow::Result<()> {
    for agent in overview.agents() {
        let alias = agent.tablet.as_deref().unwrap_or_default();
        let path = cluster.dir().join(format!("data/{alias}/last-order"));
        until(async || fs::metadata(&path).map(drop).context("no kept order")).await?;
    }
    Ok(())
}

/// The router gets the agent's own certificate: which one it shows matters to nobody here.
fn show_certificate(config: &std::path::Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(config)?;
    let line = |key: &str| {
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(&format!("{key} = ")));
        line.with_context(|| format!("find {key} in {}", config.display()))
    };
    let (certificate, key) = (line("certificate")?, line("key")?);
    let router = format!("[router]\ntls_{certificate}\ntls_{key}");
    ensure!(text.contains("[router]\n"), "{text}");
    fs::write(config, text.replacen("[router]", &router, 1))?;
    Ok(())
}

async fn served_again(router: &Login) -> anyhow::Result<()> {
    until(async || serves(router, true).await).await
}

/// Reads and writes through one router.
async fn serves(router: &Login, with_tls: bool) -> anyhow::Result<()> {
    let options = OptsBuilder::from_opts(router.options(Some(KEYSPACE)));
    let tls = SslOpts::default().with_danger_accept_invalid_certs(true);
    let mut conn = Conn::new(options.ssl_opts(with_tls.then_some(tls))).await?;
    let rows: Option<u64> = conn
        .query_first("SELECT COUNT(*) FROM acknowledged_write")
        .await?;
    ensure!(rows.is_some_and(|rows| rows > 0), "nothing is read");
    let write = "UPDATE acknowledged_write SET payload = 'written once' WHERE id = 0";
    conn.query_drop(write).await?;
    conn.disconnect().await?;
    Ok(())
}

/// Tries until it succeeds.
async fn until(attempt: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = attempt().await {
        ensure!(Instant::now() < deadline, "waited in vain: {error:#}");
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}
