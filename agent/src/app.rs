//! Builds the parts of an agent, starts them in order, and stops them in the reverse order. mysqld is left running.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use prometheus_client::registry::Registry;
use rand::seq::SliceRandom;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use vt_proto::{
    cluster::{Kinship, kinship},
    routing::RoutingSnapshot,
    topology::{Endpoint, Tablet},
};
use vt_tls::{
    listen::{Incoming, Mode},
    live::Live,
    metrics::TlsMetrics,
    role::Role,
};

use crate::{
    config::{Config, TlsFiles},
    guard::lock_alone,
    http::{self, Pages},
    metrics::SupervisorMetrics,
    mysqld::{APP_USER, Layout, lost::shelf::serve_lost},
    router::{self, Router, RouterHandle, topology::Topology, users},
    state_file::StateFile,
    supervisor::{Handle, Supervisor, host::Host},
    uplink::{
        kept::KeptOrder,
        report::Uplink,
        routing::{Publish, RoutingWatch, load},
    },
};

/// The lock's name in the agent's data directory.
const LOCK_FILE: &str = "agent.lock";
/// How long sessions may go on after SIGTERM; below the time limits of service managers.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How long the other parts may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Beyond it, somebody else listens.
const PORT_CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
const PORT_LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Runs an agent until SIGTERM or SIGINT.
pub async fn run(config: Config, config_path: PathBuf) -> anyhow::Result<()> {
    prepare_directory(&config.data_dir)?;
    let _lock = take_lock(&config.data_dir)?;
    // Where it stays taken, the bind says so.
    wait_until_free(config.http_listen).await.ok();
    let listener = http::bind(config.http_listen).await?;
    if let Some(section) = &config.router {
        refuse_taken(section.listen).await?;
    }
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut registry = Registry::default();
    // The files are looked at as long as this lives.
    let (incoming, _live) = open_door(&config, listener, &mut registry).await?;
    let cluster_id = watch::Sender::new(String::new());
    let (connected, coordinator) = watch::channel(false);

    let supervised = start_supervisor(&config, &config_path, &mut registry, &cancel, &mut tasks)
        .await
        .context("the tablet cannot be supervised")?;
    let (topology, kept) = kept_topology(&config.data_dir);
    if let Some(kept) = &kept {
        cluster_id.send_replace(kept.cluster_id.clone());
    }
    let router =
        start_router(&config, &topology, &mut registry).context("the router cannot be started")?;
    let mut members = config.coordinators.clone();
    members.shuffle(&mut rand::rng());
    if let Some((handle, arrivals, known)) = &supervised {
        // The router may have heard of a newer group than its tablet.
        if !known.is_empty() && kinship(&cluster_id.borrow(), known) != Kinship::Newer {
            cluster_id.send_replace(known.clone());
        }
        let line = (cluster_id.clone(), connected.clone());
        let uplink = uplink(&config, members.clone(), handle, arrivals, line);
        tasks.spawn(uplink.run(cancel.clone()));
    }
    if let Some(section) = &config.router {
        let routing = RoutingWatch {
            coordinators: members,
            tls: config.tls.clone(),
            data_dir: config.data_dir.clone(),
            known: kept,
            router: section.listen.to_string(),
            cluster_id,
            publish: Holder(topology.clone()),
            connected,
        };
        tasks.spawn(routing.run(cancel.clone()));
    }
    let (started, is_started) = watch::channel(false);
    let shown = config.router.is_some().then(|| topology.clone());
    let pages = Pages {
        registry,
        reports: supervised
            .as_ref()
            .map(|(handle, ..)| handle.reports.clone()),
        coordinator,
        routing: Box::new(move || shown.as_ref().map(Topology::load)),
        started: is_started,
    };
    tasks.spawn(http::serve(incoming, pages, cancel.clone()));
    started.send_replace(true);
    // Fails only where there is no service manager to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("the agent is up");
    wait_for_signal().await?;
    stop(router, cancel, tasks).await;
    Ok(())
}

/// The line of the tablet; `line` is the cluster that it belongs to, and whether a leader listens.
fn uplink(
    config: &Config,
    coordinators: Vec<Endpoint>,
    handle: &Handle,
    arrivals: &watch::Sender<Option<crate::uplink::desired::Arrival>>,
    line: (watch::Sender<String>, watch::Sender<bool>),
) -> Uplink {
    Uplink {
        coordinators,
        tls: config.tls.clone(),
        reports: handle.reports.clone(),
        arrivals: arrivals.clone(),
        cluster_id: line.0,
        connected: line.1,
        questions: serve_lost(Layout::new(&config.data_dir, None).lost_dir()),
    }
}

/// What the router serves from until a coordinator answers: the snapshot that an earlier life kept, if there is one.
fn kept_topology(data_dir: &Path) -> (Topology, Option<Arc<RoutingSnapshot>>) {
    let topology = Topology::default();
    let kept = load(data_dir).map(Arc::new);
    if let Some(kept) = &kept {
        tracing::info!(revision = %kept.version.revision, "serving from the kept routing snapshot until a coordinator answers");
        topology.publish(kept.clone());
    }
    (topology, kept)
}

/// The pages are public to whoever reaches the port: there the agent alone shows a certificate, and none on loopback.
async fn open_door(
    config: &Config,
    listener: tokio::net::TcpListener,
    registry: &mut Registry,
) -> anyhow::Result<(Incoming, Option<Live>)> {
    let metrics = TlsMetrics::default();
    metrics.register(registry.sub_registry_with_prefix("vt_agent"));
    let (mut mode, mut kept) = (Mode::Plaintext, None);
    if let Some(files) = &config.tls {
        let live = Live::start(files.clone(), Role::Agent, metrics.clone());
        let live = live.await.context("[tls]")?;
        if !config.http_listen.ip().is_loopback() {
            mode = Mode::ServerOnly(live.clone());
        }
        kept = Some(live);
    }
    let incoming = Incoming::start(listener, mode, http::LIMITS, "http", metrics);
    Ok((incoming.context("http_listen")?, kept))
}

/// The router's topology as the watch sees it.
struct Holder(Topology);

impl Publish for Holder {
    fn publish(&self, snapshot: Arc<RoutingSnapshot>) {
        self.0.publish(snapshot);
    }
}

type Supervised = (
    Handle,
    watch::Sender<Option<crate::uplink::desired::Arrival>>,
    String,
);

async fn start_supervisor(
    config: &Config,
    config_path: &Path,
    registry: &mut Registry,
    cancel: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Option<Supervised>> {
    let Some((tablet, mysqld)) = &config.tablet else {
        return Ok(None);
    };
    let state = StateFile::open(&config.data_dir)?;
    let order = KeptOrder::new(&config.data_dir);
    let host = Host::open(
        config,
        tablet,
        mysqld,
        guard_program(config_path)?,
        cancel.clone(),
    )
    .await?;
    let metrics = SupervisorMetrics::default();
    metrics.register(registry);
    let record = Tablet {
        alias: tablet.alias.clone(),
        kind: tablet.kind,
        replica_set: tablet.replica_set.clone(),
        mysql: Endpoint {
            host: tablet.host.clone(),
            port: mysqld.port,
        },
        router: config.router.as_ref().map(|router| Endpoint {
            host: tablet.host.clone(),
            port: router.listen.port(),
        }),
    };
    let known = state.state().cluster_id.clone().unwrap_or_default();
    let (arrivals, arrived) = watch::channel(None);
    let (supervisor, handle) = Supervisor::new(record, host, state, order, arrived, metrics);
    tasks.spawn(supervisor.run(cancel.clone()));
    Ok(Some((handle, arrivals, known)))
}

/// Under a service manager that wants to be told of readiness the guard is a unit of its own; elsewhere it is started from here.
fn guard_program(config_path: &Path) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    if env::var_os("NOTIFY_SOCKET").is_some() {
        return Ok(None);
    }
    let program = env::current_exe().context("the path of this program is not known")?;
    let config = fs::canonicalize(config_path)
        .with_context(|| format!("{} has gone", config_path.display()))?;
    Ok(Some((program, config)))
}

fn start_router(
    config: &Config,
    topology: &Topology,
    registry: &mut Registry,
) -> anyhow::Result<Option<RouterHandle>> {
    let Some(section) = &config.router else {
        return Ok(None);
    };
    let backend = router::Credentials {
        user: APP_USER.to_owned(),
        password: config.credentials.app.expose().to_owned(),
    };
    let users = users::load(&section.users_file)?;
    let mut routing = router::Config::new(section.listen, users, backend);
    routing.statement_time_max = section.statement_time_max;
    routing.transaction_time_max = section.transaction_time_max;
    let tablet = config.tablet.as_ref();
    let own_cell = tablet.map(|(tablet, _)| tablet.alias.cell().clone());
    routing.cell = section.cell.clone().or(own_cell);
    routing.replica_lag_ms_max = section
        .replica_lag_max
        .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
    routing.client_write_time_max = section
        .client_write_time_max
        .unwrap_or(routing.client_write_time_max);
    routing.read_wait = section.read_wait.unwrap_or(routing.read_wait);
    routing.slow_statement = section.slow_statement;
    routing.log_one_of = section.log_one_of;
    routing.tls = section.tls.as_ref().map(load_tls).transpose()?;
    let registry = registry.sub_registry_with_prefix("vt_router");
    let started = Router::start(routing, topology.clone(), registry);
    let handle = started.map_err(|error| {
        anyhow::anyhow!(
            "[router] listen: {} cannot be taken: {error}; name another address",
            section.listen
        )
    })?;
    tracing::info!(listen = %handle.local_address(), "the router listens");
    Ok(Some(handle))
}

/// The router's threads share their port, and would share it with another router of the same user too: so somebody who listens
/// there already is looked for first, by a listener that does not share.
async fn refuse_taken(listen: SocketAddr) -> anyhow::Result<()> {
    wait_until_free(listen).await.map_err(|error| {
        anyhow::anyhow!("[router] listen: {listen} cannot be taken: {error}; name another address")
    })
}

/// An agent that was killed closes its ports a moment after its lock is free.
async fn wait_until_free(listen: SocketAddr) -> std::io::Result<()> {
    let deadline = Instant::now() + PORT_CLOSE_TIME_MAX;
    loop {
        match TcpListener::bind(listen) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(PORT_LOOK_PAUSE).await;
            }
            result => return result.map(drop),
        }
    }
}

fn load_tls(files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| {
            format!(
                "tls_certificate: {} cannot be used",
                files.certificate.display()
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("tls_key: {} cannot be used", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be configured")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("tls_certificate and tls_key do not fit each other")?;
    Ok(Arc::new(config))
}

/// Creates the data directory for its owner alone.
fn prepare_directory(data_dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(data_dir)
        .with_context(|| format!("data_dir: {} cannot be created", data_dir.display()))
}

/// One agent per directory.
fn take_lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(LOCK_FILE);
    let locked =
        lock_alone(&path).with_context(|| format!("{} cannot be locked", path.display()))?;
    locked.with_context(|| {
        format!(
            "another agent works in {}: stop it first, or give this one a data_dir of its own",
            data_dir.display()
        )
    })
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Sessions first, while the tablet is still supervised; then the rest.
async fn stop(router: Option<RouterHandle>, cancel: CancellationToken, mut tasks: JoinSet<()>) {
    tracing::info!("stopping; mysqld goes on");
    // Fails only where there is no service manager to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if let Some(router) = router {
        router.drain(DRAIN_LIMIT).await;
    }
    cancel.cancel();
    let ended = timeout(STOP_LIMIT, async {
        while tasks.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        tracing::warn!("some parts did not end in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_refused_and_one_that_becomes_free_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let error = refuse_taken(taken).await.unwrap_err().to_string();
        assert!(error.contains("[router] listen"), "{error}");
        let closing = tokio::spawn(async move {
            sleep(PORT_CLOSE_TIME_MAX / 4).await;
            drop(listener);
        });
        refuse_taken(taken).await.unwrap();
        closing.await.unwrap();
    }

    #[test]
    fn a_second_agent_in_one_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = take_lock(directory.path()).unwrap();
        let error = take_lock(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another agent works in"), "{error}");
        drop(first);
        take_lock(directory.path()).unwrap();
    }
}
