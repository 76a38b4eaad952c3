//! Processes of mysqld: start, find, signal and wait for one. It never names a process by its number alone.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    protocol::{Exit, StartSpec},
    state::ProcessMark,
};

/// An error log that is larger at a start makes room for a fresh one; the one before is kept.
pub const LOG_LENGTH_MAX: u64 = 16 << 20;
/// Processes looked at when one is searched by its directory: more than any host runs.
const PROCESSES_MAX: usize = 1 << 20;

/// A running mysqld, held by a descriptor that never means another process.
pub struct Process {
    pub pid: u32,
    pub adopted: bool,
    descriptor: Arc<OwnedFd>,
}

impl Process {
    /// Starts mysqld; `on_exit` is called once, from a thread of its own, as soon as it has ended.
    pub fn start(
        spec: &StartSpec,
        mysql_dir: &Path,
        incarnation: u64,
        on_exit: impl FnOnce(Exit) + Send + 'static,
    ) -> io::Result<Self> {
        remove_stale_socket(&spec.socket)?;
        let log = open_log(&spec.log)?;
        let child = Command::new(&spec.program)
            .args(&spec.arguments)
            .current_dir(mysql_dir)
            // With it mysqld ends with code 16 after CLONE instead of refusing to; it compares the number with its parent's.
            .env("MYSQLD_PARENT_PID", std::process::id().to_string())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // Our child keeps its number until it is reaped, so this opens no other process.
        let descriptor = Arc::new(open(child.id())?);
        let process = Self {
            pid: child.id(),
            adopted: false,
            descriptor,
        };
        process.watch(Some(child), incarnation, on_exit);
        Ok(process)
    }

    /// Takes over a mysqld that another guard had started.
    pub fn adopt(
        mark: ProcessMark,
        incarnation: u64,
        on_exit: impl FnOnce(Exit) + Send + 'static,
    ) -> io::Result<Self> {
        let descriptor = Arc::new(open(mark.pid)?);
        // Read after the descriptor was opened: if it is still the same process now, the descriptor means it.
        if start_ticks(mark.pid)? != mark.start_ticks {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let process = Self {
            pid: mark.pid,
            adopted: true,
            descriptor,
        };
        process.watch(None, incarnation, on_exit);
        Ok(process)
    }

    pub fn terminate(&self) -> io::Result<()> {
        signal(&self.descriptor, Signal::TERM)
    }

    pub fn kill(&self) -> io::Result<()> {
        signal(&self.descriptor, Signal::KILL)
    }

    fn watch(
        &self,
        child: Option<Child>,
        incarnation: u64,
        on_exit: impl FnOnce(Exit) + Send + 'static,
    ) {
        let descriptor = Arc::clone(&self.descriptor);
        thread::spawn(move || on_exit(wait(child, &descriptor, incarnation)));
    }
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(number, PidfdFlags::empty())?)
}

fn signal(descriptor: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(descriptor, signal) {
        // It has ended already, which is what the sender wants.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => Ok(result?),
    }
}

fn wait(child: Option<Child>, descriptor: &OwnedFd, incarnation: u64) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    if let Some(mut child) = child
        && let Ok(status) = child.wait()
    {
        return Exit::known(incarnation, status.code(), status.signal());
    }
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    while matches!(poll(&mut polled, None), Err(rustix::io::Errno::INTR)) {}
    Exit::unknown(incarnation)
}

/// The mark of a living process.
pub fn mark(pid: u32) -> io::Result<ProcessMark> {
    Ok(ProcessMark {
        pid,
        start_ticks: start_ticks(pid)?,
    })
}

/// Kills exactly this process, if it still is.
pub fn kill(mark: ProcessMark) -> io::Result<()> {
    let Ok(descriptor) = open(mark.pid) else {
        return Ok(());
    };
    match start_ticks(mark.pid) {
        Ok(ticks) if ticks == mark.start_ticks => signal(&descriptor, Signal::KILL),
        _ => Ok(()),
    }
}

/// Field 22 of the kernel's line about the process. The name in field 2 may hold spaces and parentheses.
fn start_ticks(pid: u32) -> io::Result<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = line.rsplit_once(')').map(|(_, rest)| rest);
    let mut fields = fields.unwrap_or_default().split_whitespace();
    if fields.next() == Some("Z") {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let ticks = fields.nth(18).and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The mysqld that works in this data directory, whoever started it: it is its current directory.
pub fn find_in(mysql_dir: &Path) -> Option<ProcessMark> {
    let wanted = fs::canonicalize(mysql_dir).ok()?;
    let processes = fs::read_dir("/proc").ok()?.take(PROCESSES_MAX);
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| works_in(*pid, &wanted))
        .find_map(|pid| mark(pid).ok())
}

fn works_in(pid: u32, wanted: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim_end().starts_with("mysqld")
        && fs::read_link(process.join("cwd")).is_ok_and(|directory| directory == wanted)
}

/// A killed mysqld leaves its socket and the lock with its number, and the next one refuses to start while that number
/// is anybody's. No mysqld runs here when this is called.
fn remove_stale_socket(socket: &Path) -> io::Result<()> {
    let mut lock = socket.as_os_str().to_owned();
    lock.push(".lock");
    for path in [socket, Path::new(&lock)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    if fs::metadata(path).is_ok_and(|found| found.len() > LOG_LENGTH_MAX) {
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        fs::rename(path, before)?;
    }
    fs::File::options()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}
