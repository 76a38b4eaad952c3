//! The coordinators' shells in a simulated world: turns, the log's commits, elections, and what follows from effects.

use vt_coordinator_core::{TICK_MS, effect::Effect, event::Event};
use vt_proto::report::{Report, ThreadState};
use vt_proto::topology::Phase;

use super::{
    coordinators::MEMBERS,
    sabotage::Sabotage,
    world::{Happening, World},
};

/// Without a leader that can commit for so long, another is elected.
const ELECTION_MS: u64 = 600;
/// For so long a deposed leader may believe that it leads.
const STALE_BELIEF_MS_MAX: u64 = 1_500;

impl World {
    pub(super) fn coordinator_turn(&mut self, member: usize, life: u64) {
        let state = &self.members[member];
        if !state.alive || state.life != life {
            return;
        }
        if !state.is_working(self.now_ms) {
            let resume_ms = state.paused_until_ms;
            self.at(resume_ms, Happening::CoordinatorTurn { member, life });
            return;
        }
        let steps_down = state
            .steps_down_ms
            .is_some_and(|at_ms| at_ms <= self.now_ms);
        if steps_down {
            self.members[member].steps_down_ms = None;
            self.step(member, Event::LeadershipLost);
        }
        self.step(member, Event::Tick);
        let jitter_ms = self.random.between(0, 10);
        self.after(
            TICK_MS - jitter_ms,
            Happening::CoordinatorTurn { member, life },
        );
    }

    /// One step of a member's core, and everything that follows from it.
    pub(super) fn step(&mut self, member: usize, event: Event) {
        if self.sabotage == Some(Sabotage::IgnoreOwnStall) {
            let slept_from_ms = self.members[member].stepped_ms + TICK_MS;
            for at_ms in (slept_from_ms..self.now_ms).step_by(TICK_MS as usize) {
                self.step_at(member, at_ms, Event::Tick);
            }
        }
        self.step_at(member, self.now_ms, event);
    }

    fn step_at(&mut self, member: usize, at_ms: u64, event: Event) {
        self.members[member].stepped_ms = at_ms;
        let now = self.members[member].now(at_ms);
        let effects = self.members[member].core.step(now, event);
        for effect in effects {
            match effect {
                Effect::Propose(command) => {
                    let words = command
                        .events
                        .first()
                        .map(|event| format!("{}: {}", event.kind, event.message));
                    let taken = self.log.propose(member, command);
                    self.note(|| {
                        format!(
                            "coordinator {member}: proposes {} (can commit: {taken})",
                            words.unwrap_or_default()
                        )
                    });
                    if taken {
                        let wait_ms = self.random.between(1, 20);
                        let term = self.log.term;
                        self.after(wait_ms, Happening::Commit { term });
                    }
                }
                Effect::Finished {
                    outcome: Err(refusal),
                    ..
                } => {
                    self.note(|| format!("coordinator {member}: refused: {refusal}"));
                }
                Effect::Finished { .. } => {}
                Effect::SendDesired(desired) => {
                    let Some(host) = self.host_of(&desired.alias) else {
                        continue;
                    };
                    let Some(connection) = self.streams.get(&(member, host)).copied() else {
                        continue;
                    };
                    let life = self.hosts[host].agent_lives;
                    let node = self.node(host);
                    for at_ms in self.network.stream_arrivals(self.now_ms, member, node) {
                        let desired = desired.clone();
                        self.at(
                            at_ms,
                            Happening::DesiredArrives {
                                host,
                                life,
                                connection,
                                desired,
                            },
                        );
                    }
                }
                Effect::PublishRouting(update) => {
                    for host in 0..self.hosts.len() {
                        let node = self.node(host);
                        if let Some(at_ms) = self.network.arrival(self.now_ms, member, node) {
                            let update = update.clone();
                            self.at(at_ms, Happening::RoutingArrives { host, update });
                        }
                    }
                }
            }
        }
    }

    pub(super) fn report_arrives(
        &mut self,
        member: usize,
        life: u64,
        host: usize,
        connection: u64,
        report: Box<Report>,
    ) {
        let state = &self.members[member];
        if state.life != life || !state.alive {
            return;
        }
        if !state.is_working(self.now_ms) {
            let resume_ms = state.paused_until_ms;
            self.at(
                resume_ms,
                Happening::ReportArrives {
                    member,
                    life,
                    host,
                    connection,
                    report,
                },
            );
            return;
        }
        self.step(member, Event::Reported { report });
    }

    pub(super) fn stream_ends(&mut self, member: usize, life: u64, host: usize, connection: u64) {
        if self.members[member].life != life
            || self.streams.get(&(member, host)) != Some(&connection)
        {
            return;
        }
        self.streams.remove(&(member, host));
        let alias = self.hosts[host].tablet.alias.clone();
        self.step(member, Event::StreamEnded { alias });
    }

    pub(super) fn commit(&mut self, term: u64) {
        let leader = self.log.leader;
        if let Some(leader) = leader
            && self.can_commit(leader)
        {
            self.log.commit(term);
            self.catch_up(leader);
        } else if self.log.term == term {
            // It waits for a majority.
            self.after(50, Happening::Commit { term });
        }
    }

    pub(super) fn catch_up_turn(&mut self, member: usize) {
        let wait_ms = self.random.between(5, 60);
        self.after(wait_ms, Happening::CatchUp { member });
        let reaches = self.log.leader.is_some_and(|leader| {
            self.members[leader].is_working(self.now_ms) && self.network.connected(leader, member)
        });
        if reaches && self.members[member].is_working(self.now_ms) {
            self.catch_up(member);
        }
    }

    /// Applies everything that is committed, in order.
    pub(super) fn catch_up(&mut self, member: usize) {
        // Who receives what another leader committed learns by the same message that it leads no more.
        let deposed = self.log.leader != Some(member) && self.members[member].core.leading();
        let news = self.members[member].core.state().applied < self.log.entries.len() as u64;
        if deposed && news {
            self.members[member].steps_down_ms = None;
            self.step(member, Event::LeadershipLost);
        }
        while let Some((index, command)) = self.log.after(self.members[member].core.state().applied)
        {
            self.step(member, Event::Committed { index, command });
            let hash = self.members[member].core.state().hash();
            let result = self.same_state.applied(member, index, hash);
            self.check(result);
            if self.random.chance(5) {
                self.members[member].snapshot = self.members[member].core.state().clone();
            }
        }
    }

    fn working_majority(&self, member: usize) -> bool {
        let reached = (0..MEMBERS)
            .filter(|other| {
                *other == member
                    || (self.members[*other].is_working(self.now_ms)
                        && self.network.connected(member, *other))
            })
            .count();
        reached * 2 > MEMBERS
    }

    fn can_commit(&self, member: usize) -> bool {
        self.members[member].is_working(self.now_ms) && self.working_majority(member)
    }

    pub(super) fn election(&mut self) {
        let wait_ms = self.random.between(50, 150);
        self.after(wait_ms, Happening::Election);
        if self
            .log
            .leader
            .is_some_and(|leader| self.can_commit(leader))
        {
            self.log.leaderless_since_ms = None;
            return;
        }
        let since_ms = *self.log.leaderless_since_ms.get_or_insert(self.now_ms);
        if self.now_ms >= since_ms + ELECTION_MS {
            let able: Vec<usize> = (0..MEMBERS)
                .filter(|member| self.can_commit(*member))
                .collect();
            if !able.is_empty() {
                let leader = *self.random.pick(&able);
                self.lead(leader);
            }
        }
    }

    /// Another member leads; the one before may not know for a while.
    pub(super) fn lead(&mut self, leader: usize) {
        if let Some(old) = self.log.leader
            && old != leader
            && self.members[old].core.leading()
        {
            let awake_ms = self.now_ms.max(self.members[old].paused_until_ms);
            let belief_ms = self.random.between(0, STALE_BELIEF_MS_MAX);
            self.members[old].steps_down_ms = Some(awake_ms + belief_ms);
        }
        if self.members[leader].core.leading() {
            // It led before and did not hear who came between: the first word of that one deposes it, before what came with it.
            self.step(leader, Event::LeadershipLost);
        }
        self.log.elect(leader, &mut self.random);
        self.catch_up(leader);
        let term = self.log.term;
        self.note(|| format!("coordinator {leader}: leads in term {term}"));
        self.members[leader].steps_down_ms = None;
        self.step(leader, Event::LeadershipGained);
    }

    /// The tablet that serves by the newest record, if that is stable and the tablet accepts clients.
    pub(super) fn serving_primary(&self) -> Option<usize> {
        let leader = self.log.leader?;
        let record = &self.members[leader]
            .core
            .state()
            .replica_sets
            .get(&self.set)?
            .value;
        let host = self.host_of(record.primary.as_ref()?)?;
        let open = record.phase == Phase::Stable && self.hosts[host].accepts_clients(self.now_ms);
        open.then_some(host)
    }

    /// Why the cluster is not whole yet; nothing if it is.
    pub(super) fn unhealed(&self) -> Option<String> {
        let Some(leader) = self.log.leader else {
            return Some("no coordinator leads".to_owned());
        };
        let core = &self.members[leader].core;
        let Some(primary) = self.serving_primary() else {
            let phase = core
                .state()
                .replica_sets
                .get(&self.set)
                .map(|set| &set.value.phase);
            return Some(format!(
                "no primary serves; phase {phase:?}; blocked: {:?}",
                core.blocked(&self.set)
            ));
        };
        if !self.acknowledged_since_heal {
            return Some("no write is acknowledged".to_owned());
        }
        let behind = (0..self.hosts.len())
            .filter(|host| *host != primary)
            .find(|host| {
                let replication = self.hosts[*host].mysqld.replication.as_ref();
                !replication.is_some_and(|r| {
                    r.io == ThreadState::On
                        && r.sql == ThreadState::On
                        && self.host_at(&r.source) == primary
                })
            })?;
        let says = self.hosts[behind]
            .agent
            .as_ref()
            .and_then(|agent| agent.last_report.clone());
        let blocked = says.and_then(|report| report.blocked);
        Some(format!(
            "tablet {behind} does not follow tablet {primary}: {blocked:?}"
        ))
    }
}
