//! One host: a network namespace and what runs in it. Its processes are found by that namespace, so that one signal reaches a whole
//! host, also what its agent started.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{FRONT, HOSTS, bed::EVERYTHING, files::Files};
use crate::bed::{disk::Disk, network};

/// Bytes of a mysqld's filesystem: a small server and the binary logs of a run.
const DISK_SIZE: u64 = 2 * 1024 * 1024 * 1024;
/// Bytes of a coordinator's filesystem.
const COORDINATOR_DISK_SIZE: u64 = 256 * 1024 * 1024;
/// A killed process is gone by then, unless its disk is frozen.
const DEATH_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What runs on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Coordinator,
    Agent,
    Guard,
    Mysqld,
}

/// A host and its disk.
pub struct Host {
    pub number: usize,
    files: Files,
    /// Of its mysqld; the host of the application has none.
    pub disk: Option<Disk>,
    /// Of its coordinator.
    coordinator_disk: Option<Disk>,
    children: Vec<Child>,
}

impl Host {
    /// Makes its disks; nothing runs yet.
    pub fn make(number: usize, files: &Files) -> anyhow::Result<Self> {
        let image = files.directory.join(format!("disk{number}.image"));
        let disk = (number < FRONT)
            .then(|| Disk::make(image, files.disk(number), DISK_SIZE))
            .transpose()?;
        let image = files.directory.join(format!("coordinator{number}.image"));
        let coordinator_disk = (number < FRONT)
            .then(|| Disk::make(image, files.coordinator_disk(number), COORDINATOR_DISK_SIZE))
            .transpose()?;
        Ok(Self {
            number,
            files: files.clone(),
            disk,
            coordinator_disk,
            children: Vec::new(),
        })
    }

    /// The disk of its mysqld.
    pub fn disk(&mut self) -> anyhow::Result<&mut Disk> {
        self.disk.as_mut().context("a host with a mysqld")
    }

    /// The disk of its coordinator.
    pub fn coordinator_disk(&mut self) -> anyhow::Result<&mut Disk> {
        self.coordinator_disk
            .as_mut()
            .context("a host with a coordinator")
    }

    /// Starts what does not run: what its service manager would start.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let runs = self.processes()?;
        for (program, name) in [
            (Program::Coordinator, "vt-coordinator"),
            (Program::Agent, "vt-agent"),
        ] {
            let is_here = program == Program::Agent || self.number < HOSTS;
            if is_here && !runs.iter().any(|(it, _)| *it == program) {
                self.spawn(name)?;
            }
        }
        Ok(())
    }

    /// Takes back whatever was done to its disk and its processes, and starts what does not run.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        for disk in self.disk.iter_mut().chain(&mut self.coordinator_disk) {
            disk.thaw()?;
        }
        self.signal(EVERYTHING, Signal::SIGCONT)?;
        if self.disk.as_ref().is_some_and(Disk::is_broken) {
            self.start_over()?;
        }
        for disk in self.disk.iter().chain(&self.coordinator_disk) {
            disk.free()?;
        }
        self.start()
    }

    /// All its processes end, and its disk is mounted anew.
    pub fn start_over(&mut self) -> anyhow::Result<()> {
        self.kill(EVERYTHING)?;
        self.disk()?.mount_again()
    }

    fn spawn(&mut self, name: &str) -> anyhow::Result<()> {
        let short = name.trim_start_matches("vt-");
        let file = |end| format!("{short}{}.{end}", self.number);
        let log = self.files.directory.join(file("log"));
        let log = File::options().create(true).append(true).open(log)?;
        // nsenter becomes the program, so its process is ours.
        let child = Command::new("nsenter")
            .arg(format!("--net={}", network::namespace(self.number)))
            .arg("--")
            .arg(self.files.programs.join(name))
            .arg("--config")
            .arg(self.files.directory.join(file("toml")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        self.children.push(child);
        Ok(())
    }

    /// What runs on it now.
    pub fn processes(&mut self) -> anyhow::Result<Vec<(Program, Pid)>> {
        // Ended ones are not to be seen as running.
        self.children
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let inside = fs::metadata(network::namespace(self.number))?.ino();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
                continue;
            };
            found.extend(program(pid, inside).map(|program| (program, Pid::from_raw(pid))));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Sends a signal to all of these programs.
    pub fn signal(&mut self, programs: &[Program], signal: Signal) -> anyhow::Result<()> {
        for (program, pid) in self.processes()? {
            if !programs.contains(&program) {
                continue;
            }
            match kill(pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("send a signal"),
            }
        }
        Ok(())
    }

    /// Kills these programs and waits until they are gone, with all that they held.
    pub fn kill(&mut self, programs: &[Program]) -> anyhow::Result<()> {
        let mut killed = self.processes()?;
        killed.retain(|(it, _)| programs.contains(it));
        self.signal(programs, Signal::SIGKILL)?;
        let deadline = Instant::now() + DEATH_TIMEOUT;
        while self
            .processes()?
            .iter()
            .any(|(it, _)| programs.contains(it))
            || killed.iter().any(|(_, pid)| is_dying(*pid))
        {
            ensure!(
                Instant::now() < deadline,
                "host {} has processes that do not die",
                self.number
            );
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

/// Whether a process that was killed still holds files: what it is cannot be told any more before it has let go of them.
fn is_dying(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    let after_name = status.as_deref().unwrap_or_default().rsplit_once(") ");
    after_name.is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// What a process is, if it is ours and lives in that network namespace.
fn program(pid: i32, inside: u64) -> Option<Program> {
    let folder = Path::new("/proc").join(pid.to_string());
    let namespace = fs::metadata(folder.join("ns/net")).ok()?;
    if namespace.ino() != inside {
        return None;
    }
    let words = fs::read(folder.join("cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0);
    let name = Path::new(std::str::from_utf8(words.next()?).ok()?).file_name()?;
    match name.to_str()? {
        "vt-coordinator" => Some(Program::Coordinator),
        "vt-agent" if words.next() == Some(b"guard") => Some(Program::Guard),
        "vt-agent" => Some(Program::Agent),
        "mysqld" => Some(Program::Mysqld),
        _ => None,
    }
}
