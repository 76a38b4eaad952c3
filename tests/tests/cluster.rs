//! Real clusters under load while their parts are killed: nothing that was acknowledged is missing afterwards, on any
//! tablet, and whatever was killed comes back. No test says how fast.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::process::Command;
use vt_tests::cluster::{
    data,
    local::{LocalCluster, PATIENCE, REPLICA_SET, TABLETS, kill_now},
    login::Login,
    view::Overview,
    writer::Writers,
};

#[path = "cluster/alone.rs"]
mod alone;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/lost_acker.rs"]
mod lost_acker;
#[path = "cluster/lost_rows.rs"]
mod lost_rows;
#[path = "cluster/policy.rs"]
mod policy;
#[path = "cluster/sessions.rs"]
mod sessions;
#[path = "cluster/suites.rs"]
mod suites;
#[path = "cluster/users.rs"]
mod users;

const KEYSPACE: &str = "commerce";
const WRITERS_PER_ROUTER: usize = 2;
/// Writes that must be seen before something is killed, and after it was.
const WRITES_BETWEEN: usize = 50;
/// Between two requests for a switchover that came too early.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Other people's clients are fetched by their package managers at first.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(240);

/// Plays a scenario on a cluster of its own, with a keyspace; what fails shows what everybody logged.
async fn on_a_cluster(
    scenario: impl AsyncFnOnce(&LocalCluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = LocalCluster::up().await?;
    let played = async {
        let create = ["keyspace", "create", KEYSPACE, "--replica-set", REPLICA_SET];
        cluster.vtctl(&create).await?;
        scenario(&cluster).await
    };
    let result = played.await;
    if result.is_err() {
        cluster.show_logs().await;
    }
    result
}

/// Writers on the routers of all agents.
async fn writers(cluster: &LocalCluster) -> anyhow::Result<Writers> {
    writers_on(&cluster.routers().await?).await
}

async fn writers_on(routers: &[Login]) -> anyhow::Result<Writers> {
    let writers = Writers::start(routers, KEYSPACE, WRITERS_PER_ROUTER).await?;
    more_writes(&writers).await?;
    Ok(writers)
}

/// Waits until writes go on.
async fn more_writes(writers: &Writers) -> anyhow::Result<()> {
    let went_on = writers.go_on(WRITES_BETWEEN, PATIENCE).await;
    let ledger = writers.so_far();
    ensure!(
        went_on,
        "writes do not go on: {} acknowledged, errors: {:#?}",
        ledger.acknowledged.len(),
        ledger.errors
    );
    Ok(())
}

/// Stops the writers and looks for everything that they were promised.
async fn finish(cluster: &LocalCluster, writers: Writers) -> anyhow::Result<()> {
    more_writes(&writers).await?;
    let ledger = writers.finish().await;
    println!(
        "{} acknowledged, {} unknown, {} refused, longest pause {} ms",
        ledger.acknowledged.len(),
        ledger.unknown.len(),
        ledger.refused,
        ledger.longest_gap.as_millis()
    );
    data::check(cluster, KEYSPACE, &ledger).await
}

/// The primary that serves, and its epoch.
fn primary(overview: &Overview) -> (String, u64) {
    let alias = overview.serving_primary();
    let alias = alias.unwrap_or_else(|| panic!("no primary serves: {overview:#?}"));
    (alias.to_owned(), overview.epoch())
}

fn mysqld_pids(overview: &Overview) -> Vec<Option<i32>> {
    overview.agents().map(|agent| agent.mysqld_pid).collect()
}

/// A primary of a later epoch serves.
async fn failed_over(cluster: &LocalCluster, before: u64) -> anyhow::Result<Overview> {
    let is_later =
        |overview: &Overview| overview.epoch() > before && overview.serving_primary().is_some();
    cluster.wait("a primary of a later epoch", is_later).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_up_and_stays_up() -> anyhow::Result<()> {
    on_a_cluster(come_up).await
}

async fn come_up(cluster: &LocalCluster) -> anyhow::Result<()> {
    let overview = cluster.overview().await?;
    ensure!(overview.is_whole(), "{overview:#?}");
    let set = overview.replica_set.clone().context("a replica set")?;
    let (alias, _) = primary(&overview);
    ensure!(
        set.tablets.len() == TABLETS && set.ackers.len() == TABLETS - 1,
        "{set:#?}"
    );
    for tablet in &set.tablets {
        let report = tablet.report.as_ref().context("a report")?;
        let is_primary = tablet.alias == alias;
        ensure!(report.super_read_only == Some(!is_primary), "{tablet:#?}");
        ensure!(report.semi_sync_source == Some(is_primary), "{tablet:#?}");
        ensure!(
            is_primary || report.semi_sync_replica == Some(true),
            "{tablet:#?}"
        );
    }

    // What is up stays as it is.
    let again = cluster.heal().await?;
    ensure!(again.processes == overview.processes, "{again:#?}");

    let writers = writers(cluster).await?;
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_clients_are_served() -> anyhow::Result<()> {
    on_a_cluster(serve_clients).await
}

/// The whole of `tests/clients` on one router.
async fn serve_clients(cluster: &LocalCluster) -> anyhow::Result<()> {
    let routers = cluster.routers().await?;
    let router = routers.first().context("a router")?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(prefix) = std::env::var_os("VT_MYSQL_PREFIX") {
        let mut places = vec![Path::new(&prefix).join("bin")];
        places.extend(std::env::split_paths(&path));
        path = std::env::join_paths(places)?;
    }
    let mut clients = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/run"));
    clients
        .env("PATH", path)
        .env("VT_HOST", &router.host)
        .env("VT_PORT", router.port.to_string())
        .env("VT_USER", &router.user)
        .env("VT_PASSWORD", &router.password)
        .env("VT_KEYSPACE", KEYSPACE);
    succeeds(&mut clients, CLIENTS_TIMEOUT).await
}

/// Runs a script to its end, and tells what it said where it fails.
async fn succeeds(script: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let running = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(limit, running).await;
    let output = output.context("it does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {said}\n{complained}",
        output.status
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_agents_leave_mysqld_alone() -> anyhow::Result<()> {
    on_a_cluster(kill_agents).await
}

async fn kill_agents(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    let before = cluster.overview().await?;
    for agent in before.agents() {
        kill_now(agent.pid)?;
        let after = cluster.heal().await?;
        ensure!(mysqld_pids(&after) == mysqld_pids(&before), "{after:#?}");
        ensure!(after.agent(agent.tablet.as_deref().unwrap_or_default()).pid != agent.pid);
        more_writes(&writers).await?;
    }
    let after = cluster.overview().await?;
    ensure!(primary(&after) == primary(&before), "{after:#?}");
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mysqld_of_the_primary_is_replaced() -> anyhow::Result<()> {
    on_a_cluster(kill_primary).await
}

async fn kill_primary(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    for _ in 0..2 {
        let before = cluster
            .wait("a whole cluster", |overview| overview.is_whole())
            .await?;
        let (alias, epoch) = primary(&before);
        kill_now(before.agent(&alias).mysqld_pid)?;
        failed_over(cluster, epoch).await?;
        more_writes(&writers).await?;
        explained(cluster, &alias).await?;
    }
    finish(cluster, writers).await
}

/// The last change of the primary is explained, with each of its phases.
async fn explained(cluster: &LocalCluster, from: &str) -> anyhow::Result<()> {
    let why = cluster.vtctl(&["why", REPLICA_SET, "-o", "json"]).await?;
    let why: serde_json::Value = serde_json::from_str(&why)?;
    let change = &why["change"];
    ensure!(
        change["kind"] == "failover" && change["outcome"] == "open" && change["from"] == from,
        "{why:#}"
    );
    let phases = change["phases"].as_array().context("phases")?;
    let names: Vec<&str> = phases
        .iter()
        .filter_map(|phase| phase["name"].as_str())
        .collect();
    ensure!(names == ["detect", "promise", "drain", "open"], "{why:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_host_of_the_primary_is_replaced_and_returns() -> anyhow::Result<()> {
    on_a_cluster(kill_host).await
}

async fn kill_host(cluster: &LocalCluster) -> anyhow::Result<()> {
    let before = cluster.overview().await?;
    let (alias, epoch) = primary(&before);
    let host = before.agent(&alias);
    // Clients of the router that dies with its host have to go elsewhere; these have.
    let mut routers = cluster.routers().await?;
    routers.retain(|router| !host.serves.ends_with(&format!(":{}", router.port)));
    let writers = writers_on(&routers).await?;
    for pid in [host.pid, host.guard_pid, host.mysqld_pid] {
        kill_now(pid)?;
    }
    let after = failed_over(cluster, epoch).await?;
    ensure!(primary(&after).0 != alias, "{after:#?}");
    more_writes(&writers).await?;
    cluster.heal().await?;
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_outlives_the_coordinator_that_leads_it() -> anyhow::Result<()> {
    on_a_cluster(kill_leader).await
}

async fn kill_leader(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    // Once before the leader can have heard of the exit, once as soon as it shows that it has.
    for has_begun in [false, true] {
        let before = cluster.overview().await?;
        let (alias, epoch) = primary(&before);
        let leader = usize::try_from(cluster.cluster().await?.leader_id)?;
        let leader = before.coordinators().nth(leader - 1).context("a leader")?;
        let killed = before.agent(&alias).mysqld_pid;
        kill_now(killed)?;
        if has_begun {
            let begun = |now: &Overview| now.epoch() > epoch || now.serving_primary().is_none();
            cluster.wait("the begin of a failover", begun).await?;
        }
        kill_now(leader.pid)?;
        // The next leader may also let the same primary start again: then it is another life of mysqld.
        let goes_on = |now: &Overview| {
            let is_another = |alias: &str| now.agent(alias).mysqld_pid != killed;
            now.serving_primary().is_some_and(is_another)
        };
        cluster.wait("a primary", goes_on).await?;
        more_writes(&writers).await?;
        cluster.heal().await?;
    }
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_go_on_without_coordinators_and_their_state_survives() -> anyhow::Result<()> {
    on_a_cluster(kill_coordinators).await
}

async fn kill_coordinators(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    let before = cluster.overview().await?;
    let identity = cluster.cluster().await?.cluster_id;
    for coordinator in before.coordinators() {
        kill_now(coordinator.pid)?;
    }
    let nobody = |overview: &Overview| overview.coordinators().all(|it| it.pid.is_none());
    cluster.wait("no coordinator", nobody).await?;
    more_writes(&writers).await?;
    ensure!(
        writers.so_far().client_errors() == 0,
        "{:#?}",
        writers.so_far().errors
    );

    let after = cluster.heal().await?;
    ensure!(primary(&after) == primary(&before), "{after:#?}");
    ensure!(mysqld_pids(&after) == mysqld_pids(&before), "{after:#?}");
    ensure!(cluster.cluster().await?.cluster_id == identity);
    let keyspaces = cluster.vtctl(&["keyspace", "list"]).await?;
    ensure!(keyspaces.contains(KEYSPACE), "{keyspaces}");
    more_writes(&writers).await?;
    ensure!(
        writers.so_far().client_errors() == 0,
        "{:#?}",
        writers.so_far().errors
    );
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_notice_a_planned_switchover() -> anyhow::Result<()> {
    on_a_cluster(switch_over).await
}

async fn switch_over(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    for _ in 0..TABLETS {
        let before = cluster
            .wait("a whole cluster", |overview| overview.is_whole())
            .await?;
        let (alias, epoch) = primary(&before);
        hand_over(cluster).await?;
        let after = failed_over(cluster, epoch).await?;
        ensure!(primary(&after).0 != alias, "{after:#?}");
        more_writes(&writers).await?;
    }
    let ledger = writers.so_far();
    ensure!(ledger.client_errors() == 0, "{:#?}", ledger.errors);
    finish(cluster, writers).await
}

/// A replica that has just joined may lag; then the switchover is refused or taken back, unnoticed as well, and asked for
/// again.
async fn hand_over(cluster: &LocalCluster) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = cluster.vtctl(&["replica-set", "switchover", REPLICA_SET]);
        match asked.await {
            Err(error) if Instant::now() < deadline && is_too_early(&error) => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            result => return result.map(drop),
        }
    }
}

fn is_too_early(error: &anyhow::Error) -> bool {
    let words = error.to_string();
    ["taken back", "lags", "no acker can take over now"]
        .iter()
        .any(|word| words.contains(word))
}
