//! An acker is lost for long, with its host or without: it leaves the ackers, so that a primary that dies later has a successor; and it
//! comes back.

use std::{fs, time::Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use vt_tests::cluster::{
    local::{LocalCluster, REPLICA_SET, kill_now, signal},
    view::Overview,
};

use super::{failed_over, finish, more_writes, on_a_cluster, primary, writers, writers_on};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acker_leaves_and_the_primary_that_dies_later_has_a_successor() -> anyhow::Result<()>
{
    on_a_cluster(lose_an_acker).await
}

fn ackers(overview: &Overview) -> Vec<String> {
    let set = overview.replica_set.as_ref();
    set.map_or_else(Vec::new, |set| set.ackers.clone())
}

async fn lose_an_acker(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    let before = cluster.overview().await?;
    let (first, epoch) = primary(&before);
    let lost = ackers(&before).into_iter().next().context("an acker")?;
    // Without its dictionary mysqld ends at each start, and its agent says so.
    let process = before.agent(&lost);
    let data_dir = cluster.dir().join("data").join(&lost);
    let (dictionary, aside) = (
        data_dir.join("mysql/mysql.ibd"),
        cluster.dir().join("aside.ibd"),
    );
    fs::rename(&dictionary, &aside).with_context(|| dictionary.display().to_string())?;
    kill_now(process.mysqld_pid)?;
    let left = |overview: &Overview| {
        let ackers = ackers(overview);
        !ackers.is_empty() && !ackers.contains(&lost)
    };
    cluster.wait("the lost acker to leave", left).await?;
    let events = cluster.vtctl(&["events"]).await?;
    ensure!(events.contains("acker.removed"), "{events}");
    more_writes(&writers).await?;

    let now = cluster.overview().await?;
    ensure!(primary(&now) == (first.clone(), epoch), "{now:#?}");
    kill_now(now.agent(&first).mysqld_pid)?;
    let after = failed_over(cluster, epoch).await?;
    let (second, _) = primary(&after);
    ensure!(second != first && second != lost, "{after:#?}");
    // The former primary's mysqld is back and acknowledges.
    more_writes(&writers).await?;

    fs::rename(&aside, &dictionary)?;
    // It waits long between two starts by now; an agent that begins anew does not.
    kill_now(process.pid)?;
    cluster.heal().await?;
    let all = |overview: &Overview| ackers(overview).contains(&lost);
    cluster.wait("the lost acker to return", all).await?;
    finish(cluster, writers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_host_leaves_the_ackers_and_the_primary_that_dies_later_has_a_successor()
-> anyhow::Result<()> {
    on_a_cluster(async |cluster| lose_a_host(cluster, false).await).await
}

/// Nobody but the primary can prove that this mysqld acknowledges nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_mysqld_without_an_agent_that_answers_is_locked_out() -> anyhow::Result<()> {
    on_a_cluster(async |cluster| lose_a_host(cluster, true).await).await
}

async fn lose_a_host(cluster: &LocalCluster, is_alive: bool) -> anyhow::Result<()> {
    let before = cluster.overview().await?;
    let (first, epoch) = primary(&before);
    let lost = ackers(&before).into_iter().next().context("an acker")?;
    let host = before.agent(&lost).clone();
    // Clients of the router that is lost with its host have to go elsewhere; these have.
    let mut routers = cluster.routers().await?;
    routers.retain(|router| !host.serves.ends_with(&format!(":{}", router.port)));
    let writers = writers_on(&routers).await?;
    let begun = Instant::now();
    match is_alive {
        true => signal(host.pid, Signal::SIGSTOP)?,
        false => {
            for pid in [host.pid, host.guard_pid, host.mysqld_pid] {
                kill_now(pid)?;
            }
        }
    }
    let left = |overview: &Overview| {
        let ackers = ackers(overview);
        !ackers.is_empty() && !ackers.contains(&lost)
    };
    cluster
        .wait("the lost host to leave the ackers", left)
        .await?;
    println!("out of the ackers after {} ms", begun.elapsed().as_millis());
    let shown = cluster.vtctl(&["replica-set", "show", REPLICA_SET]).await?;
    ensure!(shown.contains("may not connect"), "{shown}");
    more_writes(&writers).await?;

    let now = cluster.overview().await?;
    ensure!(primary(&now) == (first.clone(), epoch), "{now:#?}");
    kill_now(now.agent(&first).mysqld_pid)?;
    let after = failed_over(cluster, epoch).await?;
    let (second, _) = primary(&after);
    ensure!(second != first && second != lost, "{after:#?}");
    more_writes(&writers).await?;

    if is_alive {
        signal(host.pid, Signal::SIGCONT)?;
    }
    cluster.heal().await?;
    let all = |overview: &Overview| ackers(overview).contains(&lost);
    cluster
        .wait("the lost host to acknowledge again", all)
        .await?;
    finish(cluster, writers).await
}
