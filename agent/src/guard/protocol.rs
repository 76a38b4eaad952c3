//! What is said on the guard's control socket: one JSON object a line. It carries no passwords.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line that either side reads.
pub const LINE_LENGTH_MAX: u64 = 64 * 1024;

/// What a guard is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things stand.
    Status,
    /// Start mysqld. Where it runs already this changes nothing.
    Start(StartSpec),
    /// SIGKILL mysqld.
    Kill,
    /// SIGTERM mysqld, SIGKILL after the time limit; SIGKILL at once while the role marker lies there.
    Stop { timeout_ms: u64 },
    /// Push the status now and at each start and exit, on this connection, until it is closed.
    Subscribe,
}

/// How mysqld is started. The guard keeps no configuration, so that an upgrade of MySQL needs no new guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSpec {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The socket whose stale lock a killed mysqld leaves behind.
    pub socket: PathBuf,
    /// Where mysqld's standard output and error go; mysqld's own error log.
    pub log: PathBuf,
}

/// What a guard answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Status(Status),
    Refused(String),
}

/// How things stand with mysqld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub guard_pid: u32,
    /// How many times mysqld was started.
    pub incarnation: u64,
    pub server: Server,
    /// The latest exit; where mysqld is down, the exit of this incarnation.
    pub last_exit: Option<Exit>,
    /// The guard was told to end, and waits for its primary to hand over first.
    #[serde(default)]
    pub stop_asked: bool,
}

impl Status {
    /// The process id while mysqld runs.
    pub fn pid(&self) -> Option<u32> {
        match self.server {
            Server::Down => None,
            Server::Running { pid, .. } | Server::Stopping { pid, .. } => Some(pid),
        }
    }
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Server {
    Down,
    /// `adopted`: started by a guard before this one, so that its exit code will not be known.
    Running {
        pid: u32,
        adopted: bool,
    },
    Stopping {
        pid: u32,
        adopted: bool,
    },
}

/// How a life of mysqld ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub incarnation: u64,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// For people, as in `killed by signal 9`.
    pub how: String,
}

impl Exit {
    /// An exit of which the kernel told everything.
    pub fn known(incarnation: u64, code: Option<i32>, signal: Option<i32>) -> Self {
        let how = match (code, signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        Self {
            incarnation,
            code,
            signal,
            how,
        }
    }

    /// The exit of a process that was not our child.
    pub fn unknown(incarnation: u64) -> Self {
        let how = "ended; how is not known, since an earlier guard had started it".to_owned();
        Self {
            incarnation,
            code: None,
            signal: None,
            how,
        }
    }
}
