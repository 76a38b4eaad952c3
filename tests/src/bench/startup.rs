//! Start-up with the records of many tablets: registers them as their agents would, then starts members again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    agents,
    client::{Client, connect},
    group::{Group, MEMBERS},
};

/// Tablets that register at one time.
const REGISTERING: usize = 64;
/// How long a started member may take before the benchmark gives up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Registers the tablets with our group: one report each, then their agents are gone.
pub async fn register(leader: SocketAddr, tablets: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..REGISTERING {
        let (channel, next) = (connect(leader).await?, next.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tablets {
                    return anyhow::Ok(());
                }
                let asked = agents::register(channel.clone(), number).await;
                asked.with_context(|| format!("register tablet {number}"))?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker has panicked")??;
    }
    Ok(())
}

/// How long one member takes from its start until it answers and knows its leader, and all together until they serve.
pub async fn measure<C: Client>(group: &mut Group) -> anyhow::Result<(Duration, Duration)> {
    let leader = group.leader::<C>().await?;
    let follower = (leader + 1) % MEMBERS;
    group.stop(follower).await?;
    let began = Instant::now();
    group.start(follower)?;
    let address = group.addresses()[follower];
    while !answers::<C>(address).await {
        if began.elapsed() > START_TIMEOUT {
            bail!("a member of {} does not answer after its start", group.name);
        }
        sleep(ASK_AGAIN).await;
    }
    let one = began.elapsed();
    for position in 0..MEMBERS {
        group.stop(position).await?;
    }
    let began = Instant::now();
    group.start_all()?;
    group.leader::<C>().await?;
    Ok((one, began.elapsed()))
}

async fn answers<C: Client>(address: SocketAddr) -> bool {
    let ask = async { C::new(connect(address).await?, 0).leads().await };
    matches!(timeout(START_TIMEOUT, ask).await, Ok(Ok(_)))
}
