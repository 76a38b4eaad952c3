//! The disk of the primary is full, or takes nothing: its reads and heartbeats go on, and writes go on elsewhere.

use anyhow::ensure;
use vt_tests::cluster::{
    local::{LocalCluster, TABLETS},
    view::Overview,
};

use super::{KEYSPACE, REPLICA_SET, failed_over, finish, more_writes, primary, writers};

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_while_the_disk_of_the_primary_is_bad() -> anyhow::Result<()> {
    let mut cluster = LocalCluster::up_on_disks().await?;
    let result = spoil_disks(&mut cluster).await;
    if result.is_err() {
        for disk in cluster.disks() {
            disk.thaw()?;
        }
        cluster.show_logs().await;
    }
    result
}

async fn spoil_disks(cluster: &mut LocalCluster) -> anyhow::Result<()> {
    let create = ["keyspace", "create", KEYSPACE, "--replica-set", REPLICA_SET];
    cluster.vtctl(&create).await?;
    let writers = writers(cluster).await?;
    for is_frozen in [false, true] {
        let before = cluster.wait("two ackers", has_all_ackers).await?;
        let (alias, epoch) = primary(&before);
        let disk = cluster.disk(&alias)?;
        match is_frozen {
            true => disk.freeze()?,
            false => disk.fill()?,
        }
        let after = failed_over(cluster, epoch).await?;
        ensure!(primary(&after).0 != alias, "{after:#?}");
        more_writes(&writers).await?;
        let disk = cluster.disk(&alias)?;
        match is_frozen {
            true => disk.thaw()?,
            false => disk.free()?,
        }
        more_writes(&writers).await?;
    }
    finish(cluster, writers).await
}

/// Where one of two ackers is missing, nobody is left to acknowledge what another primary writes.
fn has_all_ackers(overview: &Overview) -> bool {
    let set = overview.replica_set.as_ref();
    overview.is_whole() && set.is_some_and(|set| set.ackers.len() == TABLETS - 1)
}
