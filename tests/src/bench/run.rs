//! The whole benchmark, in order: idle groups, rounds of load on both in turn, watch fan-out, start-up.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::{
    client,
    etcd::Etcd,
    group::Group,
    load::{self, Operation, Sample},
    ours::Ours,
    process,
    report::{Figure, Goal, median},
    scale, startup,
    watch::Watchers,
};

/// Records in the group whose memory and idle processor time are measured.
const FEW_RECORDS: usize = 100;
/// Tablets whose records are there when start-up is measured; each has a third of a replica set.
const MANY_TABLETS: usize = 10_000;
/// What a member did only because it was started or written to is done by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Long enough to see a tenth of a hundredth of a core.
const IDLE: Duration = Duration::from_secs(10);
/// What is measured of both systems.
const SIDE_BY_SIDE: [&str; 5] = ["idle", "write", "read", "watch", "start"];
/// The second column.
pub const PEER: &str = "etcd";

/// What is measured, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub coordinator: PathBuf,
    pub etcd: PathBuf,
    /// Data directories of both go there.
    pub directory: PathBuf,
    pub rounds: usize,
    pub clients: Vec<usize>,
    pub window: Duration,
    pub watchers: usize,
    pub fan_outs: usize,
    pub scale: scale::Size,
    /// Everything is encrypted, and both sides of each connection show a certificate.
    pub tls: bool,
    /// Parts to run; empty: all.
    pub parts: Vec<String>,
}

impl Plan {
    fn includes(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|asked| asked == part)
    }
}

/// Runs what the plan says; the figures in the order of the table.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut found = Vec::new();
    if SIDE_BY_SIDE.iter().any(|part| plan.includes(part)) {
        found = side_by_side(plan).await?;
    }
    // By name only: it fills a machine, and where that has no room it fails.
    if plan.parts.iter().any(|part| part == "scale") {
        found.extend(scale::run(plan).await?);
    }
    Ok(found)
}

/// The parts that measure both systems.
async fn side_by_side(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut ours = Group::ours(&plan.coordinator, &plan.directory, plan.tls)?;
    let mut etcd = Group::etcd(&plan.etcd, &plan.directory, plan.tls)?;
    let mut figures = Vec::new();
    if plan.includes("idle") {
        figures.extend(idle(&ours, &etcd).await?);
    }
    let mut found = Vec::new();
    for (part, operation) in [("write", Operation::Write), ("read", Operation::Read)] {
        if plan.includes(part) {
            found.extend(rounds(plan, operation, &ours, &etcd).await?);
        }
    }
    if plan.includes("watch") {
        found.push(fan_out(plan, &ours, &etcd).await?);
    }
    if plan.includes("start") {
        found.extend(start(&mut ours, &mut etcd).await?);
    }
    // What a reader asks first stands first.
    found.append(&mut figures);
    Ok(found)
}

/// Idle processor time and memory with few records, of the member that has most of it.
async fn idle(ours: &Group, etcd: &Group) -> anyhow::Result<Vec<Figure>> {
    say("idle members");
    let leader = ours.leader::<Ours>().await?;
    drop(client::clients::<Ours>(&ours.doors()[leader], FEW_RECORDS).await?);
    let leader = etcd.leader::<Etcd>().await?;
    drop(client::clients::<Etcd>(&etcd.doors()[leader], FEW_RECORDS).await?);
    sleep(SETTLE).await;
    let busy = |group: &Group| {
        let each = group.pids().into_iter();
        each.map(|pid| process::cpu_seconds(&[pid]))
            .collect::<anyhow::Result<Vec<f64>>>()
    };
    let began = Instant::now();
    let before = (busy(ours)?, busy(etcd)?);
    sleep(IDLE).await;
    let after = (busy(ours)?, busy(etcd)?);
    let seconds = began.elapsed().as_secs_f64();
    let percent = |before: Vec<f64>, after: Vec<f64>| {
        let each = before.iter().zip(&after);
        let each = each.map(|(before, after)| (after - before) * 100.0 / seconds);
        each.fold(0.0, f64::max)
    };
    let most = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
    Ok(vec![
        Figure {
            metric: "idle processor time of a member".to_owned(),
            unit: "% of a core",
            ours: percent(before.0, after.0),
            peer: Some(percent(before.1, after.1)),
            goal: Goal::AtMost(1.0),
        },
        Figure {
            metric: format!("resident memory of a member with {FEW_RECORDS} records"),
            unit: "MiB",
            ours: most(ours.resident_mib()?),
            peer: Some(most(etcd.resident_mib()?)),
            goal: Goal::AtMost(40.0),
        },
    ])
}

/// Both in turn, and the other one first in every other round, so that a slow minute hits both alike.
async fn rounds(
    plan: &Plan,
    operation: Operation,
    ours: &Group,
    etcd: &Group,
) -> anyhow::Result<Vec<Figure>> {
    let mut samples: BTreeMap<usize, (Vec<Sample>, Vec<Sample>)> = BTreeMap::new();
    for round in 0..plan.rounds {
        for &count in &plan.clients {
            let of_count = samples.entry(count).or_default();
            for turn in 0..2 {
                let ours_now = (round + turn) % 2 == 0;
                let name = if ours_now { ours.name } else { etcd.name };
                let sample = if ours_now {
                    load::run::<Ours>(ours, operation, count, plan.window).await?
                } else {
                    load::run::<Etcd>(etcd, operation, count, plan.window).await?
                };
                say(&format!(
                    "round {} of {}, {}, {count} clients, {name}: {:.0}/s, p50 {:.0} us, p99 {:.0} us, server {:.0} us, client {:.0} us",
                    round + 1,
                    plan.rounds,
                    operation.name(),
                    sample.per_second,
                    sample.p50_us,
                    sample.p99_us,
                    sample.server_cpu_us,
                    sample.client_cpu_us,
                ));
                if ours_now {
                    of_count.0.push(sample);
                } else {
                    of_count.1.push(sample);
                }
            }
        }
    }
    let each = samples.into_iter();
    Ok(each
        .flat_map(|(count, (ours, etcd))| of_load(operation, count, &ours, &etcd))
        .collect())
}

/// A figure of load: what, its unit, where it stands in a sample, its goal.
type Row = (&'static str, &'static str, fn(&Sample) -> f64, Goal);

/// Medians of all rounds.
fn of_load(operation: Operation, count: usize, ours: &[Sample], etcd: &[Sample]) -> Vec<Figure> {
    let of =
        |samples: &[Sample], pick: fn(&Sample) -> f64| median(samples.iter().map(pick).collect());
    let twice = match (operation, count) {
        // One client waits for the disk and the others; there is nothing to batch.
        (Operation::Write, 1) => Goal::None,
        _ => Goal::RatioAtLeast(2.0),
    };
    let no_later = match operation {
        Operation::Write => Goal::RatioAtMost(1.0),
        Operation::Read => Goal::None,
    };
    let rows: [Row; 4] = [
        ("throughput", "1/s", |s| s.per_second, twice),
        ("p50", "us", |s| s.p50_us, Goal::None),
        ("p99", "us", |s| s.p99_us, no_later),
        (
            "processor time of the servers",
            "us/op",
            |s| s.server_cpu_us,
            Goal::None,
        ),
    ];
    let plural = if count == 1 { "" } else { "s" };
    let figure = |(what, unit, pick, goal)| Figure {
        metric: format!("{}, {count} client{plural}: {what}", operation.name()),
        unit,
        ours: of(ours, pick),
        peer: Some(of(etcd, pick)),
        goal,
    };
    rows.map(figure).into()
}

async fn fan_out(plan: &Plan, ours: &Group, etcd: &Group) -> anyhow::Result<Figure> {
    say(&format!("{} watchers of each", plan.watchers));
    let mut of_ours = Watchers::<Ours>::open(ours, plan.watchers).await?;
    let mut of_etcd = Watchers::<Etcd>::open(etcd, plan.watchers).await?;
    let mut ms = (Vec::new(), Vec::new());
    for _ in 0..plan.fan_outs {
        ms.0.push(of_ours.fan_out().await.context("Vitrail")?.as_secs_f64() * 1e3);
        ms.1.push(of_etcd.fan_out().await.context("etcd")?.as_secs_f64() * 1e3);
    }
    Ok(Figure {
        metric: format!(
            "watch: one write until the last of {} has it",
            plan.watchers
        ),
        unit: "ms",
        ours: median(ms.0),
        peer: Some(median(ms.1)),
        goal: Goal::RatioAtMost(1.0),
    })
}

async fn start(ours: &mut Group, etcd: &mut Group) -> anyhow::Result<Vec<Figure>> {
    say(&format!("start-up with {MANY_TABLETS} tablets"));
    ours.leader::<Ours>().await?;
    startup::register(&ours.doors(), MANY_TABLETS).await?;
    // As many keys with values of the usual size; etcd has no records of its own.
    let keys = MANY_TABLETS + MANY_TABLETS.div_ceil(3);
    let leader = etcd.leader::<Etcd>().await?;
    Etcd::fill(&etcd.doors()[leader], keys).await?;
    let of_ours = startup::measure::<Ours>(ours).await?;
    let of_etcd = startup::measure::<Etcd>(etcd).await?;
    let figure = |metric: String, ours: Duration, etcd: Duration| Figure {
        metric,
        unit: "s",
        ours: ours.as_secs_f64(),
        peer: Some(etcd.as_secs_f64()),
        goal: Goal::AtMost(2.0),
    };
    let one = format!("start of one member with {MANY_TABLETS} tablets until it serves");
    let all = format!("start of all members with {MANY_TABLETS} tablets until they serve");
    Ok(vec![
        figure(one, of_ours.0, of_etcd.0),
        figure(all, of_ours.1, of_etcd.1),
    ])
}

/// Progress, for who waits.
pub fn say(what: &str) {
    eprintln!("bench: {what}");
}
