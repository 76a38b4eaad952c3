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
///
/// Who waits is served first: a free connection is promised to the first in the queue, and whoever comes meanwhile
/// queues up. Without that, sessions that ask again at once would take it each time before the waiting one wakes.
#[derive(Debug)]
pub struct Limit {
    open: Cell<usize>,
    /// Of the open ones.
    idle: Cell<usize>,
    maximum: usize,
    waiters: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next_waiter: Cell<u64>,
    /// Waiters that were told and have not come yet.
    promised: Cell<usize>,
    gauge: Gauge,
}

/// A place in the queue for a connection. Dropped before its turn it leaves the queue; dropped after it was told and
/// before it came, it passes the turn on.
#[derive(Debug)]
pub struct Waiter {
    limit: Rc<Limit>,
    id: u64,
    told: oneshot::Receiver<()>,
    has_come: bool,
}

impl Waiter {
    /// Waits for its turn.
    pub async fn turn(&mut self) {
        // The sender lies in the queue until it tells.
        let _ = (&mut self.told).await;
        self.has_come = true;
        self.limit.promised.update(|promised| promised - 1);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        if self.told.try_recv().is_ok() {
            self.limit.promised.update(|promised| promised - 1);
            self.limit.wake_one();
        } else {
            self.limit
                .waiters
                .borrow_mut()
                .retain(|(id, _)| *id != self.id);
        }
    }
}

impl Limit {
    #[must_use]
    pub fn new(maximum: usize, gauge: Gauge) -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            idle: Cell::new(0),
            maximum,
            waiters: RefCell::default(),
            next_waiter: Cell::new(0),
            promised: Cell::new(0),
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

    /// Connections in use, and those who wait for one.
    #[must_use]
    pub fn load(&self) -> usize {
        let in_use = self.open.get().saturating_sub(self.idle.get());
        in_use + self.waiters.borrow().len()
    }

    /// May a newcomer take a connection or a place? Not if those that are there are promised.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let free = self.maximum.saturating_sub(self.open.get()) + self.idle.get();
        free > self.promised.get()
    }

    /// Queues up, in front if it had its turn in vain. Bounded by the sessions of the thread.
    pub fn wait(self: &Rc<Self>, in_front: bool) -> Waiter {
        let (tell, told) = oneshot::channel();
        let id = self.next_waiter.replace(self.next_waiter.get() + 1);
        let mut waiters = self.waiters.borrow_mut();
        if in_front {
            waiters.push_front((id, tell));
        } else {
            waiters.push_back((id, tell));
        }
        Waiter {
            limit: Rc::clone(self),
            id,
            told,
            has_come: false,
        }
    }

    /// Tells the one that has waited longest.
    pub fn wake_one(&self) {
        let next = self.waiters.borrow_mut().pop_front();
        if let Some((_, tell)) = next
            && tell.send(()).is_ok()
        {
            self.promised.update(|promised| promised + 1);
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
    pub limit: Rc<Limit>,
    idle: RefCell<Vec<Connection>>,
    gauge: Gauge,
}

impl Bucket {
    #[must_use]
    pub fn new(key: PoolKey, limit: Rc<Limit>, gauge: Gauge) -> Rc<Self> {
        Rc::new(Self {
            key,
            limit,
            idle: RefCell::default(),
            gauge,
        })
    }

    pub fn put(&self, connection: Connection) {
        self.count_idle(1);
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
            self.count_idle(-1);
            idle.remove(0)
        })
    }

    fn take_last(&self, wanted: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let index = idle.iter().rposition(wanted)?;
        self.count_idle(-1);
        Some(idle.remove(index))
    }

    fn count_idle(&self, change: isize) {
        self.gauge.inc_by(change as i64);
        self.limit
            .idle
            .update(|idle| idle.saturating_add_signed(change));
    }

    /// Takes out those that have been idle for longer than `limit`, for the caller to drop.
    pub fn take_stale(&self, now: Instant, limit: Duration) -> Vec<Connection> {
        let mut idle = self.idle.borrow_mut();
        let fresh = idle
            .iter()
            .position(|connection| now - connection.last_used <= limit)
            .unwrap_or(idle.len());
        self.count_idle(-(fresh as isize));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_served_before_who_comes() {
        let limit = Limit::new(1, Gauge::default());
        assert!(limit.may_pass());
        let slot = limit.reserve().unwrap();
        assert!(!limit.may_pass());
        let (mut first, mut second) = (limit.wait(false), limit.wait(false));
        drop(slot);
        assert!(!limit.may_pass(), "the place is promised");
        first.turn().await;
        let slot = limit.reserve().unwrap();
        drop(first);
        drop(slot);
        second.turn().await;
        assert!(limit.may_pass());
    }

    #[tokio::test]
    async fn who_gives_up_passes_the_turn_on() {
        let limit = Limit::new(1, Gauge::default());
        let slot = limit.reserve().unwrap();
        let (told, gone, mut last) = (limit.wait(false), limit.wait(false), limit.wait(false));
        drop(slot);
        drop(gone);
        drop(told);
        last.turn().await;
        assert!(limit.may_pass());
        assert!(limit.waiters.borrow().is_empty());
    }

    #[tokio::test]
    async fn who_came_in_vain_stays_first() {
        let limit = Limit::new(1, Gauge::default());
        let slot = limit.reserve().unwrap();
        let later = limit.wait(false);
        let mut again = limit.wait(true);
        drop(slot);
        again.turn().await;
        assert_eq!(limit.waiters.borrow().len(), 1);
        drop(later);
    }
}
