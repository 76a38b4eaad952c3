//! Whole members in one thread: what they answer, and how a group changes by its records.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Revision,
    topology::{Coordinator, Standing},
};

use super::*;
use crate::{
    command::{Change, RecordValue},
    format,
    peer::Batch,
    refusal::Refusal,
};

mod disks;
mod requests;

struct Host {
    member: Option<Member>,
    disk: Stored,
    writing: Vec<(u64, Batch)>,
    stopped: Option<StopReason>,
}

/// Members with instant disks and a network that loses what goes to or from those that are cut off.
struct World {
    hosts: BTreeMap<u64, Host>,
    network: Vec<wire::MemberMessage>,
    cut: BTreeSet<u64>,
    /// Those whose disks do not answer.
    hung: BTreeSet<u64>,
    now_ms: u64,
    next_token: u64,
    done: BTreeMap<Token, Result<Revision, WriteError>>,
    readable: BTreeMap<Token, (u64, Result<(), ReadError>)>,
    refused: Vec<MessageRefused>,
    limits: Limits,
    bytes_sent: usize,
    /// Members that say that they understand the first format only.
    old: BTreeSet<u64>,
}

const CLUSTER: &str = "test-1";

fn record(id: u64, directory_id: &str) -> Coordinator {
    Coordinator {
        id,
        address: format!("c{id}:15100"),
        directory_id: directory_id.to_owned(),
        standing: Standing::Voter,
        formats: format::NEWEST,
    }
}

fn initial(size: u64, formats: u32) -> Stored {
    let mut state = State::new(CLUSTER.to_owned());
    state.applied = 1;
    state.next_coordinator = size + 1;
    for id in 1..=size {
        let coordinator = Coordinator {
            formats,
            ..record(id, &format!("d{id}"))
        };
        state.put(Revision(1), RecordValue::Coordinator(coordinator));
    }
    Stored::bootstrap((1..=size).collect(), 1, codec::encode_state(&state))
}

impl World {
    fn new(size: u64) -> Self {
        let mut world = Self {
            hosts: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            hung: BTreeSet::new(),
            now_ms: 1_000,
            next_token: 0,
            done: BTreeMap::new(),
            readable: BTreeMap::new(),
            refused: Vec::new(),
            limits: Limits::default(),
            bytes_sent: 0,
            old: BTreeSet::new(),
        };
        for id in 1..=size {
            world.add(id, initial(size, format::NEWEST));
        }
        world
    }

    fn add(&mut self, id: u64, disk: Stored) {
        let host = Host {
            member: None,
            disk,
            writing: Vec::new(),
            stopped: None,
        };
        self.hosts.insert(id, host);
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        let config = MemberConfig {
            cluster_id: CLUSTER.to_owned(),
            id,
            directory_id: format!("d{id}"),
            contacts: BTreeMap::new(),
            seed: id * 1_000 + self.now_ms,
            limits: self.limits,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let host = self.hosts.get_mut(&id).unwrap();
        host.writing.clear();
        host.member = Some(Member::new(config, host.disk.clone(), &logger).unwrap());
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            unix_ms: self.now_ms,
        }
    }

    fn take(&mut self, id: u64, input: Input) {
        let now = self.now();
        if let Some(member) = &mut self.hosts.get_mut(&id).unwrap().member {
            member.take(now, input);
        }
    }

    fn round(&mut self) {
        self.now_ms += crate::TICK_MS;
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        for id in &ids {
            self.take(*id, Input::Tick);
        }
        for _ in 0..20 {
            for id in &ids {
                self.turn(*id);
            }
            for message in std::mem::take(&mut self.network) {
                let lost = self.cut.contains(&message.from) || self.cut.contains(&message.to);
                if !lost && self.hosts.contains_key(&message.to) {
                    self.take(message.to, Input::Message(Box::new(message)));
                }
            }
        }
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.round();
        }
    }

    fn turn(&mut self, id: u64) {
        let now = self.now();
        let host = self.hosts.get_mut(&id).unwrap();
        let Some(member) = &mut host.member else {
            return;
        };
        for output in member.advance(now).unwrap() {
            match output {
                Output::Send(mut message) => {
                    if self.old.contains(&id) {
                        message.formats = format::FIRST;
                    }
                    self.bytes_sent += prost::Message::encoded_len(&*message);
                    self.network.push(*message);
                }
                Output::Write { sequence, batch } => host.writing.push((sequence, batch)),
                Output::Probe { sequence } => host.writing.push((sequence, Batch::default())),
                Output::Done { token, outcome } => drop(self.done.insert(token, outcome)),
                Output::Readable { token, outcome } => {
                    let applied = member.core().state().applied;
                    self.readable.insert(token, (applied, outcome));
                }
                Output::Refused { why, .. } => self.refused.push(why),
                Output::Stopped(why) => host.stopped = Some(why),
                _ => {}
            }
        }
        let written = match self.hung.contains(&id) {
            true => Vec::new(),
            false => std::mem::take(&mut host.writing),
        };
        for (sequence, batch) in written {
            host.disk.apply(&batch);
            member.take(now, Input::Written { sequence });
        }
        if host.stopped.is_some() {
            host.member = None;
        }
    }

    fn leader(&mut self) -> u64 {
        for _ in 0..200 {
            self.round();
            let mut connected = self.hosts.iter().filter(|(id, _)| !self.cut.contains(id));
            let leads = |host: &Host| host.member.as_ref().is_some_and(Member::leads);
            if let Some((id, _)) = connected.find(|(_, host)| leads(host)) {
                return *id;
            }
        }
        panic!("no leader after 200 rounds");
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn propose(&mut self, id: u64, command: &Command) -> Token {
        let token = self.token();
        let command = command.clone();
        let deadline_ms = None;
        self.take(
            id,
            Input::Propose {
                token,
                command,
                deadline_ms,
            },
        );
        token
    }

    /// Puts the record where the leader is and waits for the outcome.
    fn put(&mut self, record: Coordinator) -> Result<Revision, WriteError> {
        let leader = self.leader();
        let member = self.hosts[&leader].member.as_ref().unwrap();
        let key = crate::command::RecordKey::Coordinator(record.id);
        let expected = member.core().state().revision_of(&key);
        let request_id = format!("put-{}-{}", record.id, self.now_ms);
        let change = Change::put(expected, RecordValue::Coordinator(record));
        let command = Command::new(request_id, vec![change], Vec::new());
        let token = self.propose(leader, &command);
        self.rounds(5);
        self.done.remove(&token).expect("an outcome")
    }

    fn membership(&self, id: u64) -> &Membership {
        &self.hosts[&id].member.as_ref().unwrap().membership
    }

    fn read(&mut self, id: u64, of_leader: bool) -> Token {
        let token = self.token();
        self.take(id, Input::Read { token, of_leader });
        token
    }
}

fn nothing(request_id: &str) -> Command {
    Command::new(request_id.to_owned(), Vec::new(), Vec::new())
}

#[test]
fn every_member_reads_the_newest_and_none_without_a_majority() {
    let mut world = World::new(3);
    let leader = world.leader();
    for id in 1..=3 {
        let write = world.propose(leader, &nothing(&format!("w{id}")));
        world.rounds(3);
        let Ok(Revision(index)) = world.done[&write] else {
            panic!("{:?}", world.done[&write]);
        };
        let read = world.read(id, false);
        world.rounds(3);
        let (applied, outcome) = &world.readable[&read];
        assert_eq!(*outcome, Ok(()), "{id}");
        assert!(*applied >= index, "{id}");
    }
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    world.cut.insert(leader);
    let (of_leader, of_any) = (world.read(leader, true), world.read(leader, false));
    world.rounds(3);
    assert!(!world.readable.contains_key(&of_leader));
    world.rounds(120);
    let not_leader =
        |outcome: &Result<(), ReadError>| matches!(outcome, Err(ReadError::NotLeader { .. }));
    assert!(not_leader(&world.readable[&of_leader].1));
    assert_eq!(world.readable[&of_any].1, Err(ReadError::TimedOut));
    // A read that began under the old leader is answered under the new one.
    world.cut.clear();
    world.cut.insert(others[0]);
    let read = world.read(others[0], false);
    world.rounds(3);
    world.cut.clear();
    world.rounds(60);
    assert_eq!(world.readable[&read].1, Ok(()));
}

#[test]
fn a_lost_member_is_replaced_by_its_records_alone() {
    let mut world = World::new(3);
    world.limits = Limits {
        snapshot_every_entries: 5,
        tail_entries: 2,
        ..Limits::default()
    };
    let leader = world.leader();
    let lost = (1..=3).find(|id| *id != leader).unwrap();
    world.cut.insert(lost);
    world.put(record(4, "")).unwrap();
    let mut leaving = record(lost, &format!("d{lost}"));
    leaving.standing = Standing::Leaving;
    world.put(leaving).unwrap();
    world.rounds(40);
    let leader = world.leader();
    assert_eq!(
        world.membership(leader).voters,
        [1, 2, 3],
        "4 has not joined"
    );
    // It is started with an empty disk and its directory becomes known.
    world.add(4, Stored::default());
    world.put(record(4, "d4")).unwrap();
    world.rounds(60);
    let voters: Vec<u64> = (1..=4).filter(|id| *id != lost).collect();
    for id in &voters {
        assert_eq!(world.membership(*id).voters, voters, "{id}");
        let state = world.hosts[id].member.as_ref().unwrap().core().state();
        assert!(!state.coordinators.contains_key(&lost), "{id}");
    }
    // The lost one comes back and is told.
    world.cut.clear();
    world.rounds(60);
    let why = world.hosts[&lost].stopped.clone();
    assert_eq!(why, Some(StopReason::Removed { id: lost }));
    let texts: Vec<&str> = {
        let state = world.hosts[&4].member.as_ref().unwrap().core().state();
        state.events.iter().map(|(_, e)| e.kind.as_str()).collect()
    };
    assert!(texts.contains(&"coordinator.membership"), "{texts:?}");
    assert!(texts.contains(&"coordinator.removed"), "{texts:?}");
}

#[test]
fn a_leader_that_is_to_leave_hands_over_first() {
    let mut world = World::new(3);
    let old = world.leader();
    let mut leaving = record(old, &format!("d{old}"));
    leaving.standing = Standing::Leaving;
    world.put(leaving).unwrap();
    world.rounds(60);
    let why = world.hosts[&old].stopped.clone();
    assert_eq!(why, Some(StopReason::Removed { id: old }));
    let new = world.leader();
    assert_ne!(new, old);
    assert_eq!(world.membership(new).voters.len(), 2);
}

#[test]
fn a_member_of_the_group_before_ends_and_nobody_listens_to_it() {
    let mut world = World::new(3);
    let leader = world.leader();
    let told = (1..=3).find(|id| *id != leader).unwrap();
    let message = |cluster_id: &str, to| wire::MemberMessage {
        cluster_id: cluster_id.to_owned(),
        from: 9,
        to,
        ..wire::MemberMessage::default()
    };
    let newer = vt_proto::cluster::successor(CLUSTER, 1);
    for foreign in ["test-2", "test-2.5"] {
        let message = Box::new(message(foreign, leader));
        world.take(leader, Input::Message(message));
    }
    world.take(told, Input::Message(Box::new(message(&newer, told))));
    world.rounds(1);
    assert_eq!(world.refused.len(), 2, "{:?}", world.refused);
    let ours = CLUSTER.to_owned();
    let successor = newer;
    let why = StopReason::Superseded { ours, successor };
    assert_eq!(world.hosts[&told].stopped, Some(why));
    assert_eq!(world.leader(), leader, "the others have not heard of it");
}

#[test]
fn a_state_that_its_directory_does_not_name_is_refused() {
    let config = MemberConfig {
        cluster_id: "test-0".to_owned(),
        id: 1,
        directory_id: "d1".to_owned(),
        contacts: BTreeMap::new(),
        seed: 1,
        limits: Limits::default(),
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let error = Member::new(config, initial(1, format::NEWEST), &logger).err();
    assert!(matches!(error, Some(MemberError::Halfway { .. })));
}

#[test]
fn another_directory_under_the_same_id_is_not_listened_to() {
    let mut world = World::new(3);
    let leader = world.leader();
    let wiped = (1..=3).find(|id| *id != leader).unwrap();
    let other = (1..=3).find(|id| ![leader, wiped].contains(id)).unwrap();
    world.cut.insert(other);
    world.rounds(2);
    let message = wire::MemberMessage {
        cluster_id: CLUSTER.to_owned(),
        from: wiped,
        to: leader,
        directory_id: "new".to_owned(),
        formats: format::NEWEST,
        body: None,
    };
    world.take(leader, Input::Message(Box::new(message)));
    world.rounds(1);
    assert_eq!(world.refused, [MessageRefused::Directory { from: wiped }]);
}

#[test]
fn a_stopping_leader_hands_over_and_ends() {
    let mut world = World::new(3);
    let old = world.leader();
    world.take(old, Input::Stop);
    world.rounds(10);
    assert_eq!(world.hosts[&old].stopped, Some(StopReason::Told));
    assert_ne!(world.leader(), old);
    let mut alone = World::new(1);
    alone.leader();
    alone.take(1, Input::Stop);
    alone.rounds(1);
    assert_eq!(alone.hosts[&1].stopped, Some(StopReason::Told));
}

#[test]
fn the_log_is_cut_and_everything_is_found_again() {
    let mut world = World::new(3);
    world.limits = Limits {
        snapshot_every_entries: 10,
        tail_entries: 3,
        ..Limits::default()
    };
    for id in 1..=3 {
        world.start(id);
    }
    let leader = world.leader();
    for number in 0..50 {
        world.propose(leader, &nothing(&format!("n{number}")));
        world.round();
    }
    world.rounds(3);
    assert!(world.done.values().all(Result::is_ok));
    let hash = |world: &World, id| {
        let member = world.hosts[&id].member.as_ref().unwrap();
        member.core().state().hash()
    };
    for id in 1..=3 {
        let host = &world.hosts[&id];
        assert!(host.disk.entries.len() < 20, "{}", host.disk.entries.len());
        world.start(id);
        world.rounds(60);
        let state = world.hosts[&id].member.as_ref().unwrap().core().state();
        assert!(crate::apply::remembered(state, "n49").is_some(), "{id}");
    }
    assert_eq!(hash(&world, 1), hash(&world, 2));
    assert_eq!(hash(&world, 2), hash(&world, 3));
}

#[test]
fn refusals_reach_who_asked() {
    let mut world = World::new(1);
    let leader = world.leader();
    let mut bad = nothing("bad");
    bad.request_id = String::new();
    let token = world.propose(leader, &bad);
    world.rounds(2);
    let refused = matches!(
        &world.done[&token],
        Err(WriteError::Refused(Refusal::Invalid { .. }))
    );
    assert!(refused, "{:?}", world.done[&token]);
}

#[test]
fn the_format_grows_when_the_last_member_is_upgraded() {
    let mut world = World::new(0);
    world.old.extend(1..=3);
    for id in 1..=3 {
        world.add(id, initial(3, format::FIRST));
    }
    let leader = world.leader();
    let slow = (1..=3).find(|id| *id != leader).unwrap();
    world.old.retain(|id| *id == slow);
    world.rounds(20);
    let format_of = |world: &World, id| {
        let member = world.hosts[&id].member.as_ref().unwrap();
        member.core().state().format
    };
    assert_eq!(format_of(&world, slow), format::FIRST, "one is old");
    world.old.clear();
    world.rounds(20);
    for id in 1..=3 {
        assert_eq!(format_of(&world, id), format::NEWEST, "member {id}");
    }
}
