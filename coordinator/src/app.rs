//! Builds a coordinator out of its parts, in the order in which they need each other, and stops it the other way round.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;
use tracing::info;
use vt_coordinator_core::{codec, joining::Introduction, peer::Stored};
use vt_proto::{topology::Coordinator, wire::MemberMessage};
use vt_tls::{
    listen::{Incoming, Limits, Mode},
    live::Live,
    role::Role,
};

use crate::{
    api::{self, members::RaftTransport},
    config::Config,
    dial::Dialer,
    first::{self, Found, introduction},
    http,
    metrics::Metrics,
    node::{Handle, Node, NodeConfig, Seat},
    raft::transport::Outbox,
    relay::Relay,
    restore::{self, Wanted},
    storage::{DiskStorage, Storage},
};

/// How a connection whose other end vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Streams on one connection; an agent needs two, an operator's tool a few.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// The headers of one request; a certificate's name and a few words of metadata.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Connections to metrics and the status page: Prometheus, a load balancer and some people.
const HTTP_CONNECTIONS_MAX: usize = 256;
/// How long open streams and requests may delay the stop.
const DRAIN: Duration = Duration::from_millis(500);

/// A coordinator with its ports and its data open.
pub struct App {
    pub handle: Handle,
    pub metrics: Arc<Metrics>,
    config: Config,
    storage: DiskStorage,
    seat: Seat,
    inbox: mpsc::Sender<MemberMessage>,
    incoming: Incoming,
    http_incoming: Incoming,
}

impl App {
    /// Takes ports and data directory. A port that is taken leaves the directory untouched.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let listener = bind(config.listen, "listen").await?;
        let http_listener = bind(config.http_listen, "http_listen").await?;
        let metrics = Arc::new(Metrics::default());
        let (incoming, http_incoming) =
            open_doors(&config, listener, http_listener, &metrics).await?;
        let (data_dir, member_id) = (config.data_dir.clone(), config.member_id);
        let storage = spawn_blocking(move || DiskStorage::open(&data_dir, member_id)).await??;
        if let Some(cluster_id) = &storage.identity().cluster_id
            && !first::is_of(cluster_id, &config.cluster)
        {
            bail!(
                "{} belongs to cluster {cluster_id}, and cluster is {:?}: correct the configuration, or give this member an empty data_dir",
                config.data_dir.display(),
                config.cluster
            );
        }
        let (handle, inbox, seat) = Handle::new();
        Ok(Self {
            handle,
            metrics,
            config,
            storage,
            seat,
            inbox,
            incoming,
            http_incoming,
        })
    }

    /// Serves until `stop`, or until a part fails.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        info!(
            member = self.config.member_id,
            grpc = %self.config.listen,
            http = %self.config.http_listen,
            version = env!("CARGO_PKG_VERSION"),
            "coordinator starts"
        );
        let identity = self.storage.identity();
        let me = introduction(&self.config, &identity.directory_id);
        let group = watch::Sender::new(identity.cluster_id.clone());
        // Servers stop after the node: handing leadership over needs them.
        let stop_servers = CancellationToken::new();
        let raft = RaftTransport {
            me: me.clone(),
            group: group.subscribe(),
            handle: self.handle.clone(),
            inbox: self.inbox.clone(),
            metrics: self.metrics.clone(),
        };
        let (restores, wanted) = restore::wishes();
        let routes = api::routes(&self.handle, restores, &stop_servers)?;
        let routes = routes.add_service(raft.service());
        let grpc = serve_grpc(self.incoming, routes, stop_servers.clone());
        let grpc = spawn(grpc);
        let dialer = Dialer::new(self.config.tls.clone());
        let beginning = Beginning {
            alone: restore::alone(&self.config, &me.directory_id),
            me,
            dialer: dialer.clone(),
            wanted,
            storage: self.storage,
            seat: self.seat,
            inbox: self.inbox,
            metrics: self.metrics.clone(),
            answer: None,
        };
        let relay = Relay::new(self.handle.clone(), dialer);
        let relay = relay.run(stop_servers.clone());
        let _relay = AbortOnDropHandle::new(tokio::spawn(relay));
        let page = http::Page::new(self.config, self.handle, self.metrics);
        let http = spawn(http::serve(self.http_incoming, page, stop_servers.clone()));
        let node = spawn(beginning.run(group, stop));
        let mut parts = Parts { grpc, http };
        let outcome = tokio::select! {
            outcome = node => outcome.context("the node's loop has failed")?,
            outcome = parts.ended() => outcome,
        };
        stop_servers.cancel();
        parts.drain().await;
        info!("coordinator stopped");
        outcome
    }
}

/// What a node is made of.
struct Beginning {
    me: Introduction,
    /// This member as the only one of a group.
    alone: Coordinator,
    /// Backups that it is to begin with.
    wanted: mpsc::Receiver<Wanted>,
    dialer: Dialer,
    storage: DiskStorage,
    seat: Seat,
    /// Where the messages of other members come in.
    inbox: mpsc::Sender<MemberMessage>,
    metrics: Arc<Metrics>,
    /// Who wants to know that a restore is on disk.
    answer: Option<oneshot::Sender<Result<u64, String>>>,
}

impl Beginning {
    /// Finds out which group this is, if the data directory does not say it, and takes part in it until `stop`.
    async fn run(
        mut self,
        group: watch::Sender<Option<String>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let bound = self.storage.identity().cluster_id.clone();
        let found = match bound {
            Some(cluster_id) => Found {
                cluster_id,
                first: None,
                contacts: self.me.members.clone(),
            },
            None => loop {
                tokio::select! {
                    found = first::find(&self.me, &self.dialer) => break found?,
                    Some(wanted) = self.wanted.recv() => if let Some(found) = self.restored(wanted) {
                        break found;
                    },
                    () = stop.cancelled() => return Ok(()),
                }
            },
        };
        self.wanted.close();
        let cluster_id = found.cluster_id.clone();
        let answer = self.answer.take();
        let index = found.first.as_ref().map_or(0, |state| state.applied);
        let node = spawn_blocking(move || self.load(found)).await??;
        if let Some(answer) = answer {
            // Who asked may have gone.
            let _ = answer.send(Ok(index));
        }
        group.send_replace(Some(cluster_id));
        node.run(stop).await
    }

    /// What this member begins with out of a backup; nothing, with an answer that says why, if it does not.
    fn restored(&mut self, wanted: Wanted) -> Option<Found> {
        let state = restore::from_backup(wanted.state, self.alone.clone(), &self.me.cluster);
        match state {
            Ok(state) => {
                info!(
                    cluster_id = state.cluster_id,
                    index = state.applied,
                    "a backup is restored"
                );
                self.answer = Some(wanted.answer);
                Some(Found {
                    cluster_id: state.cluster_id.clone(),
                    first: Some(state),
                    contacts: BTreeMap::new(),
                })
            }
            Err(why) => {
                let _ = wanted.answer.send(Err(why));
                None
            }
        }
    }

    fn load(mut self, found: Found) -> anyhow::Result<Node> {
        if let Some(state) = &found.first {
            // Before the directory is bound: a crash in between is a first start again.
            let stored = Stored::bootstrap(
                state.coordinators.keys().copied().collect(),
                state.applied,
                codec::encode_state(state),
            );
            self.storage.persist(&stored.into_batch())?;
        }
        self.storage.bind(&found.cluster_id)?;
        let config = NodeConfig {
            cluster_id: found.cluster_id,
            member_id: self.me.member_id,
            directory_id: self.me.directory_id,
            contacts: found.contacts,
            seed: rand::random(),
        };
        let outbox = Outbox::new(self.metrics.clone(), self.dialer, self.inbox);
        let storage = Box::new(self.storage);
        Node::load(config, storage, self.seat, outbox, self.metrics)
    }
}

/// A task that ends with its owner.
type Part = AbortOnDropHandle<anyhow::Result<()>>;

fn spawn(part: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Part {
    AbortOnDropHandle::new(tokio::spawn(part))
}

/// The servers.
struct Parts {
    grpc: Part,
    http: Part,
}

impl Parts {
    /// One of them ended before it was told to.
    async fn ended(&mut self) -> anyhow::Result<()> {
        let (name, outcome) = tokio::select! {
            outcome = &mut self.grpc => ("gRPC", outcome),
            outcome = &mut self.http => ("HTTP", outcome),
        };
        outcome.context(format!("the {name} server has failed"))??;
        Err(anyhow!("the {name} server has ended by itself"))
    }

    /// Waits a moment for open requests, then ends the servers.
    async fn drain(mut self) {
        for part in [&mut self.grpc, &mut self.http] {
            if part.is_finished() {
                continue;
            }
            // Whoever takes longer is cut off.
            drop(timeout(DRAIN, part).await);
        }
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: stop what uses it, or set another {key}")
    })
}

/// Lets connections in: with certificates, or in plaintext where the configuration says so. Metrics and the status page are
/// public to whoever reaches the port, so there only the server shows a certificate, and none on loopback.
async fn open_doors(
    config: &Config,
    listener: TcpListener,
    http_listener: TcpListener,
    metrics: &Metrics,
) -> anyhow::Result<(Incoming, Incoming)> {
    let (mode, http_mode) = match &config.tls {
        None => (Mode::Plaintext, Mode::Plaintext),
        Some(files) => {
            let live = Live::start(files.clone(), Role::Coordinator, metrics.tls.clone());
            let live = live.await.context("[tls]")?;
            let http_mode = match config.http_listen.ip().is_loopback() {
                true => Mode::Plaintext,
                false => Mode::ServerOnly(live.clone()),
            };
            (Mode::Mutual(live), http_mode)
        }
    };
    let (limits, tls) = (config.limits, &metrics.tls);
    let http_limits = Limits {
        connections: HTTP_CONNECTIONS_MAX,
        connections_per_address: HTTP_CONNECTIONS_MAX,
        ..limits
    };
    let grpc = Incoming::start(listener, mode, limits, "grpc", tls.clone());
    let http = Incoming::start(http_listener, http_mode, http_limits, "http", tls.clone());
    Ok((grpc.context("listen")?, http.context("http_listen")?))
}

async fn serve_grpc(
    incoming: Incoming,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_routes(api::guard::guarded(routes))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
        .context("the gRPC server has failed")
}
