//! What flows between the modelled servers: binary log events, acknowledgements, applied transactions, clients' writes.

use vt_coordinator_core::apply::apply;
use vt_proto::{epoch::Incarnation, ids::TabletAlias, report::ThreadState, routing::ServingState};

use super::{
    host::{Host, Life},
    mysqld::{Transaction, What},
    sabotage::Sabotage,
    world::{Happening, World},
};
use crate::check::Violation;

/// Between two looks of an IO thread at its source.
const IO_STEP_MS: u64 = 10;
/// Without a word from its source for so long, an IO thread starts to reconnect (replica_net_timeout).
const NET_TIMEOUT_MS: u64 = 4_000;
/// Between two attempts to connect (SOURCE_CONNECT_RETRY).
const CONNECT_RETRY_MS: u64 = 1_000;
/// Transactions that one look fetches.
const BATCH: usize = 20;
/// A client waits for its OK before it writes again, and these are all that there are.
const SESSIONS_MAX: usize = 32;
/// The source does not have what the replica has.
const AHEAD_ERROR: u32 = 1236;
/// The source knows no such account, or it is locked.
const DENIED_ERROR: u32 = 1045;
const LOCKED_ERROR: u32 = 3118;

impl World {
    pub(super) fn io_step(&mut self, host: usize) {
        self.after(IO_STEP_MS, Happening::IoStep { host });
        if !self.hosts[host].is_working(self.now_ms) {
            return;
        }
        let Some(replication) = &self.hosts[host].mysqld.replication else {
            return;
        };
        let (io, heard_ms, tried_ms) = (replication.io, replication.heard_ms, replication.tried_ms);
        let source = self.host_at(&replication.source);
        let reachable = self.network.connected(self.node(host), self.node(source));
        let refuses = reachable && !self.hosts[source].has_process();
        let answers = reachable && self.hosts[source].is_working(self.now_ms);
        let late = self.now_ms.saturating_sub(heard_ms) > NET_TIMEOUT_MS;
        match io {
            ThreadState::Off => {}
            ThreadState::On if refuses || (!answers && late) => self.disconnect(host),
            ThreadState::On if answers => self.fetch(host, source),
            ThreadState::On => {}
            ThreadState::Connecting if answers && self.now_ms >= tried_ms + CONNECT_RETRY_MS => {
                self.connect(host, source);
            }
            ThreadState::Connecting => {}
        }
    }

    fn disconnect(&mut self, host: usize) {
        let now_ms = self.now_ms;
        let mysqld = &mut self.hosts[host].mysqld;
        if let Some(replication) = &mut mysqld.replication {
            replication.io = ThreadState::Connecting;
            replication.tried_ms = now_ms;
        }
        mysqld.new_connection();
    }

    fn connect(&mut self, host: usize, source: usize) {
        let now_ms = self.now_ms;
        let theirs = &self.hosts[source].mysqld;
        let ahead = self.hosts[host]
            .mysqld
            .received
            .of_server(&theirs.uuid)
            .subtract(&theirs.logged);
        let source_uuid = theirs.uuid.clone();
        let refusal = self.refusal(host, source);
        let mysqld = &mut self.hosts[host].mysqld;
        let Some(replication) = &mut mysqld.replication else {
            return;
        };
        if let Some(error) = refusal {
            replication.tried_ms = now_ms;
            replication.io_error = Some(error.clone());
            self.note(|| format!("tablet {host}: tablet {source} refuses it: {}", error.1));
            return;
        }
        if !ahead.is_empty() {
            replication.io = ThreadState::Off;
            replication.io_error = Some((AHEAD_ERROR, format!("this replica is ahead: {ahead}")));
            self.note(|| format!("tablet {host}: tablet {source} refuses it: ahead by {ahead}"));
            return;
        }
        replication.io = ThreadState::On;
        replication.io_error = None;
        replication.source_uuid = Some(source_uuid);
        replication.heard_ms = now_ms;
        let acknowledges = replication.acknowledges;
        mysqld.new_connection();
        self.hosts[source].mysqld.run.connected(host, acknowledges);
        self.note(|| {
            format!("tablet {host}: replicates from tablet {source}, acknowledges: {acknowledges}")
        });
    }

    /// Why the source does not let a replica in.
    fn refusal(&self, host: usize, source: usize) -> Option<(u32, String)> {
        let account = self.hosts[host].mysqld.replication.as_ref()?.account;
        let alias = &self.hosts[account].tablet.alias;
        match self.hosts[source].mysqld.accounts.get(alias) {
            Some(false) => None,
            Some(true) => Some((LOCKED_ERROR, format!("the account of {alias} is locked"))),
            None => Some((DENIED_ERROR, format!("{alias} has no account"))),
        }
    }

    /// Source-side semi-sync with so many acknowledgements, or none; what waits may go on.
    pub(super) fn switch_semi_sync(
        &mut self,
        host: usize,
        acks: Option<u32>,
    ) -> Result<(), String> {
        if self.hosts[host].life != Life::Up {
            return Err("mysqld does not answer".to_owned());
        }
        let mysqld = &mut self.hosts[host].mysqld;
        let released = match acks {
            Some(acks) => mysqld.wait_for(acks),
            None => mysqld.release_without_acknowledgement(),
        };
        self.all_committed(host, &released);
        Ok(())
    }

    /// Locks accounts, and ends the connections that they have.
    pub(super) fn lock_out(
        &mut self,
        source: usize,
        tablets: &[TabletAlias],
    ) -> Result<(), String> {
        if self.hosts[source].life != Life::Up {
            return Err("mysqld does not answer".to_owned());
        }
        if self.sabotage != Some(Sabotage::KillWithoutLock) {
            let locked = tablets.iter().map(|alias| (alias.clone(), true));
            self.hosts[source].mysqld.accounts.extend(locked);
        }
        if self.sabotage == Some(Sabotage::LockWithoutKill) {
            return Ok(());
        }
        for host in 0..self.hosts.len() {
            let replication = self.hosts[host].mysqld.replication.as_ref();
            let is_connected = replication.is_some_and(|it| {
                it.io == ThreadState::On
                    && self.host_at(&it.source) == source
                    && tablets.contains(&self.hosts[it.account].tablet.alias)
            });
            if is_connected {
                self.note(|| format!("tablet {host}: tablet {source} ends its connection"));
                self.disconnect(host);
            }
        }
        Ok(())
    }

    fn fetch(&mut self, host: usize, source: usize) {
        let now_ms = self.now_ms;
        let mysqld = &self.hosts[host].mysqld;
        let Some(replication) = &mysqld.replication else {
            return;
        };
        let have = mysqld.received.union(&replication.sent);
        let transactions = self.hosts[source].mysqld.to_send(&have, BATCH);
        let connection = replication.connection;
        let (from, to) = (self.node(source), self.node(host));
        let (mut sent, mut order) = (replication.sent.clone(), replication.sent_count);
        for transaction in &transactions {
            let Some(at_ms) = self.network.connection_arrival(now_ms, from, to) else {
                self.disconnect(host);
                return;
            };
            sent = sent.union(&transaction.gtid());
            let transaction = transaction.clone();
            self.at(
                at_ms,
                Happening::Relay {
                    host,
                    source,
                    connection,
                    order,
                    transaction,
                },
            );
            order += 1;
        }
        let received_all = self.hosts[host]
            .mysqld
            .received
            .contains(&self.hosts[source].mysqld.logged);
        if let Some(replication) = &mut self.hosts[host].mysqld.replication {
            replication.sent = sent;
            replication.sent_count = order;
            replication.heard_ms = now_ms;
            replication.caught_up |= received_all;
        }
    }

    pub(super) fn relay_arrives(
        &mut self,
        host: usize,
        source: usize,
        (connection, order): (u64, u64),
        transaction: Transaction,
    ) {
        let host_state = &self.hosts[host];
        let replication = host_state.mysqld.replication.as_ref();
        let Some(current) =
            replication.filter(|r| r.connection == connection && r.io == ThreadState::On)
        else {
            return;
        };
        let in_turn = current.read_count == order;
        if !in_turn || !host_state.is_working(self.now_ms) || host_state.suffering.has_bad_disk() {
            // It lies in the kernel's buffer until somebody reads.
            self.after(
                20,
                Happening::Relay {
                    host,
                    source,
                    connection,
                    order,
                    transaction,
                },
            );
            return;
        }
        if !self.network.passes(self.node(source), self.node(host)) {
            self.disconnect(host);
            return;
        }
        let mysqld = &mut self.hosts[host].mysqld;
        mysqld.receive(transaction.clone());
        if let Some(replication) = &mut mysqld.replication {
            replication.read_count += 1;
        }
        if mysqld.replication.as_ref().is_some_and(|r| r.acknowledges) {
            self.send_ack(host, source, transaction);
        }
    }

    fn send_ack(&mut self, replica: usize, source: usize, transaction: Transaction) {
        let (from, to) = (self.node(replica), self.node(source));
        let incarnation = self.hosts[source].incarnation;
        let connection = self.connection_of(replica);
        self.acknowledgements.gave(replica, &transaction.gtid());
        match self.network.connection_arrival(self.now_ms, from, to) {
            Some(at_ms) => self.at(
                at_ms,
                Happening::Ack {
                    source,
                    incarnation,
                    replica,
                    connection,
                    transaction,
                },
            ),
            None => self.disconnect(replica),
        }
    }

    fn connection_of(&self, replica: usize) -> Option<u64> {
        let replication = self.hosts[replica].mysqld.replication.as_ref();
        replication.map(|replication| replication.connection)
    }

    /// The acknowledgement of everything up to a transaction. It is for what arrives over this connection only: nobody says again
    /// what was received before, and one whose connection has broken meanwhile is late or lost.
    pub(super) fn ack_arrives(
        &mut self,
        source: usize,
        incarnation: Incarnation,
        replica: usize,
        connection: Option<u64>,
        transaction: Transaction,
    ) {
        let is_broken = connection != self.connection_of(replica)
            || !self.network.passes(self.node(replica), self.node(source));
        if is_broken && self.random.chance(50) {
            self.note(|| {
                format!(
                    "tablet {source}: what tablet {replica} acknowledged is lost: {}",
                    transaction.gtid()
                )
            });
            return;
        }
        let host_state = &mut self.hosts[source];
        if host_state.incarnation != incarnation || !host_state.has_process() {
            return;
        }
        if !host_state.is_working(self.now_ms) {
            self.after(
                20,
                Happening::Ack {
                    source,
                    incarnation,
                    replica,
                    connection,
                    transaction,
                },
            );
            return;
        }
        let done = host_state
            .mysqld
            .acknowledge(replica, &transaction.source, transaction.number);
        self.all_committed(source, &done);
    }

    pub(super) fn apply_step(&mut self, host: usize) {
        let wait_ms = self.random.between(1, 25);
        self.after(wait_ms, Happening::ApplyStep { host });
        let synced = self.random.chance(5);
        let host_state = &mut self.hosts[host];
        if host_state.is_working(self.now_ms) {
            if !host_state.applier_stalled && !host_state.suffering.has_bad_disk() {
                host_state.mysqld.apply_one();
            }
            if synced {
                host_state.mysqld.relay_synced = host_state.mysqld.relay.len();
            }
        }
    }

    /// A client writes: where a router sends it, or, being rude, anywhere.
    pub(super) fn client(&mut self) {
        let wait_ms = self.client_random.between(5, 60);
        self.after(wait_ms, Happening::Client);
        let hosts = self.hosts.len() as u64;
        let anywhere = self.client_random.between(0, hosts - 1) as usize;
        let routed = self.routers[anywhere]
            .replica_set(&self.set)
            .and_then(|set| {
                let serving = set.state == ServingState::Serving;
                set.primary
                    .as_ref()
                    .filter(|_| serving)
                    .map(|(alias, _)| alias.clone())
            });
        let target = match routed.and_then(|alias| self.host_of(&alias)) {
            Some(host) if self.client_random.chance(50) => host,
            _ => anywhere,
        };
        if !self.hosts[target].accepts_clients(self.now_ms)
            || self.hosts[target].mysqld.run.waiters.len() >= SESSIONS_MAX
        {
            return;
        }
        if self.is_lost_in_the_crowd(target) {
            return;
        }
        self.next_value += 1;
        let what = What::Write(self.next_value);
        if self.hosts[target].hang(&what) {
            return;
        }
        if let Some(transaction) = self.hosts[target].mysqld.write(what) {
            self.note(|| format!("tablet {target}: OK without waiting for acknowledgements"));
            self.committed(target, &transaction);
        }
    }

    /// The tablets that could say OK now: open, and with enough ackers connected.
    pub(super) fn able_to_acknowledge(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| {
                let state = &self.hosts[*host];
                let run = &state.mysqld.run;
                let ackers = self.ackers_of(*host);
                let enough = !run.source_semi_sync || ackers >= run.acks as usize;
                state.has_process() && !run.read_only && enough
            })
            .collect()
    }

    /// The newest connection of those over which `source` gets acknowledgements now.
    pub(super) fn newest_acker(&self, source: usize) -> Option<u64> {
        let known = self.hosts[source].mysqld.run.ackers.iter();
        known
            .filter(|(host, _)| self.acknowledges(&self.hosts[**host], source, ThreadState::On))
            .map(|(_, connection)| *connection)
            .max()
    }

    pub(super) fn ackers_of(&self, source: usize) -> usize {
        let on = |host: &&Host| self.acknowledges(host, source, ThreadState::On);
        self.hosts.iter().filter(on).count()
    }

    fn is_locked_out(&self, host: &Host, source: usize) -> bool {
        self.hosts[source].mysqld.accounts.get(&host.tablet.alias) == Some(&true)
    }

    fn acknowledges(&self, host: &Host, source: usize, io: ThreadState) -> bool {
        let replication = host.mysqld.replication.as_ref();
        host.has_process()
            && replication
                .is_some_and(|r| r.io == io && r.acknowledges && self.host_at(&r.source) == source)
    }

    /// The record is never stronger than the truth: whoever acknowledges to the primary, or would once it is connected again, is
    /// one of its ackers.
    pub(super) fn recorded_acknowledge(&mut self) -> Result<(), Violation> {
        while let Some((index, command)) = self.log.after(self.committed.applied) {
            // What is refused is a matter of who asked.
            let _ = apply(&mut self.committed, index, &command);
        }
        let Some(set) = self.committed.replica_sets.get(&self.set) else {
            return Ok(());
        };
        let record = &set.value;
        let Some(primary) = record.primary.as_ref().and_then(|it| self.host_of(it)) else {
            return Ok(());
        };
        let begun = &self.hosts[primary].persisted.primaryship;
        if begun.as_ref().is_none_or(|it| it.epoch != record.epoch) {
            return Ok(());
        }
        let unknown = self.hosts.iter().find(|host| {
            !record.ackers.contains(&host.tablet.alias)
                && (self.acknowledges(host, primary, ThreadState::On)
                    || (self.acknowledges(host, primary, ThreadState::Connecting)
                        && !self.is_locked_out(host, primary)))
        });
        match unknown {
            Some(host) => Err(format!(
                "tablet {} acknowledges to tablet {primary} in epoch {} and is not recorded",
                host.index, record.epoch
            )),
            None => Ok(()),
        }
    }
}
