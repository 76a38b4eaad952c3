//! The router: applications speak MySQL to it, it speaks MySQL to the tablet that shall answer.
//!
//! query: listener -> session -> executor -> pool -> mysqld. It never asks the coordinator anything:
//! what it knows of the cluster is the snapshot in [`topology::Topology`]. It never decodes rows.

mod buffer;
mod digests;
pub mod error;
mod executor;
mod listener;
pub mod metrics;
mod pace;
mod pool;
mod processlist;
mod rights;
mod session;
mod socket;
mod state;
mod statement_log;
pub mod topology;
pub mod users;
mod variables;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use vt_proto::ids::CellName;

pub use self::buffer::HoldLimits;
pub use self::pool::PoolLimits;
pub use self::pool::connection::Credentials;

use self::buffer::Hold;
use self::digests::Digests;
use self::executor::reads::READ_WAIT_DEFAULT;
use self::metrics::Metrics;
use self::processlist::Processlist;
use self::session::Phase;
use self::statement_log::Wanted;
use self::topology::Topology;
use self::users::{Directory, User};
use self::variables::Defaults;

/// Clients of one router, unless configured. Each costs a few kilobytes while idle.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;
/// As long as a server waits (its `net_write_timeout`).
pub const CLIENT_WRITE_TIME_MAX_DEFAULT: Duration = Duration::from_secs(60);
/// Longest command of a client, unless configured: the server's default `max_allowed_packet`.
pub const PACKET_LENGTH_MAX_DEFAULT: usize = 64 << 20;
/// Version that clients are told, unless configured.
pub const SERVER_VERSION_DEFAULT: &str = "8.4.0-vitrail";
/// How often a drain looks whether all sessions have ended, besides being told.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);

/// What a router is made of.
#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Threads, each with a listener and a pool of its own; at least one.
    pub threads: usize,
    pub server_version: String,
    pub users: Vec<User>,
    /// The account by which the router enters servers.
    pub backend: Credentials,
    /// Certificate and key of the MySQL port; `None`: no TLS is offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Clients without TLS are refused.
    pub is_tls_required: bool,
    pub connections_max: usize,
    pub packet_length_max: usize,
    pub pool: PoolLimits,
    pub hold: HoldLimits,
    /// Where this router is: replicas of the same cell are asked first.
    pub cell: Option<CellName>,
    /// Replicas that lag more do not answer; `None`: no limit.
    pub replica_lag_ms_max: Option<u64>,
    /// Statements that take longer are ended; `None`: no limit.
    pub statement_time_max: Option<Duration>,
    /// Transactions that are open for longer are rolled back between two statements; `None`: no limit.
    pub transaction_time_max: Option<Duration>,
    /// A client that takes nothing of its answer for so long loses its connection, and the server its statement.
    pub client_write_time_max: Duration,
    /// How long a read waits on a replica for what its session wrote, before the primary answers it; zero: it does not.
    pub read_wait: Duration,
    /// Statements that take so long get a line in the log; `None`: none do.
    pub slow_statement: Option<Duration>,
    /// One of so many statements gets a line in the log; `None`: none does.
    pub log_one_of: Option<NonZeroU32>,
}

impl Config {
    /// A configuration with everything else at its default.
    #[must_use]
    pub fn new(listen: SocketAddr, users: Vec<User>, backend: Credentials) -> Self {
        Self {
            listen,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            server_version: SERVER_VERSION_DEFAULT.to_owned(),
            users,
            backend,
            tls: None,
            is_tls_required: false,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            packet_length_max: PACKET_LENGTH_MAX_DEFAULT,
            pool: PoolLimits::default(),
            hold: HoldLimits::default(),
            cell: None,
            replica_lag_ms_max: None,
            statement_time_max: None,
            transaction_time_max: None,
            client_write_time_max: CLIENT_WRITE_TIME_MAX_DEFAULT,
            read_wait: READ_WAIT_DEFAULT,
            slow_statement: None,
            log_one_of: None,
        }
    }
}

/// What all threads of a router share.
pub(crate) struct Shared {
    topology: Topology,
    directory: Directory,
    backend: Credentials,
    tls: Option<TlsAcceptor>,
    is_tls_required: bool,
    server_version: String,
    connections_max: usize,
    packet_length_max: usize,
    pool: PoolLimits,
    hold: Arc<Hold>,
    cell: Option<CellName>,
    statement_time_max: Option<Duration>,
    transaction_time_max: Option<Duration>,
    client_write_time_max: Duration,
    reads: Defaults,
    logged: Wanted,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
    connections: AtomicUsize,
    processlist: Arc<Processlist>,
    digests: Digests,
    next_session: AtomicU64,
    session_ended: Notify,
}

/// Starts routers.
#[derive(Debug)]
pub struct Router;

impl Router {
    /// Opens the port and serves it in threads of its own. Fails if the port cannot be had.
    pub fn start(
        config: Config,
        topology: Topology,
        registry: &mut Registry,
    ) -> io::Result<RouterHandle> {
        let metrics = Metrics::default();
        metrics.register(registry);
        let threads = config.threads.max(1);
        let listeners = listener::listen(config.listen, threads)?;
        let local_address = listeners[0].local_addr()?;
        let shared = Arc::new(Shared {
            topology,
            directory: Directory::new(config.users),
            backend: config.backend,
            tls: config.tls.map(TlsAcceptor::from),
            is_tls_required: config.is_tls_required,
            server_version: config.server_version,
            connections_max: config.connections_max,
            packet_length_max: config.packet_length_max,
            pool: config.pool,
            hold: Hold::new(config.hold, metrics.clone()),
            cell: config.cell,
            statement_time_max: config.statement_time_max,
            transaction_time_max: config.transaction_time_max,
            client_write_time_max: config.client_write_time_max,
            reads: Defaults {
                replica_lag_max_ms: config.replica_lag_ms_max,
                read_wait: config.read_wait,
            },
            logged: Wanted {
                slow: config.slow_statement,
                one_of: config.log_one_of,
            },
            metrics,
            phase: watch::Sender::new(Phase::Serving),
            connections: AtomicUsize::new(0),
            processlist: Arc::default(),
            digests: Digests::default(),
            next_session: AtomicU64::new(1),
            session_ended: Notify::new(),
        });
        let mut handle = RouterHandle {
            local_address,
            shared,
            threads: Vec::with_capacity(threads),
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&handle.shared);
            let name = format!("router-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                if let Err(error) = listener::run(listener, shared, index == 0) {
                    tracing::error!(%error, "a thread of the router stopped");
                }
            })?;
            handle.threads.push(thread);
        }
        Ok(handle)
    }
}

/// A running router. Dropping it stops the router at once.
pub struct RouterHandle {
    local_address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl RouterHandle {
    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Open connections of clients.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Puts other users in force, for connections that come from now on.
    pub fn set_users(&self, users: Vec<User>) {
        self.shared.directory.replace(users);
    }

    /// Accepts nobody any more, lets sessions finish their transactions, and stops all that are left
    /// at the deadline.
    pub async fn drain(mut self, deadline: Duration) {
        self.shared.phase.send_replace(Phase::Draining);
        let until = tokio::time::Instant::now() + deadline;
        while self.connections() > 0 && tokio::time::Instant::now() < until {
            tokio::select! {
                () = self.shared.session_ended.notified() => {}
                () = tokio::time::sleep(DRAIN_PERIOD) => {}
            }
        }
        self.shared.phase.send_replace(Phase::Stopped);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        })
        .await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("a thread of the router ended by a panic");
        }
    }
}

impl Drop for RouterHandle {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Stopped);
    }
}
