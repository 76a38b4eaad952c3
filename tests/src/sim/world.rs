//! The world: everything there is, the queue of what happens next, and the one loop.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use vt_agent_core::Action;
use vt_coordinator_core::{
    command::{Change, Command, RecordValue},
    failover::membership::forming_set,
    state::State,
};
use vt_proto::{
    desired::Desired,
    epoch::{Epoch, Incarnation, Revision},
    ids::{ReplicaSetName, TabletAlias},
    report::Report,
    routing::{RoutingSnapshot, RoutingUpdate},
    topology::{Durability, Endpoint, Tablet, TabletKind},
};

use super::{
    FAULTS_END_MS, LIVENESS_MS,
    coordinators::{Log, MEMBERS, Member},
    disk,
    faults::{Fault, Focus, beside, schedule},
    host::Host,
    mysqld::{Transaction, What},
    network::{Network, Node},
    random::Random,
    sabotage::Sabotage,
};
use crate::check::{
    Violation, acked_writes::AckedWrites, acknowledgements::Acknowledgements, deposed::Deposed,
    epochs::Epochs, one_primary::OnePrimary, same_state::SameState,
};

/// Lines of trace that are kept: the end of a story tells most.
const TRACE_LINES_MAX: usize = 400;
/// The first port of mysqld; the host's index is added.
pub const FIRST_PORT: u16 = 3300;

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
#[derive(Clone, Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
    /// How many faults the seed's schedule has.
    pub faults: usize,
    pub acknowledged: usize,
    pub epochs: u64,
    /// How often a primary's disk was bad and writes were looked for elsewhere.
    pub moved: usize,
    /// How often an acker was taken out of the record because the primary had locked it out.
    pub locked_out: usize,
    pub healed_in_ms: Option<u64>,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    AgentTurn {
        host: usize,
        life: u64,
    },
    AgentStart {
        host: usize,
    },
    ActionDone {
        host: usize,
        life: u64,
        action: Action,
        promised: Epoch,
        incarnation: Incarnation,
    },
    MysqldReady {
        host: usize,
        incarnation: Incarnation,
    },
    IoStep {
        host: usize,
    },
    ApplyStep {
        host: usize,
    },
    Relay {
        host: usize,
        source: usize,
        connection: u64,
        /// Its number among those of the connection.
        order: u64,
        transaction: Transaction,
    },
    Ack {
        source: usize,
        incarnation: Incarnation,
        replica: usize,
        connection: Option<u64>,
        transaction: Transaction,
    },
    Client,
    CoordinatorTurn {
        member: usize,
        life: u64,
    },
    CatchUp {
        member: usize,
    },
    Election,
    Commit {
        term: u64,
    },
    ReportArrives {
        member: usize,
        life: u64,
        host: usize,
        connection: u64,
        report: Box<Report>,
    },
    StreamEnds {
        member: usize,
        life: u64,
        host: usize,
        connection: u64,
    },
    DesiredArrives {
        host: usize,
        life: u64,
        connection: u64,
        desired: Box<Desired>,
    },
    WritesGoOn {
        host: usize,
        since_ms: u64,
    },
    RoutingArrives {
        host: usize,
        update: RoutingUpdate,
    },
    FaultBegins {
        index: usize,
    },
    FaultEnds {
        index: usize,
    },
    Heal,
    Look,
}

/// Everything there is.
pub(super) struct World {
    pub(super) now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub(super) random: Random,
    pub(super) client_random: Random,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    pub(super) routers: Vec<Arc<RoutingSnapshot>>,
    pub(super) members: Vec<Member>,
    /// By member and host: the number of the stream that is open.
    pub(super) streams: BTreeMap<(usize, usize), u64>,
    pub(super) log: Log,
    /// What the whole log leads to.
    pub(super) committed: State,
    pub(super) set: ReplicaSetName,
    pub(super) faults: Vec<Fault>,
    pub(super) only_faults: Option<Vec<usize>>,
    pub(super) focus: Focus,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) next_value: u64,
    pub(super) healed_ms: Option<u64>,
    pub(super) acknowledged_since_heal: bool,
    /// By host: when it acknowledged a client's write last.
    pub(super) acknowledged_ms: BTreeMap<usize, u64>,
    /// How often writes had to go on elsewhere because of a disk.
    pub(super) moved: usize,
    pub(super) one_primary: OnePrimary,
    pub(super) acked_writes: AckedWrites,
    pub(super) acknowledgements: Acknowledgements,
    pub(super) deposed: Deposed,
    pub(super) epochs: Epochs,
    pub(super) same_state: SameState,
    pub(super) violation: Option<Violation>,
    pub(super) done_ms: Option<u64>,
    tracing: bool,
    trace: VecDeque<String>,
}

/// Runs one story to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::bare(plan);
    world.begin();
    while world.violation.is_none() && world.done_ms.is_none() {
        if !world.go_on() {
            world.violation = Some("nothing happens any more".to_owned());
        }
    }
    world.outcome()
}

impl World {
    /// One in which nothing happens yet.
    pub(super) fn bare(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let set: ReplicaSetName = "rs-1".parse().expect("a name");
        let count = *random.pick(&[2usize, 3, 3, 3, 4, 5]);
        let acks = if count >= 4 && random.chance(50) {
            2
        } else {
            1
        };
        let hosts: Vec<Host> = (0..count)
            .map(|index| Host::new(index, tablet(index, &set)))
            .collect();
        let mut faults = schedule(
            &mut random.fork("faults"),
            plan.focus,
            count,
            MEMBERS,
            FAULTS_END_MS,
        );
        faults.extend(beside(plan.seed, plan.focus, count, MEMBERS));
        let mut members_random = random.fork("members");
        let members: Vec<Member> = (0..MEMBERS)
            .map(|_| Member::new(&mut members_random))
            .collect();
        let mut log = Log::default();
        if acks > 1 {
            log.entries.push(policy(&set, acks));
        }
        let committed = members[0].snapshot.clone();
        let mut world = Self {
            now_ms: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            network: Network::new(random.fork("network")),
            client_random: random.fork("clients"),
            random: random.fork("world"),
            routers: vec![Arc::default(); count],
            hosts,
            members,
            streams: BTreeMap::new(),
            log,
            committed,
            set,
            faults,
            only_faults: plan.only_faults.clone(),
            focus: plan.focus,
            sabotage: plan.sabotage,
            next_value: 0,
            healed_ms: None,
            acknowledged_since_heal: false,
            acknowledged_ms: BTreeMap::new(),
            moved: 0,
            one_primary: OnePrimary::default(),
            acked_writes: AckedWrites::default(),
            acknowledgements: Acknowledgements::default(),
            deposed: Deposed::default(),
            epochs: Epochs::default(),
            same_state: SameState::default(),
            violation: None,
            done_ms: None,
            tracing: plan.trace,
            trace: VecDeque::new(),
        };
        // Drawn last, so that older stories stay as they were.
        let disks = disk::schedule(&mut random.fork("disks"), plan.focus, count, FAULTS_END_MS);
        world.faults.extend(disks);
        world
    }

    /// The next thing that happens, if there is one.
    fn go_on(&mut self) -> bool {
        let Some(((at_ms, _), happening)) = self.queue.pop_first() else {
            return false;
        };
        assert!(at_ms >= self.now_ms, "time does not go back");
        self.now_ms = at_ms;
        self.happen(happening);
        true
    }

    /// Everything that happens until then.
    pub(super) fn run_until(&mut self, until_ms: u64) {
        let is_due = |world: &Self| {
            let next = world.queue.first_key_value();
            next.is_some_and(|((at_ms, _), _)| *at_ms <= until_ms)
        };
        while is_due(self) && self.go_on() {}
        self.now_ms = until_ms;
    }

    fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            let start_ms = self.random.between(0, 1_500);
            self.at(start_ms, Happening::AgentStart { host });
            self.at(start_ms, Happening::IoStep { host });
            self.at(start_ms, Happening::ApplyStep { host });
        }
        for member in 0..MEMBERS {
            self.at(0, Happening::CoordinatorTurn { member, life: 1 });
            self.at(1, Happening::CatchUp { member });
        }
        for index in 0..self.faults.len() {
            if self
                .only_faults
                .as_ref()
                .is_none_or(|only| only.contains(&index))
            {
                let at_ms = self.faults[index].at_ms;
                self.at(at_ms, Happening::FaultBegins { index });
            }
        }
        self.at(10, Happening::Election);
        self.at(20, Happening::Client);
        self.at(FAULTS_END_MS, Happening::Heal);
        self.at(50, Happening::Look);
        let shape = format!(
            "{} hosts, weather {:?}",
            self.hosts.len(),
            self.network.weather
        );
        self.note(|| shape);
    }

    /// Lets something happen later.
    pub(super) fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        let at_ms = at_ms.max(self.now_ms);
        self.queue.insert((at_ms, self.sequence), happening);
    }

    /// Lets something happen after a while.
    pub(super) fn after(&mut self, wait_ms: u64, happening: Happening) {
        self.at(self.now_ms + wait_ms, happening);
    }

    /// A line of the trace; made only when somebody reads it.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() >= TRACE_LINES_MAX {
                self.trace.pop_front();
            }
            self.trace
                .push_back(format!("{:>7} ms  {}", self.now_ms, line()));
        }
    }

    /// Keeps the first violation.
    pub(super) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.note_tablets();
            self.note(|| format!("VIOLATION {violation}"));
            self.violation = Some(format!("at {} ms: {violation}", self.now_ms));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::AgentTurn { host, life } => self.agent_turn(host, life),
            Happening::AgentStart { host } => self.agent_start(host),
            Happening::ActionDone {
                host,
                life,
                action,
                promised,
                incarnation,
            } => {
                self.action_done(host, life, action, promised, incarnation);
            }
            Happening::MysqldReady { host, incarnation } => self.mysqld_ready(host, incarnation),
            Happening::IoStep { host } => self.io_step(host),
            Happening::ApplyStep { host } => self.apply_step(host),
            Happening::Relay {
                host,
                source,
                connection,
                order,
                transaction,
            } => {
                self.relay_arrives(host, source, (connection, order), transaction);
            }
            Happening::Ack {
                source,
                incarnation,
                replica,
                connection,
                transaction,
            } => {
                self.ack_arrives(source, incarnation, replica, connection, transaction);
            }
            Happening::Client => self.client(),
            Happening::CoordinatorTurn { member, life } => self.coordinator_turn(member, life),
            Happening::CatchUp { member } => self.catch_up_turn(member),
            Happening::Election => self.election(),
            Happening::Commit { term } => self.commit(term),
            Happening::ReportArrives {
                member,
                life,
                host,
                connection,
                report,
            } => {
                self.report_arrives(member, life, host, connection, report);
            }
            Happening::StreamEnds {
                member,
                life,
                host,
                connection,
            } => {
                self.stream_ends(member, life, host, connection);
            }
            Happening::DesiredArrives {
                host,
                life,
                connection,
                desired,
            } => {
                self.desired_arrives(host, life, connection, *desired);
            }
            Happening::RoutingArrives { host, update } => self.routing_arrives(host, &update),
            Happening::WritesGoOn { host, since_ms } => self.writes_go_on(host, since_ms),
            Happening::FaultBegins { index } => self.fault_begins(index),
            Happening::FaultEnds { index } => self.fault_ends(index),
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    /// The node of a tablet's host.
    pub(super) fn node(&self, host: usize) -> Node {
        MEMBERS + host
    }

    /// The host of an alias.
    pub(super) fn host_of(&self, alias: &TabletAlias) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.tablet.alias == *alias)
    }

    /// The host behind an address.
    pub(super) fn host_at(&self, endpoint: &Endpoint) -> usize {
        usize::from(endpoint.port - FIRST_PORT)
    }

    /// Looks at the whole world: who could acknowledge, and whether all is well after healing.
    fn look(&mut self) {
        let able = self.able_to_acknowledge();
        let result = self.one_primary.able(&able);
        self.check(result);
        let result = self.recorded_acknowledge();
        self.check(result);
        let result = self.deposed_for_a_reason();
        self.check(result);
        if let Some(healed_ms) = self.healed_ms {
            match self.unhealed() {
                None => self.end(),
                Some(why) if self.now_ms > healed_ms + LIVENESS_MS => {
                    self.check(Err(format!(
                        "{LIVENESS_MS} ms after the faults ended: {why}"
                    )));
                }
                Some(_) => {}
            }
        }
        self.after(10, Happening::Look);
    }

    fn end(&mut self) {
        let primary = self.serving_primary();
        if let Some(primary) = primary {
            let values = self.hosts[primary].mysqld.values();
            let result = self
                .acked_writes
                .held_by(&format!("the last primary, tablet {primary},"), &values);
            self.check(result);
        }
        self.done_ms = Some(self.now_ms);
    }

    fn outcome(self) -> Outcome {
        let locked_out = self.locked_out();
        Outcome {
            epochs: self
                .hosts
                .iter()
                .map(|host| host.persisted.promised.0)
                .max()
                .unwrap_or_default(),
            healed_in_ms: self
                .done_ms
                .zip(self.healed_ms)
                .map(|(done, healed)| done - healed),
            violation: self.violation,
            trace: self.trace.into(),
            faults: self.faults.len(),
            moved: self.moved,
            locked_out,
            acknowledged: self.acked_writes.count(),
        }
    }

    /// These ended together.
    pub(super) fn all_committed(&mut self, host: usize, transactions: &[Transaction]) {
        for transaction in transactions {
            self.work_acknowledged(host, &transaction.what);
            self.committed(host, transaction);
        }
    }

    fn locked_out(&self) -> usize {
        let events = self.committed.events.iter().map(|(_, event)| event);
        let removed = events.filter(|event| event.kind == "acker.removed");
        removed
            .filter(|event| event.message.contains("locked out"))
            .count()
    }

    /// An own row or a client's value was acknowledged and committed. What an applier commits is told to no client.
    pub(super) fn committed(&mut self, host: usize, transaction: &Transaction) {
        let is_own = self.hosts[host].mysqld.is_own(transaction);
        if let What::Write(value) = transaction.what
            && is_own
        {
            let epoch = self.hosts[host]
                .persisted
                .primaryship
                .as_ref()
                .map_or(Epoch::ZERO, |p| p.epoch);
            let place = format!("by tablet {host} in epoch {epoch} at {} ms", self.now_ms);
            self.acked_writes.acknowledged(value, place);
            self.acknowledged_since_heal |= self.healed_ms.is_some();
            self.acknowledged_ms.insert(host, self.now_ms);
            let kept = self.one_primary.newest().is_some_and(|(_, newest)| {
                self.hosts[newest]
                    .mysqld
                    .executed
                    .has(&transaction.source, transaction.number)
            });
            let result = self.one_primary.acknowledged(host, epoch, kept);
            self.check(result);
        }
    }
}

pub(super) fn tablet(index: usize, set: &ReplicaSetName) -> Tablet {
    Tablet {
        alias: format!("zone{}-{}", 1 + index % 2, 100 + index)
            .parse()
            .expect("an alias"),
        kind: TabletKind::Replica,
        replica_set: set.clone(),
        mysql: Endpoint {
            host: "sim".to_owned(),
            port: FIRST_PORT + index as u16,
        },
        router: None,
    }
}

/// The first entry of the log where the policy is not the default one.
fn policy(set: &ReplicaSetName, acks: u32) -> Command {
    let mut record = forming_set(set.clone());
    record.durability = Durability::SemiSync {
        acks,
        cross_cell: false,
    };
    let change = Change::put(Revision::ZERO, RecordValue::ReplicaSet(record));
    Command::new("policy".to_owned(), vec![change], Vec::new())
}
