//! A real mysqld in a directory of its own, and a router in this process in front of one or two of them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use vt_agent::router::topology::Topology;
use vt_agent::router::users::hash_password;
use vt_agent::router::{Config, Credentials, Router, RouterHandle};
use vt_proto::epoch::{Epoch, Revision};
use vt_proto::keyrange::KeyRange;
use vt_proto::routing::{
    KeyspaceRoute, ReplicaRoute, ReplicaSetRoute, RoutingSnapshot, RoutingVersion, ServingState,
    ShardRoute,
};
use vt_proto::topology::{Endpoint, TabletKind};
use vt_proto::user::{PasswordHashes, User};

/// A server that needs longer to start is broken.
const START_TIME_MAX: Duration = Duration::from_secs(60);

pub struct Mysqld {
    child: Child,
    directory: TempDir,
    pub port: u16,
    binary_log: &'static [&'static str],
}

const NO_BINARY_LOG: &[&str] = &["--skip-log-bin"];
/// What a source and a replica need.
const BINARY_LOG: &[&str] = &[
    "--log-bin=binlog",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
];

/// The same server that an agent would find.
pub fn program() -> PathBuf {
    let find = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(vt_agent::mysqld::binaries::Binaries::find(None))
    };
    // On a thread of its own: the tests that ask have a runtime already.
    std::thread::spawn(find).join().unwrap().unwrap().mysqld
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A data directory that all tests copy: to make one takes seconds. Tests that make it at the same
/// time make the same, and the first to be ready wins.
async fn template() -> PathBuf {
    let ready = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("router-mysqld-data");
    if ready.exists() {
        return ready;
    }
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = directory.path().join("data");
    let status = Command::new(program())
        .args(["--no-defaults", "--user=root", "--initialize-insecure"])
        .args(["--innodb-redo-log-capacity=8M"])
        .arg(format!("--datadir={}", data.display()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "mysqld --initialize-insecure failed");
    let mut server = Mysqld::on(directory, NO_BINARY_LOG).await;
    let mut admin = server.admin().await;
    for sql in [
        "CREATE USER router@'%' IDENTIFIED BY 'router-password'",
        "GRANT ALL ON *.* TO router@'%'",
        "REVOKE CONNECTION_ADMIN, SUPER ON *.* FROM router@'%'",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.product (id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100), amount INT)",
        "SHUTDOWN",
    ] {
        admin.query_drop(sql).await.unwrap();
    }
    server.child.wait().unwrap();
    // Somebody else may have been faster.
    let _ = std::fs::rename(server.directory.path().join("data"), &ready);
    ready
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}

impl Mysqld {
    /// Starts an empty server with the keyspace `shop` and the router's account.
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let template = template().await;
        copy(&template, &directory.path().join("data"));
        Self::on(directory, NO_BINARY_LOG).await
    }

    /// One that can be a source or a replica, with an identity of its own.
    pub async fn start_logging() -> Self {
        let directory = TempDir::new().unwrap();
        let template = template().await;
        copy(&template, &directory.path().join("data"));
        std::fs::remove_file(directory.path().join("data/auto.cnf")).unwrap();
        Self::on(directory, BINARY_LOG).await
    }

    /// Replicates from `source` from now on.
    pub async fn follow(&self, source: &Mysqld) {
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='router', \
             SOURCE_PASSWORD='router-password', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
            source.port
        );
        let mut admin = self.admin().await;
        for sql in [&change, "START REPLICA", "SET GLOBAL super_read_only = 1"] {
            admin.query_drop(sql).await.unwrap();
        }
    }

    async fn on(directory: TempDir, binary_log: &'static [&'static str]) -> Self {
        let port = free_port();
        let child = Self::spawn(&directory, port, binary_log);
        let server = Self {
            child,
            directory,
            port,
            binary_log,
        };
        server.admin().await.disconnect().await.unwrap();
        server
    }

    fn spawn(directory: &TempDir, port: u16, binary_log: &[&str]) -> Child {
        let path = |name: &str| directory.path().join(name).display().to_string();
        Command::new(program())
            .args([
                "--no-defaults",
                "--user=root",
                "--bind-address=127.0.0.1",
                "--mysqlx=OFF",
            ])
            .args(binary_log)
            .arg(format!("--server-id={port}"))
            .args([
                "--secure-file-priv=NULL",
                "--performance-schema=OFF",
                "--innodb-buffer-pool-size=32M",
                "--innodb-redo-log-capacity=8M",
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=2",
                "--max-allowed-packet=64M",
            ])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("mysqld.sock")))
            .arg(format!("--log-error={}", path("error.log")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// As root, past the router.
    pub async fn admin(&self) -> Conn {
        let options = OptsBuilder::default()
            .socket(Some(
                self.directory
                    .path()
                    .join("mysqld.sock")
                    .display()
                    .to_string(),
            ))
            .user(Some("root"));
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            match Conn::new(options.clone()).await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "mysqld does not start: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes from the routers all their connections to this server.
    pub async fn kill_sessions_of_the_router(&self) {
        let mut admin = self.admin().await;
        let all = "SELECT id FROM information_schema.processlist WHERE user = 'router'";
        let all: Vec<u64> = admin.query(all).await.unwrap();
        for id in all {
            // One may be gone already.
            let _ = admin.query_drop(format!("KILL {id}")).await;
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    /// The certificate and key that the server made for itself.
    pub fn tls(&self) -> Arc<ServerConfig> {
        let data = self.directory.path().join("data");
        let certificate = CertificateDer::from_pem_file(data.join("server-cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(data.join("server-key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(
            builder
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap(),
        )
    }

    /// Ends it without a word, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it hang: what it was sent stays, and nobody gets a reset.
    pub fn freeze(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }

    /// Starts it again after [`Self::kill`].
    pub async fn restart(&mut self) {
        self.child = Self::spawn(&self.directory, self.port, self.binary_log);
        self.admin().await.disconnect().await.unwrap();
    }
}

impl Drop for Mysqld {
    fn drop(&mut self) {
        // It may have been killed by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A snapshot of the keyspace `shop` on the replica set `rs0`.
pub fn snapshot(
    revision: u64,
    epoch: u64,
    state: ServingState,
    primary: Option<Endpoint>,
    replicas: &[Endpoint],
) -> RoutingSnapshot {
    let shard = ShardRoute {
        range: KeyRange::full(),
        schema: "shop".to_owned(),
        replica_set: "rs0".parse().unwrap(),
    };
    let replicas = replicas.iter().map(|mysql| ReplicaRoute {
        alias: format!("zone1-{}", mysql.port).parse().unwrap(),
        kind: TabletKind::Replica,
        mysql: mysql.clone(),
        healthy: true,
        lag_ms: Some(0),
    });
    RoutingSnapshot {
        users: Vec::new(),
        cluster_id: "test".to_owned(),
        version: RoutingVersion {
            revision: Revision(revision),
            health: 0,
        },
        keyspaces: vec![Arc::new(KeyspaceRoute {
            name: "shop".parse().unwrap(),
            shards: vec![shard],
        })],
        replica_sets: vec![Arc::new(ReplicaSetRoute {
            name: "rs0".parse().unwrap(),
            epoch: Epoch(epoch),
            state,
            primary: primary.map(|endpoint| {
                (
                    format!("zone1-{}", endpoint.port).parse().unwrap(),
                    endpoint,
                )
            }),
            replicas: replicas.collect(),
        })],
    }
}

/// A user as the coordinators keep it: rights by keyspace.
pub struct KeptUser<'a> {
    pub name: &'a str,
    pub grants: &'a [(&'a str, &'a str)],
    pub connections_max: Option<u32>,
    pub statements_per_second_max: Option<u32>,
}

impl<'a> KeptUser<'a> {
    pub fn new(name: &'a str, grants: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            name,
            grants,
            connections_max: None,
            statements_per_second_max: None,
        }
    }
}

/// A router of one thread, so that sessions share one pool.
pub struct TestRouter {
    pub handle: RouterHandle,
    pub topology: Topology,
    pub registry: Registry,
}

impl TestRouter {
    pub fn start(primary: &Mysqld, change: impl FnOnce(&mut Config)) -> Self {
        let endpoint = primary.endpoint();
        let first = snapshot(
            1,
            1,
            ServingState::Serving,
            Some(endpoint.clone()),
            &[endpoint],
        );
        let topology = Topology::new(first);
        let credentials = Credentials {
            user: "router".to_owned(),
            password: "router-password".to_owned(),
        };
        let users = vec![hash_password("app", b"secret")];
        let mut config = Config::new("127.0.0.1:0".parse().unwrap(), users, credentials);
        config.threads = 1;
        change(&mut config);
        let mut registry = Registry::default();
        let handle = Router::start(config, topology.clone(), &mut registry).unwrap();
        Self {
            handle,
            topology,
            registry,
        }
    }

    /// The coordinators keep these users from now on, each with the password `secret`, and no others.
    pub fn keep(&self, users: &[KeptUser<'_>]) {
        let mut snapshot = (*self.topology.load()).clone();
        snapshot.version.revision = Revision(snapshot.version.revision.0 + 1);
        let hashes = hash_password("any", b"secret");
        let kept = |user: &KeptUser<'_>| {
            let parsed =
                |(place, rights): &(&str, &str)| (place.parse().unwrap(), rights.parse().unwrap());
            Arc::new(User {
                name: user.name.parse().unwrap(),
                password: PasswordHashes {
                    native: hashes.native_hash,
                    sha2: hashes.sha2_hash,
                },
                grants: user.grants.iter().map(parsed).collect(),
                connections_max: user.connections_max,
                statements_per_second_max: user.statements_per_second_max,
            })
        };
        snapshot.users = users.iter().map(kept).collect();
        assert!(self.topology.publish(snapshot));
    }

    pub fn options(&self, database: &str) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.handle.local_address().port())
            .user(Some("app"))
            .pass(Some("secret"))
            .prefer_socket(false)
            .db_name((!database.is_empty()).then_some(database))
    }

    pub async fn connect(&self) -> Conn {
        Conn::new(self.options("shop")).await.unwrap()
    }
}

/// The number of the MySQL error that a statement must fail with.
#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, mysql_async::Error>) -> u16 {
    match result {
        Err(mysql_async::Error::Server(error)) => error.code,
        other => panic!("no error of a server: {other:?}"),
    }
}
