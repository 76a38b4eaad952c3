//! The world: everything there is, the queue of what happens next, and the one loop.

use std::collections::{BTreeMap, VecDeque};

use vt_coordinator_core::{codec, member::Input, peer::Stored, state::State};
use vt_proto::wire::{MemberMessage, member_message::Body};

use super::{
    FAULTS_END_MS,
    client::{Client, Request, Told},
    faults::{Fault, Focus, Kind, Whom, schedule},
    host::{CLUSTER, Host},
    judge::Judge,
    network::{MS, Network, Weather},
    operator::{self, Goal, NOBODY},
    sabotage::Sabotage,
    watcher::Watcher,
};
use crate::{
    check::{Violation, linearizable::History},
    sim::random::Random,
};

/// Lines of trace that are kept: the end of a story tells most.
const TRACE_LINES_MAX: usize = 2_000;
/// The index of the state that all first members begin with.
const FIRST_INDEX: u64 = 1;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub sabotage: Option<Sabotage>,
    pub focus: Focus,
    /// Only these faults of the seed's schedule happen; all if none are named.
    pub only_faults: Option<Vec<usize>>,
    pub trace: bool,
}

impl Plan {
    /// The story of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            sabotage: None,
            focus: Focus::All,
            only_faults: None,
            trace: false,
        }
    }
}

/// How a story ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
    /// How many faults the seed's schedule has.
    pub faults: usize,
    pub operations: usize,
    /// Terms that had a leader.
    pub terms: u64,
    pub crashes: u64,
    pub healed_in_ms: Option<u64>,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Tick {
        host: usize,
        life: u64,
    },
    Turn {
        host: usize,
        life: u64,
    },
    Flushed {
        host: usize,
        life: u64,
    },
    Start {
        host: usize,
    },
    Deliver {
        message: Box<MemberMessage>,
    },
    Request {
        host: usize,
        request: Box<Request>,
    },
    Answer {
        client: usize,
        operation: u64,
        host: usize,
        told: Box<Told>,
    },
    ClientTurn {
        client: usize,
    },
    ClientPatience {
        client: usize,
        attempt: u64,
    },
    ClientAsksAgain {
        client: usize,
        attempt: u64,
    },
    FaultBegins {
        index: usize,
    },
    FaultEnds {
        index: usize,
    },
    /// The group must do without the member whose disk hangs.
    WithoutHung {
        host: usize,
        told: Option<usize>,
    },
    Operate,
    Watch {
        watcher: usize,
    },
    Heal,
    Look,
}

/// Everything there is.
pub(super) struct World {
    pub(super) now_us: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    moments: u64,
    pub(super) random: Random,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    /// What the operator wants, reached or not.
    pub(super) goals: Vec<Goal>,
    pub(super) open_goals: usize,
    pub(super) clients: Vec<Client>,
    pub(super) watchers: Vec<Watcher>,
    /// How many records the clients share.
    pub(super) records: usize,
    pub(super) prepared: bool,
    pub(super) history: History,
    pub(super) judge: Judge,
    pub(super) focus: Focus,
    faults: Vec<Fault>,
    /// What a fault that goes on has hit.
    hit: BTreeMap<usize, Vec<usize>>,
    only_faults: Option<Vec<usize>>,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) healed_us: Option<u64>,
    pub(super) done_us: Option<u64>,
    pub(super) served_reads: u64,
    pub(super) served_writes: u64,
    pub(super) crashes: u64,
    pub(super) logger: slog::Logger,
    violation: Option<Violation>,
    tracing: bool,
    trace: VecDeque<String>,
}

/// Runs one story to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    world.begin();
    while world.violation.is_none() && world.done_us.is_none() {
        world.go_on();
    }
    world.outcome()
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let count = *random.pick(&[3u64, 3, 5]);
        let mut machines = random.fork("hosts");
        let mut people = random.fork("clients");
        let clients = random.between(2, 6) as usize;
        let faults = schedule(&mut random.fork("faults"), plan.focus);
        let records = random.between(2, 5) as usize;
        let coordinators = (1..=count).map(|id| operator::record(id, operator::directory(id, 0)));
        let first = State::first(CLUSTER.to_owned(), FIRST_INDEX, coordinators.collect());
        let host = |id| {
            let mut host = Host::new(id, &mut machines);
            let state = codec::encode_state(&first);
            host.disk.stored = Stored::bootstrap((1..=count).collect(), FIRST_INDEX, state);
            host
        };
        let hosts = (1..=count).map(host).collect();
        Self {
            now_us: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            moments: 0,
            network: Network::new(random.fork("network")),
            hosts,
            goals: Vec::new(),
            open_goals: 0,
            clients: (0..clients)
                .map(|c| Client::new(people.fork("one"), c))
                .collect(),
            watchers: (0..2)
                .map(|_| Watcher::new(people.fork("watcher")))
                .collect(),
            records,
            prepared: false,
            history: History::default(),
            judge: Judge::new(first),
            random: random.fork("world"),
            focus: plan.focus,
            faults,
            hit: BTreeMap::new(),
            only_faults: plan.only_faults.clone(),
            sabotage: plan.sabotage,
            healed_us: None,
            done_us: None,
            served_reads: 0,
            served_writes: 0,
            crashes: 0,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
            violation: None,
            tracing: plan.trace,
            trace: VecDeque::new(),
        }
    }

    fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            let at_us = self.random.between(0, 100 * MS);
            self.at(at_us, Happening::Start { host });
        }
        for client in 0..self.clients.len() {
            self.at(client as u64 * MS, Happening::ClientTurn { client });
        }
        for index in 0..self.faults.len() {
            let only = self.only_faults.as_ref();
            if only.is_none_or(|only| only.contains(&index)) {
                self.at(self.faults[index].at_us, Happening::FaultBegins { index });
            }
        }
        for watcher in 0..self.watchers.len() {
            self.at(MS, Happening::Watch { watcher });
        }
        self.at(0, Happening::Operate);
        self.at(FAULTS_END_MS * MS, Happening::Heal);
        let (members, clients, records) = (self.hosts.len(), self.clients.len(), self.records);
        let weather = self.network.weather;
        self.note(|| {
            format!("{members} members, {clients} clients, {records} records, {weather:?}")
        });
    }

    /// Lets something happen later.
    pub(super) fn at(&mut self, at_us: u64, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((at_us.max(self.now_us), self.sequence), happening);
    }

    /// Lets something happen after a while.
    pub(super) fn after(&mut self, wait_us: u64, happening: Happening) {
        self.at(self.now_us + wait_us, happening);
    }

    /// A point of true time of its own: calls and answers are never at one time.
    pub(super) fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// A line of the trace; made only when somebody reads it.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() >= TRACE_LINES_MAX {
                self.trace.pop_front();
            }
            let now = self.now_us;
            self.trace
                .push_back(format!("{:>6}.{:03} ms  {}", now / MS, now % MS, line()));
        }
    }

    /// Keeps the first violation.
    pub(super) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.note(|| format!("VIOLATION {violation}"));
            self.violation = Some(format!("at {} ms: {violation}", self.now_us / MS));
        }
    }

    /// Lets the next thing happen.
    pub(super) fn go_on(&mut self) {
        let Some(((at_us, _), happening)) = self.queue.pop_first() else {
            self.violation = Some("nothing happens any more".to_owned());
            return;
        };
        self.now_us = at_us;
        self.happen(happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { host, life } => self.tick(host, life),
            Happening::Turn { host, life } => self.turn(host, life),
            Happening::Flushed { host, life } => self.flushed(host, life),
            Happening::Start { host } => self.start(host),
            Happening::Deliver { message } => self.deliver(message),
            Happening::Request { host, request } => self.request(host, *request),
            Happening::Answer {
                client,
                operation,
                host,
                told,
            } => {
                self.answered(client, operation, host, &told);
            }
            Happening::ClientTurn { client } => self.client_turn(client),
            Happening::ClientPatience { client, attempt } => self.client_patience(client, attempt),
            Happening::ClientAsksAgain { client, attempt } => {
                self.client_asks_again(client, attempt);
            }
            Happening::FaultBegins { index } => self.fault_begins(index),
            Happening::FaultEnds { index } => self.fault_ends(index),
            Happening::WithoutHung { host, told } => self.without_hung(host, told),
            Happening::Operate => self.operate(),
            Happening::Watch { watcher } => self.watch(watcher),
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    /// A member says something to another.
    pub(super) fn send(&mut self, message: Box<MemberMessage>) {
        let spoke = self.judge.spoke(&message);
        self.check(spoke);
        for at_us in self.network.arrivals(self.now_us, message.from, message.to) {
            let message = message.clone();
            self.at(at_us, Happening::Deliver { message });
        }
    }

    fn deliver(&mut self, mut message: Box<MemberMessage>) {
        let (from, to) = (message.from, message.to);
        let Some(host) = self.hosts.iter().position(|host| host.id == to) else {
            return;
        };
        if self.hosts[host].process.is_none() && self.random.chance(30) {
            // Its machine says that nobody listens there.
            let sender = self.hosts.iter().position(|host| host.id == from);
            if let Some(sender) = sender {
                self.input(sender, Input::Unreachable(to));
            }
        }
        if self.sabotage == Some(Sabotage::ApplyInHashOrder) && host == 0 {
            disorder(&mut message);
        }
        self.input(host, Input::Message(message));
    }

    fn whom(&self, whom: Whom) -> usize {
        match whom {
            Whom::Machine(number) => number % self.hosts.len(),
            Whom::Leader => self.hosts.iter().position(Host::leads).unwrap_or(0),
        }
    }

    fn fault_begins(&mut self, index: usize) {
        let Fault { until_us, kind, .. } = self.faults[index].clone();
        self.note(|| format!("fault {index} until {} ms: {kind:?}", until_us / MS));
        let mut hit = Vec::new();
        match kind {
            Kind::Crash(whom) => {
                hit.push(self.whom(whom));
                self.crash(hit[0]);
            }
            Kind::CrashAtEffect(whom, effects) => {
                hit.push(self.whom(whom));
                self.hosts[hit[0]].crash_in_effects = Some(effects);
            }
            Kind::CrashAll => {
                hit.extend(0..self.hosts.len());
                hit.iter().for_each(|host| self.crash(*host));
            }
            Kind::Pause(whom) => {
                let host = self.whom(whom);
                self.hosts[host].paused_until_us = until_us;
            }
            Kind::DiskStall(whom) => {
                let host = self.whom(whom);
                self.stall_disk(host, until_us);
            }
            Kind::DiskFull(whom) => {
                hit.push(self.whom(whom));
                self.disk_full(hit[0], true);
            }
            Kind::CutOneWay(from, to) => {
                hit.extend([self.whom(from), self.whom(to)]);
                self.network.cut(hit[0] as u64 + 1, hit[1] as u64 + 1);
            }
            Kind::Isolate(whom) => {
                hit.push(self.whom(whom));
                self.isolate(hit[0], true);
            }
            Kind::Halves => self.halves(true),
            Kind::Storm => {
                self.network.weather = Weather {
                    delay_us_max: 60 * MS,
                    slow_percent: 10,
                    late_requests_percent: 30,
                    lost_percent: 25,
                    doubled_percent: 25,
                    reordered_percent: 50,
                };
            }
            Kind::Transfer(whom) => {
                let host = self.whom(whom);
                let (token, to) = (NOBODY, None);
                self.input(host, Input::Transfer { token, to });
            }
            Kind::Join { at_once } => drop(self.add_machine(at_once)),
            Kind::Leave(whom) => {
                let host = self.whom(whom);
                self.remove_machine(host);
            }
            Kind::Replace(whom) => {
                let host = self.whom(whom);
                if self.add_machine(true).is_some() {
                    self.remove_machine(host);
                }
            }
            Kind::Wipe(whom) => {
                let host = self.whom(whom);
                self.wipe(host);
            }
        }
        self.hit.insert(index, hit);
        self.at(until_us, Happening::FaultEnds { index });
    }

    fn fault_ends(&mut self, index: usize) {
        let hit = self.hit.remove(&index).unwrap_or_default();
        if self.healed_us.is_some() {
            return;
        }
        match self.faults[index].kind {
            Kind::Crash(_) | Kind::CrashAtEffect(..) | Kind::CrashAll => {
                for host in hit {
                    self.hosts[host].crash_in_effects = None;
                    self.start(host);
                }
            }
            Kind::DiskFull(_) => self.disk_full(hit[0], false),
            Kind::CutOneWay(..) => self.network.mend(hit[0] as u64 + 1, hit[1] as u64 + 1),
            Kind::Isolate(_) => self.isolate(hit[0], false),
            Kind::Halves => self.halves(false),
            Kind::Storm => self.network.weather = Weather::FAIR,
            Kind::Pause(_)
            | Kind::DiskStall(_)
            | Kind::Transfer(_)
            | Kind::Join { .. }
            | Kind::Leave(_)
            | Kind::Replace(_)
            | Kind::Wipe(_) => {}
        }
    }

    fn isolate(&mut self, host: usize, cut: bool) {
        let me = self.hosts[host].id;
        for other in self.hosts.iter().map(|host| host.id).filter(|id| *id != me) {
            for (from, to) in [(me, other), (other, me)] {
                if cut {
                    self.network.cut(from, to);
                } else {
                    self.network.mend(from, to);
                }
            }
        }
    }

    fn halves(&mut self, cut: bool) {
        let ids: Vec<u64> = self.hosts.iter().map(|host| host.id).collect();
        for from in &ids {
            for to in ids.iter().filter(|to| from % 2 != *to % 2) {
                if cut {
                    self.network.cut(*from, *to);
                } else {
                    self.network.mend(*from, *to);
                }
            }
        }
    }

    fn outcome(self) -> Outcome {
        Outcome {
            healed_in_ms: self
                .done_us
                .zip(self.healed_us)
                .map(|(done, healed)| (done - healed) / MS),
            violation: self.violation,
            trace: self.trace.into(),
            faults: self.faults.len(),
            operations: self.history.operations().len(),
            terms: self.judge.terms(),
            crashes: self.crashes,
        }
    }
}

/// Swaps what two neighbouring entries say: as if a member applied what came together in an order of its own.
fn disorder(message: &mut MemberMessage) {
    let Some(Body::Raft(raft)) = &mut message.body else {
        return;
    };
    let [.., one, other] = raft.entries.as_mut_slice() else {
        return;
    };
    if one.entry_type == other.entry_type && !one.data.is_empty() && !other.data.is_empty() {
        std::mem::swap(&mut one.data, &mut other.data);
    }
}
