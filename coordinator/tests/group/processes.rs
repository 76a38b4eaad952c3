//! Three real processes and `kill -9`: whatever a client was told is done is there afterwards.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use vt_proto::{
    epoch::{Epoch, Generation, Incarnation},
    report::{MysqldState, Report},
    topology::{Endpoint as Address, Tablet, TabletKind},
    wire::{self, admin_client::AdminClient, agent_uplink_client::AgentUplinkClient},
};

use super::{DEADLINE, STEP, free_ports};

struct Processes {
    directory: TempDir,
    children: Vec<Option<Child>>,
    addresses: Vec<SocketAddr>,
}

impl Processes {
    fn start() -> Self {
        let ports = free_ports(6);
        let (grpc, http) = ports.split_at(3);
        let directory = tempfile::tempdir().unwrap();
        let mut processes = Self {
            directory,
            children: vec![None, None, None],
            addresses: grpc.to_vec(),
        };
        for (position, (grpc, http)) in grpc.iter().zip(http).enumerate() {
            processes.configure(position, *grpc, *http);
            processes.start_one(position);
        }
        processes
    }

    fn path(&self, position: usize, what: &str) -> PathBuf {
        self.directory.path().join(format!("{position}.{what}"))
    }

    fn configure(&self, position: usize, grpc: SocketAddr, http: SocketAddr) {
        let data_dir = self.path(position, "data");
        let mut text = format!(
            "cluster = \"kill\"\nmember_id = {}\ndata_dir = \"{}\"\nlisten = \"{grpc}\"\nhttp_listen = \"{http}\"\nplaintext = true\n[members]\n",
            position + 1,
            data_dir.display()
        );
        for (id, address) in (1..).zip(&self.addresses) {
            text.push_str(&format!("{id} = \"{address}\"\n"));
        }
        fs::write(self.path(position, "toml"), text).unwrap();
    }

    fn start_one(&mut self, position: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path(position, "log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vt-coordinator"))
            .arg("--config")
            .arg(self.path(position, "toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.children[position] = Some(child.unwrap());
    }

    fn kill(&mut self, position: usize) {
        if let Some(mut child) = self.children[position].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn client(&self) -> Client {
        Client {
            addresses: self.addresses.clone(),
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for position in 0..self.children.len() {
            self.kill(position);
        }
    }
}

/// Asks one member after the other until one answers.
#[derive(Clone)]
struct Client {
    addresses: Vec<SocketAddr>,
}

impl Client {
    async fn ask<T, F, A>(&self, ask: F) -> T
    where
        F: Fn(Channel) -> A,
        A: Future<Output = Result<T, tonic::Status>>,
    {
        let began = Instant::now();
        for address in self.addresses.iter().cycle() {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            if let Ok(channel) = endpoint.connect().await {
                match timeout(DEADLINE, ask(channel)).await.unwrap() {
                    Ok(answer) => return answer,
                    Err(status) => assert!(began.elapsed() < DEADLINE, "{status}"),
                }
            }
            assert!(began.elapsed() < DEADLINE, "nobody answers");
            sleep(STEP).await;
        }
        unreachable!("the addresses are cycled for ever");
    }

    /// A replica set comes from the first report of a tablet in it.
    async fn register_tablet(&self) {
        self.ask(|channel| async move {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let message = wire::AgentMessage {
                cluster_id: String::new(),
                report: Some(report().into()),
                lost_answer: None,
            };
            sender.send(message).await.unwrap();
            let stream = ReceiverStream::new(receiver);
            let mut answers = AgentUplinkClient::new(channel)
                .attach(stream)
                .await?
                .into_inner();
            let first = answers.message().await?;
            first
                .map(drop)
                .ok_or_else(|| tonic::Status::unavailable("ended"))
        })
        .await;
    }

    async fn create(&self, name: &str) {
        let request = create_keyspace_request(name);
        self.ask(|channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).create_keyspace(request).await }
        })
        .await;
    }

    async fn keyspaces(&self) -> Vec<String> {
        let list = self
            .ask(|channel| async move {
                let request = wire::ListKeyspacesRequest::default();
                AdminClient::new(channel).list_keyspaces(request).await
            })
            .await;
        let views = list.into_inner().keyspaces.into_iter();
        views.filter_map(|view| Some(view.keyspace?.name)).collect()
    }
}

fn create_keyspace_request(name: &str) -> wire::CreateKeyspaceRequest {
    wire::CreateKeyspaceRequest {
        name: name.to_owned(),
        request_id: format!("test-{name}"),
        ..wire::CreateKeyspaceRequest::default()
    }
}

fn report() -> Report {
    Report {
        tablet: Tablet {
            alias: "zone1-100".parse().unwrap(),
            kind: TabletKind::Replica,
            replica_set: "main".parse().unwrap(),
            mysql: Address {
                host: "127.0.0.1".to_owned(),
                port: 3306,
            },
            router: None,
        },
        boot_id: "boot".to_owned(),
        promised: Epoch::ZERO,
        generation: Generation::ZERO,
        mysqld: MysqldState::Starting,
        incarnation: Incarnation::ZERO,
        server_uuid: None,
        gtid: None,
        replication: None,
        super_read_only: None,
        semi_sync_source: None,
        semi_sync_replica: None,
        revoked: None,
        fenced: None,
        demoted: None,
        serving: None,
        amnesiac: false,
        schema_results: Vec::new(),
        blocked: None,
        disk_free_bytes: None,
        silent: None,
        confirmed: None,
        locked_out: None,
        prepared: None,
        write_probe: None,
        disk_probe: None,
        lost: Default::default(),
        stop_asked: false,
    }
}

/// Keyspaces that one writer creates.
const KEYSPACES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kill_9_of_any_and_of_all() {
    let mut processes = Processes::start();
    let client = processes.client();
    client.register_tablet().await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writer = {
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for number in 0..KEYSPACES {
                client.create(&format!("k{number:02}")).await;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let reached = async |count: usize| {
        let began = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < count {
            assert!(began.elapsed() < DEADLINE, "the writer does not get on");
            sleep(STEP).await;
        }
    };
    // Each member once: the leader is among them.
    for (count, position) in [(5, 0), (15, 1), (25, 2)] {
        reached(count).await;
        processes.kill(position);
        reached(count + 5).await;
        processes.start_one(position);
    }
    reached(40).await;
    for position in 0..3 {
        processes.kill(position);
    }
    let before = acknowledged.load(Ordering::Relaxed);
    for position in 0..3 {
        processes.start_one(position);
    }
    let survived = client.keyspaces().await;
    let expected: Vec<_> = (0..KEYSPACES).map(|n| format!("k{n:02}")).collect();
    assert!(survived.starts_with(&expected[..before]), "{survived:?}");
    timeout(DEADLINE, writer).await.unwrap().unwrap();
    assert_eq!(client.keyspaces().await, expected);
}
