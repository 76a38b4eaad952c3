//! A script of steps on the modelled servers alone, without agents and coordinators: what a real mysqld does with the same steps is
//! what the model should do. What is seen after each step is in words that both have.

use vt_agent_core::{Action, Channel, Server};
use vt_proto::{
    epoch::Epoch,
    ids::{ReplicaSetName, TabletAlias},
    report::ThreadState,
    topology::Endpoint,
};

use super::{
    disk::Suffering,
    effects::local_effect,
    host::{Host, Life},
    mysqld::{Mysqld, What, uuid},
    world::{FIRST_PORT, Happening, Plan, World, tablet},
};

/// Longer than anything in the model takes that is under way: a silent source is noticed after 4 s and asked again each second.
const SETTLE_MS: u64 = 7_000;

/// Fatal to the source's mind, a wrong account, a locked one.
const REFUSALS: [u32; 3] = [1236, 1045, 3118];
/// The writes before these make the table.
pub const FIRST_ROW: usize = 2;

/// One step; servers are numbers from 0 on.
#[derive(Clone, Debug)]
pub enum Step {
    /// What the agent's shell does.
    Do(usize, Action),
    StopApplier(usize),
    /// A transaction of a client of its own.
    Write(usize),
    /// The same, and the connection of this replica ends in the middle of it; no other comes about.
    WriteHalf(usize, usize),
    /// A replica reaches its source again.
    Mend(usize, usize),
    /// SIGKILL.
    Kill(usize),
    /// Of a host, with the relay log on disk as far as it is applied and a few bytes more.
    LosePower(usize),
    /// While it is down: its own transactions go that another has not.
    CutTail(usize, usize),
    Start(usize),
    /// SIGSTOP and SIGCONT.
    Freeze(usize),
    Thaw(usize),
}

/// How a write ended, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Waits,
    Ok,
    Refused,
    /// The server is gone, and nobody knows.
    Lost,
}

/// What is seen of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Down,
    Frozen,
    Up(Box<Looks>),
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline_mode: bool,
    pub source_semi_sync: bool,
    pub acks: u32,
    pub replica_semi_sync: bool,
    pub acknowledges: bool,
    /// A commit waits for acknowledgements.
    pub waits: bool,
    /// `Rpl_semi_sync_source_clients`.
    pub clients: usize,
    /// A connection is seen over which acknowledgements come.
    pub has_acker: bool,
    pub executed: String,
    pub received: String,
    /// The writes that another client sees.
    pub writes: Vec<u64>,
    pub link: Option<Link>,
}

/// What a replica says of its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub source_port: u16,
    pub own_account: bool,
    /// The server that was reached.
    pub reached: Option<String>,
    pub io: ThreadState,
    pub sql: ThreadState,
    /// The source does not want it, by the error's number; that nobody answers is no refusal.
    pub refused: Option<u32>,
    pub sql_error: Option<u32>,
}

impl Looks {
    /// Of a server's own words; `named` replaces server uuids by names.
    pub fn of(
        server: &Server,
        clients: usize,
        writes: Vec<u64>,
        named: impl Fn(String) -> String,
    ) -> Self {
        Self {
            read_only: server.read_only,
            super_read_only: server.super_read_only,
            offline_mode: server.offline_mode,
            source_semi_sync: server.source_semi_sync,
            acks: server.wait_for_replica_count,
            replica_semi_sync: server.replica_semi_sync,
            acknowledges: server.replica_acknowledges,
            waits: server.wait_sessions > 0,
            clients,
            has_acker: server.newest_acker.is_some(),
            executed: ordered(&named(server.executed.to_string())),
            received: ordered(&named(server.received.to_string())),
            writes,
            link: server.channel.as_ref().map(|it| Link::of(it, &named)),
        }
    }
}

/// By the names: the uuids of real servers are in no order.
fn ordered(set: &str) -> String {
    let mut sources: Vec<&str> = set.split(',').map(str::trim).collect();
    sources.sort_unstable();
    sources.join(",")
}

impl Link {
    fn of(channel: &Channel, named: impl Fn(String) -> String) -> Self {
        let code = |error: &Option<(u32, String)>| error.as_ref().map(|(code, _)| *code);
        Self {
            source_port: channel.source.port,
            own_account: channel.own_account,
            reached: channel.source_uuid.clone().map(named),
            io: channel.io,
            sql: channel.sql,
            refused: code(&channel.io_error).filter(|code| REFUSALS.contains(code)),
            sql_error: code(&channel.sql_error),
        }
    }
}

/// Everything that is seen after a step: whether the step was refused, each server, each write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub refused: bool,
    pub servers: Vec<Seen>,
    pub answers: Vec<Answer>,
}

/// Modelled servers that run, closed and without replication.
pub struct Models {
    world: World,
    answers: Vec<(usize, Answer)>,
}

impl Models {
    /// So many.
    pub fn new(count: usize) -> Self {
        let mut world = World::bare(&Plan::of(1));
        let set: ReplicaSetName = "rs-1".parse().expect("a name");
        world.hosts = (0..count)
            .map(|index| {
                let mut host = Host::new(index, tablet(index, &set));
                host.suffering = Suffering::none(false);
                host.incarnation = host.incarnation.next();
                host.life = Life::Up;
                host
            })
            .collect();
        world.network.heal();
        for host in 0..count {
            world.at(0, Happening::IoStep { host });
            world.at(0, Happening::ApplyStep { host });
        }
        Self {
            world,
            answers: Vec::new(),
        }
    }

    /// Takes a step, lets it have its effects, and looks.
    pub fn step(&mut self, step: &Step) -> Sight {
        let refused = self.take(step).is_err();
        self.world.run_until(self.world.now_ms + SETTLE_MS);
        for (value, (_, answer)) in self.answers.iter_mut().enumerate() {
            if *answer == Answer::Waits && self.world.acked_writes.has(value as u64) {
                *answer = Answer::Ok;
            }
        }
        let servers = (0..self.world.hosts.len()).map(|host| self.look(host));
        Sight {
            refused,
            servers: servers.collect(),
            answers: self.answers.iter().map(|(_, answer)| *answer).collect(),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let world = &mut self.world;
        let now_ms = world.now_ms;
        match *step {
            Step::Do(host, ref action) => return self.act(host, action),
            Step::StopApplier(host) => {
                if let Some(replication) = &mut world.hosts[host].mysqld.replication {
                    replication.sql = ThreadState::Off;
                }
            }
            Step::Write(host) => self.write(host),
            Step::WriteHalf(host, replica) => {
                let (from, to) = (world.node(host), world.node(replica));
                world.network.cut(from, to);
                self.write(host);
            }
            Step::Mend(host, replica) => {
                let (from, to) = (world.node(host), world.node(replica));
                world.network.mend(from, to);
            }
            Step::Kill(host) => self.die(host, |mysqld| mysqld.die()),
            Step::LosePower(host) => self.die(host, |mysqld| {
                mysqld.relay_synced = 0;
                mysqld.lose_power(0);
            }),
            Step::CutTail(host, keeper) => {
                let kept = world.hosts[keeper].mysqld.received.clone();
                let epoch = Epoch(1);
                return local_effect(
                    &mut world.hosts[host],
                    &Action::CutTail { kept, epoch },
                    now_ms,
                );
            }
            Step::Start(host) => return world.start_mysqld(host),
            Step::Freeze(host) => world.hosts[host].life = Life::Hung { since_ms: now_ms },
            Step::Thaw(host) => world.hosts[host].life = Life::Up,
        }
        Ok(())
    }

    fn act(&mut self, host: usize, action: &Action) -> Result<(), String> {
        let world = &mut self.world;
        match action {
            Action::EnableSourceSemiSync { acks } => world.switch_semi_sync(host, Some(*acks)),
            Action::DisableSourceSemiSync => world.switch_semi_sync(host, None),
            Action::LockOut { tablets } => world.lock_out(host, tablets),
            Action::Clone {
                donor,
                may_lose,
                followed,
            } => world.clone_tablet(host, donor, may_lose, followed.as_deref()),
            _ => local_effect(&mut world.hosts[host], action, world.now_ms),
        }
    }

    fn die(&mut self, host: usize, how: impl Fn(&mut Mysqld)) {
        self.world.hosts[host].kill_mysqld("killed");
        how(&mut self.world.hosts[host].mysqld);
        for (_, answer) in self.answers.iter_mut().filter(|(on, _)| *on == host) {
            if *answer == Answer::Waits {
                *answer = Answer::Lost;
            }
        }
    }

    /// By an account that `read_only` does not bind.
    fn write(&mut self, host: usize) {
        let value = self.answers.len() as u64;
        let mysqld = &mut self.world.hosts[host].mysqld;
        if mysqld.run.super_read_only {
            self.answers.push((host, Answer::Refused));
            return;
        }
        self.answers.push((host, Answer::Waits));
        if let Some(done) = mysqld.write(What::Write(value)) {
            self.world.committed(host, &done);
        }
    }

    fn look(&self, host: usize) -> Seen {
        let state = &self.world.hosts[host];
        match state.life {
            Life::Down { .. } | Life::Starting => Seen::Down,
            Life::Hung { .. } => Seen::Frozen,
            Life::Up => {
                let newest_acker = self.world.newest_acker(host);
                let server = state.server(self.world.now_ms, newest_acker);
                let clients = self.world.ackers_of(host);
                let values = state.mysqld.values().into_keys();
                let rows = values.filter(|value| *value >= FIRST_ROW as u64).collect();
                let looks = Looks::of(&server, clients, rows, |text| self.named(text));
                Seen::Up(Box::new(looks))
            }
        }
    }

    fn named(&self, mut text: String) -> String {
        for host in &self.world.hosts {
            for generation in 1..=host.uuids {
                let name = name(host.index, generation);
                text = text.replace(&uuid(host.index, generation), &name);
            }
        }
        text
    }
}

/// The address of a modelled server.
pub fn endpoint(server: usize) -> Endpoint {
    Endpoint {
        host: "sim".to_owned(),
        port: FIRST_PORT + server as u16,
    }
}

/// The tablet of a modelled server.
pub fn alias(server: usize) -> TabletAlias {
    tablet(server, &"rs-1".parse().expect("a name")).alias
}

/// What a server is called in sets, with its uuid of this number.
pub fn name(server: usize, generation: u64) -> String {
    format!("{}{generation}", ["A", "B", "C", "D"][server])
}
