//! The single owner loop of a coordinator: takes one event, asks the core and raft what follows, and does it.
//!
//! Nothing else touches the core, the raft peer or the queue to the disk. The loop never blocks: the disk has a thread of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vt_coordinator_core::{
    Core, TICK_MS, codec,
    command::Command,
    effect::Effect,
    event::{Event, Now},
    peer::{Peer, PeerConfig, ProposeError},
    state::State,
};
use vt_proto::wire::RaftMessage;

use crate::{logging, metrics::Metrics, raft::transport::Outbox, storage::Storage};

mod advance;
mod clock;
mod disk;
mod handle;
mod leadership;
mod published;
mod waiting;

pub use handle::{Handle, MemberStatus, NodeStatus, ReadError, WriteError};

use disk::{Disk, Written};
use handle::{REQUESTS_MAX, Request, Waiter};
use published::Published;
use waiting::{Reads, Writes};

/// Messages and requests taken in before the loop turns to what follows from them: one flush for all of them.
const TAKEN_AT_ONCE_MAX: usize = 512;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub cluster_id: String,
    pub member_id: u64,
    /// Where each member serves gRPC.
    pub members: BTreeMap<u64, String>,
    /// Seed of the election time-outs.
    pub seed: u64,
}

/// A batch on its way to the disk, with what follows when it is there.
struct InFlight {
    sequence: u64,
    /// The number of the ready value that it came from; a snapshot of our own has none.
    number: Option<u64>,
    messages: Vec<RaftMessage>,
}

/// The state of the loop.
pub struct Node {
    config: NodeConfig,
    peer: Peer,
    core: Core,
    disk: Disk,
    disk_thread: thread::JoinHandle<()>,
    in_flight: VecDeque<InFlight>,
    next_sequence: u64,
    outbox: Outbox,
    inbox: mpsc::Receiver<RaftMessage>,
    requests: mpsc::Receiver<Request>,
    writes: Writes,
    reads: Reads,
    published: Arc<Published>,
    status: watch::Sender<NodeStatus>,
    metrics: Arc<Metrics>,
    /// The term in which this member leads, if it does.
    leads_term: Option<u64>,
    /// The core knows that it leads.
    core_leads: bool,
    applied: u64,
    snapshot_index: u64,
    /// Decisions up to here were told by the log files of an earlier run.
    logged_up_to: u64,
    last_heard_ms: BTreeMap<u64, u64>,
    last_tick_ms: u64,
    stopping_ticks: Option<u32>,
}

/// What woke the loop.
enum Wake {
    Tick,
    Message(Box<RaftMessage>),
    Request(Request),
    Written(Option<Written>),
    Stop,
}

impl Node {
    /// Loads what was stored and takes up where it ended. Blocks.
    pub fn load(
        config: NodeConfig,
        mut storage: Box<dyn Storage>,
        outbox: Outbox,
        inbox: mpsc::Receiver<RaftMessage>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, Handle)> {
        let stored = storage.load()?;
        let snapshot_index = stored.snapshot.as_ref().map_or(0, |s| s.index);
        let state = match &stored.snapshot {
            Some(snapshot) => {
                codec::decode_state(&snapshot.data).context("the stored snapshot cannot be read")?
            }
            None => State::new(config.cluster_id.clone()),
        };
        let logged_up_to = stored.last_index();
        let peer_config = PeerConfig {
            id: config.member_id,
            voters: config.members.keys().copied().collect(),
            seed: config.seed,
        };
        let peer = Peer::new(&peer_config, stored, &logging::raft_logger())
            .context("the stored log cannot be used")?;
        let (disk, disk_thread) =
            Disk::start(storage, metrics.clone()).context("the storage thread cannot start")?;
        let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
        let published = Arc::new(Published::default());
        let status = watch::Sender::new(NodeStatus::default());
        let handle = Handle {
            requests: requests_in,
            status: status.subscribe(),
            published: published.clone(),
        };
        let node = Self {
            config,
            peer,
            core: Core::new(state),
            disk,
            disk_thread,
            in_flight: VecDeque::new(),
            next_sequence: 1,
            outbox,
            inbox,
            requests,
            writes: Writes::default(),
            reads: Reads::default(),
            published,
            status,
            metrics,
            leads_term: None,
            core_leads: false,
            applied: snapshot_index,
            snapshot_index,
            logged_up_to,
            last_heard_ms: BTreeMap::new(),
            last_tick_ms: clock::now().monotonic_ms,
            stopping_ticks: None,
        };
        Ok((node, handle))
    }

    /// Runs until `stop`, handing leadership over first, or until the disk fails.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish_status();
        while !self.has_stopped() {
            match self.wake(&mut ticks, &stop).await {
                Wake::Tick => self.tick(),
                Wake::Message(message) => self.take_messages(*message),
                Wake::Request(request) => self.take_requests(request),
                Wake::Written(written) => self.written(written)?,
                Wake::Stop => self.stop(),
            }
            self.advance()?;
        }
        self.follow_leadership();
        self.writes.fail_all(&WriteError::Stopped);
        self.reads.fail_all(&ReadError::Stopped);
        let thread = self.disk_thread;
        drop(self.disk);
        let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if !joined.unwrap_or(false) {
            bail!("the storage thread has failed");
        }
        Ok(())
    }

    async fn wake(&mut self, ticks: &mut Interval, stop: &CancellationToken) -> Wake {
        tokio::select! {
            _ = ticks.tick() => Wake::Tick,
            Some(message) = self.inbox.recv() => Wake::Message(Box::new(message)),
            Some(request) = self.requests.recv() => Wake::Request(request),
            written = self.disk.written.recv() => Wake::Written(written),
            () = stop.cancelled(), if self.stopping_ticks.is_none() => Wake::Stop,
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        let late_ms = now
            .monotonic_ms
            .saturating_sub(self.last_tick_ms)
            .saturating_sub(TICK_MS);
        self.last_tick_ms = now.monotonic_ms;
        self.metrics
            .tick_late_seconds
            .set(Duration::from_millis(late_ms).as_secs_f64());
        self.peer.tick();
        self.step(now, Event::Tick);
        self.writes.drop_abandoned();
        if let Some(ticks) = &mut self.stopping_ticks {
            *ticks = ticks.saturating_sub(1);
        }
        self.publish_status();
    }

    fn take_messages(&mut self, first: RaftMessage) {
        let now_ms = clock::now().monotonic_ms;
        self.take_message(first, now_ms);
        for _ in 1..TAKEN_AT_ONCE_MAX {
            let Ok(message) = self.inbox.try_recv() else {
                return;
            };
            self.take_message(message, now_ms);
        }
    }

    fn take_message(&mut self, message: RaftMessage, now_ms: u64) {
        let from = message.from;
        match self.peer.step(message) {
            Ok(()) => drop(self.last_heard_ms.insert(from, now_ms)),
            Err(error) => {
                self.metrics.raft_refused.inc();
                warn!(from, %error, "a message of a member was refused");
            }
        }
    }

    fn take_requests(&mut self, first: Request) {
        self.request(first);
        for _ in 1..TAKEN_AT_ONCE_MAX {
            let Ok(request) = self.requests.try_recv() else {
                return;
            };
            self.request(request);
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Propose { command, waiter } => self.propose_for(&command, waiter),
            Request::Read {
                linearizable: false,
                view,
            } => {
                self.metrics.reads.inc();
                view(Ok((&self.core, &self.current_status())));
            }
            Request::Read { view, .. } => {
                if self.leads_term.is_some() {
                    self.reads.ask(view);
                } else {
                    let leader = self.leader_address();
                    view(Err(ReadError::NotLeader { leader }));
                }
            }
            Request::Report(report) => {
                self.metrics.reports.inc();
                self.step(clock::now(), Event::Reported { report });
            }
            Request::StreamEnded(alias) => {
                self.published.forget(&alias);
                self.step(clock::now(), Event::StreamEnded { alias });
            }
        }
    }

    fn propose_for(&mut self, command: &Command, waiter: Waiter) {
        let outcome = if self.writes.is_full() {
            Err(WriteError::Busy)
        } else {
            self.propose(command)
        };
        match outcome {
            Ok(()) => self.writes.wait(command.request_id.clone(), waiter),
            // Who asked may have gone.
            Err(error) => drop(waiter.send(Err(error))),
        }
    }

    fn propose(&mut self, command: &Command) -> Result<(), WriteError> {
        let proposed = self.peer.propose(codec::encode_command(command));
        proposed.map_err(|error| match error {
            ProposeError::NotLeader => WriteError::NotLeader {
                leader: self.leader_address(),
            },
            ProposeError::Busy => WriteError::Busy,
            ProposeError::TooLarge => WriteError::TooLarge,
        })?;
        self.metrics.proposals.inc();
        Ok(())
    }

    /// One event for the core, and everything that follows from it.
    fn step(&mut self, now: Now, event: Event) {
        for effect in self.core.step(now, event) {
            match effect {
                Effect::Propose(command) => {
                    if let Err(error) = self.propose(&command) {
                        // The core proposes again as long as it sees reason to.
                        warn!(%error, request_id = command.request_id, "a decision was not proposed");
                    }
                }
                Effect::Finished {
                    request_id,
                    outcome,
                } => {
                    if let Err(refusal) = &outcome {
                        self.metrics.commands_refused.inc();
                        info!(request_id, %refusal, "a command had no effect");
                    }
                    self.writes.finish(&request_id, &outcome);
                }
                Effect::SendDesired(desired) => self.published.send_desired(*desired),
                Effect::PublishRouting(snapshot) => self.published.publish_routing(*snapshot),
            }
        }
    }
}
