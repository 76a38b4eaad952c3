//! The single owner loop of a coordinator: hands everything that happens to the pure member, and does what it says.
//!
//! Nothing else touches the member or the queue to the disk. The loop never blocks: the disk has a thread of its own.

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vt_coordinator_core::{
    TICK_MS,
    event::Now,
    member::{Input, Limits, Member, MemberConfig, Output, StopReason, Token},
};
use vt_proto::{topology::AuditEvent, wire::MemberMessage};

use crate::{
    logging,
    metrics::Metrics,
    news::News,
    raft::transport::Outbox,
    storage::{Space, Storage},
};

mod changes;
mod clock;
mod disk;
mod handle;
mod published;

pub use changes::Changes;
pub(crate) use clock::now;
pub use handle::{Handle, MemberStatus, NodeStatus, ReadError, Seat, TransferError, WriteError};

use disk::{Disk, Told, Written};
use handle::{Request, Waiting};
use published::Published;

/// Messages and requests taken in before the loop turns to what follows from them: one flush for all of them.
const TAKEN_AT_ONCE_MAX: usize = 512;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub cluster_id: String,
    pub member_id: u64,
    /// Names its data directory.
    pub directory_id: String,
    /// Where members serve gRPC, until this one has records of them.
    pub contacts: BTreeMap<u64, String>,
    /// Different in each life.
    pub seed: u64,
}

/// The state of the loop.
pub struct Node {
    member: Member,
    disk: Disk,
    disk_thread: thread::JoinHandle<()>,
    outbox: Outbox,
    inbox: mpsc::Receiver<MemberMessage>,
    requests: mpsc::Receiver<Request>,
    waiting: Waiting,
    published: Arc<Published>,
    news: Arc<News>,
    status: watch::Sender<NodeStatus>,
    space: watch::Sender<Space>,
    metrics: Arc<Metrics>,
    /// Where this member stands, for the readers of one turn; None until one of them looks.
    seen: Option<NodeStatus>,
    last_tick_ms: u64,
    was_leader: bool,
    was_stalled: bool,
    stopped: Option<StopReason>,
}

/// What woke the loop.
enum Wake {
    Tick,
    Message(Box<MemberMessage>),
    Request(Request),
    Written(Option<Written>),
    Stop,
}

impl Node {
    /// Loads what was stored and takes up where it ended; a member that stored nothing is brought everything by a leader.
    /// Blocks.
    pub fn load(
        config: NodeConfig,
        mut storage: Box<dyn Storage>,
        seat: Seat,
        outbox: Outbox,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let stored = storage.load()?;
        let member_config = MemberConfig {
            cluster_id: config.cluster_id,
            id: config.member_id,
            directory_id: config.directory_id,
            contacts: config.contacts,
            seed: config.seed,
            limits: Limits::default(),
        };
        let member = Member::new(member_config, stored, &logging::raft_logger())
            .context("the stored topology cannot be used")?;
        let (disk, disk_thread) =
            Disk::start(storage, metrics.clone()).context("the storage thread cannot start")?;
        let mut node = Self {
            member,
            disk,
            disk_thread,
            outbox,
            inbox: seat.inbox,
            requests: seat.requests,
            waiting: Waiting::default(),
            published: seat.published,
            news: seat.news,
            status: seat.status,
            space: seat.space,
            metrics,
            seen: None,
            last_tick_ms: clock::now().monotonic_ms,
            was_leader: false,
            was_stalled: false,
            stopped: None,
        };
        node.outbox.set_members(&node.member.addresses());
        Ok(node)
    }

    /// Runs until `stop`, handing leadership over first, or until the member is removed or its disk fails.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told_to_stop = false;
        self.publish_status(clock::now());
        let why = loop {
            if let Some(why) = self.stopped.take() {
                break why;
            }
            let wake = self.wake(&mut ticks, &stop, told_to_stop).await;
            let now = clock::now();
            self.seen = None;
            match wake {
                Wake::Tick => self.tick(now),
                Wake::Message(message) => self.take_messages(now, message),
                Wake::Request(request) => self.take_requests(now, request),
                Wake::Written(written) => self.written(now, written)?,
                Wake::Stop => {
                    info!("stopping: handing leadership over if there is anybody to take it");
                    told_to_stop = true;
                    self.member.take(now, Input::Stop);
                }
            }
            self.advance(now)?;
        };
        let thread = self.disk_thread;
        drop(self.disk);
        let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if !joined.unwrap_or(false) {
            bail!("the storage thread has failed");
        }
        match why {
            StopReason::Told => Ok(()),
            StopReason::Removed { .. } | StopReason::Superseded { .. } => Err(why.into()),
        }
    }

    async fn wake(
        &mut self,
        ticks: &mut Interval,
        stop: &CancellationToken,
        told_to_stop: bool,
    ) -> Wake {
        tokio::select! {
            _ = ticks.tick() => Wake::Tick,
            Some(message) = self.inbox.recv() => Wake::Message(Box::new(message)),
            Some(request) = self.requests.recv() => Wake::Request(request),
            written = self.disk.written.recv() => Wake::Written(written),
            () = stop.cancelled(), if !told_to_stop => Wake::Stop,
        }
    }

    fn tick(&mut self, now: Now) {
        let late_ms = now
            .monotonic_ms
            .saturating_sub(self.last_tick_ms)
            .saturating_sub(TICK_MS);
        self.last_tick_ms = now.monotonic_ms;
        self.metrics
            .tick_late_seconds
            .set(Duration::from_millis(late_ms).as_secs_f64());
        self.member.take(now, Input::Tick);
        self.publish_status(now);
        let core = self.member.core();
        self.metrics.failover.look(core, self.member.leads(), now);
    }

    fn take_messages(&mut self, now: Now, first: Box<MemberMessage>) {
        self.member.take(now, Input::Message(first));
        for _ in 1..TAKEN_AT_ONCE_MAX {
            let Ok(message) = self.inbox.try_recv() else {
                return;
            };
            self.member.take(now, Input::Message(Box::new(message)));
        }
    }

    fn take_requests(&mut self, now: Now, first: Request) {
        self.request(now, first);
        for _ in 1..TAKEN_AT_ONCE_MAX {
            let Ok(request) = self.requests.try_recv() else {
                return;
            };
            self.request(now, request);
        }
    }

    fn request(&mut self, now: Now, request: Request) {
        match request {
            Request::Propose {
                command,
                deadline_ms,
                waiter,
            } => {
                // The caller's deadline has passed, or it went away: nobody would learn what came of it.
                if waiter.is_closed() {
                    return;
                }
                let token = self.waiting.write(waiter);
                let input = Input::Propose {
                    token,
                    command,
                    deadline_ms,
                };
                self.member.take(now, input);
            }
            Request::Look { view } => {
                self.metrics.reads.inc();
                let status = self.seen.get_or_insert_with(|| self.member.status(now));
                view(Ok((self.member.core(), status)));
            }
            Request::Plan { planner } => {
                let status = self.seen.get_or_insert_with(|| self.member.status(now));
                if let Some(proposal) = planner(self.member.core(), status) {
                    self.request(now, proposal);
                }
            }
            Request::Read { of_leader, view } => {
                let token = self.waiting.read(view);
                self.member.take(now, Input::Read { token, of_leader });
            }
            Request::Transfer { to, waiter } => {
                let token = self.waiting.transfer(waiter);
                self.member.take(now, Input::Transfer { token, to });
            }
            Request::Report(report) => {
                self.metrics.reports.inc();
                self.member.take(now, Input::Report(report));
            }
            Request::Relayed(snapshot) => {
                self.member.take(now, Input::Relayed(snapshot));
            }
            Request::StreamEnded(alias) => {
                self.published.forget(&alias);
                self.member.take(now, Input::StreamEnded(alias));
            }
        }
    }

    fn written(&mut self, now: Now, written: Option<Written>) -> anyhow::Result<()> {
        let Some(written) = written else {
            bail!("the storage thread has ended");
        };
        match written.context("the raft log cannot be written; nothing was promised")? {
            Told::Written(sequence) => self.member.take(now, Input::Written { sequence }),
            Told::Space(space) => {
                self.metrics.disk.full.set(match space {
                    Space::Enough => 0,
                    Space::AlmostFull { .. } => 1,
                    Space::Full { .. } => 2,
                });
                self.space.send_replace(space);
                self.member.take(now, Input::DiskFull(!space.is_enough()));
            }
        }
        Ok(())
    }

    /// Does everything that follows from what was taken in.
    fn advance(&mut self, now: Now) -> anyhow::Result<()> {
        let before = self.member.counts();
        let outputs = self.member.advance(now)?;
        self.seen = None;
        for output in outputs {
            self.carry_out(now, output)?;
        }
        self.published.changes.publish(self.member.core().window());
        let after = self.member.counts();
        let metrics = &self.metrics;
        metrics.proposals.inc_by(after.proposals - before.proposals);
        metrics
            .commands_refused
            .inc_by(after.commands_refused - before.commands_refused);
        if after.snapshots_installed > before.snapshots_installed {
            info!("installed a snapshot of the leader");
        }
        if self.member.leads() != self.was_leader {
            self.was_leader = self.member.leads();
            let leads = self.was_leader;
            info!(leads, "leadership changed");
            self.publish_status(now);
        }
        self.tell_of_stall();
        Ok(())
    }

    fn tell_of_stall(&mut self) {
        let stalled = self.member.disk_stalled();
        if stalled == self.was_stalled {
            return;
        }
        self.was_stalled = stalled;
        if stalled {
            warn!(
                "a write to the raft log does not come back: this member does not lead while another can; look at the disk of its data directory"
            );
        } else {
            info!("the disk answers again");
        }
    }

    fn carry_out(&mut self, now: Now, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Send(message) => {
                let to = message.to;
                if !self.outbox.send(*message) {
                    self.member.take(now, Input::Unreachable(to));
                }
            }
            Output::Write { sequence, batch } => {
                if !self.disk.write(sequence, batch) {
                    bail!("the storage thread does not take what must be written");
                }
            }
            Output::Probe { sequence } => {
                if !self.disk.probe(sequence) {
                    bail!("the storage thread does not take what it is to try");
                }
            }
            Output::Done { token, outcome } => self.waiting.written(token, outcome),
            Output::Readable { token, outcome } => self.readable(now, token, outcome),
            Output::HandingOver { token, outcome } => self.waiting.handing_over(token, outcome),
            Output::SendDesired(desired) => self.published.send_desired(*desired),
            Output::PublishRouting(update) => self.news.take(update),
            Output::Withdraw => self.published.withdraw(),
            Output::Decided { index, events } => {
                log_events(index, &events);
                // Counted where it was decided, so that the members' numbers can be added.
                if self.member.leads() {
                    self.metrics.failover.decided(&events);
                }
            }
            Output::Addresses => self.outbox.set_members(&self.member.addresses()),
            Output::Refused { from, why } => {
                self.metrics.raft_refused.inc();
                warn!(from, %why, "a message of a member was refused");
            }
            Output::Stopped(why) => {
                info!(%why, "this member ends");
                self.stopped = Some(why);
            }
        }
        Ok(())
    }

    fn readable(&mut self, now: Now, token: Token, outcome: Result<(), ReadError>) {
        let Some(view) = self.waiting.readable(token) else {
            return;
        };
        match outcome {
            Ok(()) => {
                self.metrics.reads.inc();
                let status = self.seen.get_or_insert_with(|| self.member.status(now));
                view(Ok((self.member.core(), status)));
            }
            Err(error) => view(Err(error)),
        }
    }

    fn publish_status(&self, now: Now) {
        let status = self.member.status(now);
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.leader.set(i64::from(status.is_leader));
        metrics.disk.stalled.set(i64::from(status.disk_stalled));
        metrics.term.set(number(status.term));
        metrics.applied_index.set(number(status.applied));
        metrics.commit_index.set(number(status.commit));
        metrics.snapshot_index.set(number(status.snapshot_index));
        let tablets = self.member.core().state().tablets.len() as u64;
        metrics.tablets.set(number(tablets));
        metrics
            .log_entries
            .set(number(status.commit.saturating_sub(status.log_start)));
        self.status.send_replace(status);
    }
}

/// Every decision with its evidence, once per member.
fn log_events(index: u64, events: &[AuditEvent]) {
    for event in events {
        info!(
            index,
            kind = event.kind,
            subject = event.subject,
            evidence = ?event.evidence,
            "{}",
            event.message
        );
    }
}
