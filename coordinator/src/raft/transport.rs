//! Messages to the other members. May lose any of them: raft sends again what matters, so nothing here waits or retries a message.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Response, Status};
use tracing::info;
use vt_proto::wire::{MemberMessage, RaftStreamEnd, raft_transport_client::RaftTransportClient};

use crate::{dial::Dialer, metrics::Metrics};

/// Bytes of one message: an append message of raft, with room; snapshots come in chunks.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Messages that wait for one member; more than its inflight window, so that only a stuck one loses any.
const OUTBOX_MAX: usize = 1_024;
/// Messages between the queue and the connection: hand-over only.
const STREAM_MAX: usize = 16;
/// Pauses between attempts to connect: short, because a restarted member should be in contact before an election ends.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Removed members that are still answered, the newest: each is a connection that may never come about again.
const REMOVED_MAX: usize = 2;

/// Where messages to the other members are left.
pub struct Outbox {
    queues: BTreeMap<u64, Queue>,
    metrics: Arc<Metrics>,
    dialer: Dialer,
    inbox: mpsc::Sender<MemberMessage>,
}

struct Queue {
    address: String,
    messages: mpsc::Sender<MemberMessage>,
    /// Ends with this value.
    _connection: AbortOnDropHandle<()>,
}

impl Outbox {
    /// Without anybody to send to; see [`Outbox::set_members`]. What a member of the group that took the place of this one answers goes
    /// to the inbox.
    pub fn new(metrics: Arc<Metrics>, dialer: Dialer, inbox: mpsc::Sender<MemberMessage>) -> Self {
        Self {
            queues: BTreeMap::new(),
            metrics,
            dialer,
            inbox,
        }
    }

    /// Keeps a connection to each of these members, and to the last who were removed: they ask whether it is so, and go when they are
    /// answered.
    pub fn set_members(&mut self, members: &BTreeMap<u64, String>) {
        self.queues.retain(|id, queue| match members.get(id) {
            Some(address) => *address == queue.address,
            None => members.values().all(|address| *address != queue.address),
        });
        let removed = |id: &&u64| !members.contains_key(*id);
        let removed: Vec<u64> = self.queues.keys().filter(removed).copied().collect();
        for id in removed.iter().rev().skip(REMOVED_MAX) {
            self.queues.remove(id);
        }
        let (dialer, inbox) = (&self.dialer, &self.inbox);
        for (id, address) in members {
            self.queues.entry(*id).or_insert_with(|| {
                let (messages, receiver) = mpsc::channel(OUTBOX_MAX);
                let connection = tokio::spawn(keep_connected(
                    *id,
                    address.clone(),
                    receiver,
                    dialer.clone(),
                    inbox.clone(),
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
    inbox: mpsc::Sender<MemberMessage>,
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
                    Carried::Superseded { cluster_id } => {
                        let word = MemberMessage {
                            cluster_id,
                            from: id,
                            ..MemberMessage::default()
                        };
                        // A node that takes nothing any more has ended.
                        let _ = inbox.send(word).await;
                    }
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
    /// The receiver is of the group that took the place of this one.
    Superseded {
        cluster_id: String,
    },
    Ended(String),
}

impl Carried {
    fn ended(end: Result<Response<RaftStreamEnd>, Status>) -> Self {
        match end.map(Response::into_inner) {
            Ok(end) if end.successor_cluster_id.is_empty() => Carried::Ended("closed".to_owned()),
            Ok(end) => Carried::Superseded {
                cluster_id: end.successor_cluster_id,
            },
            Err(status) => {
                let cause = status.source().map(with_causes);
                Carried::Ended(cause.unwrap_or_else(|| status.message().to_owned()))
            }
        }
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
                return Carried::ended(ended);
            }
            message = messages.recv() => message,
        };
        let Some(message) = message else {
            return Carried::NodeStopped;
        };
        tokio::select! {
            ended = &mut call => {
                return Carried::ended(ended);
            }
            sent = sender.send(message) => if sent.is_err() {
                return Carried::Ended("the stream does not take messages".to_owned());
            },
        }
    }
}
