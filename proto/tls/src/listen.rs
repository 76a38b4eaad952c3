//! A port that lets in who may come: TLS or (on loopback, on request) plaintext, bounded in handshakes and connections, in all and
//! by address. Who is refused is counted and closed; nobody waits for a place.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    files::Loaded,
    live::{CHECK_PERIOD, Live},
    metrics::TlsMetrics,
    role::{Leaf, Role},
};

pub use connection::{Connection, Peer};
pub use gate::Limits;

mod connection;
mod gate;

use connection::Wire;
use gate::{Gate, Held, Slot};

/// Connections that wait for the server to take them: it takes them at once, so more would mean that it hangs.
const READY_MAX: usize = 64;
/// After an error of accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How connections begin.
#[derive(Clone)]
pub enum Mode {
    /// Everybody is believed; for loopback.
    Plaintext,
    /// Both sides show a certificate.
    Mutual(Live),
    /// Only the server shows one.
    ServerOnly(Live),
}

/// The connections of a port; dropping it closes the port.
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
    local: SocketAddr,
    /// Holds the port; goes on while somebody asks for the next connection.
    accepting: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Incoming {
    /// Takes connections from now on. `name` is the listener's in metrics.
    pub fn start(
        listener: TcpListener,
        mode: Mode,
        limits: Limits,
        name: &'static str,
        metrics: TlsMetrics,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let gate = Gate::new(limits, metrics.connections(name));
        let door = Door {
            mode,
            gate,
            name,
            metrics,
            ready: sender,
        };
        Ok(Self {
            ready,
            local,
            accepting: Box::pin(Arc::new(door).run(listener)),
        })
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Connection> {
        // It has no end.
        let _ = self.accepting.as_mut().poll(cx);
        match self.ready.poll_recv(cx) {
            Poll::Ready(Some(connection)) => Poll::Ready(connection),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_connection(cx)
            .map(|connection| Some(Ok(connection)))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = poll_fn(|cx| self.poll_connection(cx)).await;
        let address = connection.peer().address;
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// What the accepting task and its handshakes share.
struct Door {
    mode: Mode,
    gate: Arc<Gate>,
    name: &'static str,
    metrics: TlsMetrics,
    ready: mpsc::Sender<Connection>,
}

impl Door {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut handshakes = JoinSet::new();
        let mut sweep = interval(CHECK_PERIOD);
        let mut live = match &self.mode {
            Mode::Mutual(live) => Some(live.clone()),
            Mode::Plaintext | Mode::ServerOnly(_) => None,
        };
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => self.take(stream, address, &mut handshakes).await,
                    Err(error) => {
                        warn!(listener = self.name, %error, "connections cannot be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = handshakes.join_next() => {}
                _ = sweep.tick() => self.end(self.gate.expired()),
                loaded = newer(&mut live) => self.end(self.gate.no_longer_accepted(&loaded)),
            }
        }
    }

    async fn take(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        handshakes: &mut JoinSet<()>,
    ) {
        // Only fails where the connection is gone again; then the next step says so.
        drop(stream.set_nodelay(true));
        let slot = match self.gate.enter(address.ip()) {
            Ok(slot) => slot,
            Err(reason) => return self.metrics.refused(self.name, reason),
        };
        match &self.mode {
            Mode::Plaintext => self.let_in_plain(stream, address, slot).await,
            Mode::Mutual(live) => {
                let door = self.clone();
                let loaded = live.current();
                handshakes
                    .spawn(async move { door.greet(stream, address, slot, loaded, true).await });
            }
            Mode::ServerOnly(live) => {
                let door = self.clone();
                let loaded = live.current();
                handshakes
                    .spawn(async move { door.greet(stream, address, slot, loaded, false).await });
            }
        }
    }

    async fn let_in_plain(&self, stream: TcpStream, address: SocketAddr, mut slot: Slot) {
        if let Err(reason) = slot.open(false) {
            return self.metrics.refused(self.name, reason);
        }
        let peer = Peer {
            address,
            identity: None,
        };
        let connection = Connection::new(Wire::Plain(stream), peer, None, slot);
        // The server may be stopping.
        drop(self.ready.send(connection).await);
    }

    /// The handshake, then the way in.
    async fn greet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        mut slot: Slot,
        loaded: Arc<Loaded>,
        mutual: bool,
    ) {
        let config = if mutual {
            loaded.mutual.clone()
        } else {
            loaded.server_only.clone()
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = match timeout(self.gate.limits().handshake_time, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(listener = self.name, peer = %address, %error, "a handshake failed");
                return self.metrics.refused(self.name, "handshake_failed");
            }
            Err(_) => return self.metrics.refused(self.name, "handshake_timeout"),
        };
        let chain: Vec<CertificateDer<'static>> = match stream.get_ref().1.peer_certificates() {
            Some(chain) => chain.iter().map(|it| it.clone().into_owned()).collect(),
            None => Vec::new(),
        };
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf).ok());
        if mutual && leaf.is_none() {
            return self.metrics.refused(self.name, "handshake_failed");
        }
        let identity = leaf.as_ref().map(|leaf| leaf.identity.clone());
        // The members of the group are never kept out by a crowd of others.
        let member = identity.as_ref().and_then(|it| it.role) == Some(Role::Coordinator);
        if let Err(reason) = slot.open(member) {
            return self.metrics.refused(self.name, reason);
        }
        let ended = leaf.map(|leaf| {
            let ended = CancellationToken::new();
            slot.hold(Held {
                chain,
                expires_unix_s: leaf.expires_unix_s,
                ended: ended.clone(),
            });
            ended
        });
        let peer = Peer { address, identity };
        let connection = Connection::new(Wire::Tls(Box::new(stream)), peer, ended, slot);
        // The server may be stopping.
        drop(self.ready.send(connection).await);
    }

    fn end(&self, connections: Vec<CancellationToken>) {
        if connections.is_empty() {
            return;
        }
        warn!(
            listener = self.name,
            count = connections.len(),
            "connections end whose certificates have expired or are of a CA that is no longer accepted"
        );
        for connection in connections {
            connection.cancel();
        }
    }
}

/// The newer contents of the files, if there are files.
async fn newer(live: &mut Option<Live>) -> Arc<Loaded> {
    match live {
        Some(live) => {
            live.changed().await;
            live.current()
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
