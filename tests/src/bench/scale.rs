//! The coordinators of many tablets: agents and routers simulated in this process, a connection each, as in the field. Measures what
//! the members take, and how soon a new epoch is everywhere.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::transport::Channel;
use vt_proto::wire::{self, admin_client::AdminClient};

use super::{
    agents,
    group::Group,
    ours::Ours,
    process,
    report::{Figure, Goal, median},
    run::{Plan, say},
};

mod agent;
mod router;

use agent::{Agent, Fleet};
use router::Routers;

/// How long all agents may take to register and all replica sets to have a primary.
const FORMING_TIMEOUT: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What follows from registration alone is over by then.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two switchovers.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a switchover may take to begin and to end.
const SWITCHOVER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// How much of it.
#[derive(Clone, Debug)]
pub struct Size {
    pub tablets: usize,
    pub routers: usize,
    pub switchovers: usize,
    /// Between two reports of an agent.
    pub period: Duration,
    /// How long processor time is counted.
    pub window: Duration,
}

/// Runs it with a group of its own, of which nothing else was asked.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let size = &plan.scale;
    let sets = size.tablets.div_ceil(agents::TABLETS_PER_SET);
    say(&format!(
        "{} tablets in {sets} replica sets, a report each {:?}",
        size.tablets, size.period
    ));
    let group = Group::ours(&plan.coordinator, &plan.directory.join("scale"), plan.tls)?;
    let leader = group.leader::<Ours>().await?;
    let mut admin = AdminClient::new(group.doors()[leader].connect().await?);
    let term = view(&mut admin).await?.term;
    let fleet = Arc::new(Fleet::new(group.doors(), size.tablets, size.period));
    let began = Instant::now();
    let mut crowd = JoinSet::new();
    for number in 0..size.tablets {
        crowd.spawn(Agent::new(fleet.clone(), number).run());
    }
    let formed = form(&fleet, sets, began).await;
    let forming = formed.with_context(|| describe(&group, &fleet))?;
    say(&format!(
        "all have a primary after {forming:.1?}; {}",
        describe(&group, &fleet)
    ));
    let leader = group.leader::<Ours>().await?;
    let mut admin = AdminClient::new(group.doors()[leader].connect().await?);
    let elections = view(&mut admin).await?.term - term;
    let mut routers = Routers::open(&group.doors(), size.routers).await?;
    sleep(SETTLE).await;
    let shares = window(&group, size.window).await?;
    let resident_mib = group.resident_mib()?;
    say(&format!(
        "resident: {resident_mib:.0?} MiB, busy: {shares:.1?} %, member {leader} leads"
    ));
    let mut news_ms = Vec::new();
    for turn in 0..size.switchovers {
        let set = (turn * 97) % sets;
        let one = switchover(&mut admin, &fleet, &mut routers, set).await;
        let failed = || format!("switchover {turn}: {}", describe(&group, &fleet));
        news_ms.push(one.with_context(failed)?);
        sleep(PAUSE).await;
    }
    say(&describe(&group, &fleet));
    let found = Found {
        leader,
        forming,
        elections,
        shares,
        resident_mib,
        news_ms,
        revoked: fleet.revoked.load(Ordering::Relaxed),
    };
    Ok(figures(size, found))
}

/// What was found.
struct Found {
    leader: usize,
    forming: Duration,
    elections: u64,
    /// Of each member, in percent of a core.
    shares: Vec<f64>,
    resident_mib: Vec<f64>,
    news_ms: Vec<f64>,
    /// Orders to take part in a failover; nobody died.
    revoked: u64,
}

fn figures(size: &Size, found: Found) -> Vec<Figure> {
    let followers = |values: &[f64]| {
        let others = values.iter().enumerate();
        let others = others.filter(|(position, _)| *position != found.leader);
        others.map(|(_, value)| *value).fold(0.0, f64::max)
    };
    let (leader, told) = (found.leader, Goal::None);
    let (core, mib) = ("% of a core", "MiB");
    let longest = found.news_ms.iter().copied().fold(0.0, f64::max);
    let news = format!(
        "a primary's last report until the last of {} routers has the new epoch",
        size.routers
    );
    let busiest = found.shares[leader];
    let largest = found.resident_mib[leader];
    let rows = [
        (
            "processor time of the leader",
            core,
            busiest,
            Goal::AtMost(100.0),
        ),
        (
            "processor time of a follower",
            core,
            followers(&found.shares),
            told,
        ),
        (
            "resident memory of the leader",
            mib,
            largest,
            Goal::AtMost(300.0),
        ),
        (
            "resident memory of a follower",
            mib,
            followers(&found.resident_mib),
            told,
        ),
        (&format!("{news}, p50"), "ms", median(found.news_ms), told),
        (&format!("{news}, longest"), "ms", longest, told),
        (
            "start until all replica sets have a primary",
            "s",
            found.forming.as_secs_f64(),
            told,
        ),
        (
            "changes of leaders by then",
            "",
            found.elections as f64,
            Goal::AtMost(0.0),
        ),
        (
            "orders of a failover, though nobody died",
            "",
            found.revoked as f64,
            Goal::AtMost(0.0),
        ),
    ];
    let tablets = size.tablets;
    let figure = |(what, unit, ours, goal): (&str, _, _, _)| Figure {
        metric: format!("{tablets} tablets: {what}"),
        unit,
        ours,
        peer: None,
        goal,
    };
    rows.into_iter().map(figure).collect()
}

/// Waits until every replica set has an open primary; returns how long that took.
async fn form(fleet: &Fleet, sets: usize, began: Instant) -> anyhow::Result<Duration> {
    loop {
        sleep(LOOK_AGAIN).await;
        let primaries = fleet.primaries.load(Ordering::Relaxed);
        if primaries == sets && fleet.attached.load(Ordering::Relaxed) == fleet.tablets {
            return Ok(began.elapsed());
        }
        if began.elapsed() > FORMING_TIMEOUT {
            bail!("{primaries} of {sets} replica sets have a primary after {FORMING_TIMEOUT:?}");
        }
    }
}

async fn view(admin: &mut AdminClient<Channel>) -> anyhow::Result<wire::ClusterView> {
    let request = wire::GetClusterRequest { stale: true };
    Ok(admin.get_cluster(request).await?.into_inner())
}

/// Processor time of each member, in percent of a core.
async fn window(group: &Group, length: Duration) -> anyhow::Result<Vec<f64>> {
    let read = || {
        let each = group.pids().into_iter();
        let each = each.map(|pid| process::cpu_seconds(&[pid]));
        each.collect::<anyhow::Result<Vec<f64>>>()
    };
    let began = Instant::now();
    let before = read()?;
    sleep(length).await;
    let after = read()?;
    let seconds = began.elapsed().as_secs_f64();
    let each = before.iter().zip(&after);
    Ok(each
        .map(|(before, after)| (after - before) * 100.0 / seconds)
        .collect())
}

/// Asks for one switchover; returns the milliseconds from the primary's report that it is read-only, which decides the new epoch,
/// until the last router has that.
async fn switchover(
    admin: &mut AdminClient<Channel>,
    fleet: &Fleet,
    routers: &mut Routers,
    set: usize,
) -> anyhow::Result<f64> {
    let name = agents::replica_set(set * agents::TABLETS_PER_SET);
    let before = one(admin, &name).await?;
    routers.expect(
        &name,
        before
            .replica_set
            .context("a view without its record")?
            .epoch
            + 1,
    );
    fleet.demoted();
    let request = wire::SwitchoverRequest {
        replica_set: name.clone(),
        ..wire::SwitchoverRequest::default()
    };
    admin.switchover(request).await?;
    let last = routers.all().await?;
    let demoted = fleet.demoted().context("no primary was demoted")?;
    let began = Instant::now();
    while !one(admin, &name).await?.serving {
        if began.elapsed() > SWITCHOVER_TIMEOUT {
            bail!("{name} is not stable after its switchover");
        }
        sleep(POLL).await;
    }
    Ok((last - demoted).as_secs_f64() * 1e3)
}

async fn one(admin: &mut AdminClient<Channel>, name: &str) -> anyhow::Result<wire::ReplicaSetView> {
    let request = wire::ListReplicaSetsRequest {
        stale: true,
        name: name.to_owned(),
    };
    let found = admin.list_replica_sets(request).await?.into_inner();
    found
        .replica_sets
        .into_iter()
        .next()
        .with_context(|| format!("no replica set {name}"))
}

fn describe(group: &Group, fleet: &Fleet) -> String {
    let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    format!(
        "{} attached, {} streams lost, {} attempts failed, {} orders of a failover, resident {:.0?} MiB",
        fleet.attached.load(Ordering::Relaxed),
        count(&fleet.lost),
        count(&fleet.refused),
        count(&fleet.revoked),
        group.resident_mib().unwrap_or_default(),
    )
}
