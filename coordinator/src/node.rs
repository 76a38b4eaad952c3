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
use tracing::{error, info, warn};
use vt_coordinator_core::{
    Core, TICK_MS, codec,
    command::Command,
    effect::Effect,
    event::{Event, Now},
    peer::{Peer, PeerConfig, ProposeError, Ready},
    state::State,
};
use vt_proto::wire::RaftMessage;

use crate::{logging, metrics::Metrics, raft::transport::Outbox, storage::Storage};

mod clock;
mod disk;
mod handle;
mod published;
mod waiting;

pub use handle::{Handle, MemberStatus, NodeStatus, ReadError, WriteError};

use disk::{Disk, WRITES_MAX, Written};
use handle::{REQUESTS_MAX, Request, Waiter};
use published::Published;
use waiting::{Reads, Writes};

/// Messages and requests taken in before the loop turns to what follows from them: one flush for all of them.
const TAKEN_AT_ONCE_MAX: usize = 512;
/// Entries applied since the last snapshot that make the next one due.
const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;
/// Entries that stay in the log behind a snapshot, for members that are a little behind.
const LOG_TAIL_ENTRIES: u64 = 5_000;
/// Ticks that a stopping leader waits for another one to take over.
const HAND_OVER_TICKS: u32 = 20;

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

    /// Does everything that raft has ready.
    fn advance(&mut self) -> anyhow::Result<()> {
        self.follow_leadership();
        if self.core_leads
            && let Some(context) = self.reads.begin_round()
        {
            self.peer.read_index(context);
        }
        while self.in_flight.len() < WRITES_MAX
            && let Some(ready) = self.peer.ready()?
        {
            self.handle(ready)?;
            self.follow_leadership();
        }
        if self.applied - self.snapshot_index >= SNAPSHOT_EVERY_ENTRIES {
            self.take_snapshot()?;
        }
        Ok(())
    }

    fn handle(&mut self, ready: Ready) -> anyhow::Result<()> {
        self.send(ready.send_now);
        if let Some(snapshot) = &ready.installed {
            let state = codec::decode_state(&snapshot.data)
                .context("the leader's snapshot cannot be read")?;
            info!(index = snapshot.index, "installed a snapshot of the leader");
            self.core.install(state);
            self.applied = snapshot.index;
            self.snapshot_index = snapshot.index;
        }
        if let Some(last) = ready.committed.last() {
            let last = last.index;
            for entry in ready.committed {
                self.apply(entry.index, &entry.data)?;
            }
            self.peer.applied(last);
            self.applied = last;
        }
        for read in &ready.reads {
            self.reads.confirmed(read.context, read.index);
        }
        self.answer_reads();
        if ready.batch.is_empty() && self.in_flight.is_empty() {
            self.peer.persisted(ready.number);
            self.send(ready.send_after_persist);
            return Ok(());
        }
        self.write(Some(ready.number), ready.batch, ready.send_after_persist)
    }

    fn apply(&mut self, index: u64, data: &[u8]) -> anyhow::Result<()> {
        // A new leader begins with an entry without content.
        if data.is_empty() {
            return Ok(());
        }
        let command = codec::decode_command(data)
            .with_context(|| format!("log entry {index} cannot be applied"))?;
        for event in &command.events {
            info!(
                index,
                kind = event.kind,
                subject = event.subject,
                evidence = ?event.evidence,
                "{}",
                event.message
            );
        }
        self.step(clock::now(), Event::Committed { index, command });
        Ok(())
    }

    fn answer_reads(&mut self) {
        let answerable = self.reads.answerable(self.applied);
        if answerable.is_empty() {
            return;
        }
        let status = self.current_status();
        for view in answerable {
            self.metrics.reads.inc();
            view(Ok((&self.core, &status)));
        }
    }

    fn write(
        &mut self,
        number: Option<u64>,
        batch: vt_coordinator_core::peer::Batch,
        messages: Vec<RaftMessage>,
    ) -> anyhow::Result<()> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if !self.disk.write(sequence, batch) {
            bail!("the storage thread does not take what must be written");
        }
        self.in_flight.push_back(InFlight {
            sequence,
            number,
            messages,
        });
        Ok(())
    }

    fn written(&mut self, written: Option<Written>) -> anyhow::Result<()> {
        let Some(written) = written else {
            bail!("the storage thread has ended");
        };
        let up_to = written.context("the raft log cannot be written; nothing was promised")?;
        while let Some(write) = self.in_flight.pop_front_if(|w| w.sequence <= up_to) {
            if let Some(number) = write.number {
                self.peer.persisted(number);
            }
            self.send(write.messages);
        }
        Ok(())
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        for message in messages {
            let to = message.to;
            if !self.outbox.send(message) {
                self.peer.unreachable(to);
            }
        }
    }

    fn take_snapshot(&mut self) -> anyhow::Result<()> {
        // Its place in the queue to the disk must be free; the next turn of the loop tries again.
        if self.in_flight.len() >= WRITES_MAX {
            return Ok(());
        }
        let state = codec::encode_state(self.core.state());
        let keep_after = self.applied.saturating_sub(LOG_TAIL_ENTRIES);
        let batch = self.peer.compact(state, keep_after);
        self.snapshot_index = self.applied;
        info!(index = self.applied, "took a snapshot of the state");
        self.write(None, batch, Vec::new())
    }

    /// Tells the core and everybody who waits when leadership came or went.
    fn follow_leadership(&mut self) {
        let leads_term = self.peer.is_leader().then(|| self.peer.term());
        if leads_term != self.leads_term {
            if self.leads_term.is_some() {
                self.lose_leadership();
            }
            self.leads_term = leads_term;
            self.publish_status();
        }
        if !self.core_leads && self.peer.leads() {
            self.core_leads = true;
            info!(term = self.peer.term(), "leads from now on");
            self.step(clock::now(), Event::LeadershipGained);
            self.publish_status();
        }
    }

    fn lose_leadership(&mut self) {
        if self.core_leads {
            self.core_leads = false;
            info!(term = self.peer.term(), "does not lead any more");
            self.step(clock::now(), Event::LeadershipLost);
        }
        self.published.withdraw();
        self.writes.fail_all(&WriteError::Unknown);
        let leader = self.leader_address();
        self.reads.fail_all(&ReadError::NotLeader { leader });
    }

    fn stop(&mut self) {
        let to = self.peer.transfer_leadership();
        if let Some(to) = to {
            info!(to, "stopping: handing leadership over");
        }
        self.stopping_ticks = Some(if to.is_some() { HAND_OVER_TICKS } else { 0 });
    }

    fn has_stopped(&self) -> bool {
        match self.stopping_ticks {
            None => false,
            Some(0) => {
                if self.peer.is_leader() && self.config.members.len() > 1 {
                    error!("nobody took leadership over in time; stopping all the same");
                }
                true
            }
            Some(_) => !self.peer.is_leader(),
        }
    }

    fn leader_address(&self) -> Option<String> {
        let leader = self.peer.leader_id()?;
        self.config.members.get(&leader).cloned()
    }

    fn current_status(&self) -> NodeStatus {
        let now = clock::now();
        let progress = self.peer.members();
        let members = self.config.members.iter().map(|(id, address)| {
            let matched = progress
                .iter()
                .find(|p| p.id == *id)
                .map_or(0, |p| p.matched);
            let heard_ms = self.last_heard_ms.get(id).copied();
            let heard_ms = heard_ms.or((*id == self.config.member_id).then_some(now.monotonic_ms));
            MemberStatus {
                id: *id,
                address: address.clone(),
                matched,
                last_heard_ms: heard_ms.map(|at| now.monotonic_ms.saturating_sub(at)),
            }
        });
        NodeStatus {
            cluster_id: self.config.cluster_id.clone(),
            id: self.config.member_id,
            term: self.peer.term(),
            leader_id: self.peer.leader_id(),
            leader_address: self.leader_address(),
            is_leader: self.core_leads,
            applied: self.applied,
            commit: self.peer.commit_index(),
            members: members.collect(),
            now,
        }
    }

    fn publish_status(&self) {
        let status = self.current_status();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.leader.set(i64::from(status.is_leader));
        metrics.term.set(number(status.term));
        metrics.applied_index.set(number(status.applied));
        metrics.commit_index.set(number(status.commit));
        metrics.snapshot_index.set(number(self.snapshot_index));
        metrics
            .tablets
            .set(number(self.core.state().tablets.len() as u64));
        let log_start = self.peer.log_start_index();
        metrics
            .log_entries
            .set(number(status.commit.saturating_sub(log_start)));
        self.status.send_replace(status);
    }
}
