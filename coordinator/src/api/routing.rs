//! What routers watch: the newest routing snapshot, then each newer one; a slow reader skips to the newest. Served by the leader.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::info;
use vt_proto::{
    routing,
    wire::{RoutingSnapshot, WatchRoutingRequest, routing_server::Routing},
};

use super::{agent::leadership_lost, error, require_cluster, require_leader};
use crate::node::Handle;

/// One snapshot under way is enough: each replaces those before.
const OUTGOING_MAX: usize = 1;

type Newest = watch::Receiver<Option<Arc<routing::RoutingSnapshot>>>;
type Outgoing = mpsc::Sender<Result<RoutingSnapshot, Status>>;

/// The service.
pub struct Watches {
    node: Handle,
    stop: CancellationToken,
}

impl Watches {
    /// The service of this node; `stop` ends its streams.
    pub fn new(node: Handle, stop: CancellationToken) -> Self {
        Self { node, stop }
    }
}

#[tonic::async_trait]
impl Routing for Watches {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<RoutingSnapshot, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRoutingRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let status = self.node.status();
        {
            let status = status.borrow();
            require_leader(&status)?;
            require_cluster(&status, &request.cluster_id)?;
        }
        info!(router = %request.router, "a router watches");
        let (outgoing, receiver) = mpsc::channel(OUTGOING_MAX);
        let newest = self.node.routing();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = send_newest(newest, &outgoing) => end,
                end = leadership_lost(status) => end,
                () = stop.cancelled() => error::retry("this coordinator is stopping".to_owned()),
                () = outgoing.closed() => return,
            };
            // Full means that a snapshot is still under way to a slow router; dropping the channel ends the stream after it.
            drop(outgoing.try_send(Err(end)));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn send_newest(mut newest: Newest, outgoing: &Outgoing) -> Status {
    // What was published before is the first message.
    newest.mark_changed();
    loop {
        if newest.changed().await.is_err() {
            return error::retry("this coordinator is stopping".to_owned());
        }
        let Ok(permit) = outgoing.reserve().await else {
            return Status::cancelled("the router has gone");
        };
        let snapshot = newest.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            permit.send(Ok(routing::RoutingSnapshot::clone(&snapshot).into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(health: u64) -> Option<Arc<routing::RoutingSnapshot>> {
        let mut snapshot = routing::RoutingSnapshot::default();
        snapshot.version.health = health;
        Some(Arc::new(snapshot))
    }

    #[tokio::test]
    async fn the_newest_comes_first_and_a_slow_reader_skips() {
        let (sender, newest) = watch::channel(snapshot(1));
        let (outgoing, mut incoming) = mpsc::channel(OUTGOING_MAX);
        let task = tokio::spawn(async move { send_newest(newest, &outgoing).await });
        let mut health = async || incoming.recv().await.unwrap().unwrap().health;
        assert_eq!(health().await, 1);
        for number in 2..=9 {
            sender.send_replace(snapshot(number));
        }
        // At most the one that was under way and the newest.
        let mut seen = health().await;
        if seen != 9 {
            seen = health().await;
        }
        assert_eq!(seen, 9);
        drop(sender);
        assert_eq!(task.await.unwrap().code(), tonic::Code::Unavailable);
    }
}
