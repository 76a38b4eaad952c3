//! Clients: each asks one thing at a time, of any member, and again under the same request id until it is told or gives up.
//! What was asked and told, with true times, is the history that is judged at the end.

use std::collections::BTreeMap;

use vt_coordinator_core::{
    command::{Change, RecordKey, RecordValue},
    refusal::Refusal,
    state::State,
};
use vt_proto::{
    epoch::Revision,
    topology::{Keyspace, VschemaTable},
};

use super::{
    network::{CLIENTS, MS},
    sabotage::Sabotage,
    world::{Happening, World},
};
use crate::{
    check::linearizable::{self, Answer, Call, OperationId},
    sim::random::Random,
};

/// The keyspace under which the records lie.
const KEYSPACE: &str = "ks";
/// Answers after the faults ended that show that the group serves.
pub(super) const SERVED_ENOUGH: u64 = 3;

/// What is asked of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Makes the keyspace; not part of the history.
    Prepare,
    Read(Vec<usize>),
    /// Record, expected revision, new value.
    Write(Vec<(usize, u64, Option<String>)>),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: usize,
    /// The client's operation; later answers to earlier ones are not for it.
    pub(super) operation: u64,
    pub(super) request_id: String,
    pub(super) what: What,
}

/// What a member told a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What was found, and the index of the state in which it was.
    Read(Vec<Option<(u64, String)>>, u64),
    Written(u64),
    Conflict(usize, u64),
    Refused,
    /// Not done here, or not known whether: to be asked again, of the leader if the member named it.
    Again {
        leader: Option<usize>,
    },
}

/// What a client waits for.
#[derive(Debug)]
struct Pending {
    id: Option<OperationId>,
    what: What,
    attempts_left: u64,
    since_heal: bool,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    random: Random,
    pending: Option<Pending>,
    operation: u64,
    attempt: u64,
    /// The member that answered last.
    favourite: usize,
    /// Revisions as this client knows them.
    known: BTreeMap<usize, u64>,
    patience_ms: u64,
    attempts_max: u64,
    pause_ms_max: u64,
    write_percent: u64,
    delete_percent: u64,
}

impl Client {
    pub(super) fn new(mut random: Random, index: usize) -> Self {
        Self {
            pending: None,
            operation: 0,
            attempt: 0,
            favourite: index,
            known: BTreeMap::new(),
            patience_ms: *random.pick(&[60, 200, 600]),
            attempts_max: *random.pick(&[2, 5, 12]),
            pause_ms_max: *random.pick(&[10, 40, 150]),
            write_percent: *random.pick(&[30, 50, 70]),
            delete_percent: *random.pick(&[6, 6, 40]),
            random,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// A member did not do it: whom to ask next.
    fn sent_away(&mut self, by: usize, leader: Option<usize>, members: u64) {
        if let Some(leader) = leader {
            self.favourite = leader;
        } else if self.favourite == by {
            self.favourite = self.random.between(0, members - 1) as usize;
        }
    }
}

/// The key of a record.
pub(super) fn key(record: usize) -> RecordKey {
    RecordKey::VschemaTable(KEYSPACE.parse().expect("a name"), name(record))
}

fn name(record: usize) -> String {
    format!("t{record}")
}

/// Revision and value of a record, as a client sees them.
pub(super) fn found(state: &State, record: usize) -> Option<(u64, String)> {
    let key = key(record);
    match state.value_of(&key)? {
        RecordValue::VschemaTable(table) => Some((state.revision_of(&key).0, table.spec_json)),
        _ => None,
    }
}

/// The changes that are asked for; none by a read.
pub(super) fn changes(what: &What) -> Vec<Change> {
    match what {
        What::Read(_) => Vec::new(),
        What::Prepare => {
            let keyspace = Keyspace {
                name: KEYSPACE.parse().expect("a name"),
            };
            vec![Change::put(Revision::ZERO, RecordValue::Keyspace(keyspace))]
        }
        What::Write(changes) => changes.iter().map(change).collect(),
    }
}

fn change((record, expected, value): &(usize, u64, Option<String>)) -> Change {
    let expected = Revision(*expected);
    match value {
        Some(value) => {
            let table = VschemaTable {
                keyspace: KEYSPACE.parse().expect("a name"),
                table: name(*record),
                spec_json: value.clone(),
            };
            Change::put(expected, RecordValue::VschemaTable(table))
        }
        None => Change::delete(expected, key(*record)),
    }
}

/// What a refusal tells a client.
pub(super) fn told_refusal(refusal: &Refusal, records: usize) -> Told {
    match refusal {
        Refusal::Conflict { key: at, found, .. } => {
            let record = (0..records).find(|record| key(*record) == *at);
            record.map_or(Told::Refused, |record| Told::Conflict(record, found.0))
        }
        Refusal::Invalid { .. } | Refusal::Missing { .. } | Refusal::Exists { .. } => Told::Refused,
    }
}

fn call(what: &What) -> Option<Call> {
    match what {
        What::Prepare => None,
        What::Read(records) => Some(Call::Read {
            records: records.iter().map(|record| name(*record)).collect(),
        }),
        What::Write(changes) => {
            let changes = changes.iter();
            let changes = changes.map(|(record, expected, value)| linearizable::Change {
                record: name(*record),
                expected: *expected,
                value: value.clone(),
            });
            Some(Call::Write {
                changes: changes.collect(),
            })
        }
    }
}

fn answer(told: &Told) -> Answer {
    match told {
        Told::Read(found, _) => Answer::Read {
            found: found.clone(),
        },
        Told::Written(revision) => Answer::Written {
            revision: *revision,
        },
        Told::Conflict(record, found) => Answer::Conflict {
            record: name(*record),
            found: *found,
        },
        Told::Refused => Answer::Refused,
        Told::Again { .. } => Answer::Unknown,
    }
}

impl World {
    /// An idle client asks the next thing.
    pub(super) fn client_turn(&mut self, index: usize) {
        let enough = self.served_reads.min(self.served_writes) >= SERVED_ENOUGH;
        if self.healed_us.is_some() && enough {
            return;
        }
        if !self.clients[index].is_idle() {
            return;
        }
        let what = if self.prepared {
            self.next_what(index)
        } else if index == 0 {
            What::Prepare
        } else {
            self.after(20 * MS, Happening::ClientTurn { client: index });
            return;
        };
        let id = call(&what).map(|call| {
            let moment = self.moment();
            self.history.call(index as u64, moment, call)
        });
        let healed = self.healed_us.is_some();
        let members = self.hosts.len() as u64;
        let client = &mut self.clients[index];
        if client.random.chance(15) || client.favourite >= members as usize {
            client.favourite = client.random.between(0, members - 1) as usize;
        }
        client.operation += 1;
        client.pending = Some(Pending {
            id,
            what,
            attempts_left: client.attempts_max + if healed { 40 } else { 0 },
            since_heal: healed,
        });
        self.attempt(index);
    }

    fn next_what(&mut self, index: usize) -> What {
        let records = self.records as u64 - 1;
        let client = &mut self.clients[index];
        let random = &mut client.random;
        let first = random.between(0, records) as usize;
        let mut touched = vec![first];
        if random.chance(15) {
            let second = random.between(0, records) as usize;
            touched.extend((second != first).then_some(second));
        }
        if !random.chance(client.write_percent) {
            return What::Read(touched);
        }
        let value = format!("c{index}-{}", client.operation + 1);
        let changes = touched.into_iter().map(|record| {
            let known = client.known.get(&record).copied().unwrap_or(0);
            let stale = random.chance(4);
            let expected = if stale && random.chance(50) {
                0
            } else if stale {
                random.between(0, known)
            } else {
                known
            };
            let delete = random.chance(client.delete_percent);
            (record, expected, (!delete).then(|| value.clone()))
        });
        What::Write(changes.collect())
    }

    fn attempt(&mut self, index: usize) {
        let forget = self.sabotage == Some(Sabotage::ForgetDedupe);
        let client = &mut self.clients[index];
        let Some(pending) = &mut client.pending else {
            return;
        };
        pending.attempts_left = pending.attempts_left.saturating_sub(1);
        client.attempt += 1;
        let host = client.favourite;
        let again = if forget {
            format!("-{}", client.attempt)
        } else {
            String::new()
        };
        let request = Request {
            client: index,
            operation: client.operation,
            request_id: format!("c{index}-{}{again}", client.operation),
            what: pending.what.clone(),
        };
        let (attempt, patience_us) = (client.attempt, client.patience_ms * MS);
        self.after(
            patience_us,
            Happening::ClientPatience {
                client: index,
                attempt,
            },
        );
        for at_us in self
            .network
            .arrivals(self.now_us, CLIENTS, self.hosts[host].id)
        {
            let request = Box::new(request.clone());
            self.at(at_us, Happening::Request { host, request });
        }
    }

    /// A client has waited for long: it turns to anybody.
    pub(super) fn client_patience(&mut self, index: usize, attempt: u64) {
        let members = self.hosts.len() as u64;
        let client = &mut self.clients[index];
        if client.attempt == attempt && !client.is_idle() {
            client.favourite = client.random.between(0, members - 1) as usize;
            self.client_asks_again(index, attempt);
        }
    }

    /// A client asks again, unless it has done so meanwhile.
    pub(super) fn client_asks_again(&mut self, index: usize, attempt: u64) {
        let client = &self.clients[index];
        let Some(pending) = client
            .pending
            .as_ref()
            .filter(|_| client.attempt == attempt)
        else {
            return;
        };
        if pending.attempts_left == 0 && pending.id.is_some() {
            self.finish(index, &Told::Again { leader: None });
        } else {
            self.attempt(index);
        }
    }

    /// A client hears from a member.
    pub(super) fn answered(&mut self, index: usize, operation: u64, host: usize, told: &Told) {
        let members = self.hosts.len() as u64;
        let client = &mut self.clients[index];
        if client.is_idle() || client.operation != operation {
            return;
        }
        if let Told::Again { leader } = told {
            client.sent_away(host, *leader, members);
            // Asked again a little later, and not beside an attempt that is under way.
            let (attempt, wait_us) = (client.attempt, client.random.between(1, 40) * MS);
            self.after(
                wait_us,
                Happening::ClientAsksAgain {
                    client: index,
                    attempt,
                },
            );
            return;
        }
        self.finish(index, told);
    }

    fn finish(&mut self, index: usize, told: &Told) {
        let moment = self.moment();
        let client = &mut self.clients[index];
        let Some(pending) = client.pending.take() else {
            return;
        };
        match (&pending.what, told) {
            (What::Prepare, Told::Again { .. }) => {}
            (What::Prepare, _) => self.prepared = true,
            (What::Read(records), Told::Read(found, _)) => {
                let revisions = found.iter().map(|found| found.as_ref().map_or(0, |f| f.0));
                client.known.extend(records.iter().copied().zip(revisions));
            }
            (What::Write(changes), Told::Written(revision)) => {
                let revisions = changes.iter();
                let revisions = revisions.map(|(record, _, value)| {
                    (*record, if value.is_some() { *revision } else { 0 })
                });
                client.known.extend(revisions);
            }
            (_, Told::Conflict(record, found)) => drop(client.known.insert(*record, *found)),
            _ => {}
        }
        let wait_us = client.random.between(1, client.pause_ms_max) * MS;
        let request_id = format!("c{index}-{}", client.operation);
        if let Some(id) = pending.id {
            self.history.answer(id, moment, answer(told));
            self.note(|| format!("client {index}: {:?} -> {told:?}", pending.what));
        }
        match told {
            Told::Read(..) if pending.since_heal => self.served_reads += 1,
            Told::Written(_) if pending.since_heal => self.served_writes += 1,
            _ => {}
        }
        if let (What::Write(_), Told::Conflict(..) | Told::Refused) = (&pending.what, told) {
            let refused = self.judge.refused(&request_id);
            self.check(refused);
        }
        if let (Some(id), Told::Written(index) | Told::Read(_, index)) = (pending.id, told) {
            self.judge.answered(&self.history, id, *index, &request_id);
        }
        self.after(wait_us, Happening::ClientTurn { client: index });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Plan;

    /// Who only guesses may miss the leader among many machines that are gone.
    #[test]
    fn a_client_asks_the_leader_that_it_is_told_of() {
        for seed in 0..100 {
            let mut world = World::new(&Plan::of(seed));
            let leader = world.hosts.len() - 1;
            world.client_turn(0);
            let client = &world.clients[0];
            let (operation, attempt) = (client.operation, client.attempt);
            let told = Told::Again {
                leader: Some(leader),
            };
            world.answered(0, operation, 0, &told);
            // Another member, which knows no leader, speaks late.
            world.answered(0, operation, 0, &Told::Again { leader: None });
            while world.clients[0].attempt == attempt {
                world.go_on();
            }
            let client = &world.clients[0];
            assert_eq!(client.favourite, leader, "seed {seed}");
        }
    }
}
