//! Simulated routers: a connection and a watch of the routing state each, spread over the members. They look for one epoch of one
//! replica set at a time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use prost::Message;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use vt_proto::wire::{
    self, ReplicaSetRoute, WatchRoutingRequest, routing_client::RoutingClient,
    routing_update::Update,
};

use crate::bench::client::Door;

/// How long news may take to reach everybody before the benchmark gives up.
const NEWS_TIMEOUT: Duration = Duration::from_secs(30);
/// The whole state of the largest topology that is planned for, with room.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What all routers look for.
#[derive(Clone, Default)]
struct Target {
    number: u64,
    replica_set: String,
    epoch: u64,
}

#[derive(Default)]
struct Board {
    target: Mutex<Target>,
    missing: AtomicUsize,
    none_missing: Notify,
}

/// Routers that watch.
pub struct Routers {
    board: Arc<Board>,
    tasks: JoinSet<anyhow::Result<()>>,
    count: usize,
}

impl Routers {
    /// Opens the watches; each router has the whole state when this returns.
    pub async fn open(members: &[Door], count: usize) -> anyhow::Result<Self> {
        let board = Arc::new(Board::default());
        let mut tasks = JoinSet::new();
        for (number, member) in members.iter().cycle().take(count).enumerate() {
            let client = RoutingClient::new(member.connect().await?);
            let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
            let request = WatchRoutingRequest {
                cluster_id: String::new(),
                router: format!("router{number}:3306"),
                after: None,
                relay: false,
            };
            let mut news = client.watch(request).await?.into_inner();
            news.message().await?.context("the watch has ended")?;
            let board = board.clone();
            tasks.spawn(async move {
                let mut done = 0;
                loop {
                    let update = news.message().await?.context("the watch has ended")?;
                    look(&board, update, &mut done)?;
                }
            });
        }
        Ok(Self {
            board,
            tasks,
            count,
        })
    }

    /// From now on all look for this epoch.
    pub fn expect(&self, replica_set: &str, epoch: u64) {
        let mut target = self.board.lock();
        target.number += 1;
        replica_set.clone_into(&mut target.replica_set);
        target.epoch = epoch;
        self.board.missing.store(self.count, Ordering::Release);
    }

    /// Waits until all of them have what they look for.
    pub async fn all(&mut self) -> anyhow::Result<Instant> {
        let all = timeout(NEWS_TIMEOUT, self.board.none_missing.notified());
        tokio::select! {
            reached = all => {
                let missing = self.board.missing.load(Ordering::Acquire);
                reached.with_context(|| format!("{missing} of {} routers did not get an epoch", self.count))?;
                Ok(Instant::now())
            }
            Some(ended) = self.tasks.join_next() => {
                ended.context("a router has panicked")??;
                bail!("a router has ended");
            }
        }
    }
}

impl Board {
    fn lock(&self) -> std::sync::MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a router whose update has what is looked for; `done` is what it found last.
fn look(board: &Board, update: wire::RoutingUpdate, done: &mut u64) -> anyhow::Result<()> {
    let sets = match update.update.context("an update without contents")? {
        Update::Full(body) => wire::RoutingSnapshot::decode(body)?.replica_sets,
        Update::Delta(body) => wire::RoutingDelta::decode(body)?.replica_sets,
    };
    let target = board.lock();
    let fits = |set: &ReplicaSetRoute| set.name == target.replica_set && set.epoch >= target.epoch;
    if *done != target.number && sets.iter().any(fits) {
        *done = target.number;
        if board.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            board.none_missing.notify_one();
        }
    }
    Ok(())
}
