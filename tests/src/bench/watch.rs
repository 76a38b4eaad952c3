//! Watch fan-out: many watchers of one record, each with a connection of its own, spread over the members; one write; the time until
//! the last of them has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{client::Client, group::Group};

/// How long a change may take to reach everybody before the benchmark gives up.
const FAN_OUT_TIMEOUT: Duration = Duration::from_secs(30);

/// How many watchers have not got the change that is under way.
#[derive(Default)]
struct Missing {
    count: AtomicUsize,
    none: Notify,
}

/// Open watches of one system.
pub struct Watchers<C: Client> {
    name: &'static str,
    writer: C,
    count: usize,
    missing: Arc<Missing>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl<C: Client> Watchers<C> {
    /// Opens the watches; all of them are confirmed when this returns.
    pub async fn open(group: &Group, count: usize) -> anyhow::Result<Self> {
        let leader = group.leader::<C>().await?;
        let doors = group.doors();
        let mut writer = C::new(&doors[leader], doors[leader].connect().await?, 0);
        writer.prepare().await?;
        let missing = Arc::new(Missing::default());
        let mut tasks = JoinSet::new();
        for door in doors.iter().cycle().take(count) {
            let mut client = C::new(door, door.connect().await?, 0);
            let mut watch = client.watch().await?;
            let missing = missing.clone();
            tasks.spawn(async move {
                loop {
                    C::changed(&mut watch).await?;
                    if missing.count.fetch_sub(1, Ordering::AcqRel) == 1 {
                        missing.none.notify_one();
                    }
                }
            });
        }
        Ok(Self {
            name: group.name,
            writer,
            count,
            missing,
            tasks,
        })
    }

    /// Writes once; returns the time until the last watcher has the change.
    pub async fn fan_out(&mut self) -> anyhow::Result<Duration> {
        self.missing.count.store(self.count, Ordering::Release);
        let began = Instant::now();
        self.writer.write().await?;
        let all = timeout(FAN_OUT_TIMEOUT, self.missing.none.notified());
        tokio::select! {
            reached = all => reached.with_context(|| {
                let missing = self.missing.count.load(Ordering::Acquire);
                format!("{}: {missing} of {} watchers did not get a change", self.name, self.count)
            })?,
            Some(ended) = self.tasks.join_next() => {
                ended.context("a watcher has panicked")??;
                bail!("a watcher of {} has ended", self.name);
            }
        }
        Ok(began.elapsed())
    }
}
