//! Three coordinators in one process, asked as operators, agents and routers ask them: over real sockets.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, Streaming, transport::Channel};
use vt_coordinator::{
    app::App,
    config::{Config, LogFormat},
    node::Handle,
};
use vt_proto::{
    convert::read_update,
    routing::RoutingSnapshot,
    wire::{
        self, AgentMessage, CoordinatorMessage, admin_client::AdminClient,
        agent_uplink_client::AgentUplinkClient, routing_client::RoutingClient,
    },
};
use vt_tls::listen::Limits;

#[path = "api/records.rs"]
mod records;
#[path = "api/refusals.rs"]
mod refusals;

/// Longer than anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

struct Group {
    /// Address and handle by member.
    members: BTreeMap<u64, (String, Handle)>,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Group {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = (0..6).map(bind).collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|it| it.local_addr().unwrap())
            .collect();
        drop(listeners);
        let addresses: BTreeMap<u64, String> =
            (1..=3).zip(ports.iter().map(ToString::to_string)).collect();
        let stop = CancellationToken::new();
        let mut members = BTreeMap::new();
        for (position, (id, address)) in addresses.iter().enumerate() {
            let config = Config {
                cluster: "test".to_owned(),
                member_id: *id,
                data_dir: directory.path().join(id.to_string()),
                listen: ports[position],
                http_listen: ports[position + 3],
                members: addresses.clone(),
                tls: None,
                limits: Limits::default().plaintext(),
                log_format: LogFormat::Text,
                log_filter: "info".to_owned(),
            };
            let app = App::start(config).await.unwrap();
            members.insert(*id, (address.clone(), app.handle.clone()));
            tokio::spawn(app.serve(stop.clone()));
        }
        Self {
            members,
            _stop: stop.drop_guard(),
            _directory: directory,
        }
    }

    async fn leader(&self) -> u64 {
        let began = Instant::now();
        loop {
            for (id, (_, handle)) in &self.members {
                if handle.status().borrow().is_leader {
                    return *id;
                }
            }
            assert!(began.elapsed() < DEADLINE, "no leader");
            sleep(STEP).await;
        }
    }

    async fn channel(&self, id: u64) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.members[&id].0)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel(self.leader().await).await)
    }
}

fn report(alias: &str, port: u32) -> wire::Report {
    let tablet = wire::Tablet {
        alias: alias.to_owned(),
        kind: wire::TabletKind::Replica.into(),
        replica_set: "main".to_owned(),
        mysql: Some(wire::Endpoint {
            host: "db1".to_owned(),
            port,
        }),
        router: None,
    };
    let running = wire::mysqld_state::State::Running(wire::Running {});
    wire::Report {
        tablet: Some(tablet),
        boot_id: "boot".to_owned(),
        mysqld: Some(wire::MysqldState {
            state: Some(running),
        }),
        incarnation: 1,
        gtid: Some(wire::GtidPosition::default()),
        super_read_only: Some(true),
        ..wire::Report::default()
    }
}

/// An agent that has sent its first report.
struct Agent {
    reports: mpsc::Sender<AgentMessage>,
    desired: Streaming<CoordinatorMessage>,
}

async fn attach(channel: Channel, cluster_id: &str, report: wire::Report) -> Result<Agent, Status> {
    let (reports, stream) = mpsc::channel(8);
    let message = AgentMessage {
        cluster_id: cluster_id.to_owned(),
        report: Some(report),
        lost_answer: None,
    };
    reports.send(message).await.unwrap();
    let answer = AgentUplinkClient::new(channel)
        .attach(ReceiverStream::new(stream))
        .await?;
    Ok(Agent {
        reports,
        desired: answer.into_inner(),
    })
}

/// A router: what it knows, and how it hears of more.
struct Router {
    known: Option<RoutingSnapshot>,
    news: Streaming<wire::RoutingUpdate>,
    /// Messages with the whole state, and with changes.
    heard: (usize, usize),
}

impl Router {
    /// Watches as soon as the member serves.
    async fn watch(channel: Channel, known: Option<RoutingSnapshot>) -> Self {
        let request = wire::WatchRoutingRequest {
            after: known.as_ref().map(|known| known.version.into()),
            ..wire::WatchRoutingRequest::default()
        };
        let began = Instant::now();
        let news = loop {
            let mut client = RoutingClient::new(channel.clone());
            match client.watch(request.clone()).await {
                Ok(response) => break response.into_inner(),
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused}"),
            }
            assert!(began.elapsed() < DEADLINE);
            sleep(STEP).await;
        };
        Self {
            known,
            news,
            heard: (0, 0),
        }
    }

    /// Takes news until they say so; ends with the stream.
    async fn until(&mut self, is_so: impl Fn(&RoutingSnapshot) -> bool) -> RoutingSnapshot {
        let hear = async {
            loop {
                if let Some(known) = self.known.as_ref().filter(|known| is_so(known)) {
                    return known.clone();
                }
                let message = self.news.message().await.unwrap().unwrap();
                let update = read_update(message, self.known.as_ref()).unwrap();
                match update.delta {
                    None => self.heard.0 += 1,
                    Some(_) => self.heard.1 += 1,
                }
                let before = self.known.replace((*update.snapshot).clone());
                assert!(before.is_none_or(|before| before.version < update.snapshot.version));
            }
        };
        timeout(DEADLINE, hear).await.unwrap()
    }
}

/// How a stream that brings nothing ends.
async fn end(mut agent: Agent) -> Status {
    loop {
        match timeout(DEADLINE, agent.desired.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}

/// Asks a follower until it names the leader; before it has heard of one it says that there is none.
async fn named_leader<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> String {
    let began = Instant::now();
    loop {
        let refused = ask().await.err().unwrap();
        if let Some(leader) = refused.metadata().get("vitrail-leader") {
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            return leader.to_str().unwrap().to_owned();
        }
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(began.elapsed() < DEADLINE);
        sleep(STEP).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_name_the_leader() {
    let group = Group::start().await;
    let leader = group.leader().await;
    let expected = group.members[&leader].0.clone();
    let follower = *group.members.keys().find(|id| **id != leader).unwrap();
    let channel = group.channel(follower).await;
    let mut admin = AdminClient::new(channel.clone());
    let read = async || {
        admin
            .get_cluster(wire::GetClusterRequest { stale: false })
            .await
    };
    assert_eq!(named_leader(read).await, expected);
    let mut routing = RoutingClient::new(channel.clone());
    let request = wire::WatchRoutingRequest {
        relay: true,
        ..wire::WatchRoutingRequest::default()
    };
    let relay = async || routing.watch(request.clone()).await;
    assert_eq!(named_leader(relay).await, expected);
    let agent = async || attach(channel.clone(), "", report("zone1-100", 3306)).await;
    assert_eq!(named_leader(agent).await, expected);
    let stale = admin
        .get_cluster(wire::GetClusterRequest { stale: true })
        .await;
    assert_eq!(stale.unwrap().into_inner().coordinators.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_report_and_learn_what_is_desired() {
    let group = Group::start().await;
    let channel = group.channel(group.leader().await).await;
    let mut agent = attach(channel.clone(), "", report("zone1-100", 3306))
        .await
        .unwrap();
    let first = timeout(DEADLINE, agent.desired.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let desired = first.desired.unwrap();
    assert_eq!(
        (desired.alias.as_str(), desired.replica_set.as_str()),
        ("zone1-100", "main")
    );

    let foreign = attach(channel.clone(), "elsewhere", report("zone1-101", 3307))
        .await
        .unwrap();
    let foreign = end(foreign).await;
    assert_eq!(foreign.code(), Code::PermissionDenied, "{foreign}");
    let second = attach(
        channel.clone(),
        &first.cluster_id,
        report("zone1-100", 3399),
    )
    .await
    .unwrap();
    let second = end(second).await;
    assert_eq!(second.code(), Code::AlreadyExists, "{second}");
    let broken = wire::Report {
        mysqld: None,
        ..report("zone1-102", 3308)
    };
    let broken = end(attach(channel.clone(), "", broken).await.unwrap()).await;
    assert_eq!(broken.code(), Code::InvalidArgument, "{broken}");
    assert!(broken.message().contains("mysqld"), "{broken}");

    let mut admin = group.admin().await;
    let tablets = admin
        .list_tablets(wire::ListTabletsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .tablets;
    assert_eq!(tablets.len(), 1, "none of the refused ones has registered");
    assert!(tablets[0].connected);
    assert_eq!(tablets[0].report.as_ref().unwrap().boot_id, "boot");

    drop(agent.reports);
    let ended = timeout(DEADLINE, async {
        loop {
            let answer = admin
                .list_tablets(wire::ListTabletsRequest::default())
                .await
                .unwrap();
            if !answer.into_inner().tablets[0].connected {
                return;
            }
            sleep(STEP).await;
        }
    });
    ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_applied_once_and_reach_routers() {
    let group = Group::start().await;
    let mut admin = group.admin().await;
    let create = |request_id: &str| wire::CreateKeyspaceRequest {
        name: "commerce".to_owned(),
        replica_set: String::new(),
        request_id: request_id.to_owned(),
    };
    let nowhere = admin.create_keyspace(create("0")).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::FailedPrecondition, "{nowhere}");
    let channel = group.channel(group.leader().await).await;
    let mut agent = attach(channel.clone(), "", report("zone1-100", 3306))
        .await
        .unwrap();
    timeout(DEADLINE, agent.desired.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();

    let made = admin
        .create_keyspace(create("1"))
        .await
        .unwrap()
        .into_inner()
        .revision;
    let again = admin
        .create_keyspace(create("1"))
        .await
        .unwrap()
        .into_inner()
        .revision;
    assert_eq!(made, again);
    let other = admin.create_keyspace(create("2")).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists, "{other}");

    // Whichever member is asked.
    for id in group.members.keys() {
        let mut router = Router::watch(group.channel(*id).await, None).await;
        let known = router
            .until(|known| known.keyspace("commerce").is_some())
            .await;
        assert!(known.version.revision.0 >= made);
    }

    let schema = wire::ApplySchemaRequest {
        keyspace: "commerce".to_owned(),
        statements: vec!["CREATE TABLE a (b INT)".to_owned()],
        request_id: "3".to_owned(),
    };
    let first = admin
        .apply_schema(schema.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        admin.apply_schema(schema).await.unwrap().into_inner(),
        first
    );
    let change = admin
        .get_schema_change(wire::GetSchemaChangeRequest { id: first.id })
        .await
        .unwrap();
    assert_eq!(
        change.into_inner().change.unwrap().status(),
        wire::SchemaChangeStatus::Pending
    );
}

/// A group with the keyspace `commerce`, its leader's API and the revision of the keyspace.
async fn with_keyspace() -> (Group, AdminClient<Channel>, u64) {
    let group = Group::start().await;
    let mut admin = group.admin().await;
    let channel = group.channel(group.leader().await).await;
    let mut agent = attach(channel, "", report("zone1-100", 3306))
        .await
        .unwrap();
    let first = timeout(DEADLINE, agent.desired.message()).await.unwrap();
    first.unwrap().unwrap();
    let create = wire::CreateKeyspaceRequest {
        name: "commerce".to_owned(),
        ..Default::default()
    };
    let made = admin.create_keyspace(create).await.unwrap().into_inner();
    (group, admin, made.revision)
}

fn apply(tables: &[&str], replace: bool) -> wire::ApplyVschemaRequest {
    let spec = |table: &&str| ((*table).to_owned(), "{}".to_owned());
    wire::ApplyVschemaRequest {
        keyspace: "commerce".to_owned(),
        tables: tables.iter().map(spec).collect(),
        replace,
        request_id: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vschema_grows_or_is_replaced() {
    let (_group, mut admin, _) = with_keyspace().await;
    for (tables, replace, count) in [
        (&["a", "b"][..], false, 2),
        (&["c"], false, 3),
        (&["b"], true, 1),
    ] {
        admin.apply_vschema(apply(tables, replace)).await.unwrap();
        let keyspace = "commerce".to_owned();
        let shown = admin
            .get_vschema(wire::GetVschemaRequest { keyspace })
            .await;
        assert_eq!(shown.unwrap().into_inner().tables.len(), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_in_use_is_not_deleted() {
    let (_group, mut admin, made) = with_keyspace().await;
    admin.apply_vschema(apply(&["a"], false)).await.unwrap();
    for (force, expected_revision, code) in [
        (false, 0, Code::FailedPrecondition),
        (true, made + 1, Code::Aborted),
        (true, made, Code::Ok),
        (true, 0, Code::NotFound),
    ] {
        let delete = wire::DeleteKeyspaceRequest {
            name: "commerce".to_owned(),
            force,
            expected_revision,
            request_id: String::new(),
        };
        let deleted = admin.delete_keyspace(delete).await;
        assert_eq!(deleted.err().map_or(Code::Ok, |status| status.code()), code);
    }
    let request = wire::ListEventsRequest {
        subject: "keyspace/commerce".to_owned(),
        ..Default::default()
    };
    let events = admin
        .list_events(request)
        .await
        .unwrap()
        .into_inner()
        .events;
    let kinds = events.into_iter().map(|event| event.event.unwrap().kind);
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(
        kinds,
        ["keyspace.created", "vschema.applied", "keyspace.deleted"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_of_every_member_hear_changes_and_go_on_from_where_they_were() {
    let group = Group::start().await;
    let mut admin = group.admin().await;
    let channel = group.channel(group.leader().await).await;
    let _agent = attach(channel, "", report("zone1-100", 3306))
        .await
        .unwrap();
    let mut create = async |name: &str| {
        let request = wire::CreateKeyspaceRequest {
            name: name.to_owned(),
            // A refusal stands for its id.
            request_id: String::new(),
            replica_set: "main".to_owned(),
        };
        let began = Instant::now();
        // The replica set is there when the agent's first report is committed.
        while let Err(refused) = admin.create_keyspace(request.clone()).await {
            assert!(began.elapsed() < DEADLINE, "{refused}");
            sleep(STEP).await;
        }
    };
    create("one").await;
    let mut routers = Vec::new();
    for id in group.members.keys() {
        let mut router = Router::watch(group.channel(*id).await, None).await;
        router.until(|known| known.keyspace("one").is_some()).await;
        routers.push(router);
    }
    create("two").await;
    for router in &mut routers {
        router.until(|known| known.keyspace("two").is_some()).await;
    }
    // All members come to one version, and so do their routers.
    let version = loop {
        let current = |(_, node): &(String, Handle)| node.news().current().unwrap().version;
        let versions: BTreeSet<_> = group.members.values().map(current).collect();
        if versions.len() == 1 {
            break versions.into_iter().next().unwrap();
        }
        sleep(STEP).await;
    };
    for router in &mut routers {
        router.until(|known| known.version >= version).await;
        assert_eq!(router.heard.0, 1, "the whole state comes once");
        router.known = router.known.take().filter(|known| known.version == version);
    }
    create("three").await;
    // Each goes on at another member, which knows the version that it names.
    let known: Vec<_> = routers.drain(..).map(|router| router.known).collect();
    for (id, known) in group.members.keys().rev().zip(known) {
        let mut router = Router::watch(group.channel(*id).await, known).await;
        router
            .until(|known| known.keyspace("three").is_some())
            .await;
        assert_eq!(router.heard.0, 0, "changes are enough");
    }
}
