//! A simulated agent: its own connection and stream, reports as a healthy tablet makes them, and just enough obedience for a replica
//! set to form and to switch over. It has no mysqld.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use vt_proto::wire::{self, agent_uplink_client::AgentUplinkClient, desired::Goal};

use crate::bench::{
    agents::{self, TABLETS_PER_SET},
    client::Door,
};

/// Agents in the field give up after a second. Here thousands share a thread and a machine, so that a late answer is mostly
/// late here and not there.
const PATIENCE: Duration = Duration::from_secs(20);
/// A real agent's: between two pings of a connection on which nothing comes.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A real agent's: reports under way.
const OUTBOX_MAX: usize = 16;
/// Between two attempts: of a real agent, between two rounds over the members, in the middle of its range.
const PAUSE: Duration = Duration::from_millis(200);
/// Transactions of a primary between two reports.
const TRANSACTIONS: u64 = 10;
/// What the members of a set have executed of servers that are no more: sets of a few years are of this length.
const FORMER_SERVERS: usize = 3;

/// What all agents of a run share.
pub struct Fleet {
    pub members: Vec<Door>,
    pub tablets: usize,
    pub period: Duration,
    /// What each tablet has written as primary.
    transactions: Vec<AtomicU64>,
    /// Agents whose stream is open and was answered.
    pub attached: AtomicUsize,
    /// Tablets that are an open primary.
    pub primaries: AtomicUsize,
    /// Streams that ended after they were answered.
    pub lost: AtomicU64,
    /// Attempts to open a stream that failed.
    pub refused: AtomicU64,
    /// Orders to take part in a failover; nobody died here.
    pub revoked: AtomicU64,
    /// When a primary said last that it is read-only, which lets its successor's epoch be decided.
    demoted: Mutex<Option<Instant>>,
}

impl Fleet {
    pub fn new(members: Vec<Door>, tablets: usize, period: Duration) -> Self {
        Self {
            members,
            tablets,
            period,
            transactions: (0..tablets).map(|_| AtomicU64::new(1)).collect(),
            attached: AtomicUsize::new(0),
            primaries: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            demoted: Mutex::new(None),
        }
    }

    /// When a primary said that it is read-only since this was asked last.
    pub fn demoted(&self) -> Option<Instant> {
        self.demoted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn note_demoted(&self) {
        let mut demoted = self.demoted.lock().unwrap_or_else(PoisonError::into_inner);
        demoted.get_or_insert_with(Instant::now);
    }
}

/// One agent.
pub struct Agent {
    number: usize,
    fleet: Arc<Fleet>,
    cluster_id: String,
    desired: Option<wire::Desired>,
    demoted: Option<u64>,
}

impl Agent {
    pub fn new(fleet: Arc<Fleet>, number: usize) -> Self {
        Self {
            number,
            fleet,
            cluster_id: String::new(),
            desired: None,
            demoted: None,
        }
    }

    /// Attaches to whichever member leads, for ever.
    pub async fn run(mut self) {
        let mut position = self.number;
        loop {
            let member = self.fleet.members[position % self.fleet.members.len()].clone();
            let mut attached = false;
            // Its end is counted where it matters.
            drop(self.line(&member, &mut attached).await);
            if attached {
                self.fleet.attached.fetch_sub(1, Ordering::Relaxed);
                self.fleet.lost.fetch_add(1, Ordering::Relaxed);
            } else {
                self.fleet.refused.fetch_add(1, Ordering::Relaxed);
                position += 1;
            }
            sleep(PAUSE).await;
        }
    }

    /// One stream, from its opening to its end.
    async fn line(&mut self, member: &Door, attached: &mut bool) -> anyhow::Result<()> {
        let channel = member
            .endpoint_of_agents()?
            .connect_timeout(PATIENCE)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(PATIENCE)
            .keep_alive_while_idle(true)
            .connect()
            .await?;
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        outbox.try_send(self.report())?;
        let mut uplink = AgentUplinkClient::new(channel);
        let opening = timeout(PATIENCE, uplink.attach(ReceiverStream::new(stream)));
        let mut inbox = opening.await.context("open the stream")??.into_inner();
        let share = self.number as f64 / self.fleet.tablets as f64;
        let first = Instant::now() + self.fleet.period.mul_f64(share);
        let mut due = interval_at(first, self.fleet.period);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                message = inbox.message() => {
                    let message = message?.context("the coordinator ended the stream")?;
                    if !std::mem::replace(attached, true) {
                        self.fleet.attached.fetch_add(1, Ordering::Relaxed);
                    }
                    if self.obey(message) {
                        self.send(&outbox)?;
                    }
                }
                _ = due.tick() => {
                    if self.is_primary() {
                        self.fleet.transactions[self.number].fetch_add(TRANSACTIONS, Ordering::Relaxed);
                    }
                    self.send(&outbox)?;
                }
            }
        }
    }

    fn send(&self, outbox: &mpsc::Sender<wire::AgentMessage>) -> anyhow::Result<()> {
        if outbox.try_send(self.report()).is_err() {
            bail!("the coordinator does not read the reports");
        }
        Ok(())
    }

    /// Takes a desired state over; says whether it is a new one.
    fn obey(&mut self, message: wire::CoordinatorMessage) -> bool {
        self.cluster_id = message.cluster_id;
        let Some(desired) = message.desired else {
            return false;
        };
        let known = self.desired.as_ref().map_or(0, |known| known.generation);
        if desired.generation <= known {
            return false;
        }
        match &desired.goal {
            Some(Goal::Demote(_)) => {
                self.demoted = Some(desired.generation);
                self.fleet.note_demoted();
            }
            Some(Goal::Revoke(_) | Goal::Fence(_) | Goal::Reveal(_)) => {
                self.fleet.revoked.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        let was_primary = self.is_primary();
        self.desired = Some(desired);
        match (was_primary, self.is_primary()) {
            (false, true) => drop(self.fleet.primaries.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.fleet.primaries.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        true
    }

    fn goal(&self) -> Option<&Goal> {
        self.desired.as_ref()?.goal.as_ref()
    }

    fn is_primary(&self) -> bool {
        matches!(self.goal(), Some(Goal::Primary(_)))
    }

    fn report(&self) -> wire::AgentMessage {
        let mut message = agents::first_report(self.number);
        message.cluster_id.clone_from(&self.cluster_id);
        if let Some(report) = &mut message.report {
            self.describe(report);
        }
        message
    }

    fn describe(&self, report: &mut wire::Report) {
        let number = |desired: &wire::Desired| (desired.epoch, desired.generation);
        let (epoch, generation) = self.desired.as_ref().map_or((0, 0), number);
        let sets = self.gtid_set();
        report.promised = epoch;
        report.generation = generation;
        report.server_uuid = Some(server_uuid(self.number));
        report.gtid = Some(wire::GtidPosition {
            executed: sets.clone(),
            received: sets,
        });
        report.demoted = self.demoted;
        report.disk_free_bytes = Some(500 << 30);
        report.super_read_only = Some(!self.is_primary());
        report.semi_sync_source = Some(self.is_primary());
        report.semi_sync_replica = Some(false);
        match self.goal() {
            Some(Goal::Primary(_)) => report.serving = Some(epoch),
            Some(Goal::Replica(replica)) => {
                report.semi_sync_replica = Some(replica.acker);
                report.prepared = Some(generation);
                report.replication = Some(wire::Replication {
                    source: replica.source.clone(),
                    io: wire::ThreadState::On.into(),
                    sql: wire::ThreadState::On.into(),
                    heartbeat_age_ms: Some(120),
                    lag_ms: Some(0),
                    error: None,
                    source_uuid: None,
                    stuck: false,
                    applier_error: None,
                });
            }
            Some(Goal::Revoke(_) | Goal::Fence(_) | Goal::Reveal(_)) => {
                report.revoked = Some(epoch);
            }
            Some(Goal::Demote(_) | Goal::Standby(_)) | None => {}
        }
    }

    /// What every tablet of the set has: replication here takes no time.
    fn gtid_set(&self) -> String {
        let first = self.number - self.number % TABLETS_PER_SET;
        let former = (0..FORMER_SERVERS).map(|former| {
            let uuid = server_uuid(self.fleet.tablets + first + former);
            format!("{uuid}:1-{}", 40_000_000 + former)
        });
        let set = self.fleet.transactions.iter().enumerate();
        let own = set
            .skip(first)
            .take(TABLETS_PER_SET)
            .map(|(number, written)| {
                let written = written.load(Ordering::Relaxed);
                format!("{}:1-{written}", server_uuid(number))
            });
        former.chain(own).collect::<Vec<_>>().join(",")
    }
}

fn server_uuid(number: usize) -> String {
    format!("5c0f2a1e-0000-11f0-8000-{number:012x}")
}
