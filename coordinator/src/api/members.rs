//! What members of the group say to each other: their messages are left for the node, and newcomers may ask who is there.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};
use vt_coordinator_core::{
    intent::join::join,
    joining::{Group, Introduction},
};
use vt_proto::{
    cluster::{Kinship, kinship},
    wire::{
        DiscoverRequest, DiscoverResponse, JoinRequest, JoinResponse, MemberMessage, RaftStreamEnd,
        raft_transport_server,
    },
};

use super::error;
use crate::{
    first::answer_to_wire, metrics::Metrics, node::Handle, raft::transport::MESSAGE_BYTES_MAX,
};

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
                return Ok(Response::new(RaftStreamEnd::default()));
            };
            let message = message.inspect_err(|status| {
                debug!(?from, %status, "the stream of a member ended");
            })?;
            let relation = kinship(&message.cluster_id, &cluster_id);
            if relation == Kinship::Older {
                warn!(
                    ?from,
                    member = message.from,
                    their_cluster = message.cluster_id,
                    "a member of the group before this one runs; it is told that it is out"
                );
                return Ok(Response::new(RaftStreamEnd {
                    successor_cluster_id: cluster_id,
                }));
            }
            if relation == Kinship::Foreign {
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
        let look = self.handle.read(true, move |core, status| {
            let (id, directory, formats) =
                (request.member_id, &request.directory_id, request.formats);
            join(core.state(), id, directory, formats, status.now)
        });
        let command = look.await.map_err(error::of_read)?;
        if let Some(command) = command.map_err(|refusal| error::of_refusal(&refusal))? {
            let proposed = self.handle.propose(command).await;
            proposed.map_err(error::of_write)?;
        }
        Ok(Response::new(JoinResponse {}))
    }
}
