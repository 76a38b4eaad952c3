//! The operator: adds, replaces and removes members in the middle of everything, by writing their records and nothing else.
//! What it wants stands here until the true log shows it; how often it has to ask does not matter.

use vt_coordinator_core::{
    command::{Change, Command, RecordKey, RecordValue},
    member::{Input, Token},
    peer::Membership,
    state::State,
};
use vt_proto::{
    epoch::Revision,
    topology::{Coordinator, Standing},
};

use super::{
    host::Host,
    network::MS,
    world::{Happening, World},
};

/// How often the operator looks.
const LOOK_US: u64 = 60 * MS;
/// Machines that there may be in one story: quorums of all their sets are looked through.
pub(super) const MACHINES_MAX: usize = 9;
/// A group takes no more members, those that leave included.
const COORDINATORS_MAX: usize = 7;
/// The operator's requests carry it: answers to them are for nobody.
pub(super) const NOBODY: Token = Token(0);

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The machine of this member joins; its directory is named at once or when it has started.
    Join {
        id: u64,
        at_once: bool,
    },
    Leave {
        id: u64,
    },
}

/// The name of a member's data directory: another one each time it was emptied.
pub(super) fn directory(id: u64, times_emptied: u64) -> String {
    format!("d{id}-{times_emptied}")
}

/// Where a member serves.
pub(super) fn address(id: u64) -> String {
    format!("host-{id}:15100")
}

/// The record of a member.
pub(super) fn record(id: u64, directory_id: String) -> Coordinator {
    Coordinator {
        id,
        address: address(id),
        directory_id,
        standing: Standing::Voter,
        formats: 1,
    }
}

/// The next change towards the goal; nothing if it is reached, or cannot be asked for yet.
fn change(goal: Goal, state: &State, directory_id: &str) -> Option<Change> {
    match goal {
        Goal::Join { id, at_once } => {
            let known = state.coordinators.get(&id);
            match known {
                None if id < state.next_coordinator => None,
                None => {
                    let named = if at_once { directory_id } else { "" };
                    let value = record(id, named.to_owned());
                    Some(Change::put(Revision::ZERO, RecordValue::Coordinator(value)))
                }
                Some(known) if known.value.directory_id.is_empty() => {
                    let value = record(id, directory_id.to_owned());
                    let standing = known.value.standing;
                    let value = Coordinator { standing, ..value };
                    Some(Change::put(known.revision, RecordValue::Coordinator(value)))
                }
                Some(_) => None,
            }
        }
        Goal::Leave { id } => {
            let known = state.coordinators.get(&id)?;
            if known.value.standing == Standing::Leaving {
                return None;
            }
            let standing = Standing::Leaving;
            let value = Coordinator {
                standing,
                ..known.value.clone()
            };
            Some(Change::put(known.revision, RecordValue::Coordinator(value)))
        }
    }
}

/// Who should vote, according to these records.
pub(super) fn wanted_voters(state: &State) -> Vec<u64> {
    let records = state.coordinators.values().map(|record| &record.value);
    let voters = records.filter(|record| record.standing == Standing::Voter);
    voters.map(|record| record.id).collect()
}

/// Whether the members in `set` can decide alone.
fn is_quorum(group: &Membership, set: &[u64]) -> bool {
    let majority = |voters: &[u64]| {
        let inside = voters.iter().filter(|id| set.contains(id)).count();
        inside * 2 > voters.len()
    };
    majority(&group.voters) && (group.voters_before.is_empty() || majority(&group.voters_before))
}

/// Two sets of members without a common one, each of which can decide alone: one in each group.
pub(super) fn disjoint_quorums(
    one: &Membership,
    other: &Membership,
) -> Option<(Vec<u64>, Vec<u64>)> {
    let groups = [
        &one.voters,
        &one.voters_before,
        &other.voters,
        &other.voters_before,
    ];
    let mut all: Vec<u64> = groups.into_iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let sets = (0..1u32 << all.len()).map(|bits| {
        let (inside, outside): (Vec<_>, Vec<_>) = all
            .iter()
            .enumerate()
            .partition(|(at, _)| bits & (1 << at) != 0);
        let ids =
            |part: Vec<(usize, &u64)>| part.into_iter().map(|(_, id)| *id).collect::<Vec<_>>();
        (ids(inside), ids(outside))
    });
    let mut sets = sets;
    sets.find(|(inside, outside)| is_quorum(one, inside) && is_quorum(other, outside))
}

impl World {
    /// Everybody with an address that others know before they have records.
    pub(super) fn contacts(&self) -> std::collections::BTreeMap<u64, String> {
        self.hosts
            .iter()
            .map(|host| (host.id, address(host.id)))
            .collect()
    }

    /// A new machine is to join.
    pub(super) fn add_machine(&mut self, at_once: bool) -> Option<usize> {
        let leaving = self
            .goals
            .iter()
            .filter(|goal| matches!(goal, Goal::Leave { .. }))
            .count();
        if self.hosts.len() >= MACHINES_MAX || self.hosts.len() - leaving >= COORDINATORS_MAX {
            return None;
        }
        let id = self.hosts.len() as u64 + 1;
        self.hosts.push(Host::new(id, &mut self.random));
        self.goals.push(Goal::Join { id, at_once });
        self.open_goals += 1;
        self.note(|| format!("operator: member {id} is to join"));
        self.start(self.hosts.len() - 1);
        Some(self.hosts.len() - 1)
    }

    /// A member is to leave, if enough stay and it is not leaving already.
    pub(super) fn remove_machine(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let leaving = self.goals.contains(&Goal::Leave { id });
        let mut staying = wanted_voters(self.judge.state());
        staying.retain(|other| *other != id && !self.goals.contains(&Goal::Leave { id: *other }));
        if !leaving && staying.len() >= 2 {
            self.goals.push(Goal::Leave { id });
            self.open_goals += 1;
            self.note(|| format!("operator: member {id} is to leave"));
        }
    }

    /// A machine loses its disk and knows it; another one takes its place. Only once, and where the others are a majority: what
    /// comes after a lost quorum is not promised to be safe.
    pub(super) fn wipe(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let lost_before = self.hosts.iter().any(|host| host.times_emptied > 0);
        let wanted = wanted_voters(self.judge.state());
        let group = self.judge.membership();
        let settled = self.open_goals == 0
            && group.is_none_or(|group| {
                group.voters == wanted
                    && group.learners.is_empty()
                    && group.voters_before.is_empty()
            });
        let enough = wanted.len() >= 3 && wanted.contains(&id);
        if lost_before || !settled || !enough || self.hosts.len() >= MACHINES_MAX {
            return;
        }
        self.crash(host);
        let machine = &mut self.hosts[host];
        machine.times_emptied += 1;
        machine.disk.stored = Default::default();
        self.note(|| format!("member {id} loses its disk"));
        self.start(host);
        self.goals.push(Goal::Leave { id });
        self.open_goals += 1;
        self.add_machine(true);
    }

    /// The operator looks whether what it wants is there, and asks the leader for it if not.
    pub(super) fn operate(&mut self) {
        self.after(LOOK_US, Happening::Operate);
        let mut open = Vec::new();
        for goal in self.goals.clone() {
            let id = match goal {
                Goal::Join { id, .. } | Goal::Leave { id } => id,
            };
            let name = directory(id, self.hosts[id as usize - 1].times_emptied);
            // A newcomer is asked for in the order of ids.
            let later =
                matches!(goal, Goal::Join { id, .. } if id > self.judge.state().next_coordinator);
            if later || change(goal, self.judge.state(), &name).is_some() {
                open.push((goal, name));
            }
        }
        self.open_goals = open.len();
        let Some(leader) = self.hosts.iter().position(Host::leads) else {
            return;
        };
        for (goal, name) in open {
            let Some(process) = &self.hosts[leader].process else {
                return;
            };
            let Some(change) = change(goal, process.member.core().state(), &name) else {
                continue;
            };
            let RecordKey::Coordinator(id) = change.key else {
                continue;
            };
            let request_id = format!("operator-{id}-{}-{}", change.expected, self.now_us);
            let command = Command::new(request_id, vec![change], Vec::new());
            let (token, deadline_ms) = (NOBODY, None);
            self.input(
                leader,
                Input::Propose {
                    token,
                    command,
                    deadline_ms,
                },
            );
        }
    }

    /// Which machines must run in the end.
    pub(super) fn wanted(&self) -> Vec<usize> {
        let ids = wanted_voters(self.judge.state());
        ids.into_iter().map(|id| id as usize - 1).collect()
    }
}
