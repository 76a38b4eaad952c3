//! The agents' shells in a simulated world: turns, actions and their effects, and the stream to the coordinator.

use vt_agent_core::{Action, Memory, Record, Work, accept, recall};
use vt_proto::{
    desired::Desired,
    epoch::{Epoch, Incarnation},
    gtid::GtidSet,
    report::{Report, ThreadState},
    routing::RoutingUpdate,
    topology::Endpoint,
};

use super::{
    coordinators::MEMBERS,
    effects::local_effect,
    host::{Agent, Life, goal_word, result_word},
    mysqld::What,
    sabotage::Sabotage,
    world::{Happening, World},
};

/// Agents report this often when nothing changes.
const REPORT_MS: u64 = 200;
/// Between two turns of an agent's loop.
const TURN_MS: u64 = 20;

impl World {
    pub(super) fn agent_start(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            return;
        }
        let next_coordinator = self.random.between(0, MEMBERS as u64 - 1) as usize;
        let now_ms = self.now_ms;
        let host_state = &mut self.hosts[host];
        host_state.agent_lives += 1;
        let life = host_state.agent_lives;
        let (persisted, tablet) = (&host_state.persisted, &host_state.tablet);
        let is_current = |kept: &Desired| recall(persisted, tablet, "simulated", kept).is_ok();
        let recalled = host_state.kept_order.clone().filter(is_current);
        let mut memory = Memory::default();
        if let Some(kept) = &recalled {
            memory.follow(kept, now_ms);
            memory.kept = Some(kept.generation);
        }
        host_state.agent = Some(Agent {
            life,
            memory,
            desired: None,
            recalled,
            uplink: None,
            next_coordinator,
            busy: false,
            reported_ms: 0,
            last_report: None,
        });
        self.note(|| format!("tablet {host}: agent starts, life {life}"));
        self.after(1, Happening::AgentTurn { host, life });
    }

    /// The agent's process ends; its connection to the coordinator too.
    pub(super) fn agent_stop(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            self.break_uplink(host);
            self.hosts[host].agent = None;
        }
    }

    fn agent_lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host]
            .agent
            .as_ref()
            .is_some_and(|agent| agent.life == life)
    }

    pub(super) fn agent_turn(&mut self, host: usize, life: u64) {
        if !self.agent_lives(host, life) {
            return;
        }
        if self.hosts[host].is_paused(self.now_ms) {
            let resume_ms = self.hosts[host].paused_until_ms;
            self.at(resume_ms, Happening::AgentTurn { host, life });
            return;
        }
        self.keep_uplink(host);
        self.think(host);
        let jitter_ms = self.random.between(0, TURN_MS / 2);
        self.after(TURN_MS / 2 + jitter_ms, Happening::AgentTurn { host, life });
    }

    /// Compares, reports, and starts the next action.
    fn think(&mut self, host: usize) {
        let persisted = &self.hosts[host].persisted;
        let result = self
            .epochs
            .agent(host, persisted.promised, persisted.generation);
        self.check(result);
        let newest_acker = self.newest_acker(host);
        let thought = self.hosts[host].think(self.now_ms, newest_acker, self.sabotage);
        let Some((action, report)) = thought else {
            return;
        };
        let result = self.acknowledgements.told(host, &report);
        self.check(result);
        self.send_report(host, report);
        let Some(action) = action else {
            return;
        };
        let latency_ms = self.latency_ms(host, &action);
        let host_state = &mut self.hosts[host];
        let (promised, incarnation) = (host_state.persisted.promised, host_state.incarnation);
        let Some(agent) = &mut host_state.agent else {
            return;
        };
        agent.busy = true;
        let life = agent.life;
        self.after(
            latency_ms,
            Happening::ActionDone {
                host,
                life,
                action,
                promised,
                incarnation,
            },
        );
    }

    fn latency_ms(&mut self, host: usize, action: &Action) -> u64 {
        if let Some(limit_ms) = self.hosts[host].disk_limit_ms(action) {
            return limit_ms;
        }
        match action {
            Action::Clone { .. } => self.random.between(1_000, 4_000),
            Action::CutTail { .. } => self.random.between(100, 1_000),
            Action::StopIoThread if self.random.chance(10) => self.random.between(100, 1_500),
            _ => self.random.between(1, 15),
        }
    }

    fn send_report(&mut self, host: usize, report: Report) {
        let now_ms = self.now_ms;
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        let Some((member, connection)) = agent.uplink else {
            return;
        };
        let changed = agent
            .last_report
            .as_ref()
            .is_none_or(|last| is_news(last, &report));
        if !changed && now_ms < agent.reported_ms + REPORT_MS {
            return;
        }
        agent.reported_ms = now_ms;
        agent.last_report = Some(report.clone());
        let life = self.members[member].life;
        let node = self.node(host);
        for at_ms in self.network.stream_arrivals(now_ms, node, member) {
            let report = Box::new(report.clone());
            self.at(
                at_ms,
                Happening::ReportArrives {
                    member,
                    life,
                    host,
                    connection,
                    report,
                },
            );
        }
    }

    /// Connects to a member that says that it leads; leaves one that ended or does not answer.
    fn keep_uplink(&mut self, host: usize) {
        let node = self.node(host);
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        match agent.uplink {
            Some((member, _)) => {
                let connected = self.network.connected(node, member);
                let open = self.streams.contains_key(&(member, host));
                let serves = open && self.members[member].core.leading();
                let gives_up = !connected && self.random.chance(2);
                if (connected && !serves) || gives_up {
                    self.break_uplink(host);
                }
            }
            None => {
                let member = agent.next_coordinator % MEMBERS;
                agent.next_coordinator = member + 1;
                let serves = self.members[member].is_working(self.now_ms)
                    && self.members[member].core.leading();
                if serves && self.network.connected(node, member) {
                    let host_state = &mut self.hosts[host];
                    host_state.connections += 1;
                    let connection = host_state.connections;
                    if let Some(agent) = &mut host_state.agent {
                        agent.uplink = Some((member, connection));
                        agent.last_report = None;
                    }
                    self.streams.insert((member, host), connection);
                }
            }
        }
    }

    fn break_uplink(&mut self, host: usize) {
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        if let Some((member, connection)) = agent.uplink.take() {
            agent.next_coordinator = member + 1;
            let life = self.members[member].life;
            let wait_ms = self.random.between(1, 500);
            self.after(
                wait_ms,
                Happening::StreamEnds {
                    member,
                    life,
                    host,
                    connection,
                },
            );
        }
    }

    pub(super) fn desired_arrives(
        &mut self,
        host: usize,
        life: u64,
        connection: u64,
        desired: Desired,
    ) {
        if self.hosts[host].is_paused(self.now_ms) {
            let resume_ms = self.hosts[host].paused_until_ms;
            let desired = Box::new(desired);
            self.at(
                resume_ms,
                Happening::DesiredArrives {
                    host,
                    life,
                    connection,
                    desired,
                },
            );
            return;
        }
        let sabotage = self.sabotage;
        let now_ms = self.now_ms;
        let host_state = &mut self.hosts[host];
        let Some(agent) = host_state.agent.as_mut().filter(|agent| agent.life == life) else {
            return;
        };
        if agent
            .uplink
            .is_none_or(|(_, current)| current != connection)
        {
            return;
        }
        let alias = &host_state.tablet.alias;
        match accept(
            &host_state.persisted,
            &agent.memory,
            alias,
            "simulated",
            &desired,
        ) {
            Ok(record) => {
                if let Some(record) = record {
                    host_state.persisted.apply(&record);
                }
            }
            Err(_) if sabotage == Some(Sabotage::IgnoreEpoch) => {
                host_state.persisted.promised = desired.epoch;
                host_state.persisted.generation = desired.generation;
            }
            Err(_) => return,
        }
        // What is followed may only be replaced by something newer.
        let newer = agent.desired.as_ref().is_none_or(|current| {
            desired.generation > current.generation || sabotage == Some(Sabotage::IgnoreEpoch)
        });
        if newer {
            agent.memory.follow(&desired, now_ms);
            agent.desired = Some(desired.clone());
            self.note(|| {
                format!(
                    "tablet {host}: follows generation {}, epoch {}: {}",
                    desired.generation,
                    desired.epoch,
                    goal_word(&desired)
                )
            });
            self.think(host);
        }
    }

    /// A router that is where the changes begin takes them, any other the whole state: both must come to the same.
    pub(super) fn routing_arrives(&mut self, host: usize, update: &RoutingUpdate) {
        let snapshot = &update.snapshot;
        let known = &self.routers[host];
        if snapshot.version <= known.version {
            return;
        }
        if let Some(delta) = update.delta.as_ref().filter(|d| d.from == known.version) {
            let led_to = known.apply(delta);
            if led_to.as_ref() != Ok(&**snapshot) {
                let (from, to) = (delta.from, delta.to);
                let known = known.clone();
                self.note(|| format!("router {host}: {known:?}; {delta:?}"));
                let what = format!(
                    "the changes from {from:?} to {to:?} do not lead to the snapshot they came with"
                );
                self.check(Err(what));
                return;
            }
        }
        let result = self.epochs.router(host, snapshot);
        self.check(result);
        self.routers[host] = snapshot.clone();
    }

    pub(super) fn action_done(
        &mut self,
        host: usize,
        life: u64,
        action: Action,
        promised: Epoch,
        incarnation: Incarnation,
    ) {
        if self.hosts[host].is_paused(self.now_ms) {
            let resume_ms = self.hosts[host].paused_until_ms;
            self.at(
                resume_ms,
                Happening::ActionDone {
                    host,
                    life,
                    action,
                    promised,
                    incarnation,
                },
            );
            return;
        }
        if !self.agent_lives(host, life) {
            // The agent ended while it was under way: a file is written or not, a statement ran or did not.
            let ran = !matches!(
                action,
                Action::Persist(_) | Action::KeepOrder { .. } | Action::StartWork(_)
            ) && self.random.chance(50);
            if ran && self.hosts[host].incarnation == incarnation {
                drop(self.effect(host, &action));
            }
            return;
        }
        let outcome = self.effect(host, &action);
        self.note(|| format!("tablet {host}: {} {}", action.name(), result_word(&outcome)));
        let now_ms = self.now_ms;
        let host_state = &mut self.hosts[host];
        if let (Ok(()), Some(record)) = (&outcome, action.on_success()) {
            host_state.persisted.apply(&record);
        }
        let Some(agent) = &mut host_state.agent else {
            return;
        };
        agent.busy = false;
        agent
            .memory
            .note(&action, outcome, promised, incarnation, now_ms);
        if let Action::StartWork(work) = &action {
            self.start_work(host, work);
        }
        self.think(host);
    }

    fn effect(&mut self, host: usize, action: &Action) -> Result<(), String> {
        self.hosts[host].disk_refuses(action)?;
        let spoilt = self.spoil_action(host, action);
        self.all_committed(host, &spoilt);
        match action {
            Action::Persist(record) => {
                self.persist(host, record);
                Ok(())
            }
            Action::KeepOrder { .. } => {
                let host_state = &mut self.hosts[host];
                let followed = host_state.agent.as_ref().and_then(|it| it.desired.clone());
                host_state.kept_order = followed;
                Ok(())
            }
            // What becomes of it is told when it ends.
            Action::StartWork(_) => Ok(()),
            Action::StartMysqld => self.start_mysqld(host),
            Action::LockOut { tablets } => self.lock_out(host, tablets),
            Action::Clone {
                donor,
                may_lose,
                followed,
            } => self.clone_tablet(host, donor, may_lose, followed.as_deref()),
            Action::EnableSourceSemiSync { acks } => self.switch_semi_sync(host, Some(*acks)),
            Action::DisableSourceSemiSync => self.switch_semi_sync(host, None),
            Action::OpenForAll => {
                self.opens(host);
                local_effect(&mut self.hosts[host], action, self.now_ms)
            }
            _ => local_effect(&mut self.hosts[host], action, self.now_ms),
        }
    }

    fn persist(&mut self, host: usize, record: &Record) {
        self.hosts[host].persisted.apply(record);
        let persisted = &self.hosts[host].persisted;
        let result = self
            .epochs
            .agent(host, persisted.promised, persisted.generation);
        self.check(result);
        self.note(|| format!("tablet {host}: persists {record:?}"));
    }

    /// From here on clients may write: everything that was ever acknowledged must be here.
    /// One that opens in an ended epoch, because it slept, cannot acknowledge; other checkers see to that.
    fn opens(&mut self, host: usize) {
        let epoch = self.hosts[host].persisted.promised;
        if self
            .one_primary
            .newest()
            .is_some_and(|(newest, _)| epoch < newest)
        {
            return;
        }
        let values = self.hosts[host].mysqld.values();
        let result = self
            .acked_writes
            .held_by(&format!("tablet {host}, which opens,"), &values);
        self.check(result);
    }

    pub(super) fn start_mysqld(&mut self, host: usize) -> Result<(), String> {
        let ready_ms = self.random.between(50, 1_500);
        let host_state = &mut self.hosts[host];
        if host_state.fence_marker.is_some() {
            return Err("the guard refuses: a fence marker lies there".to_owned());
        }
        if host_state.has_process() {
            return Err("it runs already".to_owned());
        }
        host_state.incarnation = host_state.incarnation.next();
        host_state.life = Life::Starting;
        let incarnation = host_state.incarnation;
        self.after(ready_ms, Happening::MysqldReady { host, incarnation });
        Ok(())
    }

    pub(super) fn mysqld_ready(&mut self, host: usize, incarnation: Incarnation) {
        let host_state = &mut self.hosts[host];
        if host_state.incarnation == incarnation && host_state.life == Life::Starting {
            host_state.mysqld.recover();
            host_state.life = Life::Up;
            self.note(|| format!("tablet {host}: mysqld is up, life {incarnation}"));
        }
    }

    pub(super) fn clone_tablet(
        &mut self,
        host: usize,
        donor: &Endpoint,
        may_lose: &GtidSet,
        followed: Option<&str>,
    ) -> Result<(), String> {
        let source = self.host_at(donor);
        let reachable = self.network.connected(self.node(host), self.node(source));
        if !reachable
            || !self.hosts[source].is_working(self.now_ms)
            || self.hosts[host].life != Life::Up
        {
            return Err("the donor is not reached".to_owned());
        }
        let donor = self.hosts[source].mysqld.clone();
        let host_state = &mut self.hosts[host];
        let own = &host_state.mysqld.executed;
        let former = followed.filter(|uuid| *uuid != donor.uuid);
        let former = former.map_or_else(GtidSet::new, |uuid| own.of_server(uuid));
        let needed = own.subtract(may_lose).subtract(&former);
        if !donor.executed.contains(&needed) {
            return Err("the donor lacks transactions that are here".to_owned());
        }
        host_state.mysqld.clone_from_donor(&donor);
        self.acknowledgements.copied(host, &donor.executed);
        let host_state = &mut self.hosts[host];
        host_state.incarnation = host_state.incarnation.next();
        host_state.life = Life::Starting;
        let incarnation = host_state.incarnation;
        self.after(300, Happening::MysqldReady { host, incarnation });
        Ok(())
    }

    fn start_work(&mut self, host: usize, work: &Work) {
        let what = match work {
            Work::TermRow { .. } => What::TermRow,
            Work::Confirm { generation, .. } => What::Confirm(generation.0),
            Work::Push { .. } => What::Push,
            Work::CreateSchema { name } => What::CreateSchema(name.clone()),
            Work::SchemaChange(_) => return,
            Work::RotateBinaryLog { .. } => {
                let now_ms = self.now_ms;
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.memory.work_ended(work, Ok(()), now_ms);
                }
                return;
            }
        };
        let now_ms = self.now_ms;
        let host_state = &mut self.hosts[host];
        let writable = host_state.is_working(now_ms) && !host_state.mysqld.run.super_read_only;
        if writable && host_state.hang(&what) {
            return;
        }
        let done = writable.then(|| host_state.mysqld.write(what));
        let outcome = match done {
            None => Err("the server is read-only".to_owned()),
            Some(Some(_)) => Ok(()),
            Some(None) => return,
        };
        if let Some(agent) = &mut host_state.agent {
            agent.memory.work_ended(work, outcome, now_ms);
        }
    }

    /// Work that waited for acknowledgements has them.
    pub(super) fn work_acknowledged(&mut self, host: usize, what: &What) {
        let now_ms = self.now_ms;
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        let Some(work) = agent.memory.work.clone() else {
            return;
        };
        let same = match (&work, what) {
            (Work::TermRow { .. }, What::TermRow) => true,
            (Work::Confirm { generation, .. }, What::Confirm(of)) => generation.0 == *of,
            (Work::CreateSchema { name }, What::CreateSchema(created)) => name == created,
            _ => false,
        };
        if same {
            agent.memory.work_ended(&work, Ok(()), now_ms);
        }
    }
}

/// What a coordinator should hear at once.
fn is_news(last: &Report, report: &Report) -> bool {
    let facts = |report: &Report| {
        (
            report.promised,
            report.generation,
            report.mysqld.clone(),
            report.revoked,
            report.fenced,
            report.demoted,
            report.serving,
            report.blocked.clone(),
            (report.silent, report.confirmed, report.locked_out),
            report.disk_probe.as_ref().map(|probe| probe.state),
            report
                .replication
                .as_ref()
                .map(|r| (r.io == ThreadState::On, r.sql == ThreadState::On)),
        )
    };
    // While it waits for a decision, progress is news too.
    let progress = report.revoked.is_some() && last.gtid != report.gtid;
    facts(last) != facts(report) || progress
}
