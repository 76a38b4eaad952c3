//! Which connections are idle and how many may be open: the pool's data, without I/O.
//!
//! It never connects and never waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;
use tokio::time::Instant;
use vt_proto::epoch::Epoch;
use vt_proto::topology::Endpoint;
use vt_wire::Capabilities;

use super::connection::{Connection, StatementKey};

/// For what role a server was chosen. A connection to a primary belongs to one epoch only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Primary(Epoch),
    Read,
}

/// What connections must have in common to stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolKey {
    pub endpoint: Endpoint,
    pub purpose: Purpose,
    pub capabilities: Capabilities,
    pub collation: u8,
    /// A connection with a schema can never be without one again.
    pub has_schema: bool,
}

/// How many connections to one server are open, of whatever key, and who waits for one.
#[derive(Debug)]
pub struct Limit {
    open: Cell<usize>,
    maximum: usize,
    waiters: RefCell<VecDeque<oneshot::Sender<()>>>,
    gauge: Gauge,
}

impl Limit {
    #[must_use]
    pub fn new(maximum: usize, gauge: Gauge) -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            maximum,
            waiters: RefCell::default(),
            gauge,
        })
    }

    /// A place for one more connection, if there is one.
    #[must_use]
    pub fn reserve(self: &Rc<Self>) -> Option<Slot> {
        if self.open.get() >= self.maximum {
            return None;
        }
        self.open.set(self.open.get() + 1);
        self.gauge.inc();
        Some(Slot {
            limit: Rc::clone(self),
        })
    }

    #[must_use]
    pub fn maximum(&self) -> usize {
        self.maximum
    }

    /// Is told when a connection or a place becomes free. Bounded by the sessions of the thread.
    pub fn wait(&self) -> oneshot::Receiver<()> {
        let (waker, waiter) = oneshot::channel();
        self.waiters.borrow_mut().push_back(waker);
        waiter
    }

    /// Wakes the one that has waited longest and still waits.
    pub fn wake_one(&self) {
        let mut waiters = self.waiters.borrow_mut();
        while let Some(waiter) = waiters.pop_front() {
            if waiter.send(()).is_ok() {
                return;
            }
        }
    }
}

/// The place of one open connection; given back when dropped with it.
#[derive(Debug)]
pub struct Slot {
    limit: Rc<Limit>,
}

impl Slot {
    #[must_use]
    pub fn limit(&self) -> &Rc<Limit> {
        &self.limit
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limit.open.set(self.limit.open.get() - 1);
        self.limit.gauge.dec();
        self.limit.wake_one();
    }
}

/// The idle connections of one key, the last used at the end.
#[derive(Debug)]
pub struct Bucket {
    pub key: PoolKey,
    idle: RefCell<Vec<Connection>>,
    gauge: Gauge,
}

impl Bucket {
    #[must_use]
    pub fn new(key: PoolKey, gauge: Gauge) -> Rc<Self> {
        Rc::new(Self {
            key,
            idle: RefCell::default(),
            gauge,
        })
    }

    pub fn put(&self, connection: Connection) {
        self.gauge.inc();
        self.idle.borrow_mut().push(connection);
    }

    /// The connection that `session` used last.
    pub fn take_own(&self, session: u64) -> Option<Connection> {
        self.take_last(|connection| connection.owner == Some(session))
    }

    /// A connection that no living session used last.
    pub fn take_unowned(&self) -> Option<Connection> {
        self.take_last(|connection| connection.owner.is_none())
    }

    /// The connection that has been idle longest, whoever used it.
    pub fn take_oldest(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        (!idle.is_empty()).then(|| {
            self.gauge.dec();
            idle.remove(0)
        })
    }

    fn take_last(&self, wanted: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let index = idle.iter().rposition(wanted)?;
        self.gauge.dec();
        Some(idle.remove(index))
    }

    /// Takes out those that have been idle for longer than `limit`, for the caller to drop.
    pub fn take_stale(&self, now: Instant, limit: Duration) -> Vec<Connection> {
        let mut idle = self.idle.borrow_mut();
        let fresh = idle
            .iter()
            .position(|connection| now - connection.last_used <= limit)
            .unwrap_or(idle.len());
        self.gauge.dec_by(fresh as i64);
        idle.drain(..fresh).collect()
    }

    /// Closes a prepared statement on the idle connection that its session used last.
    pub fn close_statement(&self, key: StatementKey) {
        for connection in self
            .idle
            .borrow_mut()
            .iter_mut()
            .filter(|connection| connection.owner == Some(key.0))
        {
            connection.close_statement(key);
        }
    }

    /// The session ended: its connections are anybody's, its prepared statements are closed.
    pub fn forget_session(&self, session: u64) {
        for connection in self.idle.borrow_mut().iter_mut() {
            if connection.owner == Some(session) {
                connection.owner = None;
            }
            connection.close_statements_of(session);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }
}
