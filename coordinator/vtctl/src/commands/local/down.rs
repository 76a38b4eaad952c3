//! `vtctl local down`.

use std::{fs, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::existing;
use crate::{
    cli::Global,
    failure::{Failure, Kind},
    local::{
        cluster::{Cluster, Member},
        guard, lock,
        process::Mark,
    },
    output,
    progress::Progress,
};

/// The daemons end within seconds when told to.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(15);
/// The guard gives mysqld a minute for a clean shutdown before it kills; this is a little longer.
const GUARD_TIMEOUT: Duration = Duration::from_secs(75);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Remove the directory too: all data is lost
    #[arg(long)]
    purge: bool,
}

pub async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<()> {
    let dir = global.local_dir()?;
    if !dir.exists() {
        output::note(&format!("there is no local cluster in {}", dir.display()));
        return Ok(());
    }
    let cluster = existing(&dir)?;
    let lock = lock::take(&cluster)?;
    let mut progress = Progress::start("stopping the coordinators");
    // First, so that nobody takes the stopping of the others for a failure and decides on it.
    end_daemons(&cluster, cluster.coordinators()).await?;
    progress.step("stopping the agents");
    end_daemons(&cluster, cluster.agents()).await?;
    progress.step("stopping the mysqlds");
    end_mysqlds(&cluster).await?;
    if arguments.purge {
        progress.step("removing the data");
        fs::remove_dir_all(&cluster.dir)
            .with_context(|| format!("remove {}", cluster.dir.display()))?;
    }
    drop(lock);
    let gone = if arguments.purge {
        "and its data are gone"
    } else {
        "is stopped; `vtctl local up` starts it again"
    };
    progress.finish(&format!("the cluster in {} {gone}", cluster.dir.display()));
    Ok(())
}

async fn end_daemons(
    cluster: &Cluster,
    members: impl Iterator<Item = Member>,
) -> anyhow::Result<()> {
    let mut ending = JoinSet::new();
    for member in members {
        let pid_file = cluster.pid_file(&member);
        if let Some(mark) = Mark::load_alive(&pid_file)? {
            ending.spawn(async move {
                let killed = mark.end(DAEMON_TIMEOUT).await?;
                anyhow::Ok((member.name, killed))
            });
        }
    }
    report(ending).await
}

async fn end_mysqlds(cluster: &Cluster) -> anyhow::Result<()> {
    let mut ending = JoinSet::new();
    for member in cluster.agents() {
        let data_dir = cluster.member_data_dir(&member);
        ending.spawn(async move {
            let killed = guard::end(&data_dir, GUARD_TIMEOUT).await?;
            anyhow::Ok((format!("mysqld of {}", member.name), killed))
        });
    }
    report(ending).await
}

/// Waits for all; then the first failure.
async fn report(mut ending: JoinSet<anyhow::Result<(String, bool)>>) -> anyhow::Result<()> {
    let mut failure = None;
    while let Some(ended) = ending.join_next().await {
        match ended.context("end a process")? {
            Ok((name, true)) => output::note(&format!("{name} had to be killed")),
            Ok((_, false)) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(()),
        Some(error) => Err(error.context(
            Failure::new(Kind::Failed, "something still runs")
                .next("`vtctl local status` shows what"),
        )),
    }
}
