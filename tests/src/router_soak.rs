//! Routers under clients that never rest: sessions of every kind come, do something, check that everything they get is theirs, and leave,
//! most of them politely. Meanwhile connections to servers are killed, strangers come and go, and the primary moves. What must not be:
//! a row, a variable, a table or a warning of another session; state that is gone without an error; anything that grows with time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use mysql_async::prelude::Queryable;
use serde::Serialize;
use tokio::task::JoinSet;

use self::{usage::Usage, visit::Visitors};
use crate::cluster::{
    local::{LocalCluster, REPLICA_SET},
    login::Login,
};

pub mod usage;
mod vandal;
mod visit;

pub const KEYSPACE: &str = "commerce";
/// Sessions at once on each router.
const VISITORS_PER_ROUTER: usize = 16;
/// Between two looks at what is used.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Whoever left has been let go of by then, on servers as well.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
const SETTLE_PAUSE: Duration = Duration::from_millis(500);
/// Things that were wrong and are kept word for word.
const WRONG_MAX: usize = 20;

/// What happened so far, counted by everybody.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    done: BTreeMap<&'static str, u64>,
    errors: BTreeMap<u16, u64>,
    wrong_count: u64,
    wrong: Vec<String>,
}

impl Log {
    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, what: &'static str) {
        self.with(|counts| *counts.done.entry(what).or_default() += 1);
    }

    fn error(&self, code: u16) {
        self.with(|counts| *counts.errors.entry(code).or_default() += 1);
    }

    fn wrong(&self, what: String) {
        self.with(|counts| {
            counts.wrong_count += 1;
            if counts.wrong.len() < WRONG_MAX {
                counts.wrong.push(what);
            }
        });
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    /// What sessions and vandals did, by its name.
    pub done: BTreeMap<&'static str, u64>,
    /// Errors that clients were given and may be given, by their number.
    pub errors: BTreeMap<u16, u64>,
    pub usage: Vec<usage::Line>,
    pub wrong_count: u64,
    pub wrong: Vec<String>,
}

/// A cluster of its own under clients for so long.
pub async fn run(seed: u64, seconds: u64) -> anyhow::Result<Report> {
    let cluster = LocalCluster::up().await?;
    let create = ["keyspace", "create", KEYSPACE, "--replica-set", REPLICA_SET];
    cluster.vtctl(&create).await?;
    run_on(&cluster, seed, seconds).await
}

/// The same on a cluster that has the keyspace.
pub async fn run_on(cluster: &LocalCluster, seed: u64, seconds: u64) -> anyhow::Result<Report> {
    let logins = cluster.routers().await?;
    prepare(&logins).await?;
    let log = Log::default();
    let visitors = Visitors::new(seed, log.clone());
    let mut sessions = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (number, login) in logins.iter().enumerate() {
        for place in 0..VISITORS_PER_ROUTER {
            let place = (number * VISITORS_PER_ROUTER + place) as u64;
            sessions.spawn(visitors.come_and_go(place, login.clone(), stopped.clone()));
        }
    }
    let mut usage = Usage::of(cluster).await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let work = async {
        while Instant::now() < end {
            tokio::time::sleep(LOOK_INTERVAL).await;
            usage.look().await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        result = work => result?,
        result = vandal::rage(seed, cluster, &logins, &log) => result?,
    }
    stop.send_replace(true);
    while let Some(ended) = sessions.join_next().await {
        ended.context("a session of the soak broke off")?;
    }
    settle(&logins, &log).await?;
    let lines = usage.lines();
    for line in lines.iter().filter(|line| line.grows) {
        log.wrong(format!(
            "{} of {} grows: {} in the first part, {} in the last",
            line.what, line.whose, line.early, line.late
        ));
    }
    Ok(log.with(|counts| Report {
        seed,
        seconds,
        done: std::mem::take(&mut counts.done),
        errors: std::mem::take(&mut counts.errors),
        usage: lines,
        wrong_count: counts.wrong_count,
        wrong: std::mem::take(&mut counts.wrong),
    }))
}

async fn prepare(logins: &[Login]) -> anyhow::Result<()> {
    let first = logins.first().context("a cluster without routers")?;
    let mut session = first.connect(Some(KEYSPACE)).await?;
    let create = "CREATE TABLE IF NOT EXISTS visit (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, tag BIGINT UNSIGNED NOT NULL, KEY (tag))";
    session.query_drop(create).await?;
    session.disconnect().await?;
    Ok(())
}

/// Everybody has left: routers list nobody but who asks.
async fn settle(logins: &[Login], log: &Log) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLE_TIME_MAX;
    for login in logins {
        let mut session = login.connect(Some(KEYSPACE)).await?;
        loop {
            let listed: Vec<mysql_async::Row> = session.query("SHOW PROCESSLIST").await?;
            if listed.len() == 1 {
                break;
            }
            if Instant::now() >= deadline {
                let port = login.port;
                log.wrong(format!(
                    "{} sessions are left on the router at port {port}",
                    listed.len() - 1
                ));
                break;
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        session.disconnect().await?;
    }
    Ok(())
}
