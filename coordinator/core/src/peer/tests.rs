//! Peers in memory: elections, replication, replays of one seed.

use std::collections::BTreeSet;

use super::{snapshots::SNAPSHOT_ANSWER_TICKS, *};

/// One member with its disk. What is not on disk is lost in a crash.
struct Member {
    peer: Peer,
    disk: Stored,
    /// Handed out and not on disk, oldest first.
    writing: VecDeque<Ready>,
    /// The applied "state": the data of all entries.
    state: Vec<Vec<u8>>,
    reads: Vec<ReadReady>,
}

/// A group in one thread. Messages of members that are cut off are lost.
struct World {
    members: BTreeMap<u64, Member>,
    network: VecDeque<wire::RaftMessage>,
    cut: BTreeSet<u64>,
    lose_snapshots: bool,
    /// Every how many rounds disks finish writing.
    disk_every: u64,
    rounds: u64,
    trace: String,
    seed: u64,
}

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn start(id: u64, seed: u64, disk: &Stored) -> Peer {
    let config = PeerConfig {
        id,
        seed: seed.wrapping_mul(31).wrapping_add(id),
    };
    Peer::new(&config, disk.clone(), &logger()).unwrap()
}

fn state_of(snapshot: &wire::RaftSnapshot) -> Vec<Vec<u8>> {
    snapshot.data.chunks(1).map(<[u8]>::to_vec).collect()
}

impl World {
    fn new(size: u64, seed: u64) -> Self {
        let member = |id| {
            let disk = Stored::bootstrap((1..=size).collect(), 1, Vec::new());
            let member = Member {
                peer: start(id, seed, &disk),
                disk,
                writing: VecDeque::new(),
                state: Vec::new(),
                reads: Vec::new(),
            };
            (id, member)
        };
        Self {
            members: (1..=size).map(member).collect(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            lose_snapshots: false,
            disk_every: 1,
            rounds: 0,
            trace: String::new(),
            seed,
        }
    }

    fn round(&mut self) {
        self.rounds += 1;
        for member in self.members.values_mut() {
            member.peer.tick();
        }
        for _ in 0..20 {
            self.settle();
        }
    }

    /// Handles everything that is ready once, then delivers what was sent.
    fn settle(&mut self) {
        for (id, member) in &mut self.members {
            while let Some(mut ready) = member.peer.ready().unwrap() {
                self.network.extend(ready.send_now.drain(..));
                if let Some(snapshot) = &ready.installed {
                    member.state = state_of(snapshot);
                }
                member.reads.append(&mut ready.reads);
                for entry in ready.committed.drain(..) {
                    let index = entry.index;
                    if let Content::Command(data) = entry.content {
                        member.state.push(data);
                    }
                    member.peer.applied(index);
                }
                if member.peer.wants_snapshot() {
                    member.peer.offer_snapshot(member.state.concat());
                }
                member.writing.push_back(ready);
            }
            if self.rounds.is_multiple_of(self.disk_every) {
                let written: Vec<_> = member.writing.drain(..).collect();
                for ready in &written {
                    member.disk.apply(&ready.batch);
                }
                if let Some(last) = written.last() {
                    member.peer.persisted(last.number);
                }
                let messages = written.into_iter().flat_map(|r| r.send_after_persist);
                self.network.extend(messages);
            }
            let line = format!(
                "{id} {:?} {} {}\n",
                member.peer.role(),
                member.peer.term(),
                member.peer.commit_index()
            );
            self.trace.push_str(&line);
        }
        for message in std::mem::take(&mut self.network) {
            let cut = self.cut.contains(&message.from) || self.cut.contains(&message.to);
            if cut || (self.lose_snapshots && message.snapshot.is_some()) {
                continue;
            }
            if let Some(to) = self.members.get_mut(&message.to) {
                to.peer.step(message).unwrap();
            }
        }
    }

    fn crash(&mut self, id: u64) {
        let seed = self.seed + self.rounds;
        let member = self.members.get_mut(&id).unwrap();
        member.peer = start(id, seed, &member.disk);
        member.writing.clear();
        member.state = member
            .disk
            .snapshot
            .as_ref()
            .map_or_else(Vec::new, state_of);
    }

    /// The leader that the connected members agree on, within a bounded number of rounds.
    fn leader(&mut self) -> u64 {
        for _ in 0..200 {
            self.round();
            let connected = self.members.iter().filter(|(id, _)| !self.cut.contains(id));
            let leaders: BTreeSet<_> = connected.map(|(_, m)| m.peer.leader_id()).collect();
            if leaders.len() == 1
                && let Some(Some(leader)) = leaders.first()
                && !self.cut.contains(leader)
                && self.members[leader].peer.leads()
            {
                return *leader;
            }
        }
        panic!("no leader after 200 rounds");
    }

    fn propose(&mut self, data: u8) {
        let leader = self.leader();
        let member = self.members.get_mut(&leader).unwrap();
        member.peer.propose(vec![data]).unwrap();
        for _ in 0..10 {
            self.round();
        }
    }

    fn states(&self) -> Vec<Vec<u8>> {
        let members = self.members.values();
        members.map(|member| member.state.concat()).collect()
    }
}

#[test]
fn groups_elect_and_replicate() {
    for size in [1, 3, 5] {
        let mut world = World::new(size, 7);
        world.propose(1);
        world.propose(2);
        assert!(world.states().iter().all(|s| *s == [1, 2]), "{size}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut world = World::new(3, seed);
        let leader = world.leader();
        world.cut.insert(leader);
        world.propose(1);
        world.cut.clear();
        world.crash(leader);
        world.propose(2);
        world.trace
    };
    assert_eq!(history(1), history(1));
    let different = (2..20).filter(|seed| history(*seed) != history(1)).count();
    assert!(different > 0, "the seed has no effect");
}

#[test]
fn another_leader_takes_over_and_the_old_one_steps_down() {
    let mut world = World::new(3, 3);
    world.propose(1);
    let old = world.leader();
    world.cut.insert(old);
    let new = world.leader();
    assert_ne!(old, new);
    for _ in 0..2 * ELECTION_TICKS {
        world.round();
    }
    let old_peer = &mut world.members.get_mut(&old).unwrap().peer;
    assert!(!old_peer.is_leader(), "it has not heard a majority");
    assert_eq!(old_peer.propose(vec![9]), Err(ProposeError::NotLeader));
    world.propose(2);
    world.cut.clear();
    world.propose(3);
    assert!(world.states().iter().all(|s| *s == [1, 2, 3]));
}

#[test]
fn what_is_committed_survives_a_crash_of_all() {
    for disk_every in [1, 3] {
        let mut world = World::new(3, 11);
        world.disk_every = disk_every;
        world.propose(1);
        world.propose(2);
        for id in 1..=3 {
            world.crash(id);
        }
        world.propose(3);
        assert!(
            world.states().iter().all(|s| *s == [1, 2, 3]),
            "disks every {disk_every} rounds: {:?}",
            world.states()
        );
    }
}

#[test]
fn nothing_is_committed_that_is_not_on_two_of_three_disks() {
    let mut world = World::new(3, 5);
    let leader = world.leader();
    world.disk_every = u64::MAX;
    let member = world.members.get_mut(&leader).unwrap();
    let before = member.peer.commit_index();
    member.peer.propose(vec![1]).unwrap();
    for _ in 0..5 {
        world.round();
    }
    let member = &world.members[&leader];
    assert_eq!(member.peer.commit_index(), before);
    assert!(member.state.is_empty());
}

#[test]
fn a_member_far_behind_receives_a_snapshot() {
    let mut world = World::new(3, 9);
    let leader = world.leader();
    let behind = if leader == 1 { 2 } else { 1 };
    world.cut.insert(behind);
    for data in 1..=20 {
        world.propose(data);
    }
    for member in world.members.values_mut() {
        let state = member.state.concat();
        let batch = member
            .peer
            .compact(state, member.peer.commit_index(), u64::MAX);
        member.disk.apply(&batch);
    }
    world.cut.clear();
    world.propose(21);
    let expected: Vec<u8> = (1..=21).collect();
    assert!(world.states().iter().all(|s| *s == expected));
    let disk = &world.members[&behind].disk;
    assert!(disk.snapshot.is_some() && disk.start.index >= 20);
    for id in 1..=3 {
        world.crash(id);
    }
    world.propose(22);
    let expected: Vec<u8> = (1..=22).collect();
    assert!(world.states().iter().all(|s| *s == expected));
}

#[test]
fn a_lost_snapshot_is_sent_again() {
    let mut world = World::new(3, 13);
    let leader = world.leader();
    let behind = if leader == 1 { 2 } else { 1 };
    world.cut.insert(behind);
    for data in 1..=5 {
        world.propose(data);
    }
    let member = world.members.get_mut(&leader).unwrap();
    let state = member.state.concat();
    let batch = member
        .peer
        .compact(state, member.peer.commit_index(), u64::MAX);
    member.disk.apply(&batch);
    world.cut.clear();
    world.lose_snapshots = true;
    for _ in 0..SNAPSHOT_ANSWER_TICKS / 2 {
        world.round();
    }
    assert!(world.members[&behind].state.is_empty());
    world.lose_snapshots = false;
    for _ in 0..2 * SNAPSHOT_ANSWER_TICKS {
        world.round();
    }
    assert!(world.states().iter().all(|s| *s == [1, 2, 3, 4, 5]));
}

#[test]
fn reads_wait_for_a_majority() {
    let mut world = World::new(3, 17);
    world.propose(1);
    let leader = world.leader();
    let commit = world.members[&leader].peer.commit_index();
    let member = world.members.get_mut(&leader).unwrap();
    member.peer.read_index(vec![41]);
    world.round();
    let reads = std::mem::take(&mut world.members.get_mut(&leader).unwrap().reads);
    assert_eq!(
        reads,
        [ReadReady {
            context: vec![41],
            index: commit
        }]
    );
    world.cut.insert(leader);
    let member = world.members.get_mut(&leader).unwrap();
    member.peer.read_index(vec![42]);
    for _ in 0..3 {
        world.round();
    }
    assert!(world.members[&leader].reads.is_empty());
}

#[test]
fn another_member_reads_by_asking_the_leader() {
    let mut world = World::new(3, 17);
    world.propose(1);
    let leader = world.leader();
    let commit = world.members[&leader].peer.commit_index();
    let other = if leader == 1 { 2 } else { 1 };
    let read = |world: &mut World, context| {
        let member = world.members.get_mut(&other).unwrap();
        member.peer.read_index(vec![context]);
        world.round();
        std::mem::take(&mut world.members.get_mut(&other).unwrap().reads)
    };
    let expected = ReadReady {
        context: vec![7],
        index: commit,
    };
    assert_eq!(read(&mut world, 7), [expected]);
    world.cut.insert(leader);
    assert_eq!(read(&mut world, 8), []);
}

/// Proposes the change where the leader is, and waits until it is applied everywhere.
fn change(world: &mut World, changes: &[MemberChange]) {
    let leader = world.leader();
    let peer = &mut world.members.get_mut(&leader).unwrap().peer;
    peer.propose_membership(changes).unwrap();
    for _ in 0..10 {
        world.round();
    }
}

fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    Membership {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        voters_before: Vec::new(),
    }
}

#[test]
fn members_come_and_go() {
    let mut world = World::new(3, 21);
    world.propose(1);
    let leader = world.leader();
    let leaves = if leader == 1 { 2 } else { 1 };
    let disk = Stored::default();
    let newcomer = Member {
        peer: start(4, 21, &disk),
        disk,
        writing: VecDeque::new(),
        state: Vec::new(),
        reads: Vec::new(),
    };
    change(&mut world, &[MemberChange::AddLearner(4)]);
    world.members.insert(4, newcomer);
    for _ in 0..10 {
        world.round();
    }
    let peer = &world.members[&4].peer;
    assert_eq!(peer.membership(), membership(&[1, 2, 3], &[4]));
    assert_eq!(world.members[&4].state.concat(), [1], "by a snapshot");
    assert!(world.members[&4].disk.snapshot.is_some());
    // Both at once, by a joint group that is left by a change of its own.
    let both = [MemberChange::AddVoter(4), MemberChange::Remove(leaves)];
    change(&mut world, &both);
    let joint = world.members[&leader].peer.membership();
    assert_eq!(joint.voters_before, [1, 2, 3]);
    assert!(joint.votes(4) && joint.votes(leaves));
    change(&mut world, &[]);
    let voters: Vec<u64> = (1..=4).filter(|id| *id != leaves).collect();
    world.members.remove(&leaves);
    assert_eq!(world.leader(), leader);
    for id in &voters {
        let found = world.members[id].peer.membership();
        assert_eq!(found, membership(&voters, &[]), "{id}");
    }
    // What was changed after the snapshot on disk is found again.
    for id in &voters {
        world.crash(*id);
    }
    world.propose(2);
    for id in &voters {
        assert_eq!(world.members[id].peer.membership().voters, voters, "{id}");
        assert_eq!(world.members[id].state.concat(), [1, 2], "{id}");
    }
}

#[test]
fn a_second_change_of_membership_waits() {
    let mut world = World::new(3, 23);
    let leader = world.leader();
    let peer = &mut world.members.get_mut(&leader).unwrap().peer;
    peer.propose_membership(&[MemberChange::AddLearner(4)])
        .unwrap();
    assert_eq!(
        peer.propose_membership(&[MemberChange::AddLearner(5)]),
        Err(ProposeError::Busy)
    );
}

#[test]
fn leadership_is_handed_over() {
    let mut world = World::new(3, 19);
    let old = world.leader();
    let to = world
        .members
        .get_mut(&old)
        .unwrap()
        .peer
        .transfer_leadership(None);
    for _ in 0..3 {
        world.round();
    }
    assert_eq!(Some(world.leader()), to);
    assert_ne!(to, Some(old));
}

#[test]
fn nonsense_from_outside_is_refused() {
    let mut world = World::new(3, 1);
    let good = wire::RaftMessage {
        message_type: 1,
        to: 1,
        from: 2,
        term: 5,
        ..wire::RaftMessage::default()
    };
    let entry = |index, term| wire::RaftEntry {
        index,
        term,
        ..wire::RaftEntry::default()
    };
    type Spoil = Box<dyn Fn(&mut wire::RaftMessage)>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("no type", Box::new(|m| m.message_type = 0)),
        ("unknown type", Box::new(|m| m.message_type = 99)),
        ("nobody", Box::new(|m| m.from = 0)),
        ("itself", Box::new(|m| m.from = 1)),
        ("misrouted", Box::new(|m| m.to = 3)),
        ("snapshot without one", Box::new(|m| m.message_type = 5)),
        ("gap", Box::new(move |m| m.entries = vec![entry(2, 1)])),
        (
            "late term",
            Box::new(move |m| m.entries = vec![entry(1, 6)]),
        ),
        (
            "falling term",
            Box::new(move |m| m.entries = vec![entry(1, 3), entry(2, 2)]),
        ),
        (
            "entry type",
            Box::new(move |m| {
                m.entries = vec![wire::RaftEntry {
                    entry_type: 1,
                    ..entry(1, 1)
                }];
            }),
        ),
    ];
    let peer = &mut world.members.get_mut(&1).unwrap().peer;
    for (name, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(peer.step(bad).is_err(), "{name}");
        assert_eq!(peer.term(), 1, "{name}");
    }
    assert!(peer.step(good).is_ok());
}

#[test]
fn a_heartbeat_beyond_the_log_is_survived() {
    let mut world = World::new(3, 1);
    let heartbeat = wire::RaftMessage {
        message_type: 6,
        to: 1,
        from: 2,
        term: 5,
        commit: 1_000,
        ..wire::RaftMessage::default()
    };
    let peer = &mut world.members.get_mut(&1).unwrap().peer;
    assert!(peer.step(heartbeat).is_ok());
    assert_eq!((peer.term(), peer.commit_index()), (5, 1));
}

#[test]
fn proposals_are_bounded() {
    let mut world = World::new(1, 1);
    let leader = world.leader();
    let peer = &mut world.members.get_mut(&leader).unwrap().peer;
    let large = vec![1; PROPOSAL_BYTES_MAX];
    assert_eq!(
        peer.propose(vec![1; PROPOSAL_BYTES_MAX + 1]),
        Err(ProposeError::TooLarge)
    );
    let taken = (0..2_000).take_while(|_| peer.propose(large.clone()).is_ok());
    let expected = UNCOMMITTED_BYTES_MAX / PROPOSAL_BYTES_MAX as u64;
    assert_eq!(taken.count() as u64, expected);
    assert_eq!(peer.propose(vec![1; 10]), Err(ProposeError::Busy));
}

#[test]
fn a_stored_log_that_does_not_fit_together_is_refused() {
    let entry = |index| wire::RaftEntry {
        index,
        term: 1,
        ..wire::RaftEntry::default()
    };
    let gap = Stored {
        entries: vec![entry(1), entry(3)],
        ..Stored::default()
    };
    let no_snapshot = Stored {
        start: LogStart { index: 5, term: 1 },
        ..Stored::default()
    };
    let short = Stored {
        hard_state: wire::RaftHardState {
            term: 1,
            vote: 0,
            commit: 4,
        },
        entries: vec![entry(1)],
        ..Stored::default()
    };
    let config = PeerConfig { id: 1, seed: 1 };
    for stored in [gap, no_snapshot, short] {
        assert!(Peer::new(&config, stored, &logger()).is_err());
    }
}
