//! What other parts hold of the node: a cheap handle with which they write, read, report and watch.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use vt_coordinator_core::{Core, command::Command, event::Now, refusal::Refusal};
use vt_proto::{
    desired::Desired, epoch::Revision, ids::TabletAlias, report::Report, routing::RoutingSnapshot,
};

use super::published::Published;

/// Requests that wait for the node's loop; it takes them in batches, so a full queue means that it is overloaded.
pub(super) const REQUESTS_MAX: usize = 4_096;
/// How long a write may wait for its outcome: longer than an election, so that most are answered.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read may wait for a majority to confirm that this member leads.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A member as the answering one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: u64,
    /// Where it serves gRPC, as host:port.
    pub address: String,
    /// The log index up to which it is known to have everything; zero where it is not known.
    pub matched: u64,
    /// Since when nothing was heard of it; None if nothing ever was.
    pub last_heard_ms: Option<u64>,
}

/// Where this member stands in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    pub cluster_id: String,
    pub id: u64,
    pub term: u64,
    pub leader_id: Option<u64>,
    pub leader_address: Option<String>,
    /// This member leads and has applied everything that was ever committed.
    pub is_leader: bool,
    pub applied: u64,
    pub commit: u64,
    /// In order of their ids.
    pub members: Vec<MemberStatus>,
    /// When this was true.
    pub now: Now,
}

/// Why a write was not done, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not done; to be sent to the leader.
    #[error("this coordinator does not lead: ask {}", leader.as_deref().unwrap_or("again in a moment, there is no leader now"))]
    NotLeader { leader: Option<String> },
    /// Not done, and doing it again would not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not done; to be tried again.
    #[error("too many writes are waiting: try again")]
    Busy,
    #[error("the write is too large: split it")]
    TooLarge,
    /// Perhaps done. The same request id may be sent again.
    #[error("whether the write was done is not known yet: send it again with the same request id")]
    Unknown,
    #[error("this coordinator is stopping")]
    Stopped,
}

/// Why a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("this coordinator does not lead: ask {}, or for a stale answer", leader.as_deref().unwrap_or("again in a moment, there is no leader now"))]
    NotLeader { leader: Option<String> },
    #[error("too many reads are waiting: try again")]
    Busy,
    #[error("no majority of coordinators confirmed in time that this one leads: try again")]
    TimedOut,
    #[error("this coordinator is stopping")]
    Stopped,
}

/// Runs in the node's loop, with its state or the reason why not.
pub(super) type View = Box<dyn FnOnce(Result<(&Core, &NodeStatus), ReadError>) + Send>;
/// Who waits for the outcome of a command.
pub(super) type Waiter = oneshot::Sender<Result<Revision, WriteError>>;

/// What the loop is asked to do.
pub(super) enum Request {
    Propose { command: Command, waiter: Waiter },
    Read { linearizable: bool, view: View },
    Report(Box<Report>),
    StreamEnded(TabletAlias),
}

/// The node, for those who use it.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) published: Arc<Published>,
}

impl Handle {
    /// Proposes a command and waits until it took effect or was refused.
    pub async fn propose(&self, command: Command) -> Result<Revision, WriteError> {
        let (waiter, outcome) = oneshot::channel();
        let asked = async {
            let request = Request::Propose { command, waiter };
            let sent = self.requests.send(request).await;
            sent.map_err(|_| WriteError::Stopped)?;
            outcome.await.map_err(|_| WriteError::Unknown)?
        };
        timeout(WRITE_TIMEOUT, asked)
            .await
            .unwrap_or(Err(WriteError::Unknown))
    }

    /// Looks at the state: as it is now for the whole group, or as this member happens to know it.
    pub async fn read<T: Send + 'static>(
        &self,
        linearizable: bool,
        look: impl FnOnce(&Core, &NodeStatus) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let (sender, answer) = oneshot::channel();
        let view: View = Box::new(move |found| {
            // Who asked may have gone.
            drop(sender.send(found.map(|(core, status)| look(core, status))));
        });
        let asked = async {
            let request = Request::Read { linearizable, view };
            let sent = self.requests.send(request).await;
            sent.map_err(|_| ReadError::Stopped)?;
            answer.await.map_err(|_| ReadError::Stopped)?
        };
        timeout(READ_TIMEOUT, asked)
            .await
            .unwrap_or(Err(ReadError::TimedOut))
    }

    /// Hands in what an agent reported; false if the node has stopped.
    pub async fn report(&self, report: Report) -> bool {
        let request = Request::Report(Box::new(report));
        self.requests.send(request).await.is_ok()
    }

    /// Says that an agent's stream has ended.
    pub async fn stream_ended(&self, alias: TabletAlias) {
        drop(self.requests.send(Request::StreamEnded(alias)).await);
    }

    /// Where this member stands, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// The newest desired state of an agent, None before there is one from this leader.
    pub fn desired(&self, alias: &TabletAlias) -> watch::Receiver<Option<Arc<Desired>>> {
        self.published.desired(alias)
    }

    /// The newest routing snapshot, None before this leader has made one.
    pub fn routing(&self) -> watch::Receiver<Option<Arc<RoutingSnapshot>>> {
        self.published.routing()
    }
}
