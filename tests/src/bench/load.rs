//! Closed-loop load: each client asks, waits for the answer and asks again. Measures a window after a warm-up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    client::{self, Client},
    group::Group,
    process,
};

/// Before the window: connections, caches and the processor's clock settle.
const WARM_UP: Duration = Duration::from_millis(700);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Write,
    Read,
}

impl Operation {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Write => "replicated write",
            Operation::Read => "linearizable read",
        }
    }
}

/// One window of one system.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Processor time of the three servers for each operation.
    pub server_cpu_us: f64,
    /// Processor time of this program for each operation.
    pub client_cpu_us: f64,
}

/// Puts load on the group's leader for the warm-up and the window.
pub async fn run<C: Client>(
    group: &Group,
    operation: Operation,
    count: usize,
    window: Duration,
) -> anyhow::Result<Sample> {
    let leader = group.leader::<C>().await?;
    let clients = client::clients::<C>(&group.doors()[leader], count).await?;
    let from = Instant::now() + WARM_UP;
    let to = from + window;
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(ask(client, operation, from, to, done.clone()));
    }
    sleep_until(from).await;
    let before = Reading::take(group, &done)?;
    sleep_until(to).await;
    let after = Reading::take(group, &done)?;
    let mut latencies = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let found = joined.context("a client has panicked")?;
        let what = operation.name();
        latencies.append(&mut found.with_context(|| format!("{}, {what}", group.name))?);
    }
    latencies.sort_unstable();
    let operations = (after.done - before.done) as f64;
    if operations == 0.0 || latencies.is_empty() {
        bail!("{} answered nothing in {window:?}", group.name);
    }
    let percentile = |share: f64| {
        let position = ((latencies.len() - 1) as f64 * share).round() as usize;
        f64::from(latencies[position]) / 1e3
    };
    Ok(Sample {
        per_second: operations / (after.at - before.at).as_secs_f64(),
        p50_us: percentile(0.5),
        p99_us: percentile(0.99),
        server_cpu_us: (after.server_cpu - before.server_cpu) * 1e6 / operations,
        client_cpu_us: (after.client_cpu - before.client_cpu) * 1e6 / operations,
    })
}

struct Reading {
    at: Instant,
    done: u64,
    server_cpu: f64,
    client_cpu: f64,
}

impl Reading {
    fn take(group: &Group, done: &AtomicU64) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            done: done.load(Ordering::Relaxed),
            server_cpu: process::cpu_seconds(&group.pids())?,
            client_cpu: process::cpu_seconds(&[std::process::id()])?,
        })
    }
}

/// One client; latencies in nanoseconds of what began and ended in the window.
async fn ask<C: Client>(
    mut client: C,
    operation: Operation,
    from: Instant,
    to: Instant,
    done: Arc<AtomicU64>,
) -> anyhow::Result<Vec<u32>> {
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        if began >= to {
            return Ok(latencies);
        }
        match operation {
            Operation::Write => client.write().await?,
            Operation::Read => client.read().await?,
        }
        let ended = Instant::now();
        done.fetch_add(1, Ordering::Relaxed);
        if began >= from && ended <= to {
            latencies.push(u32::try_from((ended - began).as_nanos()).unwrap_or(u32::MAX));
        }
    }
}
