//! What other parts hold of the node: a cheap handle with which they write, read, report and watch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use vt_coordinator_core::{Core, command::Command, member::Token};
use vt_proto::{
    desired::Desired,
    epoch::Revision,
    ids::TabletAlias,
    report::Report,
    routing::{RoutingSnapshot, RoutingUpdate},
    wire::MemberMessage,
};

use super::{changes::Changes, published::Published};
use crate::{news::News, storage::Space};

pub use vt_coordinator_core::member::{
    MemberStatus, NodeStatus, ReadError, TransferError, WriteError,
};

/// Requests that wait for the node's loop; it takes them in batches, so a full queue means that it is overloaded.
pub(super) const REQUESTS_MAX: usize = 4_096;
/// Messages of all members that wait for the node: it is behind by more than its peers' windows if this is full.
const INBOX_MAX: usize = 4_096;
/// How long a write may wait for its outcome: a little longer than the member lets it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a read may wait: a little longer than the member lets it.
const READ_TIMEOUT: Duration = Duration::from_secs(6);

/// Runs in the node's loop, with its state or the reason why not.
pub(super) type View = Box<dyn FnOnce(Result<(&Core, &NodeStatus), ReadError>) + Send>;
/// Runs in the node's loop, with its state; may make a proposal of it.
pub(super) type Planner = Box<dyn FnOnce(&Core, &NodeStatus) -> Option<Request> + Send>;
/// Who waits for the outcome of a command.
pub(super) type Waiter = oneshot::Sender<Result<Revision, WriteError>>;
/// Who waits to hear to whom leadership goes.
pub(super) type TransferWaiter = oneshot::Sender<Result<u64, TransferError>>;

/// What the loop is asked to do.
pub(super) enum Request {
    Propose {
        command: Command,
        /// On the monotonic clock.
        deadline_ms: Option<u64>,
        waiter: Waiter,
    },
    /// At the state as this member happens to know it.
    Look {
        view: View,
    },
    /// At the state as this member happens to know it, and then what is made of it.
    Plan {
        planner: Planner,
    },
    /// At the state as it is now for the whole group.
    Read {
        of_leader: bool,
        view: View,
    },
    Transfer {
        to: Option<u64>,
        waiter: TransferWaiter,
    },
    Report(Box<Report>),
    StreamEnded(TabletAlias),
    Relayed(Arc<RoutingSnapshot>),
}

/// Who waits for the member's answers, by token. Bounded, because the member answers each token once and in bounded time.
#[derive(Default)]
pub(super) struct Waiting {
    last_token: u64,
    writes: BTreeMap<Token, Waiter>,
    reads: BTreeMap<Token, View>,
    transfers: BTreeMap<Token, TransferWaiter>,
}

impl Waiting {
    fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    pub(super) fn write(&mut self, waiter: Waiter) -> Token {
        let token = self.token();
        self.writes.insert(token, waiter);
        token
    }

    pub(super) fn read(&mut self, view: View) -> Token {
        let token = self.token();
        self.reads.insert(token, view);
        token
    }

    pub(super) fn transfer(&mut self, waiter: TransferWaiter) -> Token {
        let token = self.token();
        self.transfers.insert(token, waiter);
        token
    }

    // Who asked may have gone; nobody misses the answer then.

    pub(super) fn written(&mut self, token: Token, outcome: Result<Revision, WriteError>) {
        if let Some(waiter) = self.writes.remove(&token) {
            drop(waiter.send(outcome));
        }
    }

    pub(super) fn readable(&mut self, token: Token) -> Option<View> {
        self.reads.remove(&token)
    }

    pub(super) fn handing_over(&mut self, token: Token, outcome: Result<u64, TransferError>) {
        if let Some(waiter) = self.transfers.remove(&token) {
            drop(waiter.send(outcome));
        }
    }
}

/// Where a node will sit: others hold handles of it before it is there.
pub struct Seat {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) inbox: mpsc::Receiver<MemberMessage>,
    pub(super) status: watch::Sender<NodeStatus>,
    pub(super) space: watch::Sender<Space>,
    pub(super) published: Arc<Published>,
    pub(super) news: Arc<News>,
}

/// The node, for those who use it. Before there is one, nobody leads and every question waits.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) space: watch::Receiver<Space>,
    pub(super) published: Arc<Published>,
    pub(super) news: Arc<News>,
    pub(super) lost: watch::Sender<bool>,
}

impl Handle {
    /// A handle, where messages of other members are left for the node, and the seat of the node.
    pub fn new() -> (Self, mpsc::Sender<MemberMessage>, Seat) {
        let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
        let (inbox_in, inbox) = mpsc::channel(INBOX_MAX);
        let published = Arc::new(Published::default());
        let status = watch::Sender::new(NodeStatus::default());
        let space = watch::Sender::new(Space::default());
        let news = Arc::new(News::default());
        let handle = Self {
            news: news.clone(),
            lost: watch::Sender::new(false),
            space: space.subscribe(),
            requests: requests_in,
            status: status.subscribe(),
            published: published.clone(),
        };
        let seat = Seat {
            requests,
            inbox,
            status,
            space,
            published,
            news,
        };
        (handle, inbox_in, seat)
    }

    /// Proposes a command and waits until it took effect or was refused.
    pub async fn propose(&self, command: Command) -> Result<Revision, WriteError> {
        self.propose_until(command, None).await
    }

    /// The moment so long from now, on the monotonic clock of [`super::clock`].
    pub fn deadline_in(timeout: Duration) -> u64 {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        super::clock::now().monotonic_ms.saturating_add(timeout_ms)
    }

    /// The same, unless the deadline (on [`super::clock`]'s monotonic clock) has passed before it is begun.
    pub async fn propose_until(
        &self,
        command: Command,
        deadline_ms: Option<u64>,
    ) -> Result<Revision, WriteError> {
        let (waiter, outcome) = oneshot::channel();
        let asked = async {
            let request = Request::Propose {
                command,
                deadline_ms,
                waiter,
            };
            let sent = self.requests.send(request).await;
            sent.map_err(|_| WriteError::Stopped)?;
            outcome.await.map_err(|_| WriteError::Unknown)?
        };
        timeout(WRITE_TIMEOUT, asked)
            .await
            .unwrap_or(Err(WriteError::Unknown))
    }

    /// Makes a command, or none, of the state as this member happens to know it, and proposes it at once, unless the deadline has passed.
    /// Returns what the plan tells and what came of the command.
    pub async fn plan<T: Send + 'static>(
        &self,
        deadline_ms: Option<u64>,
        plan: impl FnOnce(&Core, &NodeStatus) -> (T, Option<Command>) + Send + 'static,
    ) -> Result<(T, Option<Result<Revision, WriteError>>), ReadError> {
        let (teller, told) = oneshot::channel();
        let (waiter, outcome) = oneshot::channel();
        let planner = Box::new(move |core: &Core, status: &NodeStatus| {
            let (tell, command) = plan(core, status);
            // Who asked may have gone; then nothing is proposed either.
            teller.send((tell, command.is_some())).ok()?;
            Some(Request::Propose {
                command: command?,
                deadline_ms,
                waiter,
            })
        });
        let sent = self.requests.send(Request::Plan { planner });
        let asked = async {
            sent.await.map_err(|_| ReadError::Stopped)?;
            told.await.map_err(|_| ReadError::Stopped)
        };
        let asked = timeout(READ_TIMEOUT, asked).await;
        let (tell, proposed) = asked.unwrap_or(Err(ReadError::TimedOut))?;
        if !proposed {
            return Ok((tell, None));
        }
        let outcome = timeout(WRITE_TIMEOUT, outcome).await;
        let outcome = outcome.map_or(Err(WriteError::Unknown), |outcome| {
            outcome.unwrap_or(Err(WriteError::Unknown))
        });
        Ok((tell, Some(outcome)))
    }

    /// Looks at the state of the leader, health included: as it is now for the whole group, or as this member happens to know it.
    pub async fn read<T: Send + 'static>(
        &self,
        linearizable: bool,
        look: impl FnOnce(&Core, &NodeStatus) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        self.look(look, move |view| match linearizable {
            true => Request::Read {
                of_leader: true,
                view,
            },
            false => Request::Look { view },
        })
        .await
    }

    /// Looks at the replicated state as it is now for the whole group, on whichever member this is.
    pub async fn read_anywhere<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, &NodeStatus) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let of_leader = false;
        self.look(look, move |view| Request::Read { of_leader, view })
            .await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, &NodeStatus) -> T + Send + 'static,
        request: impl FnOnce(View) -> Request,
    ) -> Result<T, ReadError> {
        let (sender, answer) = oneshot::channel();
        let view: View = Box::new(move |found| {
            // Who asked may have gone.
            drop(sender.send(found.map(|(core, status)| look(core, status))));
        });
        let request = request(view);
        let asked = async {
            let sent = self.requests.send(request).await;
            sent.map_err(|_| ReadError::Stopped)?;
            answer.await.map_err(|_| ReadError::Stopped)?
        };
        timeout(READ_TIMEOUT, asked)
            .await
            .unwrap_or(Err(ReadError::TimedOut))
    }

    /// Hands leadership to this voter, or to the best one. Returns to whom it goes; that it has gone is seen in the status.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let (waiter, outcome) = oneshot::channel();
        let gone = || TransferError::NotLeader { leader: None };
        let asked = async {
            let request = Request::Transfer { to, waiter };
            let sent = self.requests.send(request).await;
            sent.map_err(|_| gone())?;
            outcome.await.map_err(|_| gone())?
        };
        timeout(WRITE_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err(gone()))
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

    /// Whether the disk takes anything, now and whenever that changes.
    pub fn space(&self) -> watch::Receiver<Space> {
        self.space.clone()
    }

    /// The newest desired state of an agent, None before there is one from this leader.
    pub fn desired(&self, alias: &TabletAlias) -> watch::Receiver<Option<Arc<Desired>>> {
        self.published.desired(alias)
    }

    /// What changed lately in this member's records.
    pub fn changes(&self) -> &Changes {
        &self.published.changes
    }

    /// What routers know and should hear next.
    pub fn news(&self) -> Arc<News> {
        self.news.clone()
    }

    /// Takes over what the leader published for routers.
    pub async fn relay(&self, update: RoutingUpdate) {
        let snapshot = update.snapshot.clone();
        self.news.take(update);
        drop(self.requests.send(Request::Relayed(snapshot)).await);
    }

    /// Whether no leader is heard for too long; said by whoever listens for one.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    /// Where that is said.
    pub fn say_lost(&self) -> watch::Sender<bool> {
        self.lost.clone()
    }
}
