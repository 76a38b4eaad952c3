//! Three coordinators with certificates: who may call what, what is written down, what changes under open connections.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Code, Status,
    codegen::Service,
    transport::{Channel, Endpoint},
};
use vt_coordinator::{
    api::roles,
    app::App,
    config::{Config, LogFormat},
    node::Handle,
};
use vt_proto::wire::{self, admin_client::AdminClient, routing_client::RoutingClient};
use vt_tls::{dial::connect, files::TlsFiles, listen::Limits, role::Role};

use pki::Ca;

mod files {
    pub use vt_tls::files::TlsFiles;
}
#[expect(dead_code, reason = "its own crate needs more of it")]
#[path = "../../proto/tls/src/tests.rs"]
mod pki;

/// Longer than anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

struct Group {
    ca: Ca,
    members: BTreeMap<u64, (SocketAddr, Handle)>,
    _stop: DropGuard,
    directory: TempDir,
}

impl Group {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = (0..6).map(bind).collect();
        let local = |listener: &TcpListener| listener.local_addr().unwrap();
        let ports: Vec<_> = listeners.iter().map(local).collect();
        drop(listeners);
        let addresses = (1..=3).zip(ports.iter().map(ToString::to_string));
        let addresses: BTreeMap<u64, String> = addresses.collect();
        let stop = CancellationToken::new();
        let mut members = BTreeMap::new();
        for (position, id) in (1..=3).enumerate() {
            let config = Config {
                cluster: "test".to_owned(),
                member_id: id,
                data_dir: directory.path().join(id.to_string()),
                listen: ports[position],
                http_listen: ports[position + 3],
                members: addresses.clone(),
                tls: Some(certify(&ca, id, &directory, &[&ca])),
                limits: Limits::default(),
                log_format: LogFormat::Text,
                log_filter: "info".to_owned(),
            };
            let app = App::start(config).await.unwrap();
            members.insert(id, (ports[position], app.handle.clone()));
            tokio::spawn(app.serve(stop.clone()));
        }
        Self {
            ca,
            members,
            _stop: stop.drop_guard(),
            directory,
        }
    }

    async fn leader(&self) -> SocketAddr {
        let began = Instant::now();
        loop {
            for (address, handle) in self.members.values() {
                if handle.status().borrow().is_leader {
                    return *address;
                }
            }
            assert!(began.elapsed() < DEADLINE, "no leader");
            sleep(STEP).await;
        }
    }

    /// A certificate of this group's CA.
    fn files(&self, role: Role, name: &str) -> TlsFiles {
        let leaf = self.ca.leaf(role.as_str(), name, &[], 3_600);
        let folder = self.directory.path().join(format!("{role}-{name}"));
        leaf.write(&folder, &[&self.ca])
    }

    async fn channel(&self, role: Role, name: &str) -> Channel {
        let files = self.files(role, name);
        dial(self.leader().await, Some(&files)).await.unwrap()
    }

    fn terms(&self) -> Vec<u64> {
        let term = |(_, handle): &(SocketAddr, Handle)| handle.status().borrow().term;
        self.members.values().map(term).collect()
    }
}

fn certify(ca: &Ca, id: u64, directory: &TempDir, accepted: &[&Ca]) -> TlsFiles {
    let leaf = ca.leaf("coordinator", &id.to_string(), &["127.0.0.1"], 3_600);
    leaf.write(&directory.path().join(format!("tls{id}")), accepted)
}

async fn dial(address: SocketAddr, files: Option<&TlsFiles>) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let connecting = connect(endpoint, files);
    let connected = timeout(DEADLINE, connecting).await.unwrap();
    connected.map_err(|error| error.what)
}

/// What an empty request comes to, as far as the headers of the answer say.
async fn call(channel: &Channel, method: &str) -> Code {
    let mut channel = channel.clone();
    // A frame of gRPC: not compressed, no bytes.
    let body = axum::body::Body::from(vec![0; 5]);
    let request = axum::http::Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let answer = timeout(DEADLINE, channel.call(request)).await.unwrap();
    let status = answer.unwrap().headers().get("grpc-status").cloned();
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_for_its_roles_alone() {
    let group = Group::start().await;
    for role in Role::ALL {
        let channel = group.channel(role, "x").await;
        for (method, right) in roles::TABLE {
            let code = call(&channel, method).await;
            let may = right.roles().contains(&role);
            assert_eq!(
                code != Code::PermissionDenied,
                may,
                "{role} {method}: {code:?}"
            );
        }
        assert_eq!(
            call(&channel, "vitrail.v1.Admin/Nothing").await,
            Code::Unimplemented
        );
    }
    let clown = group.ca.leaf("clown", "bo", &[], 60);
    let clown = clown.write(&group.directory.path().join("clown"), &[&group.ca]);
    let channel = dial(group.leader().await, Some(&clown)).await.unwrap();
    assert_eq!(
        call(&channel, "grpc.health.v1.Health/Check").await,
        Code::PermissionDenied
    );
    let Err(plain) = plaintext(group.leader().await).await else {
        panic!("plaintext was served");
    };
    assert!(!plain.is_empty());
}

async fn plaintext(address: SocketAddr) -> Result<(), String> {
    let channel = dial(address, None).await?;
    let request = wire::GetClusterRequest { stale: true };
    let answer = AdminClient::new(channel).get_cluster(request).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// What is logged, kept for the test.
static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let log = LOG.get_or_init(Mutex::default);
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged() -> String {
    let log = LOG.get_or_init(Mutex::default);
    String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_what_is_written_down() {
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| Log);
    subscriber.init();
    let group = Group::start().await;
    let mut admin = AdminClient::new(group.channel(Role::Operator, "ann").await);
    let cell = wire::Cell {
        name: "zone7".to_owned(),
    };
    let change = wire::RecordChange {
        key: Some(wire::RecordKey {
            key: Some(wire::record_key::Key::Cell(cell.name.clone())),
        }),
        expected_revision: 0,
        value: Some(wire::RecordValue {
            value: Some(wire::record_value::Value::Cell(cell)),
        }),
    };
    let write = wire::WriteRecordsRequest {
        request_id: "r-17".to_owned(),
        changes: vec![change],
    };
    let channel = group.channel(Role::Operator, "ann").await;
    let mut records = wire::records_client::RecordsClient::new(channel);
    records.write(write).await.unwrap();
    let request = wire::ListEventsRequest::default();
    let events = admin
        .list_events(request)
        .await
        .unwrap()
        .into_inner()
        .events;
    let evidence = events
        .into_iter()
        .flat_map(|event| event.event.unwrap().evidence);
    let asked: Vec<_> = evidence
        .filter(|it| it.name == "requested_by")
        .map(|it| it.value)
        .collect();
    assert_eq!(asked, ["operator ann from 127.0.0.1"]);

    be_refused(&group, admin).await;
    for (line, words) in [
        (
            "r-17",
            &[
                "Records/Write",
                "role=\"operator\" name=\"ann\"",
                "cell/zone7",
                "code=Ok",
            ][..],
        ),
        (
            "r-19",
            &["Admin/DeleteKeyspace", "keyspace/nothing", "code=NotFound"],
        ),
        ("CreateKeyspace", &["code=OutOfRange", "duration_ms="]),
        (
            "a call was refused",
            &["viewer vi from 127.0.0.1", "Admin/DeleteKeyspace"],
        ),
    ] {
        let log = logged();
        let found = log.lines().find(|it| it.contains(line)).unwrap_or_default();
        for word in words {
            assert!(found.contains(word), "{line}: no {word} in {found}");
        }
    }
}

/// Too large, about nothing, by somebody who may not.
async fn be_refused(group: &Group, mut admin: AdminClient<Channel>) {
    let big = wire::CreateKeyspaceRequest {
        name: "x".repeat(3 << 20),
        request_id: "r-18".to_owned(),
        ..Default::default()
    };
    let refused = admin.create_keyspace(big).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let missing = wire::DeleteKeyspaceRequest {
        name: "nothing".to_owned(),
        request_id: "r-19".to_owned(),
        ..Default::default()
    };
    admin.delete_keyspace(missing).await.unwrap_err();
    let mut viewer = AdminClient::new(group.channel(Role::Viewer, "vi").await);
    let request = wire::DeleteKeyspaceRequest::default();
    let refused: Status = viewer.delete_keyspace(request).await.unwrap_err();
    assert!(refused.message().contains("role operator"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_rotated_and_floods_endured_while_raft_goes_on() {
    let group = Group::start().await;
    let address = group.leader().await;
    let ann = group.channel(Role::Operator, "ann").await;
    // The followers have heard of the term too.
    until(async || group.terms().windows(2).all(|two| two[0] == two[1])).await;
    let before = group.terms();
    let watch = wire::WatchRoutingRequest::default();
    let router = group.channel(Role::Agent, "zone1-100").await;
    let mut watch = RoutingClient::new(router)
        .watch(watch)
        .await
        .unwrap()
        .into_inner();
    timeout(DEADLINE, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();

    let new = Ca::new();
    let late = trust_both_then_new(&group, &new).await;
    let silent = timeout(Duration::from_millis(1), watch.message()).await;
    assert!(silent.is_err(), "the stream goes on: {silent:?}");

    endure_flood(&group, address, ann).await;
    assert_eq!(group.terms(), before, "nobody was elected meanwhile");

    for id in 1..=3 {
        certify(&new, id, &group.directory, &[&new]);
    }
    // The stream's certificate is of the CA that went.
    let ended = timeout(DEADLINE, async {
        while let Ok(Some(_)) = watch.message().await {}
    });
    ended.await.unwrap();
    let late = dial(group.leader().await, Some(&late)).await.unwrap();
    let request = wire::GetClusterRequest { stale: true };
    AdminClient::new(late).get_cluster(request).await.unwrap();
}

/// Everybody gets a new CA beside the old one, then keys of the new one. An operator of the new CA comes back.
async fn trust_both_then_new(group: &Group, new: &Ca) -> TlsFiles {
    let late: PathBuf = group.directory.path().join("late");
    let late = new
        .leaf("operator", "late", &[], 3_600)
        .write(&late, &[&group.ca, new]);
    for id in 1..=3 {
        certify(&group.ca, id, &group.directory, &[&group.ca, new]);
    }
    for (member, _) in group.members.values() {
        until(async || dial(*member, Some(&late)).await.is_ok()).await;
    }
    for id in 1..=3 {
        certify(new, id, &group.directory, &[&group.ca, new]);
    }
    let old = group.files(Role::Operator, "old");
    // Whoever accepts the old CA alone does not accept the members any more once they have their new certificates.
    for (member, _) in group.members.values() {
        until(async || dial(*member, Some(&old)).await.is_err()).await;
    }
    late
}

/// Silent connections of one address fill its share of handshakes; who is connected does not feel them.
async fn endure_flood(group: &Group, address: SocketAddr, ann: Channel) {
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(TcpStream::connect(address).await.unwrap());
    }
    let mut admin = AdminClient::new(ann);
    for _ in 0..20 {
        let request = wire::GetClusterRequest { stale: false };
        admin.get_cluster(request).await.unwrap();
    }
    assert_eq!(group.leader().await, address);
    drop(flood);
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < DEADLINE, "it does not happen");
        sleep(STEP).await;
    }
}
