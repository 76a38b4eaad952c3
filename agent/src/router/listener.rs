//! The MySQL port: one thread and one listener per core, sessions stay where they were accepted.
//!
//! It never reads a packet.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::Shared;
use super::error::RouterError;
use super::executor::Worker;
use super::pool::Pool;
use super::processlist::Kill;
use super::session::{End, Phase, Session};
use super::socket::{Channel, Socket};
use super::statement_log::StatementLog;

/// Connections that wait to be accepted: a burst of an application that starts.
const BACKLOG: i32 = 1024;
/// An idle client that is gone without a word is noticed after this and a few probes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Pause after a failed accept (out of file descriptors): sessions that end make room meanwhile.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Opens `count` listeners on one address, between which the kernel spreads connections.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = listen_one(address)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listen_one(bound)?);
    }
    Ok(listeners)
}

fn listen_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs one thread of the router until it is stopped and its sessions have ended.
pub fn run(listener: std::net::TcpListener, shared: Arc<Shared>, is_first: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    if is_first {
        local.spawn_local(end_dropped(Arc::clone(&shared)));
    }
    let result = local.block_on(&runtime, serve(listener, shared));
    // Sessions that are still there are dropped with the set; their clients see the end of the stream.
    drop(local);
    result
}

/// Ends the sessions of users that are no more, also of those that only wait; what runs at its next command looks by itself.
async fn end_dropped(shared: Arc<Shared>) {
    let mut changes = shared.topology.subscribe();
    let mut known = shared.topology.load();
    while changes.changed().await.is_ok() {
        let now = shared.topology.load();
        for user in &known.users {
            let name = user.name.as_str();
            if shared.directory.renew(name, &known, &now).is_some() {
                continue;
            }
            for process in shared.processlist.all() {
                if process.is_of(name) {
                    process.kill(Kill::Connection);
                }
            }
        }
        known = now;
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let worker = Rc::new(Worker {
        topology: shared.topology.clone(),
        pool: Pool::new(shared.pool, shared.backend.clone(), shared.metrics.clone()),
        hold: Arc::clone(&shared.hold),
        metrics: shared.metrics.clone(),
        cell: shared.cell.clone(),
        statement_time_max: shared.statement_time_max,
        client_write_time_max: shared.client_write_time_max,
        reads: shared.reads,
        applied: Default::default(),
        digests: shared.digests.join(),
        statement_log: StatementLog::new(shared.logged),
        shunned: Default::default(),
    });
    let sweeper = tokio::task::spawn_local(Rc::clone(&worker.pool).sweep());
    let mut phase = shared.phase.subscribe();
    while *phase.borrow_and_update() == Phase::Serving {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => accept(&worker, &shared, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections on the MySQL port");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            },
            _ = phase.changed() => {}
        }
    }
    drop(listener);
    while *phase.borrow_and_update() != Phase::Stopped {
        if phase.changed().await.is_err() {
            break;
        }
    }
    sweeper.abort();
    Ok(())
}

fn accept(worker: &Rc<Worker>, shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, %peer, "a client left before it was served");
        return;
    }
    let count = Count::of_one_more(shared);
    shared.metrics.client_connections_accepted.inc();
    let id = shared.next_session.fetch_add(1, Ordering::Relaxed);
    let client = Channel::new(Socket::Plain(stream));
    let is_too_many = shared.connections.load(Ordering::Relaxed) > shared.connections_max;
    let session = Session::new(Rc::clone(worker), Arc::clone(shared), client, peer, id);
    // Boxed before it is spawned: a task that moved the session into it would keep the room for a second one.
    let served: Pin<Box<dyn Future<Output = End>>> = match is_too_many {
        true => Box::pin(session.turn_away(RouterError::TooManyConnections)),
        false => Box::pin(session.serve()),
    };
    tokio::task::spawn_local(async move {
        let end = served.await;
        drop(count);
        match end {
            End::Quit => {}
            End::Client(error) => tracing::debug!(%peer, %error, "a client's connection failed"),
            End::Refused(error) => tracing::info!(%peer, %error, "a session was ended"),
        }
    });
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_TIME))
}

/// Counts an open connection for as long as it lives.
struct Count {
    shared: Arc<Shared>,
}

impl Count {
    fn of_one_more(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.metrics.client_connections.inc();
        Self {
            shared: Arc::clone(shared),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.client_connections.dec();
        self.shared.session_ended.notify_waiters();
    }
}
