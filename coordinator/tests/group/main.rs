//! Three coordinators in one process, on ports and directories of their own: what is acknowledged outlives their deaths.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

mod damaged;
mod membership;
mod processes;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use vt_coordinator::{
    app::App,
    config::{Config, LogFormat},
    node::{Handle, WriteError},
};
use vt_coordinator_core::command::{Change, Command, RecordValue};
use vt_proto::{
    epoch::Revision,
    topology::{Cell, Keyspace},
};
use vt_tls::listen::Limits;

/// Longer than anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Members that run are in `running`.
struct Group {
    configs: BTreeMap<u64, Config>,
    running: BTreeMap<u64, Running>,
    _directory: TempDir,
}

fn free_ports(count: usize) -> Vec<SocketAddr> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    listeners.iter().map(|l| l.local_addr().unwrap()).collect()
}

fn config(id: u64, directory: &Path, grpc: &[SocketAddr], http: &[SocketAddr]) -> Config {
    let position = usize::try_from(id).unwrap() - 1;
    Config {
        cluster: "test".to_owned(),
        member_id: id,
        data_dir: directory.join(id.to_string()),
        listen: grpc[position],
        http_listen: http[position],
        members: (1..).zip(grpc.iter().map(ToString::to_string)).collect(),
        tls: None,
        limits: Limits::default().plaintext(),
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
    }
}

impl Group {
    async fn start(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let count = usize::try_from(size).unwrap();
        let ports = free_ports(2 * count);
        let (grpc, http) = ports.split_at(count);
        let configs = (1..=size).map(|id| (id, config(id, directory.path(), grpc, http)));
        let mut group = Self {
            configs: configs.collect(),
            running: BTreeMap::new(),
            _directory: directory,
        };
        for id in 1..=size {
            group.start_member(id).await;
        }
        group
    }

    async fn start_member(&mut self, id: u64) {
        let began = Instant::now();
        let app = loop {
            match App::start(self.configs[&id].clone()).await {
                Ok(app) => break app,
                // The member before it may still be letting go.
                Err(error) => assert!(began.elapsed() < DEADLINE, "{error:#}"),
            }
            sleep(STEP).await;
        };
        let stop = CancellationToken::new();
        let handle = app.handle.clone();
        let serve = app.serve(stop.clone());
        let task = tokio::spawn(async {
            serve
                .await
                .inspect_err(|error| println!("FAILED: {error:#}"))
        });
        self.running.insert(id, Running { handle, stop, task });
    }

    /// Ends a member without a word to anybody.
    async fn kill(&mut self, id: u64) {
        let member = self.running.remove(&id).unwrap();
        member.task.abort();
        drop(member.task.await);
    }

    async fn stop(&mut self, id: u64) {
        let member = self.running.remove(&id).unwrap();
        member.stop.cancel();
        let stopped = timeout(DEADLINE, member.task).await.unwrap();
        stopped.unwrap().unwrap();
    }

    async fn leader(&self) -> u64 {
        let began = Instant::now();
        loop {
            for (id, member) in &self.running {
                if member.handle.status().borrow().is_leader {
                    return *id;
                }
            }
            assert!(began.elapsed() < DEADLINE, "no leader");
            sleep(STEP).await;
        }
    }

    /// Writes as a client does: again and again with one request id until the outcome is known.
    async fn write(&self, command: Command) -> Revision {
        let began = Instant::now();
        loop {
            let leader = self.leader().await;
            match self.running[&leader].handle.propose(command.clone()).await {
                Ok(revision) => return revision,
                Err(WriteError::Refused(refusal)) => panic!("{refusal}"),
                Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
            }
            sleep(STEP).await;
        }
    }

    async fn keyspaces(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let leader = self.leader().await;
            let names = self.running[&leader].handle.read(true, |core, _| {
                let names = core.state().keyspaces.keys().map(ToString::to_string);
                names.collect()
            });
            match names.await {
                Ok(names) => return names,
                Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
            }
            sleep(STEP).await;
        }
    }

    /// All running members hold the same state.
    async fn agree(&self) {
        let began = Instant::now();
        loop {
            let mut seen = Vec::new();
            for member in self.running.values() {
                let look = |core: &vt_coordinator_core::Core, _: &_| core.state().clone();
                seen.push(member.handle.read(false, look).await.unwrap());
            }
            if seen.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "the members do not agree");
            sleep(STEP).await;
        }
    }
}

fn create(name: &str) -> Command {
    let keyspace = Keyspace {
        name: name.parse().unwrap(),
    };
    let change = Change::put(Revision::ZERO, RecordValue::Keyspace(keyspace));
    Command::new(format!("create-{name}"), vec![change], Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_the_death_of_leaders() {
    let mut group = Group::start(3).await;
    let mut expected = Vec::new();
    for round in 0..3 {
        let name = format!("k{round}");
        group.write(create(&name)).await;
        expected.push(name);
        let leader = group.leader().await;
        group.kill(leader).await;
        let name = format!("k{round}b");
        group.write(create(&name)).await;
        expected.push(name);
        group.start_member(leader).await;
    }
    assert_eq!(group.keyspaces().await, expected);
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_the_death_of_all() {
    let mut group = Group::start(3).await;
    let first = group.write(create("before")).await;
    for id in 1..=3 {
        group.kill(id).await;
    }
    for id in 1..=3 {
        group.start_member(id).await;
    }
    assert_eq!(group.keyspaces().await, ["before"]);
    // The request is remembered: it is not applied again.
    assert_eq!(group.write(create("before")).await, first);
    group.write(create("later")).await;
    assert_eq!(group.keyspaces().await, ["before", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_leader_hands_over() {
    let mut group = Group::start(3).await;
    group.write(create("a")).await;
    let old = group.leader().await;
    let term = group.running[&old].handle.status().borrow().term;
    group.stop(old).await;
    let new = group.leader().await;
    assert_ne!(old, new);
    // One step further: no election was lost, nobody waited for a time-out of the old leader.
    assert_eq!(group.running[&new].handle.status().borrow().term, term + 1);
    group.write(create("b")).await;
    assert_eq!(group.keyspaces().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_name_the_leader() {
    let group = Group::start(3).await;
    group.write(create("a")).await;
    let leader = group.leader().await;
    let address = Some(group.configs[&leader].listen.to_string());
    let follower = group.running.keys().find(|id| **id != leader).unwrap();
    let handle = &group.running[follower].handle;
    let mut status = handle.status();
    let knows = status.wait_for(|status| status.leader_id == Some(leader));
    timeout(DEADLINE, knows).await.unwrap().unwrap();
    let refused = handle.propose(create("b")).await;
    let expected = WriteError::NotLeader {
        leader: address.clone(),
    };
    assert_eq!(refused, Err(expected));
    assert!(handle.read(true, |_, _| ()).await.is_err());
    let stale = handle.read(false, |_, status| status.leader_address.clone());
    assert_eq!(stale.await, Ok(address));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_alone_is_a_group() {
    let mut group = Group::start(1).await;
    group.write(create("a")).await;
    group.kill(1).await;
    group.start_member(1).await;
    assert_eq!(group.keyspaces().await, ["a"]);
    group.stop(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_far_behind_catches_up_by_snapshot() {
    let mut group = Group::start(3).await;
    group.write(create("a")).await;
    let leader = group.leader().await;
    let behind = if leader == 1 { 2 } else { 1 };
    group.kill(behind).await;
    let handle = group.running[&leader].handle.clone();
    let write = |number: u64| {
        let handle = handle.clone();
        async move {
            let cell = Cell {
                name: format!("c{number}").parse().unwrap(),
            };
            let change = Change::put(Revision::ZERO, RecordValue::Cell(cell));
            let command = Command::new(format!("cell-{number}"), vec![change], Vec::new());
            handle.propose(command).await
        }
    };
    // More than a snapshot and the tail that is kept behind it.
    for batch in 0..16 {
        let writes: Vec<_> = (0..1_000u64)
            .map(|n| tokio::spawn(write(batch * 1_000 + n)))
            .collect();
        for write in writes {
            write.await.unwrap().unwrap();
        }
    }
    group.start_member(behind).await;
    group.agree().await;
    let cells = group.running[&behind]
        .handle
        .read(false, |core, _| core.state().cells.len());
    assert_eq!(cells.await, Ok(16_000));
    for id in 1..=3 {
        group.kill(id).await;
    }
    for id in 1..=3 {
        group.start_member(id).await;
    }
    assert_eq!(group.keyspaces().await, ["a"]);
    group.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_starts_touch_nothing() {
    let mut group = Group::start(1).await;
    // Until it leads, its directory may belong to no cluster yet.
    group.leader().await;
    let config = group.configs[&1].clone();
    // The port is taken.
    let directory = tempfile::tempdir().unwrap();
    let other = Config {
        data_dir: directory.path().join("data"),
        ..config.clone()
    };
    let error = App::start(other.clone()).await.err().unwrap();
    assert!(
        format!("{error:#}").contains("cannot listen on"),
        "{error:#}"
    );
    assert!(!other.data_dir.exists());
    // The directory is in use.
    let ports = free_ports(2);
    let same_directory = Config {
        listen: ports[0],
        http_listen: ports[1],
        ..config.clone()
    };
    let error = App::start(same_directory).await.err().unwrap();
    assert!(
        format!("{error:#}").contains("in use by another"),
        "{error:#}"
    );
    // The directory belongs to another cluster.
    group.stop(1).await;
    let foreign = Config {
        cluster: "other".to_owned(),
        ..config
    };
    let error = App::start(foreign).await.err().unwrap();
    assert!(
        format!("{error:#}").contains("belongs to cluster "),
        "{error:#}"
    );
    group.start_member(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_directory_does_not_vote_again() {
    let mut group = Group::start(3).await;
    group.write(create("a")).await;
    let leader = group.leader().await;
    let emptied = (1..=3).find(|id| *id != leader).unwrap();
    group.stop(emptied).await;
    std::fs::remove_dir_all(&group.configs[&emptied].data_dir).unwrap();
    let app = App::start(group.configs[&emptied].clone()).await.unwrap();
    let ended = timeout(DEADLINE, app.serve(CancellationToken::new())).await;
    let error = format!("{:#}", ended.unwrap().unwrap_err());
    assert!(error.contains("had another data directory"), "{error}");
    assert!(error.contains("vtctl coordinator replace"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_waits_for_all_of_its_members() {
    let mut group = Group::start(3).await;
    for id in 1..=3 {
        group.kill(id).await;
        std::fs::remove_dir_all(&group.configs[&id].data_dir).unwrap();
    }
    group.start_member(1).await;
    group.start_member(2).await;
    let status = group.running[&1].handle.status();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        status.borrow().cluster_id,
        "",
        "two of three must not begin"
    );
    group.start_member(3).await;
    group.leader().await;
}
