//! The supervised mysqld: finds it, renders its configuration, makes its data directory, asks its guard to start and stop
//! it, talks to it over its unix socket, probes it, cuts its unacknowledged tail, clones it.
//!
//! It decides nothing: when any of this happens is said by `agent/core` through the supervisor.

use std::path::{Path, PathBuf};

pub mod admin_conn;
pub mod binaries;
pub mod clone;
pub mod error_log;
pub mod init;
pub mod lost;
pub mod my_cnf;
pub mod probe;
pub mod rewind;
pub mod service;
pub mod unbegun;
pub mod version;

mod accounts;

pub(crate) use accounts::REPLICATION_RIGHTS;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// The internal accounts of every mysqld.
pub const ADMIN_USER: &str = "vt_admin";
/// Being copied; each tablet replicates with an account of its own.
pub const CLONE_USER: &str = "vt_clone";
pub const APP_USER: &str = "vt_app";
/// The schema of Vitrail's own tables on every tablet; the router's account cannot see it.
pub const INTERNAL_SCHEMA: &str = "vitrail";

/// Where the files of one tablet lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The agent's data directory: sockets, my.cnf, logs, markers.
    pub data_dir: PathBuf,
    /// mysqld's data directory; nothing but mysqld's files lie in it.
    pub mysql_dir: PathBuf,
}

impl Layout {
    /// `mysql_dir` defaults to `mysql` in the agent's data directory.
    pub fn new(data_dir: &Path, mysql_dir: Option<&Path>) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            mysql_dir: mysql_dir.map_or_else(|| data_dir.join("mysql"), Path::to_owned),
        }
    }

    /// mysqld's directory was made by an agent, whole.
    pub fn is_prepared(&self) -> bool {
        self.mysql_dir.join(init::OWNER_FILE).exists()
    }

    /// mysqld's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.data_dir.join("mysqld.sock")
    }

    pub fn my_cnf(&self) -> PathBuf {
        self.data_dir.join("my.cnf")
    }

    /// mysqld's error log.
    pub fn error_log(&self) -> PathBuf {
        self.data_dir.join("mysqld.log")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.data_dir.join("mysqld.pid")
    }

    /// Where transactions that were cut off are kept.
    pub fn lost_dir(&self) -> PathBuf {
        self.data_dir.join("lost")
    }
}
