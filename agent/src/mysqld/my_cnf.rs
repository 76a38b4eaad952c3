//! Renders my.cnf: our defaults, then the user's file, then the keys that replication's safety rests on, so that they win.
//!
//! The file holds no password. A user's file that sets an owned key is refused instead of being silently overruled.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Layout, version::Version};
use crate::guard::{SOCKET_PATH_LENGTH_MAX, write_durably};

/// A user's file that is longer is none.
const INCLUDE_LENGTH_MAX: u64 = 1 << 20;
/// Longer than any outage: with a finite time a primary would fall back to acknowledging alone.
const SEMI_SYNC_TIMEOUT_MS: u64 = 1_000_000_000_000_000_000;

/// What differs from tablet to tablet.
#[derive(Clone, Debug)]
pub struct Settings {
    pub layout: Layout,
    pub version: Version,
    /// Unique in the cluster: it follows from the alias.
    pub server_id: u32,
    /// How others reach this host.
    pub host: String,
    pub port: u16,
    /// As in `128M`.
    pub innodb_buffer_pool_size: Option<String>,
    /// The user's file.
    pub include: Option<PathBuf>,
    /// The account mysqld changes to; needed where the agent runs as root, see [`default_user`].
    pub user: Option<String>,
}

/// What the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making a data directory: plugins are not loaded then, and their settings unknown.
    Initialise,
    Run,
}

/// Why there is no my.cnf.
#[derive(Debug, thiserror::Error)]
pub enum MyCnfError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the include file {}: {reason}", path.display())]
    Include { path: PathBuf, reason: String },
    #[error(
        "{}: Vitrail sets these keys itself, remove them: {}", path.display(), keys.join(", ")
    )]
    Owned { path: PathBuf, keys: Vec<String> },
    #[error(
        "the path of mysqld's socket, {}, is longer than {SOCKET_PATH_LENGTH_MAX} bytes: choose a shorter data_dir",
        .0.display()
    )]
    SocketTooLong(PathBuf),
    #[error("the path {} cannot stand in an option file: it holds a character that MySQL takes for its own", .0.display())]
    Unwritable(PathBuf),
}

impl Settings {
    /// Checks everything and writes the file for `purpose`; returns where.
    pub fn write(&self, purpose: Purpose) -> Result<PathBuf, MyCnfError> {
        let path = match purpose {
            Purpose::Initialise => self.layout.data_dir.join("my-initialise.cnf"),
            Purpose::Run => self.layout.my_cnf(),
        };
        let text = self.render(purpose)?;
        write_durably(&path, text.as_bytes()).map_err(|source| MyCnfError::Write {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// The text of the file.
    pub fn render(&self, purpose: Purpose) -> Result<String, MyCnfError> {
        let socket = self.layout.socket();
        if socket.as_os_str().len() > SOCKET_PATH_LENGTH_MAX {
            return Err(MyCnfError::SocketTooLong(socket));
        }
        let owned = self.owned(purpose)?;
        let mut text = String::from(
            "# Written by vt-agent at each start of mysqld; changes made here are lost. Own settings go into the file\n\
             # named as `include` in the agent's [mysqld] section.\n[mysqld]\n",
        );
        for (key, value) in self.defaults() {
            let _ = writeln!(text, "{key}={value}");
        }
        if let Some(include) = &self.include {
            self.check_include(include)?;
            let _ = writeln!(text, "!include {}", printable(include)?);
        }
        text.push_str("[mysqld]\n");
        for (key, value) in owned {
            let _ = writeln!(text, "{key}={value}");
        }
        Ok(text)
    }

    /// What a user's file may change.
    fn defaults(&self) -> Vec<(&'static str, String)> {
        let mut defaults: Vec<(&str, String)> = [
            ("skip_name_resolve", "ON"),
            ("max_connections", "512"),
            // A router keeps up to 128 prepared statements on each of its connections.
            ("max_prepared_stmt_count", "65536"),
            // A host that was cut off must never come back into a denial of service by its own retries.
            ("max_connect_errors", "1000000"),
            ("binlog_expire_logs_seconds", "604800"),
            // The commits of many writers share one sync on the primary; an applier with fewer workers than writers falls behind, and
            // a failover waits for what it has not applied.
            ("replica_parallel_workers", "16"),
            ("innodb_log_buffer_size", "16M"),
            ("table_open_cache", "1000"),
            ("table_definition_cache", "1000"),
            // Replication's state is read from the performance schema; its histories are large and not needed.
            ("performance_schema_digests_size", "500"),
            ("performance_schema_error_size", "64"),
            (
                "performance_schema_events_statements_history_long_size",
                "100",
            ),
            (
                "performance_schema_events_transactions_history_long_size",
                "100",
            ),
            ("performance_schema_events_stages_history_long_size", "100"),
            ("performance_schema_events_waits_history_long_size", "100"),
        ]
        .map(|(key, value)| (key, value.to_owned()))
        .into();
        let pool = self.innodb_buffer_pool_size.as_deref().unwrap_or("128M");
        defaults.push(("innodb_buffer_pool_size", pool.to_owned()));
        if self.version.has_redo_log_capacity() {
            defaults.push(("innodb_redo_log_capacity", "128M".to_owned()));
        }
        defaults
    }

    fn owned(&self, purpose: Purpose) -> Result<Vec<(&'static str, String)>, MyCnfError> {
        let layout = &self.layout;
        let mut owned = vec![
            ("datadir", printable(&layout.mysql_dir)?),
            ("socket", printable(&layout.socket())?),
            ("pid_file", printable(&layout.pid_file())?),
            ("log_error", printable(&layout.error_log())?),
            ("server_id", self.server_id.to_string()),
            ("report_host", self.host.clone()),
            ("report_port", self.port.to_string()),
            ("port", self.port.to_string()),
            ("bind_address", bind_address(&self.host).to_owned()),
        ];
        if let Some(user) = &self.user {
            owned.push(("user", user.clone()));
        }
        owned.extend(FIXED.iter().map(|(key, value)| (*key, (*value).to_owned())));
        if self.version.has_dependency_tracking_setting() {
            owned.push(("binlog_transaction_dependency_tracking", "WRITESET".into()));
        }
        if purpose == Purpose::Run {
            let timeout = SEMI_SYNC_TIMEOUT_MS.to_string();
            owned.push(("rpl_semi_sync_source_timeout", timeout));
            owned.extend(
                PLUGINS
                    .iter()
                    .map(|(key, value)| (*key, (*value).to_owned())),
            );
        }
        Ok(owned)
    }

    fn check_include(&self, path: &Path) -> Result<(), MyCnfError> {
        let refuse = |reason: String| MyCnfError::Include {
            path: path.to_owned(),
            reason,
        };
        let found = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !found.is_file() || found.len() > INCLUDE_LENGTH_MAX {
            return Err(refuse("it is not a file of at most 1 MiB".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        if text.lines().any(|line| line.trim_start().starts_with('!')) {
            return Err(refuse(
                "it includes further files; name one file with all settings".to_owned(),
            ));
        }
        let keys = owned_keys(&text);
        if keys.is_empty() {
            return Ok(());
        }
        Err(MyCnfError::Owned {
            path: path.to_owned(),
            keys,
        })
    }
}

/// Settings that are the same everywhere and must be as they are.
const FIXED: &[(&str, &str)] = &[
    ("mysqlx", "OFF"),
    ("log_bin", "binlog"),
    ("relay_log", "relay"),
    ("log_replica_updates", "ON"),
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    // Cutting the tail of a returning primary is sound only if each commit is in the binary log before the engine.
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("binlog_error_action", "ABORT_SERVER"),
    // A newest file that names no transaction proves nothing: the one before it is read as well.
    ("binlog_gtid_simple_recovery", "OFF"),
    ("replica_preserve_commit_order", "ON"),
    // What was acknowledged stands in the relay log and nowhere else: recovery would throw it away.
    ("relay_log_recovery", "OFF"),
    ("skip_replica_start", "ON"),
    // What a server has forgotten of its own it gets back from others. GTIDs see to it that nothing goes round in circles.
    ("replicate_same_server_id", "ON"),
    ("super_read_only", "ON"),
    ("replica_net_timeout", "4"),
    ("rpl_stop_replica_timeout", "2"),
    // Events run where the agent says so, not wherever a server happens to start.
    ("event_scheduler", "OFF"),
    // What somebody once persisted must not re-wire replication.
    ("persisted_globals_load", "OFF"),
    ("secure_file_priv", "NULL"),
    // The client reads the file, with its own rights, and only where it said at its login that it may be asked.
    ("local_infile", "ON"),
    // The router's account has rights on every schema but the internal ones.
    ("partial_revokes", "ON"),
    // Row-based logging makes functions and triggers safe without this check, which wants SUPER.
    ("log_bin_trust_function_creators", "ON"),
    ("performance_schema", "ON"),
];

const PLUGINS: &[(&str, &str)] = &[
    ("plugin_load_add", "semisync_source.so"),
    ("plugin_load_add", "semisync_replica.so"),
    ("plugin_load_add", "mysql_clone.so"),
    ("plugin_load_add", "auth_socket.so"),
    // Both off until the agent has drained, and knows who may acknowledge.
    ("rpl_semi_sync_source_enabled", "OFF"),
    ("rpl_semi_sync_replica_enabled", "OFF"),
    ("rpl_semi_sync_source_wait_no_replica", "ON"),
    ("rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
];

/// Owned in a user's file though the rendered file may not set them.
const OWNED_BESIDES: &[&str] = &[
    "user",
    "plugin_load",
    "read_only",
    "log_bin_index",
    "relay_log_index",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_for_replica_count",
    "binlog_format",
    "binlog_transaction_dependency_tracking",
    "binlog_encryption",
    "init_file",
    "replicate_do_db",
    "replicate_ignore_db",
    "replicate_do_table",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "replicate_rewrite_db",
    "binlog_do_db",
    "binlog_ignore_db",
    "log_slave_updates",
    "skip_slave_start",
    "skip_log_bin",
    "disable_log_bin",
    "skip_networking",
    "skip_grant_tables",
    "innodb_read_only",
    "innodb_force_recovery",
];

const OWNED_OF_TABLET: &[&str] = &[
    "datadir",
    "socket",
    "pid_file",
    "log_error",
    "server_id",
    "report_host",
    "report_port",
    "port",
    "bind_address",
];

fn owned_keys(text: &str) -> Vec<String> {
    let owned: BTreeSet<&str> = FIXED
        .iter()
        .chain(PLUGINS)
        .map(|(key, _)| *key)
        .chain(OWNED_BESIDES.iter().copied())
        .chain(OWNED_OF_TABLET.iter().copied())
        .collect();
    let is_owned = |key: &str| {
        owned.contains(key)
            || ["skip_", "disable_", "enable_", "maximum_"]
                .iter()
                .filter_map(|prefix| key.strip_prefix(prefix))
                .any(|rest| owned.contains(rest))
    };
    let found: BTreeSet<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';', '[']))
        .filter_map(|line| line.split(['=', ' ', '\t']).next())
        .map(|key| key.to_ascii_lowercase().replace('-', "_"))
        .map(|key| key.strip_prefix("loose_").unwrap_or(&key).to_owned())
        .filter(|key| is_owned(key))
        .collect();
    found.into_iter().collect()
}

/// MySQL's option files take `#` and quotes at some places for their own, and end values at line ends.
fn printable(path: &Path) -> Result<String, MyCnfError> {
    let text = path.to_str().unwrap_or_default();
    let is_plain = |c: char| !c.is_control() && !matches!(c, '#' | '"' | '\'' | '\\');
    if text.is_empty() || !text.chars().all(is_plain) || text.trim() != text {
        return Err(MyCnfError::Unwritable(path.to_owned()));
    }
    Ok(text.to_owned())
}

/// A host that is known by a loopback address serves nobody else.
fn bind_address(host: &str) -> &'static str {
    match host {
        "localhost" => "127.0.0.1",
        "::1" => "::1",
        _ if host.starts_with("127.") => "127.0.0.1",
        _ => "*",
    }
}

/// The account for mysqld where nobody named one: nothing to change unless we are root, then the owner of the agent's data
/// directory. So a local cluster that root made runs as root, and an installed one as the account it was installed for.
pub fn default_user(data_dir: &Path) -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return None;
    }
    let owner = fs::metadata(data_dir).ok()?.uid();
    let user = nix::unistd::User::from_uid(owner.into()).ok()??;
    Some(user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &Path) -> Settings {
        Settings {
            layout: Layout::new(directory, None),
            version: "9.7.4".parse().unwrap(),
            server_id: 7,
            host: "127.0.0.1".to_owned(),
            port: 15206,
            innodb_buffer_pool_size: None,
            include: None,
            user: None,
        }
    }

    #[test]
    fn owned_keys_come_after_the_users_file() {
        let directory = tempfile::tempdir().unwrap();
        let include = directory.path().join("user.cnf");
        fs::write(&include, "[mysqld]\nmax_connections = 77\n").unwrap();
        let mut settings = settings(directory.path());
        settings.include = Some(include);

        let text = settings.render(Purpose::Run).unwrap();
        let at = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("no {part} in {text}"))
        };
        assert!(at("max_connections=512") < at("!include "));
        for owned in [
            "gtid_mode=ON",
            "relay_log_recovery=OFF",
            "super_read_only=ON",
            "rpl_semi_sync_source_timeout=1000000000000000000",
            "bind_address=127.0.0.1",
        ] {
            assert!(at("!include ") < at(owned), "{owned}");
        }
        let initial = settings.render(Purpose::Initialise).unwrap();
        assert!(!initial.contains("semi_sync") && !initial.contains("plugin"));
    }

    #[test]
    fn owned_keys_in_the_users_file_are_refused_in_any_spelling() {
        let cases = [
            ("sync_binlog=0", "sync_binlog"),
            ("  Sync-Binlog = 0", "sync_binlog"),
            ("loose-gtid_mode=OFF", "gtid_mode"),
            ("skip-log-bin", "skip_log_bin"),
            ("disable_log_bin", "disable_log_bin"),
            ("server_id 4", "server_id"),
            ("replicate-do-db=x", "replicate_do_db"),
        ];
        let directory = tempfile::tempdir().unwrap();
        let include = directory.path().join("user.cnf");
        let mut settings = settings(directory.path());
        settings.include = Some(include.clone());
        for (line, key) in cases {
            fs::write(&include, format!("[mysqld]\n# gtid_mode\n{line}\n")).unwrap();
            match settings.render(Purpose::Run) {
                Err(MyCnfError::Owned { keys, .. }) => assert_eq!(keys, [key], "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        fs::write(&include, "!includedir /etc/mysql\n").unwrap();
        let refused = settings.render(Purpose::Run);
        assert!(
            matches!(refused, Err(MyCnfError::Include { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn paths_that_cannot_work_are_refused() {
        let long = PathBuf::from(format!("/{}", "a".repeat(120)));
        let refused = settings(&long).render(Purpose::Run);
        assert!(
            matches!(refused, Err(MyCnfError::SocketTooLong(_))),
            "{refused:?}"
        );
        let refused = settings(Path::new("/data/#1")).render(Purpose::Run);
        assert!(
            matches!(refused, Err(MyCnfError::Unwritable(_))),
            "{refused:?}"
        );
    }
}
