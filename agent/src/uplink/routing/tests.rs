//! The watch against a coordinator that says what the test tells it to. No real group here: see the coordinator's own tests.

use std::sync::Mutex;

use prost::bytes::Bytes;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response};
use vt_proto::{
    epoch::{Epoch, Revision},
    routing::{ReplicaSetRoute, RoutingDelta, RoutingVersion, ServingState},
    wire::{
        routing_server::{Routing, RoutingServer},
        routing_update::Update,
    },
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn snapshot(revision: u64) -> RoutingSnapshot {
    RoutingSnapshot {
        users: Vec::new(),
        cluster_id: "c".into(),
        version: RoutingVersion {
            revision: Revision(revision),
            health: 0,
        },
        keyspaces: Vec::new(),
        replica_sets: vec![Arc::new(ReplicaSetRoute {
            name: "rs0".parse().unwrap(),
            epoch: Epoch(revision),
            state: ServingState::Serving,
            primary: None,
            replicas: Vec::new(),
        })],
    }
}

#[test]
fn a_snapshot_is_kept_and_a_damaged_one_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(load(directory.path()), None);
    let path = directory.path().join(SNAPSHOT_FILE);
    write(&path, &snapshot(3)).unwrap();
    assert_eq!(load(directory.path()), Some(snapshot(3)));
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(load(directory.path()), None);
}

/// A coordinator that says what the test tells it to, and notes what it is asked.
#[derive(Clone)]
struct Said {
    /// What each watch is told, one after the other.
    watches: Arc<Mutex<Vec<Vec<Update>>>>,
    asked: mpsc::Sender<Option<u64>>,
}

#[tonic::async_trait]
impl Routing for Said {
    type WatchStream = ReceiverStream<Result<wire::RoutingUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRoutingRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let after = request.into_inner().after.map(|after| after.revision);
        self.asked.send(after).await.unwrap();
        let (sender, receiver) = mpsc::channel(8);
        let mut watches = self.watches.lock().unwrap();
        if watches.is_empty() {
            return Err(Status::unavailable("nothing more to say"));
        }
        for update in watches.remove(0) {
            let update = Some(update);
            sender.try_send(Ok(wire::RoutingUpdate { update })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn full(revision: u64) -> Update {
    let message = wire::RoutingSnapshot::from(&snapshot(revision));
    Update::Full(message.encode_to_vec().into())
}

fn changes(from: u64, to: u64) -> Update {
    let delta = RoutingDelta::between(&snapshot(from), &snapshot(to));
    Update::Delta(wire::RoutingDelta::from(&delta).encode_to_vec().into())
}

struct Taken(mpsc::UnboundedSender<Arc<RoutingSnapshot>>);

impl Publish for Taken {
    fn publish(&self, snapshot: Arc<RoutingSnapshot>) {
        self.0.send(snapshot).unwrap();
    }
}

/// Runs a watch against a coordinator; what it asks for and what it hands on.
async fn watch(
    known: Option<RoutingSnapshot>,
    watches: Vec<Vec<Update>>,
    data_dir: &Path,
    cancel: &CancellationToken,
) -> (
    mpsc::Receiver<Option<u64>>,
    mpsc::UnboundedReceiver<Arc<RoutingSnapshot>>,
    JoinHandle<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, questions) = mpsc::channel(64);
    let said = Said {
        watches: Arc::new(Mutex::new(watches)),
        asked,
    };
    let server = tonic::transport::Server::builder().add_service(RoutingServer::new(said));
    let incoming = TcpListenerStream::new(listener);
    let stop = cancel.clone();
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()));
    let (taken, published) = mpsc::unbounded_channel();
    let watch = RoutingWatch {
        coordinators: vec![Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
        }],
        tls: None,
        data_dir: data_dir.to_owned(),
        known: known.map(Arc::new),
        router: "r".to_owned(),
        cluster_id: watch::Sender::new(String::new()),
        publish: Taken(taken),
        connected: watch::Sender::new(false),
    };
    let task = tokio::spawn(watch.run(cancel.clone()));
    (questions, published, task)
}

#[tokio::test]
async fn changes_are_taken_from_what_is_known_and_all_is_asked_for_where_they_do_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let watches = vec![
        // Goes on from the kept snapshot; then something is missing.
        vec![changes(3, 4), changes(4, 6), changes(7, 8)],
        vec![full(9), changes(9, 10)],
        // Not understood at all.
        vec![Update::Delta(Bytes::from_static(b"?"))],
    ];
    let (mut asked, mut published, task) =
        watch(Some(snapshot(3)), watches, directory.path(), &cancel).await;
    let hear = async {
        for revision in [4, 6, 9, 10] {
            assert_eq!(*published.recv().await.unwrap(), snapshot(revision));
        }
        // The second watch stays open: it is the test that ends it.
        let mut after = Vec::new();
        for _ in 0..2 {
            after.push(asked.recv().await.unwrap());
        }
        assert_eq!(after, [Some(3), None]);
    };
    timeout(DEADLINE, hear).await.unwrap();
    cancel.cancel();
    task.await.unwrap();
    assert_eq!(load(directory.path()), Some(snapshot(10)));
}

#[tokio::test]
async fn news_are_on_disk_when_the_coordinators_are_lost_right_after_them() {
    let directory = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let watches = vec![vec![full(3), changes(3, 4), changes(7, 8)]];
    let (_asked, _published, task) = watch(None, watches, directory.path(), &cancel).await;
    let kept = async {
        // The agent is not ended in order, which would keep them too.
        while load(directory.path()) != Some(snapshot(4)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, kept).await.unwrap();
    assert!(!task.is_finished());
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("later");
    let mut saver = Saver {
        path: folder.join(SNAPSHOT_FILE),
        kept: None,
        newest: None,
        due: None,
        turn: Arc::default(),
    };
    saver.take(Arc::new(snapshot(1)));
    saver.save().await;
    fs::create_dir(&folder).unwrap();
    saver.save().await;
    assert_eq!(load(&folder), Some(snapshot(1)));
}

#[tokio::test]
async fn a_snapshot_is_written_now_and_then_and_health_seldom() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SNAPSHOT_FILE);
    let mut saver = Saver {
        path: path.clone(),
        kept: None,
        newest: None,
        due: None,
        turn: Arc::default(),
    };
    let start = Instant::now();
    saver.take(Arc::new(snapshot(1)));
    let due = saver.due.unwrap();
    assert!(due <= Instant::now() + SAVE_PERIOD && due >= start + SAVE_PERIOD);
    saver.take(Arc::new(snapshot(2)));
    assert_eq!(saver.due, Some(due), "more news do not put it off");
    saver.save().await;
    assert_eq!(load(directory.path()), Some(snapshot(2)));
    assert_eq!(saver.due, None);
    let mut healthier = snapshot(2);
    healthier.version.health = 1;
    saver.take(Arc::new(healthier));
    assert!(saver.due.unwrap() >= start + SAVE_PERIOD_HEALTH);
    saver.take(Arc::new(snapshot(3)));
    assert!(saver.due.unwrap() <= Instant::now() + SAVE_PERIOD);
}
