//! Connections to servers, one pool in each thread of the router: lent to sessions, taken back clean.
//!
//! It knows no client. A connection comes back only between two answers; everything else is dropped.

pub mod align;
pub mod connection;
pub mod inner;
mod kill;
pub mod place;
pub mod settings;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use vt_proto::topology::Endpoint;

use self::connection::{ConnectError, ConnectOptions, Connection, Credentials, connect};
use self::inner::{Bucket, Limit, PoolKey, Slot};
use super::metrics::{Metrics, PoolState};

/// Connections of one router thread to one server, unless configured.
pub const CONNECTIONS_MAX_DEFAULT: usize = 64;
/// How long a statement waits for a connection, unless configured.
pub const WAIT_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept, unless configured: below any sensible wait_timeout.
pub const IDLE_TIME_DEFAULT: Duration = Duration::from_secs(60);
/// How often idle connections are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Bounds of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// For each thread of the router and each server.
    pub connections: usize,
    pub wait: Duration,
    pub idle: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX_DEFAULT,
            wait: WAIT_TIME_DEFAULT,
            idle: IDLE_TIME_DEFAULT,
        }
    }
}

/// Why no connection was lent.
#[derive(Debug)]
pub enum CheckoutError {
    Connect(ConnectError),
    /// All were in use for as long as one may wait.
    Exhausted {
        size: usize,
    },
}

/// The pool of one thread.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    credentials: Credentials,
    metrics: Metrics,
    buckets: RefCell<BTreeMap<PoolKey, Rc<Bucket>>>,
    servers: RefCell<BTreeMap<Endpoint, Rc<Limit>>>,
    /// Connections that end what others run: apart, for those of the pool may all be in use.
    kills: Rc<Limit>,
}

impl Pool {
    #[must_use]
    pub fn new(limits: PoolLimits, credentials: Credentials, metrics: Metrics) -> Rc<Self> {
        let (buckets, servers) = (RefCell::default(), RefCell::default());
        let kills = Limit::new(kill::KILLS_MAX, metrics.pool_gauge(PoolState::open));
        Rc::new(Self {
            limits,
            credentials,
            metrics,
            buckets,
            servers,
            kills,
        })
    }

    /// The bucket of a key; sessions keep it, so that a statement looks nothing up.
    pub fn bucket(&self, key: &PoolKey) -> Rc<Bucket> {
        if let Some(bucket) = self.buckets.borrow().get(key) {
            return Rc::clone(bucket);
        }
        let limit = self.limit(&key.endpoint);
        let bucket = Bucket::new(key.clone(), limit, self.metrics.pool_gauge(PoolState::idle));
        self.buckets
            .borrow_mut()
            .insert(key.clone(), Rc::clone(&bucket));
        bucket
    }

    fn limit(&self, endpoint: &Endpoint) -> Rc<Limit> {
        if let Some(limit) = self.servers.borrow().get(endpoint) {
            return Rc::clone(limit);
        }
        let limit = Limit::new(
            self.limits.connections,
            self.metrics.pool_gauge(PoolState::open),
        );
        self.servers
            .borrow_mut()
            .insert(endpoint.clone(), Rc::clone(&limit));
        limit
    }

    /// Lends a connection, not yet aligned: the session's own last one, an unowned one, a new one, or
    /// the one that has been idle longest, in this order.
    pub async fn checkout(
        &self,
        bucket: &Rc<Bucket>,
        session: u64,
        schema: Option<&Rc<str>>,
    ) -> Result<Connection, CheckoutError> {
        let limit = &bucket.limit;
        let mut has_turn = limit.may_pass();
        let mut has_waited = false;
        let mut deadline = None;
        loop {
            if has_turn {
                if let Some(connection) = bucket.take_own(session).or_else(|| bucket.take_unowned())
                {
                    return Ok(connection);
                }
                if let Some(slot) = limit.reserve() {
                    return self.connect(bucket, schema, slot).await;
                }
                if let Some(connection) = bucket.take_oldest() {
                    return Ok(connection);
                }
                if self.close_idle_of_other_keys(&bucket.key.endpoint) {
                    continue;
                }
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + self.limits.wait);
            let mut waiter = limit.wait(has_waited);
            if timeout_at(until, waiter.turn()).await.is_err() {
                return Err(CheckoutError::Exhausted {
                    size: limit.maximum(),
                });
            }
            (has_turn, has_waited) = (true, true);
        }
    }

    async fn connect(
        &self,
        bucket: &Bucket,
        schema: Option<&Rc<str>>,
        slot: Slot,
    ) -> Result<Connection, CheckoutError> {
        let options = ConnectOptions {
            endpoint: bucket.key.endpoint.clone(),
            capabilities: bucket.key.capabilities,
            collation: bucket.key.collation,
            schema: schema.cloned(),
        };
        connect(options, &self.credentials, slot)
            .await
            .map_err(CheckoutError::Connect)
    }

    /// How many of the connections to a server are in use, and how many sessions wait for one.
    #[must_use]
    pub fn load(&self, endpoint: &Endpoint) -> usize {
        let servers = self.servers.borrow();
        servers.get(endpoint).map_or(0, |limit| limit.load())
    }

    /// How long a statement waits for a connection.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        self.limits.wait.as_millis() as u64
    }

    /// Takes a connection back if it can be used again, else closes it.
    pub fn put_back(&self, bucket: &Rc<Bucket>, mut connection: Connection) {
        if !connection.is_at_boundary() {
            return;
        }
        connection.channel.rest();
        connection.last_used = Instant::now();
        let limit = Rc::clone(connection.slot.limit());
        bucket.put(connection);
        limit.wake_one();
    }

    fn close_idle_of_other_keys(&self, endpoint: &Endpoint) -> bool {
        let buckets = self.buckets.borrow();
        buckets
            .values()
            .filter(|bucket| bucket.key.endpoint == *endpoint)
            .any(|bucket| bucket.take_oldest().is_some())
    }

    /// The session ended.
    pub fn forget_session(&self, session: u64) {
        for bucket in self.buckets.borrow().values() {
            bucket.forget_session(session);
        }
    }

    /// Closes what has been idle too long, for ever. Runs in the background of the thread.
    pub async fn sweep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_PERIOD);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let mut stale = Vec::new();
            self.buckets.borrow_mut().retain(|_, bucket| {
                stale.extend(bucket.take_stale(now, self.limits.idle));
                // Sessions that hold the bucket would put connections where nobody looks for them.
                Rc::strong_count(bucket) > 1 || !bucket.is_empty()
            });
        }
    }
}
