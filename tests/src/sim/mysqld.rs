//! A model of one mysqld: binary log, relay log, semi-synchronous waits, read-only flags, crashes and their recovery.
//!
//! It models what the failover rests on and no more: AFTER_SYNC (a commit is in the binary log and seen by replicas before it
//! is in the engine), acknowledgement by the IO thread after the write to the relay log, crash recovery that commits what the
//! binary log holds, relay logs that survive a kill and not a power loss.

use std::collections::{BTreeMap, BTreeSet};

use vt_agent_core::{Action, Channel};
use vt_proto::{
    epoch::Epoch,
    gtid::{GtidSet, GtidSource},
    ids::TabletAlias,
    report::ThreadState,
    topology::Endpoint,
};

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A client's unique value.
    Write(u64),
    /// The first row of an epoch.
    TermRow,
    /// One more row of an epoch, for a desired state of this generation.
    Confirm(u64),
    /// One more row of an epoch, for an acker that has connected anew.
    Push,
    CreateSchema(String),
}

/// A transaction in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub source: GtidSource,
    pub number: u64,
    pub what: What,
}

impl Transaction {
    /// Its GTID as a set.
    pub fn gtid(&self) -> GtidSet {
        let mut set = GtidSet::new();
        set.add(self.source.clone(), self.number, self.number);
        set
    }
}

/// The replication channel's state in the server.
#[derive(Clone, Debug)]
pub struct Replication {
    pub source: Endpoint,
    /// Whose account it connects with: a copy brings the donor's.
    pub account: usize,
    /// The server that the last connection reached.
    pub source_uuid: Option<String>,
    pub io: ThreadState,
    pub sql: ThreadState,
    /// The IO thread was started with semi-sync on: it acknowledges.
    pub acknowledges: bool,
    /// Grows with every connection; what was sent over an older one is not received.
    pub connection: u64,
    pub io_error: Option<(u32, String)>,
    pub sql_error: Option<(u32, String)>,
    pub caught_up: bool,
    pub heard_ms: u64,
    /// When the source was last tried.
    pub tried_ms: u64,
    /// What is on its way over this connection.
    pub sent: GtidSet,
    /// How many transactions were sent over it, and how many of them are read: each in its turn.
    pub sent_count: u64,
    pub read_count: u64,
}

/// A commit that is in the binary log and waits for acknowledgements.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub transaction: Transaction,
    pub acknowledged_by: BTreeSet<usize>,
}

/// One server, with what survives its death.
#[derive(Clone, Debug)]
pub struct Mysqld {
    pub uuid: String,
    pub binlog: Vec<Transaction>,
    pub logged: GtidSet,
    /// Committed in the engine.
    pub executed: GtidSet,
    pub relay: Vec<Transaction>,
    /// In a relay log or executed.
    pub received: GtidSet,
    /// How much of the relay log is on disk for good.
    pub relay_synced: usize,
    pub schemas: BTreeSet<String>,
    /// Its data differ from what the next transaction to apply expects.
    pub broken: bool,
    /// Which tablets have an account here, and whether it is locked.
    pub accounts: BTreeMap<TabletAlias, bool>,
    pub replication: Option<Replication>,
    pub run: Run,
    connections: u64,
}

/// What dies with the process.
#[derive(Clone, Debug)]
pub struct Run {
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline_mode: bool,
    pub source_semi_sync: bool,
    pub acks: u32,
    pub replica_semi_sync: bool,
    pub waiters: Vec<Waiter>,
    /// Connections of replicas that were made so far, and the newest acker's among them by replica.
    pub connections: u64,
    pub ackers: BTreeMap<usize, u64>,
}

impl Run {
    /// A replica's IO thread has come, acknowledging or not.
    pub fn connected(&mut self, replica: usize, acknowledges: bool) {
        self.connections += 1;
        self.ackers.remove(&replica);
        if acknowledges {
            self.ackers.insert(replica, self.connections);
        }
    }

    /// As a server starts: closed, no replication, no semi-sync.
    fn fresh() -> Self {
        Self {
            read_only: true,
            super_read_only: true,
            offline_mode: false,
            source_semi_sync: false,
            acks: 1,
            replica_semi_sync: false,
            waiters: Vec::new(),
            connections: 0,
            ackers: BTreeMap::new(),
        }
    }
}

/// A server uuid that no other server of the world has.
pub fn uuid(host: usize, generation: u64) -> String {
    format!("{host:08x}-0000-0000-0000-{generation:012x}")
}

impl Mysqld {
    /// An empty server.
    pub fn new(uuid: String) -> Self {
        Self {
            uuid,
            binlog: Vec::new(),
            logged: GtidSet::new(),
            executed: GtidSet::new(),
            relay: Vec::new(),
            received: GtidSet::new(),
            relay_synced: 0,
            schemas: BTreeSet::new(),
            broken: false,
            accounts: BTreeMap::new(),
            replication: None,
            run: Run::fresh(),
            connections: 0,
        }
    }

    fn own_source(&self) -> GtidSource {
        GtidSource::new(&self.uuid, "").expect("a simulated uuid is one")
    }

    /// Whether a client of this server wrote it.
    pub fn is_own(&self, transaction: &Transaction) -> bool {
        transaction.source == self.own_source()
    }

    /// The process is gone; what waited is in the binary log and nowhere else.
    pub fn die(&mut self) {
        self.run = Run::fresh();
        if let Some(replication) = &mut self.replication {
            replication.io = ThreadState::Off;
            replication.sql = ThreadState::Off;
            replication.acknowledges = false;
            replication.io_error = None;
            replication.sql_error = None;
        }
        self.new_connection();
    }

    /// The power is gone: what was not synced of the relay log is lost, from `keep` unsynced transactions on.
    pub fn lose_power(&mut self, keep: usize) {
        self.die();
        let kept = (self.relay_synced + keep).min(self.relay.len());
        self.relay.truncate(kept);
        self.relay_synced = kept;
        self.received = self.executed.clone();
        for transaction in &self.relay {
            self.received = self.received.union(&transaction.gtid());
        }
    }

    /// Crash recovery: whatever the binary log holds is committed.
    pub fn recover(&mut self) {
        self.run = Run::fresh();
        let waiting = self.to_send(&self.executed, usize::MAX);
        for transaction in waiting {
            self.commit(&transaction);
        }
    }

    fn log(&mut self, transaction: &Transaction) {
        self.logged.add(
            transaction.source.clone(),
            transaction.number,
            transaction.number,
        );
        self.binlog.push(transaction.clone());
    }

    fn commit(&mut self, transaction: &Transaction) {
        for set in [&mut self.executed, &mut self.received] {
            set.add(
                transaction.source.clone(),
                transaction.number,
                transaction.number,
            );
        }
        if let What::CreateSchema(name) = &transaction.what {
            self.schemas.insert(name.clone());
        }
    }

    /// An own transaction; returned when it is committed at once because nothing waits for acknowledgements.
    pub fn write(&mut self, what: What) -> Option<Transaction> {
        let source = self.own_source();
        let number = 1 + self.logged.of_server(&self.uuid).count();
        let transaction = Transaction {
            source,
            number,
            what,
        };
        self.log(&transaction);
        self.commit_or_wait(transaction)
    }

    /// What is in the binary log is committed once it is acknowledged; returned where nobody needs to acknowledge it.
    fn commit_or_wait(&mut self, transaction: Transaction) -> Option<Transaction> {
        if !self.run.source_semi_sync {
            self.commit(&transaction);
            return Some(transaction);
        }
        self.run.waiters.push(Waiter {
            transaction,
            acknowledged_by: BTreeSet::new(),
        });
        None
    }

    /// `replica` has everything up to this transaction. Returns what is now acknowledged enough, in order.
    pub fn acknowledge(
        &mut self,
        replica: usize,
        source: &GtidSource,
        number: u64,
    ) -> Vec<Transaction> {
        let same = |waiter: &Waiter| {
            waiter.transaction.source == *source && waiter.transaction.number == number
        };
        if let Some(position) = self.run.waiters.iter().position(same) {
            for waiter in &mut self.run.waiters[..=position] {
                waiter.acknowledged_by.insert(replica);
            }
        }
        self.release()
    }

    fn release(&mut self) -> Vec<Transaction> {
        let acks = self.run.acks as usize;
        let enough = |waiter: &Waiter| waiter.acknowledged_by.len() >= acks;
        let count = self.run.waiters.iter().take_while(|w| enough(w)).count();
        let done: Vec<Transaction> = self
            .run
            .waiters
            .drain(..count)
            .map(|waiter| waiter.transaction)
            .collect();
        for transaction in &done {
            self.commit(transaction);
        }
        done
    }

    /// The next transactions for a replica that has `received`.
    pub fn to_send(&self, received: &GtidSet, limit: usize) -> Vec<Transaction> {
        let missing = self.logged.subtract(received);
        let mut left = missing.count();
        let newest_first = self.binlog.iter().rev().take_while(|transaction| {
            let wanted = left > 0;
            left -= u64::from(wanted && missing.has(&transaction.source, transaction.number));
            wanted
        });
        let mut found: Vec<Transaction> = newest_first
            .filter(|transaction| missing.has(&transaction.source, transaction.number))
            .cloned()
            .collect();
        found.reverse();
        found.truncate(limit);
        found
    }

    /// The IO thread writes into the relay log.
    pub fn receive(&mut self, transaction: Transaction) {
        if self.received.has(&transaction.source, transaction.number) {
            return;
        }
        self.received.add(
            transaction.source.clone(),
            transaction.number,
            transaction.number,
        );
        self.relay.push(transaction);
    }

    /// The SQL thread applies the next transaction. With source-side semi-sync on it waits for ackers of its own, like any commit.
    pub fn apply_one(&mut self) {
        let applying = self
            .replication
            .as_ref()
            .is_some_and(|replication| replication.sql == ThreadState::On);
        if !applying || !self.run.waiters.is_empty() || self.relay.is_empty() {
            return;
        }
        if self.broken {
            if let Some(replication) = &mut self.replication {
                replication.sql = ThreadState::Off;
                replication.sql_error = Some((1032, "the row to change is not here".to_owned()));
            }
            return;
        }
        let transaction = self.relay.remove(0);
        self.relay_synced = self.relay_synced.saturating_sub(1);
        if !self.executed.has(&transaction.source, transaction.number) {
            self.log(&transaction);
            self.commit_or_wait(transaction);
        }
    }

    /// Invalidates what is under way over the channel.
    pub fn new_connection(&mut self) {
        self.connections += 1;
        if let Some(replication) = &mut self.replication {
            replication.connection = self.connections;
            replication.sent = GtidSet::new();
            replication.sent_count = 0;
            replication.read_count = 0;
            replication.caught_up = false;
        }
    }

    /// A change of everything: it wants both threads stopped, and throws away what is received and not applied.
    pub fn configure(
        &mut self,
        source: Endpoint,
        account: usize,
        now_ms: u64,
    ) -> Result<(), String> {
        let is_off = |it: &Replication| it.io == ThreadState::Off && it.sql == ThreadState::Off;
        if !self.replication.as_ref().is_none_or(is_off) {
            return Err("replication threads run".to_owned());
        }
        self.lose_relay_log();
        let same = self.replication.take().filter(|it| it.source == source);
        self.replication = Some(Replication {
            source,
            account,
            source_uuid: same.and_then(|it| it.source_uuid),
            io: ThreadState::Off,
            sql: ThreadState::Off,
            acknowledges: false,
            connection: 0,
            io_error: None,
            sql_error: None,
            caught_up: false,
            heard_ms: now_ms,
            tried_ms: 0,
            sent: GtidSet::new(),
            sent_count: 0,
            read_count: 0,
        });
        self.new_connection();
        Ok(())
    }

    /// Statements about the replication threads and their source.
    pub fn replication_statement(&mut self, action: &Action) -> Result<(), String> {
        let loses_relay_log = {
            let acknowledges = self.run.replica_semi_sync;
            let Some(replication) = &mut self.replication else {
                // STOP REPLICA without a channel is fine; nothing else is.
                return match action {
                    Action::StopIoThread => Ok(()),
                    _ => Err("there is no channel".to_owned()),
                };
            };
            match action {
                Action::StopIoThread => {
                    replication.io = ThreadState::Off;
                    replication.acknowledges = false;
                    false
                }
                Action::StartIoThread => {
                    replication.io = ThreadState::Connecting;
                    replication.io_error = None;
                    replication.acknowledges = acknowledges;
                    replication.tried_ms = 0;
                    false
                }
                Action::StartSqlThread => {
                    replication.sql = ThreadState::On;
                    replication.sql_error = None;
                    return Ok(());
                }
                Action::RepointChannel { source } => {
                    if replication.io != ThreadState::Off {
                        return Err("the IO thread runs".to_owned());
                    }
                    // The name of the server is that of host and port: only where these change it is forgotten.
                    if replication.source != *source {
                        replication.source = source.clone();
                        replication.source_uuid = None;
                    }
                    replication.io_error = None;
                    replication.sql == ThreadState::Off
                }
                other => return Err(format!("{} is not modelled", other.name())),
            }
        };
        if loses_relay_log {
            self.lose_relay_log();
        }
        self.new_connection();
        Ok(())
    }

    fn lose_relay_log(&mut self) {
        self.relay.clear();
        self.relay_synced = 0;
        self.received = self.executed.clone();
    }

    /// RESET REPLICA ALL: what is not applied is forgotten.
    pub fn forget_channel(&mut self) {
        self.replication = None;
        self.lose_relay_log();
    }

    /// Source-side semi-sync with so many acknowledgements, also for what waits already. Returns what has enough now, in order.
    pub fn wait_for(&mut self, acks: u32) -> Vec<Transaction> {
        self.run.source_semi_sync = true;
        self.run.acks = acks;
        self.release()
    }

    /// Source-side semi-sync is switched off: what waits is committed and answered with OK although nobody acknowledged it.
    pub fn release_without_acknowledgement(&mut self) -> Vec<Transaction> {
        self.run.source_semi_sync = false;
        let waiters = std::mem::take(&mut self.run.waiters);
        let released: Vec<Transaction> = waiters.into_iter().map(|it| it.transaction).collect();
        for transaction in &released {
            self.commit(transaction);
        }
        released
    }

    /// Offline: cuts what this server wrote beyond `kept` and never committed; the server gets a new uuid.
    pub fn cut_tail(&mut self, kept: &GtidSet, _epoch: Epoch, uuid: String) {
        let tail = self.logged.of_server(&self.uuid).subtract(kept);
        let executed = self.executed.clone();
        self.binlog.retain(|transaction| {
            !tail.has(&transaction.source, transaction.number)
                || executed.has(&transaction.source, transaction.number)
        });
        self.logged = self
            .binlog
            .iter()
            .fold(GtidSet::new(), |mut set, transaction| {
                set.add(
                    transaction.source.clone(),
                    transaction.number,
                    transaction.number,
                );
                set
            });
        self.uuid = uuid;
    }

    /// Becomes a copy of what the donor has committed.
    pub fn clone_from_donor(&mut self, donor: &Mysqld) {
        self.executed = donor.executed.clone();
        self.received = donor.executed.clone();
        self.binlog = donor
            .binlog
            .iter()
            .filter(|transaction| donor.executed.has(&transaction.source, transaction.number))
            .cloned()
            .collect();
        self.logged = self.executed.clone();
        self.schemas = donor.schemas.clone();
        // What the donor logs fits its own data.
        self.broken = false;
        self.accounts = donor.accounts.clone();
        self.relay.clear();
        self.relay_synced = 0;
        self.replication = donor.replication.clone();
        self.die();
    }

    /// The channel as the agent sees it.
    pub fn channel(&self, host: usize, now_ms: u64, lag_ms: u64) -> Option<Channel> {
        self.replication.as_ref().map(|replication| Channel {
            source: replication.source.clone(),
            own_account: replication.account == host,
            source_uuid: replication.source_uuid.clone(),
            io: replication.io,
            sql: replication.sql,
            io_error: replication.io_error.clone(),
            sql_error: replication.sql_error.clone(),
            caught_up: replication.caught_up,
            heartbeat_age_ms: Some(now_ms.saturating_sub(replication.heard_ms)),
            lag_ms: Some(lag_ms),
        })
    }

    /// How often each client value stands in the engine.
    pub fn values(&self) -> BTreeMap<u64, u32> {
        let mut values = BTreeMap::new();
        for transaction in &self.binlog {
            if let What::Write(value) = transaction.what
                && self.executed.has(&transaction.source, transaction.number)
            {
                *values.entry(value).or_default() += 1;
            }
        }
        values
    }
}
