//! This host's mysqld as the supervisor's loop uses it: the guard's word, the connections, the files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use vt_agent_core::{Observed, Process};
use vt_proto::{
    epoch::{Epoch, Incarnation},
    ids::TabletAlias,
};

use super::{admin_pool::AdminPool, elapsed_ms, is_up, probes::Probes, writes::Writer};
use crate::{
    config::{Config, Credentials, MysqldConfig, TabletConfig},
    disk_writes::DiskWrites,
    guard::{
        marker::Marker,
        protocol::{Server as GuardedServer, Status},
    },
    mysqld::{
        Layout,
        binaries::Binaries,
        init::{Init, Passwords},
        my_cnf::{Settings, default_user},
        service::Service,
    },
    replication::{
        accounts::replication_user,
        status::{self, Interest},
    },
};

/// A guard that does not answer so long is started anew.
const GUARD_PATIENCE: Duration = Duration::from_millis(500);
/// How long the agent waits at its start for a guard that is somebody else's to start.
const GUARD_START_LIMIT: Duration = Duration::from_secs(60);
/// A start or an exit is pushed within milliseconds; a kill takes as long as mysqld's memory takes to be given back.
const WORD_LIMIT: Duration = Duration::from_secs(8);
/// One observation of a mysqld that is well, also on a busy host.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// One that was silent when asked last: whoever orders it fenced must not wait for it.
const SILENT_LIMIT: Duration = Duration::from_millis(200);
/// Between two questions to a silent one.
const SILENT_PAUSE: Duration = Duration::from_millis(300);

/// The parts.
pub struct Host {
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    pub(super) binaries: Binaries,
    pub(super) passwords: Passwords,
    pub(super) credentials: Credentials,
    pub(super) alias: TabletAlias,
    pub(super) owner: String,
    pub(super) service: Service,
    pub(super) pool: AdminPool,
    guard: watch::Receiver<Option<Status>>,
    /// The last word of a guard, kept while none answers: nobody else starts or ends mysqld for us.
    status: Status,
    guard_missing: Option<Instant>,
    guard_program: Option<(PathBuf, PathBuf)>,
    boot_id: String,
    /// The life of mysqld that has answered, and when last.
    answered: Option<(Incarnation, Instant)>,
    /// It has answered in this life, and was asked in vain then.
    silent: Option<Instant>,
    /// How far the source's stream was read.
    stream: status::Stream,
    /// What is written to the agent's directory for the guard.
    pub(super) marks: DiskWrites,
    pub(super) probes: Arc<Probes>,
}

/// Why there is nothing to supervise.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the boot id of this host cannot be read: {0}")]
    BootId(io::Error),
    #[error(transparent)]
    Init(#[from] crate::mysqld::init::InitError),
    #[error(transparent)]
    MyCnf(#[from] crate::mysqld::my_cnf::MyCnfError),
    #[error(transparent)]
    Binaries(#[from] crate::mysqld::binaries::BinariesError),
    #[error(transparent)]
    Service(#[from] crate::mysqld::service::ServiceError),
    #[error("no guard answers in {}: start vt-mysqld.service", .0.display())]
    NoGuard(PathBuf),
}

impl Host {
    /// Finds mysqld, checks what is there, and finds or starts the guard. `guard_program` is the program and the configuration
    /// to start a guard with; without it the guard is somebody else's to start.
    pub async fn open(
        config: &Config,
        tablet: &TabletConfig,
        mysqld: &MysqldConfig,
        guard_program: Option<(PathBuf, PathBuf)>,
        cancel: CancellationToken,
    ) -> Result<Self, HostError> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(HostError::BootId)?
            .trim()
            .to_owned();
        let binaries = Binaries::find(mysqld.prefix.as_deref()).await?;
        let layout = Layout::new(&config.data_dir, Some(&mysqld.data_dir));
        let settings = Settings {
            layout: layout.clone(),
            version: binaries.version,
            server_id: tablet.alias.server_id(),
            host: tablet.host.clone(),
            port: mysqld.port,
            innodb_buffer_pool_size: mysqld.innodb_buffer_pool_size.clone(),
            include: mysqld.include.clone(),
            user: default_user(&config.data_dir),
        };
        let service = Service::new(&layout);
        let guard = service.watch();
        let credentials = config.credentials.clone();
        let writer = Writer {
            socket: layout.socket(),
            password: credentials.admin.clone(),
            alias: tablet.alias.clone(),
            conn: None,
        };
        let mut host = Self {
            pool: AdminPool::new(layout.socket(), credentials.admin.clone()),
            passwords: Passwords {
                admin: credentials.admin.expose().to_owned(),
                replication: credentials.replication.expose().to_owned(),
                app: credentials.app.expose().to_owned(),
            },
            credentials,
            alias: tablet.alias.clone(),
            owner: tablet.alias.to_string(),
            stream: status::Stream::default(),
            marks: DiskWrites::default(),
            probes: Arc::new(Probes::start(layout.clone(), writer, cancel)),
            layout,
            settings,
            binaries,
            service,
            guard,
            status: Status {
                guard_pid: 0,
                incarnation: 0,
                server: GuardedServer::Down,
                last_exit: None,
                stop_asked: false,
            },
            guard_missing: None,
            guard_program,
            boot_id,
            answered: None,
            silent: None,
        };
        host.init().check()?;
        host.status = host.find_guard().await?;
        Ok(host)
    }

    async fn find_guard(&mut self) -> Result<Status, HostError> {
        if let Some((program, config)) = &self.guard_program {
            return Ok(self.service.ensure_guard(program, config).await?);
        }
        let mut guard = self.guard.clone();
        let answered = timeout(GUARD_START_LIMIT, guard.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(status)) => status
                .clone()
                .ok_or_else(|| HostError::NoGuard(self.layout.data_dir.clone())),
            _ => Err(HostError::NoGuard(self.layout.data_dir.clone())),
        }
    }

    pub(super) fn init(&self) -> Init<'_> {
        Init {
            settings: &self.settings,
            binaries: &self.binaries,
            passwords: &self.passwords,
            owner: &self.owner,
        }
    }

    /// The guard's words, as they come.
    pub(super) fn guard_events(&self) -> watch::Receiver<Option<Status>> {
        self.guard.clone()
    }

    /// Whether the guard has said something since the last observation.
    pub(super) fn guard_has_spoken(&self) -> bool {
        self.guard.has_changed().unwrap_or(true)
    }

    /// Whether the last observation was answered.
    pub(super) fn is_answering(&self) -> bool {
        let life = Incarnation(self.status.incarnation);
        self.status.pid().is_none() || self.answered.is_some_and(|(answered, _)| answered == life)
    }

    /// The life of mysqld, by the guard's last word.
    pub(super) fn incarnation(&self) -> u64 {
        self.status.incarnation
    }

    /// Waits until the guard's pushed word says what its answer said already, so that the next observation does too.
    pub(super) async fn heard(&mut self, says: impl Fn(&Status) -> bool) {
        let mut guard = self.guard.clone();
        let said = guard.wait_for(|status| status.as_ref().is_some_and(&says));
        // The action's own limit is the longer one; a late word is taken when it comes.
        let _ = timeout(WORD_LIMIT, said).await;
    }

    /// Everything that is known now.
    pub(super) async fn observe(
        &mut self,
        interest: &Interest,
        io_age_ms: Option<u64>,
    ) -> Observed {
        self.hear_guard().await;
        let mut observed = Observed {
            boot_id: self.boot_id.clone(),
            process: Process::Absent,
            incarnation: Incarnation(self.status.incarnation),
            fence_marker: fence_epoch(&self.layout.data_dir),
            role_marker: Marker::PrimaryOpen.is_set(&self.layout.data_dir),
            server: None,
            unresponsive_ms: None,
            disk_free_bytes: None,
            write_probe: None,
            disk_probe: None,
            lost: Default::default(),
            stop_asked: self.status.stop_asked,
        };
        self.probes.look(&mut observed);
        let prepared = self.layout.is_prepared();
        if !prepared && self.status.pid().is_none() {
            return observed;
        }
        note_process(&mut observed, &self.status);
        if !is_up(&observed.process) {
            self.pool.clear();
            self.silent = None;
            return observed;
        }
        let life = observed.incarnation;
        let answer = self.question(life, interest, io_age_ms).await;
        match answer {
            Ok(server) => {
                observed.server = Some(server);
                self.answered = Some((life, Instant::now()));
                self.pool.keep_spare().await;
            }
            Err(error) => {
                tracing::debug!(%error, "mysqld does not answer");
                observed.unresponsive_ms = self
                    .answered
                    .filter(|(answered, _)| *answered == life)
                    .map(|(_, at)| elapsed_ms(at));
            }
        }
        self.probes.look(&mut observed);
        observed
    }

    /// Asks within a limit. A mysqld that was silent a moment ago is not waited for again: an order to fence it comes first.
    async fn question(
        &mut self,
        life: Incarnation,
        interest: &Interest,
        io_age_ms: Option<u64>,
    ) -> Result<vt_agent_core::Server, String> {
        let limit = match self.silent {
            Some(asked) if asked.elapsed() < SILENT_PAUSE => {
                return Err("it did not answer a moment ago".to_owned());
            }
            Some(_) => SILENT_LIMIT,
            None => ASK_LIMIT,
        };
        let answer = match timeout(limit, self.ask(interest, io_age_ms)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            // The connection goes with its question.
            Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
        };
        let has_answered = self.answered.is_some_and(|(answered, _)| answered == life);
        self.silent = (has_answered && answer.is_err()).then(Instant::now);
        answer
    }

    async fn ask(
        &mut self,
        interest: &Interest,
        io_age_ms: Option<u64>,
    ) -> Result<vt_agent_core::Server, status::StatusError> {
        let conn = self.pool.main().await?;
        let user = replication_user(&self.alias);
        status::observe(conn, interest, &user, &mut self.stream, io_age_ms).await
    }

    /// Takes over the guard's newest word; a missing guard is started anew, where it is ours to start.
    async fn hear_guard(&mut self) {
        let newest = self.guard.borrow_and_update().clone();
        if let Some(status) = newest {
            self.status = status;
            self.guard_missing = None;
            return;
        }
        let missing = *self.guard_missing.get_or_insert_with(Instant::now);
        if missing.elapsed() < GUARD_PATIENCE {
            return;
        }
        self.guard_missing = None;
        match &self.guard_program {
            Some((program, config)) => match self.service.ensure_guard(program, config).await {
                Ok(status) => self.status = status,
                Err(error) => tracing::error!(%error, "mysqld is without a guard"),
            },
            None => tracing::error!("no guard answers: start vt-mysqld.service"),
        }
    }
}

/// The guard's word in the core's terms.
pub(super) fn note_process(observed: &mut Observed, status: &Status) {
    observed.incarnation = Incarnation(status.incarnation);
    observed.process = match &status.server {
        GuardedServer::Running { .. } | GuardedServer::Stopping { .. } => Process::Up,
        GuardedServer::Down => Process::Down {
            how: status.last_exit.as_ref().map(|exit| exit.how.clone()),
        },
    };
    if !is_up(&observed.process) {
        observed.server = None;
    }
}

/// What a fence marker says to people and to us.
pub(super) fn fence_text(epoch: Epoch) -> String {
    format!("epoch {epoch}\nmysqld must not start before the coordinator has told what was kept.\n")
}

/// The epoch of the marker; one without a readable epoch fences all the same, for no epoch that anybody waits for.
fn fence_epoch(data_dir: &Path) -> Option<Epoch> {
    if !Marker::Fence.is_set(data_dir) {
        return None;
    }
    let text = Marker::Fence
        .text(data_dir)
        .ok()
        .flatten()
        .unwrap_or_default();
    let epoch = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("epoch "))
        .and_then(|number| number.trim().parse().ok());
    Some(Epoch(epoch.unwrap_or(0)))
}
