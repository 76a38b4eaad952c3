//! The policy changes while writers write, and a failover keeps to the new one.

use anyhow::{Context, bail, ensure};
use mysql_async::{Conn, prelude::Queryable};
use vt_tests::cluster::local::{LocalCluster, REPLICA_SET, kill_now};

use super::{failed_over, finish, more_writes, on_a_cluster, primary, writers};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_under_load_and_holds_after_a_failover() -> anyhow::Result<()> {
    on_a_cluster(change_the_policy).await
}

/// For how many acknowledgements the primary waits.
async fn acks(cluster: &LocalCluster) -> anyhow::Result<u32> {
    let overview = cluster.overview().await?;
    let login = cluster.mysqld(&primary(&overview).0).await?;
    let mut connection = Conn::new(login.options(None)).await?;
    let query = "SELECT @@global.rpl_semi_sync_source_wait_for_replica_count";
    let count = connection.query_first(query).await?;
    count.context("a number")
}

async fn change_the_policy(cluster: &LocalCluster) -> anyhow::Result<()> {
    let writers = writers(cluster).await?;
    let change = |arguments: &'static [&'static str]| async move {
        let command = ["replica-set", "durability", REPLICA_SET];
        cluster.vtctl(&[&command, arguments].concat()).await
    };
    let said = change(&["--acks", "2"]).await?;
    ensure!(said.contains("2 acks"), "{said}");
    ensure!(acks(cluster).await? == 2);
    // Nobody could acknowledge from elsewhere: all live in one cell.
    match change(&["--cross-cell"]).await {
        Ok(said) => bail!("it should be refused: {said}"),
        Err(refused) => {
            let refused = refused.to_string();
            ensure!(refused.contains("add replicas first"), "{refused}");
        }
    }
    more_writes(&writers).await?;

    let before = cluster.overview().await?;
    let (first, epoch) = primary(&before);
    kill_now(before.agent(&first).mysqld_pid)?;
    let after = failed_over(cluster, epoch).await?;
    ensure!(primary(&after).0 != first, "{after:#?}");
    // The former primary is needed for the second acknowledgement, and comes back by itself.
    more_writes(&writers).await?;
    ensure!(acks(cluster).await? == 2);

    let said = change(&["--acks", "1"]).await?;
    ensure!(said.contains("1 ack"), "{said}");
    finish(cluster, writers).await
}
