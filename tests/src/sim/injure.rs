//! Faults happen, end, and are healed in the end.

use vt_coordinator_core::intent;
use vt_proto::{report::ThreadState, topology::Phase};

use super::{
    coordinators::MEMBERS,
    faults::{Fault, Kind},
    host::Life,
    mysqld::{Replication, What},
    network::Node,
    world::{Happening, World},
};
use crate::check::acked_writes::STRANGERS;

impl World {
    pub(super) fn fault_begins(&mut self, index: usize) {
        let fault = self.faults[index].clone();
        if self.healed_ms.is_some() {
            return;
        }
        self.note(|| format!("FAULT {index}: {:?} for {} ms", fault.kind, fault.lasts_ms));
        self.injure(&fault);
        self.suffering_begins(index, &fault.kind);
        self.after(fault.lasts_ms, Happening::FaultEnds { index });
    }

    fn injure(&mut self, fault: &Fault) {
        let until_ms = self.now_ms + fault.lasts_ms;
        match &fault.kind {
            Kind::KillMysqld { host } => self.hosts[*host].kill_mysqld("killed by signal 9"),
            Kind::KillAgent { host } => self.agent_stop(*host),
            Kind::KillBoth { host } => {
                self.hosts[*host].kill_mysqld("killed by signal 9");
                self.agent_stop(*host);
            }
            Kind::Reboot { host } => self.reboot(*host),
            Kind::PauseHost { host } => {
                let host = &mut self.hosts[*host];
                host.paused_until_ms = host.paused_until_ms.max(until_ms);
            }
            Kind::HangMysqld { host } => {
                let host = &mut self.hosts[*host];
                if host.life == Life::Up {
                    host.life = Life::Hung {
                        since_ms: self.now_ms,
                    };
                }
            }
            Kind::StallApplier { host } => self.hosts[*host].applier_stalled = true,
            Kind::BreakData { host } => {
                if self.serving_primary() != Some(*host) {
                    self.hosts[*host].mysqld.broken = true;
                }
            }
            Kind::WriteOnReplica { host } => self.write_on_replica(*host),
            Kind::IsolateHost { .. }
            | Kind::CutFromCoordinators { .. }
            | Kind::CutFromTablets { .. }
            | Kind::CutOneWay { .. }
            | Kind::IsolateCoordinator { .. } => {
                for (from, to) in self.cut_links(&fault.kind) {
                    self.network.cut(from, to);
                }
            }
            Kind::KillCoordinator { member } => self.kill_coordinator(*member),
            Kind::PauseCoordinator { member } => self.members[*member].paused_until_ms = until_ms,
            Kind::PauseCoordinators => {
                for member in &mut self.members {
                    member.paused_until_ms = member.paused_until_ms.max(until_ms);
                }
            }
            Kind::MoveLeadership => self.move_leadership(),
            Kind::KillPrimary => {
                if let Some(primary) = self.serving_primary() {
                    self.hosts[primary].kill_mysqld("killed by signal 9");
                }
            }
            Kind::KillLeader => {
                if let Some(leader) = self.log.leader {
                    self.kill_coordinator(leader);
                }
            }
            Kind::Switchover { to } => self.ask_switchover(*to),
            Kind::Policy { acks, cross_cell } => self.ask_policy(*acks, *cross_cell),
            Kind::CreateKeyspace { number } => self.ask_keyspace(*number),
            Kind::BadDisk { .. } | Kind::Saturate { .. } => {}
        }
    }

    fn cut_links(&self, kind: &Kind) -> Vec<(Node, Node)> {
        let nodes = MEMBERS + self.hosts.len();
        let both = |one: Node, others: &mut dyn Iterator<Item = Node>| {
            others
                .filter(|other| *other != one)
                .flat_map(|other| [(one, other), (other, one)])
                .collect()
        };
        match kind {
            Kind::IsolateHost { host } => both(self.node(*host), &mut (0..nodes)),
            Kind::CutFromCoordinators { host } => both(self.node(*host), &mut (0..MEMBERS)),
            Kind::CutFromTablets { host } => both(self.node(*host), &mut (MEMBERS..nodes)),
            Kind::IsolateCoordinator { member } => both(*member, &mut (0..nodes)),
            Kind::CutOneWay { from, to } => vec![(*from, *to)],
            _ => Vec::new(),
        }
    }

    /// Whoever does that to a primary, or to one that becomes it just now, is a client.
    fn write_on_replica(&mut self, host: usize) {
        let record = self.committed.replica_sets.get(&self.set);
        let is_taking_over = record.is_some_and(|record| {
            let record = &record.value;
            let own = &self.hosts[host].tablet.alias;
            let is_candidate =
                matches!(&record.phase, Phase::Switching { candidate, .. } if candidate == own);
            is_candidate || record.primary.as_ref() == Some(own)
        });
        let receives = |it: &Replication| it.io != ThreadState::Off;
        let state = &mut self.hosts[host];
        if is_taking_over
            || state.life != Life::Up
            || !state.mysqld.replication.as_ref().is_some_and(receives)
        {
            return;
        }
        self.next_value += 1;
        state.mysqld.write(What::Write(STRANGERS + self.next_value));
    }

    fn reboot(&mut self, host: usize) {
        let keep = self.random.between(0, 5) as usize;
        self.agent_stop(host);
        let state = &mut self.hosts[host];
        state.mysqld.lose_power(keep);
        state.suffering.mysqld_ends();
        state.life = Life::Down {
            how: "the host restarted".to_owned(),
        };
        state.boot += 1;
        state.paused_until_ms = 0;
    }

    fn kill_coordinator(&mut self, member: usize) {
        let state = &mut self.members[member];
        state.alive = false;
        state.steps_down_ms = None;
        self.streams.retain(|(of, _), _| *of != member);
    }

    fn start_coordinator(&mut self, member: usize) {
        let state = &mut self.members[member];
        if state.alive {
            return;
        }
        state.alive = true;
        state.life += 1;
        state.paused_until_ms = 0;
        state.core = vt_coordinator_core::Core::new(state.snapshot.clone());
        state.stepped_ms = self.now_ms;
        let life = state.life;
        // Raft does not let it lead again in the term it led before it died.
        if self.log.leader == Some(member) {
            self.log.leader = None;
        }
        self.after(1, Happening::CoordinatorTurn { member, life });
    }

    fn move_leadership(&mut self) {
        let others: Vec<usize> = (0..MEMBERS)
            .filter(|member| {
                Some(*member) != self.log.leader && self.members[*member].is_working(self.now_ms)
            })
            .collect();
        if !others.is_empty() {
            let leader = *self.random.pick(&others);
            self.lead(leader);
        }
    }

    fn ask_switchover(&mut self, to: usize) {
        let Some(leader) = self
            .log
            .leader
            .filter(|leader| self.members[*leader].is_working(self.now_ms))
        else {
            return;
        };
        let member = &self.members[leader];
        let now = member.now(self.now_ms);
        let request = format!("switchover-{}", self.now_ms);
        let candidate = &self.hosts[to].tablet.alias;
        let command = intent::switchover(
            member.core.state(),
            member.core.health(),
            &self.set,
            Some(candidate),
            &request,
            now,
        );
        self.submit(leader, command);
    }

    fn ask_policy(&mut self, acks: u32, cross_cell: bool) {
        let leads = |leader: &usize| self.members[*leader].is_working(self.now_ms);
        let Some(leader) = self.log.leader.filter(leads) else {
            return;
        };
        let member = &self.members[leader];
        let command = intent::set_durability(
            member.core.state(),
            &self.set,
            Some(acks),
            Some(cross_cell),
            &format!("policy-{}", self.now_ms),
            member.now(self.now_ms),
        );
        self.submit(leader, command);
    }

    fn ask_keyspace(&mut self, number: u64) {
        let Some(leader) = self
            .log
            .leader
            .filter(|leader| self.members[*leader].is_working(self.now_ms))
        else {
            return;
        };
        let member = &self.members[leader];
        let now = member.now(self.now_ms);
        let name = format!("k{number}").parse().expect("a keyspace name");
        let request = format!("keyspace-{}", self.now_ms);
        let command = if number.is_multiple_of(3) {
            match member.core.state().keyspaces.keys().next() {
                Some(name) => intent::delete_keyspace(member.core.state(), name, &request, now),
                None => return,
            }
        } else {
            intent::create_keyspace(member.core.state(), &name, Some(&self.set), &request, now)
        };
        self.submit(leader, command);
    }

    fn submit(
        &mut self,
        leader: usize,
        command: Result<
            vt_coordinator_core::command::Command,
            vt_coordinator_core::refusal::Refusal,
        >,
    ) {
        match command {
            Ok(command) => {
                if self.log.propose(leader, command) {
                    let term = self.log.term;
                    self.after(3, Happening::Commit { term });
                }
            }
            Err(refusal) => self.note(|| format!("the operator is refused: {refusal}")),
        }
    }

    pub(super) fn fault_ends(&mut self, index: usize) {
        if self.healed_ms.is_some() {
            return;
        }
        let kind = self.faults[index].kind.clone();
        match &kind {
            Kind::KillAgent { host } | Kind::KillBoth { host } | Kind::Reboot { host } => {
                let wait_ms = self.random.between(200, 500);
                self.after(wait_ms, Happening::AgentStart { host: *host });
            }
            Kind::HangMysqld { host } => self.wake_mysqld(*host),
            Kind::StallApplier { host } => self.hosts[*host].applier_stalled = false,
            Kind::BadDisk { .. } | Kind::Saturate { .. } => self.suffering_ends(index),
            Kind::KillCoordinator { member } => self.start_coordinator(*member),
            Kind::KillLeader => {
                for member in 0..MEMBERS {
                    self.start_coordinator(member);
                }
            }
            other => {
                for (from, to) in self.cut_links(other) {
                    self.network.mend(from, to);
                }
            }
        }
    }

    fn wake_mysqld(&mut self, host: usize) {
        if matches!(self.hosts[host].life, Life::Hung { .. }) {
            self.hosts[host].life = Life::Up;
        }
    }

    /// No more faults: all links, hosts and coordinators are well from now on.
    pub(super) fn heal(&mut self) {
        self.note(|| "HEAL".to_owned());
        self.healed_ms = Some(self.now_ms);
        self.network.heal();
        for member in 0..MEMBERS {
            self.start_coordinator(member);
            let state = &mut self.members[member];
            state.paused_until_ms = state.paused_until_ms.min(self.now_ms);
        }
        for host in 0..self.hosts.len() {
            self.wake_mysqld(host);
            self.relieve(host);
            let state = &mut self.hosts[host];
            state.paused_until_ms = state.paused_until_ms.min(self.now_ms);
            state.applier_stalled = false;
            self.after(300, Happening::AgentStart { host });
        }
    }
}
