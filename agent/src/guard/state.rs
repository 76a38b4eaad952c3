//! What a guard must not forget: the number of starts, and how to start again. On disk before it is acted on.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    GuardError,
    protocol::{Exit, StartSpec},
    write_durably,
};

/// The contents of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Counts up before each start, so that no life of mysqld is ever counted twice.
    pub incarnation: u64,
    /// The mysqld of this incarnation, once it was started.
    pub process: Option<ProcessMark>,
    pub spec: Option<StartSpec>,
    pub last_exit: Option<Exit>,
}

/// What tells a process from another that got the same number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    pub pid: u32,
    /// Since the host's start, in the kernel's clock ticks.
    pub start_ticks: u64,
}

impl State {
    /// Reads it; a guard that never ran has none.
    pub fn load(path: &Path) -> Result<Self, GuardError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(GuardError::io("cannot read", path)(error)),
        };
        serde_json::from_slice(&text).map_err(|error| GuardError::State {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        write_durably(path, &text)
    }
}
