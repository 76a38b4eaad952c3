//! Which calls of operators and tools are let in, and when: so many of one connection at a time, so many in all, in fair turns between
//! the connections. What is beyond is refused at once and may be tried again. Agents, routers and members do not pass here: their
//! streams are few, and no flood of calls stands before them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Request, Response},
    middleware::Next,
};
use tokio::{sync::oneshot, time::timeout};
use tonic::{Status, transport::server::TcpConnectInfo};

use super::error;
use crate::node::Handle;

/// Calls of one connection that are worked on at a time: as many as profit from being written together.
const RUNNING_PER_CONNECTION_MAX: usize = 128;
/// Calls of one connection that wait for their turn.
const WAITING_PER_CONNECTION_MAX: usize = 64;
/// Calls of all connections that are worked on at a time: far below what the node's queue holds, so that reports of agents find
/// room in it and what they wait behind is answered within a few turns of its loop.
const RUNNING_MAX: usize = 1_024;
/// How long a call waits for its turn: beyond, its caller has better things to do than to wait.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// The services whose calls pass here.
const SERVICES: [&str; 2] = ["/vitrail.v1.Admin/", "/vitrail.v1.Records/"];
/// Where a caller says how long it waits.
const TIMEOUT_HEADER: &str = "grpc-timeout";

tokio::task_local! {
    /// Until when the caller of this call waits, on the node's monotonic clock.
    static DEADLINE_MS: Option<u64>;
}

/// Until when the caller waits for whom this task works; None: as long as it takes.
pub(super) fn deadline_ms() -> Option<u64> {
    DEADLINE_MS
        .try_with(|deadline_ms| *deadline_ms)
        .ok()
        .flatten()
}

/// The step before the services: waits for the call's turn, and remembers until when its caller waits.
pub(super) async fn admit(
    State(admission): State<Admission>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path();
    if !SERVICES.iter().any(|service| path.starts_with(service)) {
        return next.run(request).await;
    }
    let deadline_ms = timeout_of(request.headers()).map(Handle::deadline_in);
    let info = request.extensions().get::<TcpConnectInfo>();
    // Callers of whom nothing is known share one line.
    let connection = info.and_then(TcpConnectInfo::remote_addr);
    let turn = match admission.enter(connection) {
        Ok(turn) => turn,
        Err(status) => return status.into_http(),
    };
    match timeout(TURN_TIMEOUT, turn.come()).await {
        Ok(_place) => DEADLINE_MS.scope(deadline_ms, next.run(request)).await,
        Err(_) => busy("the coordinator has too much to do").into_http(),
    }
}

fn busy(why: &str) -> Status {
    error::exhausted(format!("{why}: try again in a moment"))
}

/// How long the caller waits, as gRPC writes it: up to eight digits and a unit.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

type Connection = Option<SocketAddr>;

/// One connection's calls.
#[derive(Default)]
struct Line {
    running: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Turns {
    running: usize,
    lines: BTreeMap<Connection, Line>,
    /// The connections of whom somebody waits, in the order of their turns.
    order: VecDeque<Connection>,
}

/// Who runs and who waits.
#[derive(Clone, Default)]
pub struct Admission {
    turns: Arc<Mutex<Turns>>,
}

impl Admission {
    /// A turn for one call; refused if too many of its connection wait already.
    fn enter(&self, connection: Connection) -> Result<Turn, Status> {
        let (sender, receiver) = oneshot::channel();
        let mut turns = self.lock();
        let line = turns.lines.entry(connection).or_default();
        if line.waiting.len() >= WAITING_PER_CONNECTION_MAX {
            return Err(busy("this connection has too many calls under way"));
        }
        line.waiting.push_back(sender);
        if line.waiting.len() == 1 {
            turns.order.push_back(connection);
        }
        turns.start();
        drop(turns);
        Ok(Turn {
            admission: self.clone(),
            connection,
            receiver,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, connection: Connection) {
        let mut turns = self.lock();
        turns.leave(connection);
        turns.start();
    }
}

impl Turns {
    /// Lets in whoever may run, one of each connection in turn.
    fn start(&mut self) {
        let mut passed = 0;
        while self.running < RUNNING_MAX
            && passed < self.order.len()
            && let Some(connection) = self.order.pop_front()
        {
            let Some(line) = self.lines.get_mut(&connection) else {
                continue;
            };
            if line.running >= RUNNING_PER_CONNECTION_MAX {
                self.order.push_back(connection);
                passed += 1;
                continue;
            }
            let next = line.waiting.pop_front();
            if !line.waiting.is_empty() {
                self.order.push_back(connection);
            }
            // Who waited may have gone.
            if next.is_some_and(|sender| sender.send(()).is_ok()) {
                line.running += 1;
                self.running += 1;
            }
            self.forget(connection);
            passed = 0;
        }
    }

    fn leave(&mut self, connection: Connection) {
        self.running -= 1;
        if let Some(line) = self.lines.get_mut(&connection) {
            line.running -= 1;
        }
        self.forget(connection);
    }

    /// A connection without calls is not remembered.
    fn forget(&mut self, connection: Connection) {
        let line = self.lines.get(&connection);
        if line.is_some_and(|line| line.running == 0 && line.waiting.is_empty()) {
            self.lines.remove(&connection);
        }
    }
}

/// A call that waits, or has just been let in.
struct Turn {
    admission: Admission,
    connection: Connection,
    receiver: oneshot::Receiver<()>,
}

impl Turn {
    async fn come(mut self) -> Place {
        // The sender is kept until it is used.
        drop((&mut self.receiver).await);
        Place {
            admission: self.admission.clone(),
            connection: self.connection,
        }
    }
}

impl Drop for Turn {
    /// Its turn came, and nobody was there any more to take it.
    fn drop(&mut self) {
        self.receiver.close();
        if self.receiver.try_recv().is_ok() {
            self.admission.leave(self.connection);
        }
    }
}

/// A call that is worked on; its end is the next one's turn.
struct Place {
    admission: Admission,
    connection: Connection,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.leave(self.connection);
    }
}

#[cfg(test)]
mod tests;
