//! Messages between members. May lose any of them: raft sends again what matters, so nothing here waits or retries a message.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};
use vt_coordinator_core::{
    intent::join::join,
    joining::{Group, Introduction},
};
use vt_proto::wire::{
    DiscoverRequest, DiscoverResponse, JoinRequest, JoinResponse, MemberMessage, RaftStreamEnd,
    raft_transport_client::RaftTransportClient, raft_transport_server,
};

use crate::{api::error, dial::Dialer, first::answer_to_wire, metrics::Metrics, node::Handle};

/// Bytes of one message: an append message of raft, with room; snapshots come in chunks.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Messages that wait for one member; more than its inflight window, so that only a stuck one loses any.
const OUTBOX_MAX: usize = 1_024;
/// Messages between the queue and the connection: hand-over only.
const STREAM_MAX: usize = 16;
/// Pauses between attempts to connect: short, because a restarted member should be in contact before an election ends.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where messages to the other members are left.
pub struct Outbox {
    queues: BTreeMap<u64, Queue>,
    metrics: Arc<Metrics>,
    dialer: Dialer,
}

struct Queue {
    address: String,
    messages: mpsc::Sender<MemberMessage>,
    /// Ends with this value.
    _connection: AbortOnDropHandle<()>,
}

impl Outbox {
    /// Without anybody to send to; see [`Outbox::set_members`].
    pub fn new(metrics: Arc<Metrics>, dialer: Dialer) -> Self {
        Self {
            queues: BTreeMap::new(),
            metrics,
            dialer,
        }
    }

    /// Keeps a connection to each of these members, and to nobody else.
    pub fn set_members(&mut self, members: &BTreeMap<u64, String>) {
        self.queues
            .retain(|id, queue| members.get(id) == Some(&queue.address));
        let dialer = &self.dialer;
        for (id, address) in members {
            self.queues.entry(*id).or_insert_with(|| {
                let (messages, receiver) = mpsc::channel(OUTBOX_MAX);
                let connection = tokio::spawn(keep_connected(
                    *id,
                    address.clone(),
                    receiver,
                    dialer.clone(),
                ));
                Queue {
                    address: address.clone(),
                    messages,
                    _connection: AbortOnDropHandle::new(connection),
                }
            });
        }
    }

    /// Leaves a message for its receiver; false if it was lost.
    pub fn send(&self, message: MemberMessage) -> bool {
        let queue = self.queues.get(&message.to);
        let sent = queue.is_some_and(|queue| queue.messages.try_send(message).is_ok());
        if sent {
            self.metrics.raft_sent.inc();
        } else {
            self.metrics.raft_lost.inc();
        }
        sent
    }
}

/// Connects again and again until the node is gone.
async fn keep_connected(
    id: u64,
    address: String,
    mut messages: mpsc::Receiver<MemberMessage>,
    dialer: Dialer,
) {
    let mut pause = PAUSE_MIN;
    let mut reachable = true;
    loop {
        match dialer.dial(&address).await {
            Ok(channel) => {
                info!(member = id, address, "connected to member");
                let client =
                    RaftTransportClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
                pause = PAUSE_MIN;
                match carry(client, &mut messages).await {
                    Carried::NodeStopped => return,
                    Carried::Ended(why) => {
                        info!(member = id, address, why, "connection to member ended");
                    }
                }
                reachable = true;
            }
            Err(error) => {
                if reachable {
                    info!(
                        member = id,
                        address, %error, "member cannot be reached; trying on"
                    );
                }
                reachable = false;
            }
        }
        sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
        // What waited meanwhile is old: raft knows better what to send now.
        while messages.try_recv().is_ok() {}
        if messages.is_closed() {
            return;
        }
    }
}

enum Carried {
    NodeStopped,
    Ended(String),
}

impl Carried {
    fn ended(status: Option<&Status>) -> Self {
        let why = status.map_or("closed".to_owned(), |status| {
            let cause = status.source().map(with_causes);
            cause.unwrap_or_else(|| status.message().to_owned())
        });
        Carried::Ended(why)
    }
}

/// The error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Carries messages over one connection until it ends.
async fn carry(
    mut client: RaftTransportClient<tonic::transport::Channel>,
    messages: &mut mpsc::Receiver<MemberMessage>,
) -> Carried {
    let (sender, receiver) = mpsc::channel(STREAM_MAX);
    let call = client.stream(ReceiverStream::new(receiver));
    tokio::pin!(call);
    loop {
        let message = tokio::select! {
            ended = &mut call => {
                return Carried::ended(ended.err().as_ref());
            }
            message = messages.recv() => message,
        };
        let Some(message) = message else {
            return Carried::NodeStopped;
        };
        tokio::select! {
            ended = &mut call => {
                return Carried::ended(ended.err().as_ref());
            }
            sent = sender.send(message) => if sent.is_err() {
                return Carried::Ended("the stream does not take messages".to_owned());
            },
        }
    }
}

/// Takes the messages of other members in, and lets newcomers ask.
pub struct RaftTransport {
    pub me: Introduction,
    /// The cluster that this member belongs to, as soon as it does.
    pub group: watch::Receiver<Option<String>>,
    pub handle: Handle,
    pub inbox: mpsc::Sender<MemberMessage>,
    pub metrics: Arc<Metrics>,
}

impl RaftTransport {
    /// The service that fills the inbox.
    pub fn service(self) -> raft_transport_server::RaftTransportServer<Self> {
        raft_transport_server::RaftTransportServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn cluster_id(&self) -> Result<String, Status> {
        let group = self.group.borrow().clone();
        group.ok_or_else(|| error::retry("this coordinator is in no group yet".to_owned()))
    }
}

#[tonic::async_trait]
impl raft_transport_server::RaftTransport for RaftTransport {
    async fn stream(
        &self,
        request: Request<Streaming<MemberMessage>>,
    ) -> Result<Response<RaftStreamEnd>, Status> {
        let from = request.remote_addr();
        let cluster_id = self.cluster_id()?;
        let mut messages = request.into_inner();
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                () = self.inbox.closed() => {
                    return Err(Status::unavailable("this coordinator is stopping"));
                }
            };
            let Some(message) = next else {
                return Ok(Response::new(RaftStreamEnd {}));
            };
            let message = message.inspect_err(|status| {
                debug!(?from, %status, "the stream of a member ended");
            })?;
            if message.cluster_id != cluster_id {
                warn!(
                    ?from,
                    their_cluster = message.cluster_id,
                    our_cluster = cluster_id,
                    "a member of another cluster was refused"
                );
                return Err(Status::failed_precondition(format!(
                    "this is cluster {cluster_id}, not {}: compare [members] in the configuration of both",
                    message.cluster_id
                )));
            }
            self.metrics.raft_received.inc();
            if self.inbox.send(message).await.is_err() {
                return Err(Status::unavailable("this coordinator is stopping"));
            }
        }
    }

    async fn discover(
        &self,
        _: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        let group = self.group.borrow().clone();
        let Some(cluster_id) = group else {
            return Ok(Response::new(answer_to_wire(&self.me, None, None)));
        };
        let look = self.handle.read(false, move |core, status| {
            let state = core.state();
            let records = state.coordinators.values();
            let group = Group {
                cluster_id,
                coordinators: records.map(|record| record.value.clone()).collect(),
                next_coordinator: state.next_coordinator,
            };
            (group, status.leader_address.clone())
        });
        let (group, leader) = look.await.map_err(error::of_read)?;
        Ok(Response::new(answer_to_wire(&self.me, Some(group), leader)))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let cluster_id = self.cluster_id()?;
        if request.cluster_id != cluster_id {
            let theirs = request.cluster_id;
            let message = format!("this is cluster {cluster_id}, not {theirs}");
            return Err(Status::failed_precondition(message));
        }
        let request_id = format!("join-{}-{}", request.member_id, request.directory_id);
        let look = self.handle.read(true, move |core, status| {
            let (id, directory, formats) =
                (request.member_id, &request.directory_id, request.formats);
            join(
                core.state(),
                id,
                directory,
                formats,
                &request_id,
                status.now,
            )
        });
        let command = look.await.map_err(error::of_read)?;
        if let Some(command) = command.map_err(|refusal| error::of_refusal(&refusal))? {
            let proposed = self.handle.propose(command).await;
            proposed.map_err(error::of_write)?;
        }
        Ok(Response::new(JoinResponse {}))
    }
}
