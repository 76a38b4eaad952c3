//! One coordinator: a process in a network namespace and on a filesystem of its own. It is only ended when it is told so, and
//! whatever ends otherwise is a finding.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::MEMBERS;
use crate::{
    bed::{
        disk::Disk,
        network::{self, GRPC_PORT, HTTP_PORT},
    },
    pki,
};

/// How long a process may take to end: a clean stop hands leadership over first, and a busy machine takes its time.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of its filesystem: room for the log and its copies while it is compacted, and soon full.
const DISK_SIZE: u64 = 128 * 1024 * 1024;
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A coordinator, its disk and its files.
pub struct Member {
    pub number: usize,
    disk: Disk,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// It was told to end.
    is_ending: bool,
    /// Its disk has failed with the power and must be mounted again.
    is_without_power: bool,
}

impl Member {
    /// Makes its disk and its configuration in `directory`; nothing runs yet.
    pub fn make(number: usize, program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let path = |what: &str| directory.join(format!("member{}{what}", number + 1));
        let disk = Disk::make(path(".image"), path(""), DISK_SIZE)?;
        let config = path(".toml");
        fs::write(&config, configuration(number, directory, &disk.data_dir()))?;
        Ok(Self {
            number,
            disk,
            program: program.to_owned(),
            config,
            log: path(".log"),
            child: None,
            is_ending: false,
            is_without_power: false,
        })
    }

    /// Starts the process, unless it runs.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        // nsenter becomes the program, so its process is ours.
        let child = Command::new("nsenter")
            .arg(format!("--net={}", network::namespace(self.number)))
            .arg("--")
            .arg(&self.program)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        self.is_ending = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        kill(pid, signal).with_context(|| format!("signal member {}", self.number + 1))
    }

    /// As a crash would; what hangs on its disk ends with the hanging.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.is_ending = true;
        self.signal(Signal::SIGKILL)
    }

    /// As systemd would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.is_ending = true;
        self.signal(Signal::SIGTERM)
    }

    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn unpause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// As pulling the plug would: nothing more is written, what was not synced is lost.
    pub fn lose_power(&mut self) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.is_without_power, true) {
            return Ok(());
        }
        self.pause()?;
        self.disk.thaw()?;
        self.disk.forget()?;
        self.kill()
    }

    /// Takes all the space on its disk.
    pub fn fill_disk(&self) -> anyhow::Result<()> {
        if self.is_without_power || self.disk.is_frozen() {
            return Ok(());
        }
        self.disk.fill()
    }

    /// Lets everything hang that uses its disk.
    pub fn freeze_disk(&mut self) -> anyhow::Result<()> {
        if self.is_without_power {
            return Ok(());
        }
        self.disk.freeze()
    }

    /// Whatever was done to process and disk is taken back; it runs.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        self.disk.thaw()?;
        self.unpause()?;
        if !self.is_without_power {
            self.disk.free()?;
        }
        self.wait_for_end()?;
        if std::mem::take(&mut self.is_without_power) {
            self.disk.mount_again()?;
            self.disk.free()?;
        }
        self.start()
    }

    /// Waits until a process that was told to end has ended.
    fn wait_for_end(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + END_TIMEOUT;
        while self.is_ending {
            let Some(child) = &mut self.child else {
                break;
            };
            if child.try_wait()?.is_some() {
                self.child = None;
                break;
            }
            if Instant::now() > deadline {
                bail!(
                    "member {} does not end within {} s",
                    self.number + 1,
                    END_TIMEOUT.as_secs()
                );
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// How it ended although nobody told it to.
    pub fn ended_by_itself(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = self.child.as_mut().filter(|_| !self.is_ending) else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Writes down where each of its threads is, for whoever looks into why it does not answer.
    pub fn tell_threads(&self) -> anyhow::Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        let mut text = String::new();
        for task in fs::read_dir(format!("/proc/{}/task", child.id()))?.flatten() {
            text.push_str(&format!("--- {}\n", task.file_name().display()));
            for what in ["comm", "status", "syscall", "stack", "stat"] {
                let found = fs::read_to_string(task.path().join(what));
                text.push_str(&found.unwrap_or_else(|error| format!("{what}: {error}\n")));
            }
        }
        Ok(fs::write(self.log.with_extension("threads"), text)?)
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn configuration(number: usize, directory: &Path, data_dir: &Path) -> String {
    let address = network::address(number);
    let mut text = format!(
        "cluster = \"fire\"\nmember_id = {}\ndata_dir = \"{}\"\nlisten = \"{address}:{GRPC_PORT}\"\nhttp_listen = \"{address}:{HTTP_PORT}\"\n[members]\n",
        number + 1,
        data_dir.display()
    );
    for member in 0..MEMBERS {
        let address = network::address(member);
        text.push_str(&format!("{} = \"{address}:{GRPC_PORT}\"\n", member + 1));
    }
    let [certificate, key, ca] = pki::paths(directory, number);
    text.push_str(&format!(
        "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {ca:?}\n"
    ));
    text
}
