//! Start-up with the records of many tablets: registers them as their agents would, then starts members again.

use std::{
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
use tonic::transport::Channel;

use super::{
    agents,
    client::{Client, Door},
    group::{Group, MEMBERS},
};

/// Tablets that register at one time.
const REGISTERING: usize = 64;
/// An election takes a second or two; more refusals mean that the group does not work.
const MEMBERS_ASKED_MAX: usize = 150;
const ASK_NEXT: Duration = Duration::from_millis(100);
/// How long a started member may take before the benchmark gives up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Registers the tablets with our group: one report each, then their agents are gone.
pub async fn register(members: &[Door], tablets: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..REGISTERING {
        let (members, next) = (members.to_vec(), next.clone());
        workers.spawn(async move {
            let mut members = members.iter().cycle();
            let mut channel = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tablets {
                    return anyhow::Ok(());
                }
                register_one(&mut members, &mut channel, number).await?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker has panicked")??;
    }
    Ok(())
}

/// Asks one member after the other until one takes the registration: the leader may change meanwhile.
async fn register_one(
    members: &mut impl Iterator<Item = &Door>,
    channel: &mut Option<Channel>,
    number: usize,
) -> anyhow::Result<()> {
    let mut refused = None;
    for _ in 0..MEMBERS_ASKED_MAX {
        if channel.is_none()
            && let Some(member) = members.next()
        {
            *channel = member.connect_as_agent().await.ok();
        }
        let Some(member) = channel else { continue };
        match agents::register(member.clone(), number).await {
            Ok(()) => return Ok(()),
            Err(error) => refused = Some(error),
        }
        *channel = None;
        sleep(ASK_NEXT).await;
    }
    let refused = refused.unwrap_or_else(|| anyhow::anyhow!("no member can be reached"));
    Err(refused.context(format!("register tablet {number}")))
}

/// How long one member takes from its start until it answers and knows its leader, and all together until they serve.
pub async fn measure<C: Client>(group: &mut Group) -> anyhow::Result<(Duration, Duration)> {
    let leader = group.leader::<C>().await?;
    let follower = (leader + 1) % MEMBERS;
    group.stop(follower).await?;
    let began = Instant::now();
    group.start(follower)?;
    let door = &group.doors()[follower];
    while !answers::<C>(door).await {
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

async fn answers<C: Client>(door: &Door) -> bool {
    let ask = async { C::new(door, door.connect().await?, 0).leads().await };
    matches!(timeout(START_TIMEOUT, ask).await, Ok(Ok(_)))
}
