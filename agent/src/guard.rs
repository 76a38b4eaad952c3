//! The guard: the parent of mysqld, a process of its own that outlives restarts and upgrades of the agent.
//!
//! It carries mysqld's exit to whoever subscribed within milliseconds, refuses to start mysqld while the fence marker
//! lies there, and turns a stop into a kill while the role marker says that this is an open primary; told to end itself, it first
//! waits a little for that primary to hand over. It has no async
//! runtime, opens no network port and never decides to start mysqld: that is the agent's decision. The one exception
//! is the restart that MySQL itself asks for after CLONE.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};

pub mod marker;
pub mod process;
pub mod protocol;

mod control;
mod keeper;
mod state;

/// Names of the guard's files in the agent's data directory.
pub const SOCKET_FILE: &str = "guard.sock";
pub const STATE_FILE: &str = "guard.json";
pub const LOCK_FILE: &str = "guard.lock";
/// What the guard itself says, when it is started detached.
pub const LOG_FILE: &str = "guard.log";

/// A process that was killed gives its memory back in less, also on a busy machine.
const HOLDER_END_TIME_MAX: Duration = Duration::from_secs(3);
const HOLDER_LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Longest path of a unix socket that the kernel takes, without the closing NUL.
pub const SOCKET_PATH_LENGTH_MAX: usize = 107;

/// Where a guard works.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// The agent's data directory: the control socket, the state and the markers lie here.
    pub data_dir: PathBuf,
    /// mysqld's data directory: a mysqld that runs in it is adopted.
    pub mysql_dir: PathBuf,
}

/// Why a guard cannot work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("another guard works in {}: it goes on, this one ends", .0.display())]
    Taken(PathBuf),
    #[error(
        "the path of the control socket, {}, is longer than {SOCKET_PATH_LENGTH_MAX} bytes: choose a shorter data_dir",
        .0.display()
    )]
    PathTooLong(PathBuf),
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a state of a guard ({reason}); put back its last copy, or remove it while no mysqld runs", path.display())]
    State { path: PathBuf, reason: String },
    #[error("cannot wait for signals: {0}")]
    Signals(nix::Error),
}

impl GuardError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Works until it is told to end by SIGTERM or SIGINT; then mysqld has ended before. To be called from the first thread
/// before there are others: a thread that does not block these signals would take them, and end the process.
pub fn run(config: &GuardConfig) -> Result<(), GuardError> {
    // Detached from the terminal and from the agent's process group. It fails where systemd made us leader already.
    let _ = nix::unistd::setsid();
    let signals = termination_signals();
    // Blocked here, before any thread exists, so that the waiting thread alone receives them. mysqld sets its own mask.
    signals.thread_block().map_err(GuardError::Signals)?;

    let _lock = take_lock(&config.data_dir)?;
    let (events, inbox) = mpsc::sync_channel(control::EVENTS_MAX);
    let mut keeper = keeper::Keeper::new(config, events.clone())?;
    control::listen(&config.data_dir.join(SOCKET_FILE), events.clone())?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if events.send(keeper::Event::Terminate).is_err() {
                return;
            }
        }
    });
    keeper.run(&inbox);
    Ok(())
}

fn termination_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}

/// One guard per directory.
fn take_lock(data_dir: &Path) -> Result<File, GuardError> {
    let path = data_dir.join(LOCK_FILE);
    match lock_alone(&path) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(GuardError::Taken(data_dir.to_owned())),
        Err(source) => Err(GuardError::io("cannot lock", &path)(source)),
    }
}

/// Locks a file for this process. The kernel drops the lock with the process, however it ends; one that was killed may take a moment
/// for that, which is waited for. `None`: another process works on.
pub fn lock_alone(path: &Path) -> std::io::Result<Option<File>> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true);
    let file = file.mode(0o600).open(path)?;
    let deadline = Instant::now() + HOLDER_END_TIME_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
            Err(TryLockError::WouldBlock) => thread::sleep(HOLDER_LOOK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Writes a small file whole: after a crash the old or the new contents are there, never a part.
pub fn write_durably(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let fresh = path.with_extension("new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_parent(path)
}

/// Makes the creation, renaming or removal of `path` survive a power cut.
pub fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
