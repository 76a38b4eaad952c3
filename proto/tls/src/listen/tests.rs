//! Real sockets on loopback: who is let in, who is told why not, what happens when files change under open connections.

use std::{fs, path::Path};

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

use super::*;
use crate::{
    dial::{explain, open},
    files::TlsFiles,
    tests::{Ca, Issued},
};

const DEADLINE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);

/// A server that speaks first, as HTTP/2 does, and then sends back what it gets.
struct Server {
    address: SocketAddr,
    files: TlsFiles,
    metrics: TlsMetrics,
    peers: mpsc::Receiver<Peer>,
    _serving: JoinHandle<()>,
    dir: TempDir,
}

impl Server {
    async fn start(issued: Issued, accepted: &[&Ca], limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = issued.write(&dir.path().join("server"), accepted);
        let metrics = TlsMetrics::default();
        let role = Leaf::read(&issued.der).unwrap().identity.role.unwrap();
        let live = Live::start(files.clone(), role, metrics.clone());
        let mode = Mode::Mutual(live.await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming =
            Incoming::start(listener, mode, limits, "test", metrics.clone()).unwrap();
        let (sender, peers) = mpsc::channel(64);
        let serving = tokio::spawn(async move {
            while let Some(Ok(connection)) = incoming.next().await {
                sender.try_send(connection.peer().clone()).unwrap();
                tokio::spawn(echo(connection));
            }
        });
        Self {
            address,
            files,
            metrics,
            peers,
            _serving: serving,
            dir,
        }
    }

    fn client(&self, name: &str, issued: &Issued, accepted: &[&Ca]) -> TlsFiles {
        issued.write(&self.dir.path().join(name), accepted)
    }

    /// A connection, or why there is none.
    async fn dial(&self, files: &TlsFiles, host: &str) -> Result<Client, String> {
        let uri = format!("http://{host}:{}", self.address.port());
        let opened = tokio::time::timeout(DEADLINE, open(files.clone(), uri.parse().unwrap()));
        match opened.await.unwrap() {
            Ok(stream) => Ok(Client(stream.into_inner())),
            Err(error) => Err(explain(&error).what),
        }
    }

    async fn why_not(&self, files: &TlsFiles, host: &str) -> String {
        self.dial(files, host).await.err().unwrap()
    }

    fn refused(&self, reason: &'static str) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let row = text.lines().find(|line| line.contains(reason));
        row.map_or(0, |row| row.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

async fn echo(mut connection: Connection) {
    let mut byte = [0];
    let mut send = connection.write_all(b"!").await;
    while send.is_ok() && matches!(connection.read(&mut byte).await, Ok(1)) {
        send = connection.write_all(&byte).await;
    }
}

struct Client(tokio_rustls::client::TlsStream<TcpStream>);

impl Client {
    /// Whether a byte comes back.
    async fn works(&mut self) -> bool {
        let mut byte = [0];
        let echoed = async {
            self.0.write_all(b"x").await?;
            self.0.read_exact(&mut byte).await
        };
        tokio::time::timeout(DEADLINE, echoed)
            .await
            .unwrap()
            .is_ok()
    }
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < DEADLINE, "it does not happen");
        sleep(STEP).await;
    }
}

fn coordinator(ca: &Ca) -> Issued {
    ca.leaf("coordinator", "c1", &["127.0.0.1", "localhost"], 3_600)
}

#[tokio::test]
async fn who_belongs_here_is_let_in_and_known() {
    let ca = Ca::new();
    let mut server = Server::start(coordinator(&ca), &[&ca], Limits::default()).await;
    let files = server.client("a", &ca.leaf("operator", "ann", &[], 60), &[&ca]);
    for host in ["127.0.0.1", "localhost"] {
        assert!(server.dial(&files, host).await.unwrap().works().await);
        let identity = server.peers.recv().await.unwrap().identity.unwrap();
        assert_eq!(
            (identity.role, &*identity.name),
            (Some(Role::Operator), "ann")
        );
    }
}

#[tokio::test]
async fn who_does_not_belong_here_is_told_why() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = Server::start(coordinator(&ca), &[&ca], Limits::default()).await;
    let good = ca.leaf("operator", "ann", &[], 60);
    let cases = [
        (
            "expired",
            ca.leaf("operator", "ann", &[], -60),
            &ca,
            "has expired",
        ),
        (
            "stranger",
            foreign.leaf("operator", "ann", &[], 60),
            &foreign,
            "not in our file of CAs",
        ),
    ];
    for (name, issued, accepted, words) in cases {
        let files = server.client(name, &issued, &[accepted]);
        let why = server.why_not(&files, "127.0.0.1").await;
        assert!(why.contains(words), "{name}: {why}");
    }
    // It believes this server, and has nothing that this server believes.
    let both = server.client(
        "half",
        &foreign.leaf("operator", "ann", &[], 60),
        &[&ca, &foreign],
    );
    let why = server.why_not(&both, "127.0.0.1").await;
    assert!(why.contains("does not accept the CA"), "{why}");
    let files = server.client("elsewhere", &good, &[&ca]);
    let why = server.why_not(&files, "[::1]").await;
    assert!(!why.is_empty());
    assert_eq!(
        no_certificate(&server, &ca).await,
        "it asks for a certificate"
    );
    assert!(server.refused("handshake_failed") >= 3);
}

async fn no_certificate(server: &Server, ca: &Ca) -> String {
    let pem = fs::read(
        server
            .client("ca", &ca.leaf("viewer", "v", &[], 60), &[ca])
            .ca,
    )
    .unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let error = stream.read_u8().await.unwrap_err();
    explain(&error).what
}

#[tokio::test]
async fn only_a_coordinator_passes_for_one_and_only_on_its_host() {
    let ca = Ca::new();
    let ann = ca.leaf("operator", "ann", &[], 60);
    for (unit, hosts, words) in [
        (
            "agent",
            &["127.0.0.1"],
            "is not a coordinator's (OU 'agent')",
        ),
        ("coordinator", &["db7"], "is not for this host"),
    ] {
        let server = ca.leaf(unit, "x", hosts, 60);
        let server = Server::start(server, &[&ca], Limits::default()).await;
        let files = server.client("ann", &ann, &[&ca]);
        let why = server.why_not(&files, "127.0.0.1").await;
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn certificates_and_cas_are_replaced_under_open_connections() {
    let (old, new) = (Ca::new(), Ca::new());
    let mut server = Server::start(coordinator(&old), &[&old], Limits::default()).await;
    let before = server.client("old", &old.leaf("agent", "a", &[], 3_600), &[&old, &new]);
    let after = server.client("new", &new.leaf("agent", "a", &[], 3_600), &[&old, &new]);
    let mut kept = server.dial(&before, "127.0.0.1").await.unwrap();
    assert!(server.dial(&after, "127.0.0.1").await.is_err());

    // Nonsense changes nothing, and says so.
    let good = fs::read(&server.files.certificate).unwrap();
    fs::write(&server.files.certificate, "nonsense").unwrap();
    until(async || server.metrics.certificate_reload_failed.get() == 1).await;
    assert!(
        server
            .dial(&before, "127.0.0.1")
            .await
            .unwrap()
            .works()
            .await
    );
    fs::write(&server.files.certificate, good).unwrap();
    until(async || server.metrics.certificate_reload_failed.get() == 0).await;

    // Both CAs, then a certificate of the new one: who is connected stays so.
    let folder = server.dir.path().join("server");
    coordinator(&old).write(&folder, &[&old, &new]);
    until(async || server.dial(&after, "127.0.0.1").await.is_ok()).await;
    coordinator(&new).write(&folder, &[&old, &new]);
    until(async || server.metrics.certificate_reloads.get() == 2).await;
    assert!(kept.works().await);
    let mut young = server.dial(&after, "127.0.0.1").await.unwrap();

    // The old CA goes, and with it who has nothing else.
    coordinator(&new).write(&folder, &[&new]);
    until(async || !kept.works().await).await;
    let why = server.why_not(&before, "127.0.0.1").await;
    assert!(why.contains("does not accept the CA"), "{why}");
    assert!(young.works().await);
    server.peers.close();
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let ca = Ca::new();
    let server = Server::start(coordinator(&ca), &[&ca], Limits::default()).await;
    let files = server.client("a", &ca.leaf("agent", "a", &[], 3), &[&ca]);
    let mut client = server.dial(&files, "127.0.0.1").await.unwrap();
    until(async || !client.works().await).await;
}

#[tokio::test]
async fn a_flood_finds_its_bound_and_leaves_room_for_members() {
    let ca = Ca::new();
    let limits = Limits {
        connections: 4,
        connections_per_address: 4,
        handshakes: 8,
        handshakes_per_address: 8,
        handshake_time: Duration::from_millis(300),
    };
    let server = Server::start(coordinator(&ca), &[&ca], limits).await;
    let agent = server.client("agent", &ca.leaf("agent", "a", &[], 60), &[&ca]);
    let member = server.client("member", &coordinator(&ca), &[&ca]);
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    until(async || server.refused("too_many_handshakes") >= 32).await;
    // The silent ones are thrown out after a while; then there is room again.
    until(async || server.refused("handshake_timeout") >= 8).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(server.dial(&agent, "127.0.0.1").await.unwrap());
    }
    let why = server.why_not(&agent, "127.0.0.1").await;
    assert!(why.contains("too many connections"), "{why}");
    assert!(
        server
            .dial(&member, "127.0.0.1")
            .await
            .unwrap()
            .works()
            .await
    );
    open.pop();
    until(async || server.dial(&agent, "127.0.0.1").await.is_ok()).await;
    assert!(Path::new(&agent.key).exists());
}
