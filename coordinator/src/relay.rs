//! While another member leads, its routing news are heard here and passed on to this member's routers.
//!
//! It decides nothing: what comes is taken as it comes. On a change of leaders this member goes on with what it knows; when
//! it has been without a leader for too long it says so, and its routers go to another member.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info, warn};
use vt_proto::{
    convert::read_update,
    wire::{self, WatchRoutingRequest, routing_client::RoutingClient},
};

use crate::{
    dial::Dialer,
    node::{Handle, NodeStatus},
};

/// How long routers are kept by a member that hears no leader: longer than most elections take.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// Between two attempts to reach the leader.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer to the opening of the watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// The whole state of the largest topology that is planned for, with room.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The relay of one member.
pub struct Relay {
    node: Handle,
    lost: watch::Sender<bool>,
    dialer: Dialer,
}

impl Relay {
    /// Of this node.
    pub fn new(node: Handle, dialer: Dialer) -> Self {
        let lost = node.say_lost();
        Self { node, lost, dialer }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut status = self.node.status();
        loop {
            let without = Instant::now() + LOST_AFTER;
            // In time, or late: then routers were told.
            while let Err(why) = self.hear(&mut status, without).await {
                debug!(%why, "the leader's routing news are not heard");
                if Instant::now() >= without && !self.lost.send_replace(true) {
                    info!("no leader is heard: routers are sent to other members");
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// Hears a leader, this member or another. Fails if none was found; its end is no failure.
    async fn hear(
        &self,
        status: &mut watch::Receiver<NodeStatus>,
        without: Instant,
    ) -> Result<(), Status> {
        let known = |status: &NodeStatus| status.is_leader || leader(status).is_some();
        // Late: as long as a pause, so that whoever waits notices a leader soon.
        let until = without.max(Instant::now() + PAUSE);
        let found = timeout_at(until, async {
            let found = status.wait_for(known).await;
            found.map(|found| found.clone())
        });
        let found = match found.await {
            Ok(Ok(found)) => found,
            // The node has ended, and this ends with it.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return Err(Status::unavailable("there is no leader")),
        };
        if found.is_leader {
            self.lost.send_replace(false);
            // Its end, or the end of the node.
            drop(status.wait_for(|status| !status.is_leader).await);
            return Ok(());
        }
        let address = leader(&found).unwrap_or_default();
        let mut stream = self.open(&found, &address).await?;
        self.lost.send_replace(false);
        debug!(leader = address, "hears the leader's routing news");
        let leads_no_more = |status: &NodeStatus| {
            status.is_leader || leader(status).is_some_and(|other| other != address)
        };
        let other = async { drop(status.wait_for(leads_no_more).await) };
        let hearing = async {
            let end = self.pass_on(&mut stream).await;
            debug!(%end, "the leader's routing news have ended");
            sleep(PAUSE).await;
        };
        tokio::select! {
            () = hearing => {}
            () = other => {}
        }
        Ok(())
    }

    async fn open(
        &self,
        status: &NodeStatus,
        address: &str,
    ) -> Result<tonic::Streaming<wire::RoutingUpdate>, Status> {
        let channel = self.dialer.dial(address).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = RoutingClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let after = self.node.news().current();
        let opening = client.watch(WatchRoutingRequest {
            cluster_id: status.cluster_id.clone(),
            router: format!("coordinator {}", status.id),
            after: after.map(|snapshot| snapshot.version.into()),
            relay: true,
        });
        let response = timeout(OPEN_TIMEOUT, opening).await;
        let response =
            response.map_err(|_| Status::deadline_exceeded("the leader did not answer in time"))?;
        Ok(response?.into_inner())
    }

    async fn pass_on(&self, stream: &mut tonic::Streaming<wire::RoutingUpdate>) -> Status {
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Status::unavailable("the leader ended the stream"),
                Err(status) => return status,
            };
            let current = self.node.news().current();
            match read_update(message, current.as_deref()) {
                Ok(update) => self.node.relay(update).await,
                Err(error) => {
                    // Asked anew, from the version that is known then.
                    warn!(%error, "the leader's routing news cannot be used");
                    return Status::data_loss(error.to_string());
                }
            }
        }
    }
}

fn leader(status: &NodeStatus) -> Option<String> {
    let is_other = status.leader_id.is_some_and(|leader| leader != status.id);
    status.leader_address.clone().filter(|_| is_other)
}
