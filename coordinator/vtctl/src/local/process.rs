//! The daemons of a local cluster as processes: started in a session of their own, found again by pid and start time, ended
//! within a time limit. A number that another process got since is never signalled.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// The first word by which this program asks itself to become a daemon.
pub const DETACH_COMMAND: &str = "__detach";
/// Between two looks at an ending process.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// After SIGKILL the kernel only has to clean up.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a log's end is looked at for its last lines.
const LOG_TAIL_BYTES: u64 = 8 << 10;
const LOG_TAIL_LINES: usize = 6;

/// What tells a process from another that got the same number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub pid: i32,
    /// Since the host's start, in the kernel's clock ticks.
    pub start_ticks: u64,
    /// The kernel's boot id: start times begin anew with each.
    pub boot_id: String,
}

impl Mark {
    /// The mark of the process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, start_ticks) = stat(pid)?;
        let boot_id = boot_id();
        // A zombie has ended; its number is only kept until somebody asks how.
        (state != 'Z' && state != 'X').then_some(Self {
            pid,
            start_ticks,
            boot_id,
        })
    }

    /// Whether that process still runs.
    pub fn alive(&self) -> bool {
        Mark::of(self.pid).as_ref() == Some(self)
    }

    /// Sends the signal if the process still runs.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("send {signal} to process {}", self.pid))
            }
        }
    }

    /// SIGTERM, and SIGKILL after the time limit. Says whether the process had to be killed.
    pub async fn end(&self, limit: Duration) -> anyhow::Result<bool> {
        self.signal(Signal::SIGTERM)?;
        if self.gone_within(limit).await {
            return Ok(false);
        }
        self.signal(Signal::SIGKILL)?;
        anyhow::ensure!(
            self.gone_within(KILL_TIMEOUT).await,
            "process {} does not end, not even by SIGKILL: its disk may hang",
            self.pid
        );
        Ok(true)
    }

    /// Waits for its end.
    pub async fn gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }

    /// Keeps it in a file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(self).context("write a process mark")?;
        super::files::write(path, 0o644, &text)
    }

    /// The process that the file names, if it still runs.
    pub fn load_alive(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let mark: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} names no process; remove it", path.display()))?;
        Ok(mark.alive().then_some(mark))
    }
}

/// State and start time of a process, from `/proc`.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may itself contain some.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // After the state, the 3rd field, the start time is the 22nd.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Starts a program with `--config FILE`, detached from this terminal; its output goes to the log.
pub fn start(program: &Path, config: &Path, log: &Path) -> anyhow::Result<Mark> {
    let open = fs::OpenOptions::new().create(true).append(true).open(log);
    let output = open.with_context(|| format!("open {}", log.display()))?;
    let errors = output.try_clone().context("open the log twice")?;
    let myself = std::env::current_exe().context("find this program's own file")?;
    let child = Command::new(myself)
        .arg(DETACH_COMMAND)
        .arg(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let pid = i32::try_from(child.id()).context("a process id")?;
    Mark::of(pid)
        .with_context(|| format!("{} ended at once; see {}", program.display(), log.display()))
}

/// Becomes the program in a session of its own. Called in a fresh process; returns only when it fails.
pub fn detach(words: &[std::ffi::OsString]) -> anyhow::Error {
    let Some((program, arguments)) = words.split_first() else {
        return anyhow::anyhow!("nothing to start");
    };
    if let Err(error) = nix::unistd::setsid() {
        return anyhow::Error::new(error).context("leave the terminal's session");
    }
    close_inherited();
    let error = Command::new(program).args(arguments).exec();
    anyhow::Error::new(error).context(format!("start {}", PathBuf::from(program).display()))
}

/// Closes what the caller's caller left open: a daemon that holds somebody's pipe would make its reader wait for ever.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}

/// The last lines of a log, for an error message.
pub fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_one_process_only() {
        let own = Mark::of(std::process::id().cast_signed()).unwrap();
        assert!(own.alive());
        let reused = Mark {
            start_ticks: own.start_ticks + 1,
            ..own.clone()
        };
        assert!(!reused.alive());
        let before_reboot = Mark {
            boot_id: "other".to_owned(),
            ..own
        };
        assert!(!before_reboot.alive());
    }

    #[tokio::test]
    async fn a_process_is_ended_and_found_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mark = Mark::of(child.id().cast_signed()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sleep.json");
        mark.save(&path).unwrap();
        assert_eq!(Mark::load_alive(&path).unwrap(), Some(mark.clone()));
        // A zombie counts as gone, so nobody has to wait for the child first.
        assert!(!mark.end(Duration::from_secs(5)).await.unwrap());
        assert_eq!(Mark::load_alive(&path).unwrap(), None);
        child.wait().unwrap();
    }

    #[test]
    fn logs_show_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines: Vec<_> = (0..3_000).map(|n| format!("line {n}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let tail = log_tail(&path);
        assert!(
            tail.starts_with("line 2994") && tail.ends_with("line 2999"),
            "{tail}"
        );
        assert_eq!(log_tail(&dir.path().join("none")), "");
    }
}
