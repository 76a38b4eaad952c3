//! The agent's side of the guard: starts a guard where there is none, asks it, and hears of each start and exit.
//!
//! It never signals mysqld itself, and its end or crash changes nothing for guard and mysqld.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{Layout, binaries::Binaries, rewind, unbegun};
use crate::guard::{
    LOG_FILE, SOCKET_FILE,
    protocol::{LINE_LENGTH_MAX, Reply, Request, StartSpec, Status},
};

/// A guard answers in microseconds, after at most a few writes to its disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A detached guard opens its socket at once.
const GUARD_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a socket that is not there yet, and two attempts to subscribe.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A guard's log that is larger at its start is begun anew.
const LOG_LENGTH_MAX: u64 = 1 << 20;

/// Why the guard did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("no guard answers on {}: {source}", socket.display())]
    NoGuard { socket: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("the guard could not be started: {0}")]
    Start(String),
    #[error("cannot look after the binary log before the start: {0}")]
    Binlogs(io::Error),
}

/// Speaks to the guard of one tablet.
#[derive(Clone, Debug)]
pub struct Service {
    layout: Layout,
    socket: PathBuf,
}

impl Service {
    pub fn new(layout: &Layout) -> Self {
        Self {
            socket: layout.data_dir.join(SOCKET_FILE),
            layout: layout.clone(),
        }
    }

    /// Starts a guard apart from this process, its terminal and its end, unless one answers. Not for use under systemd,
    /// where the guard is a unit of its own: what an agent's unit starts ends with that unit.
    pub async fn ensure_guard(
        &self,
        program: &Path,
        config: &Path,
    ) -> Result<Status, ServiceError> {
        if let Ok(status) = self.status().await {
            return Ok(status);
        }
        let failed = |error: io::Error| ServiceError::Start(error.to_string());
        let log_path = self.layout.data_dir.join(LOG_FILE);
        let log = open_log(&log_path).map_err(failed)?;
        let mut child = Command::new(program)
            .arg("guard")
            .arg("--config")
            .arg(config)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let came_up = timeout(GUARD_START_TIMEOUT, async {
            loop {
                if let Ok(status) = self.status().await {
                    return Ok(status);
                }
                if let Ok(Some(status)) = child.try_wait() {
                    // Another may have been quicker; then it answers.
                    return self.status().await.map_err(|_| {
                        let log = log_path.display();
                        ServiceError::Start(format!("{status}; its words are in {log}"))
                    });
                }
                sleep(RETRY_PAUSE).await;
            }
        });
        came_up
            .await
            .unwrap_or_else(|_| Err(ServiceError::Start("it opens no socket".to_owned())))
    }

    pub async fn status(&self) -> Result<Status, ServiceError> {
        self.ask(&Request::Status).await
    }

    /// Starts mysqld with the my.cnf that was rendered. Where it runs this changes nothing.
    pub async fn start(&self, binaries: &Binaries) -> Result<Status, ServiceError> {
        let layout = self.layout.clone();
        let looked_after = spawn_blocking(move || look_after_binlogs(&layout)).await;
        looked_after
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(ServiceError::Binlogs)?;
        let spec = StartSpec {
            program: binaries.mysqld.clone(),
            arguments: vec![format!(
                "--defaults-file={}",
                self.layout.my_cnf().display()
            )],
            socket: self.layout.socket(),
            log: self.layout.error_log(),
        };
        self.ask(&Request::Start(spec)).await
    }

    /// Kills mysqld; its exit arrives as a status.
    pub async fn kill(&self) -> Result<Status, ServiceError> {
        self.ask(&Request::Kill).await
    }

    /// Begins a clean shutdown, which turns into a kill at the time limit, and at once where the role marker lies.
    pub async fn stop(&self, limit: Duration) -> Result<Status, ServiceError> {
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.ask(&Request::Stop { timeout_ms }).await
    }

    /// The guard's latest word: the status now, and anew within milliseconds of each start and exit. `None` while no guard
    /// answers. Ends when the receiver is dropped.
    pub fn watch(&self) -> watch::Receiver<Option<Status>> {
        let (sender, receiver) = watch::channel(None);
        let socket = self.socket.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                // However a subscription ends, the next begins with the whole status: nothing is missed.
                let _ = follow(&socket, &sender).await;
                sender.send_if_modified(|status| status.take().is_some());
                sleep(RETRY_PAUSE).await;
            }
        });
        receiver
    }

    async fn ask(&self, request: &Request) -> Result<Status, ServiceError> {
        let no_guard = |source| ServiceError::NoGuard {
            socket: self.socket.clone(),
            source,
        };
        let reply = timeout(REQUEST_TIMEOUT, async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            send(&mut stream, request).await?;
            receive(&mut BufReader::new(stream)).await
        });
        let reply = reply
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match reply.map_err(no_guard)? {
            Reply::Status(status) => Ok(status),
            Reply::Refused(reason) => Err(ServiceError::Refused(reason)),
        }
    }
}

async fn follow(socket: &Path, sender: &watch::Sender<Option<Status>>) -> io::Result<()> {
    let mut stream = timeout(REQUEST_TIMEOUT, UnixStream::connect(socket)).await??;
    send(&mut stream, &Request::Subscribe).await?;
    let mut lines = BufReader::new(stream);
    loop {
        tokio::select! {
            () = sender.closed() => return Ok(()),
            reply = receive(&mut lines) => match reply? {
                Reply::Status(status) => { sender.send_replace(Some(status)); }
                Reply::Refused(reason) => return Err(io::Error::other(reason)),
            },
        }
    }
}

async fn send(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn receive(lines: &mut BufReader<UnixStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if lines.take(LINE_LENGTH_MAX).read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// What recovery will take for the truth is to be the truth, and to be remembered.
fn look_after_binlogs(layout: &Layout) -> io::Result<()> {
    let taken = unbegun::take_out(layout)?;
    if !taken.is_empty() {
        tracing::warn!(files = ?taken, "a start of mysqld was killed over binary log files that had not begun: they are taken out");
    }
    rewind::note_start(layout)
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    let is_large = fs::metadata(path).is_ok_and(|found| found.len() > LOG_LENGTH_MAX);
    let mut options = fs::File::options();
    options.create(true).mode(0o640);
    if is_large {
        options.write(true).truncate(true);
    } else {
        options.append(true);
    }
    options.open(path)
}
