//! The configuration file: read, checked as a whole, resolved to typed values. Every mistake is reported, not only the first.
//! Secrets stand in a file of their own and are never printed.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use vt_proto::{
    ids::{CellName, ReplicaSetName, TabletAlias},
    topology::{Endpoint, TabletKind},
};
use vt_tls::files::TlsFiles as ControlTls;

use self::section::{Section, endpoint, socket_address};

mod control;
mod section;

/// A password; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The internal accounts' passwords; the same on all hosts of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// vt_admin@localhost: the agent's administrative connection over the unix socket.
    pub admin: Secret,
    /// The other tablets' accounts, which replicate, and vt_clone.
    pub replication: Secret,
    /// vt_app: the router's backend connections.
    pub app: Secret,
}

/// What this host's mysqld is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TabletConfig {
    pub alias: TabletAlias,
    pub replica_set: ReplicaSetName,
    pub kind: TabletKind,
    /// How others reach this host.
    pub host: String,
}

/// The supervised mysqld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqldConfig {
    pub port: u16,
    pub data_dir: PathBuf,
    /// Where `bin/mysqld` or `sbin/mysqld` lies; else VT_MYSQL_PREFIX, the default prefix, PATH.
    pub prefix: Option<PathBuf>,
    /// The user's own settings, included where they do not contradict owned ones.
    pub include: Option<PathBuf>,
    pub innodb_buffer_pool_size: Option<String>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The MySQL front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    pub listen: SocketAddr,
    pub users_file: PathBuf,
    pub tls: Option<TlsFiles>,
    /// Statements that take longer are ended.
    pub statement_time_max: Option<Duration>,
    /// Transactions that are open for longer are rolled back.
    pub transaction_time_max: Option<Duration>,
    /// Where it is: replicas of that cell are asked first. `None`: where the tablet is.
    pub cell: Option<CellName>,
    /// Replicas that lag more behind do not answer.
    pub replica_lag_max: Option<Duration>,
    /// A client that takes nothing of its answer for so long is left. `None`: the router's default.
    pub client_write_time_max: Option<Duration>,
    /// How long a read waits on a replica for what its session wrote; zero: it does not. `None`: the router's default.
    pub read_wait: Option<Duration>,
    /// Statements that take so long get a line in the log.
    pub slow_statement: Option<Duration>,
    /// One of so many statements gets a line in the log.
    pub log_one_of: Option<NonZeroU32>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub filter: String,
}

/// The whole configuration of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub coordinators: Vec<Endpoint>,
    pub data_dir: PathBuf,
    pub http_listen: SocketAddr,
    /// For coordinators and for its own pages; None: plaintext, on loopback.
    pub tls: Option<ControlTls>,
    pub credentials: Credentials,
    /// Both or neither: a tablet is one mysqld under this agent.
    pub tablet: Option<(TabletConfig, MysqldConfig)>,
    pub router: Option<RouterConfig>,
    pub log: LogConfig,
}

/// Everything that is wrong, one mistake a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// Reads and checks the configuration and the files that it names.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    let table = match read_table(path) {
        Ok(table) => table,
        Err(error) => return Err(ConfigErrors(vec![error])),
    };
    let config = resolve(path, table, &mut errors);
    match config {
        Some(config) if errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors(errors)),
    }
}

fn read_table(path: &Path) -> Result<toml::Table, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    text.parse::<toml::Table>()
        .map_err(|error| format!("{}: is not TOML: {}", path.display(), one_line(&error)))
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

fn resolve(path: &Path, table: toml::Table, errors: &mut Vec<String>) -> Option<Config> {
    let mut root = Section::new(path, "", table);
    let coordinators = root.endpoints("coordinators");
    let data_dir = root.path("data_dir");
    let http_listen = root.required("http_listen", socket_address);
    let credentials_file = root.path("credentials_file");
    let tablet = root.section("tablet");
    let mysqld = root.section("mysqld");
    let router = root.section("router");
    let log = root.section("log");
    if tablet.is_some() != mysqld.is_some() {
        root.mistake(
            "[tablet] and [mysqld] belong together: give both, or neither for a router alone",
        );
    }
    if tablet.is_none() && router.is_none() {
        root.mistake(
            "there is neither [tablet] nor [router], so there is nothing to do: give at least one",
        );
    }
    let tls = control::resolve(&mut root, &coordinators, http_listen, errors);
    root.finish(errors);

    let tablet = tablet.and_then(|section| resolve_tablet(section, errors));
    let mysqld = mysqld.and_then(|section| resolve_mysqld(section, data_dir.as_deref(), errors));
    let router = router.map(|section| resolve_router(section, errors));
    let log = log.map_or(Some(default_log()), |section| resolve_log(section, errors));
    let credentials = credentials_file.and_then(|file| load_credentials(&file, errors));
    Some(Config {
        coordinators,
        data_dir: data_dir?,
        http_listen: http_listen?,
        tls,
        credentials: credentials?,
        tablet: tablet.zip(mysqld),
        router: match router {
            Some(router) => Some(router?),
            None => None,
        },
        log: log?,
    })
}

fn resolve_tablet(mut section: Section, errors: &mut Vec<String>) -> Option<TabletConfig> {
    let alias = section.required("alias", |text| parse::<TabletAlias>(&text));
    let replica_set = section.required("replica_set", |text| parse::<ReplicaSetName>(&text));
    let kind = section.required("kind", |text| match text.as_str() {
        "replica" => Ok(TabletKind::Replica),
        "rdonly" => Ok(TabletKind::Rdonly),
        other => Err(format!("'{other}' is neither \"replica\" nor \"rdonly\"")),
    });
    let host = section.required("host", Ok);
    section.finish(errors);
    Some(TabletConfig {
        alias: alias?,
        replica_set: replica_set?,
        kind: kind?,
        host: host?,
    })
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn resolve_mysqld(
    mut section: Section,
    data_dir: Option<&Path>,
    errors: &mut Vec<String>,
) -> Option<MysqldConfig> {
    let port = section.port("port");
    let mysql_dir = section.optional_path("data_dir");
    let prefix = section.optional_path("prefix");
    let include = section.optional_path("include");
    let innodb_buffer_pool_size = section.optional("innodb_buffer_pool_size");
    if let Some(include) = include.as_deref().filter(|include| !include.is_file()) {
        section.mistake(&format!("include: {} is not a file", include.display()));
    }
    section.finish(errors);
    Some(MysqldConfig {
        port: port?,
        data_dir: mysql_dir.or_else(|| data_dir.map(|dir| dir.join("mysql")))?,
        prefix,
        include,
        innodb_buffer_pool_size,
    })
}

fn resolve_router(mut section: Section, errors: &mut Vec<String>) -> Option<RouterConfig> {
    let listen = section.required("listen", socket_address);
    let users_file = section.path("users_file");
    let certificate = section.optional_path("tls_certificate");
    let key = section.optional_path("tls_key");
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        _ => {
            section.mistake("tls_certificate and tls_key belong together: give both or neither");
            None
        }
    };
    let statement_time_max = section.seconds("statement_time_max_s");
    let transaction_time_max = section.seconds("transaction_time_max_s");
    let client_write_time_max = section.seconds("client_write_time_max_s");
    let cell = section.optional_as("cell", |text| parse::<CellName>(&text));
    let replica_lag_max = section.milliseconds("replica_lag_max_ms");
    let read_wait = section.milliseconds("read_wait_ms");
    let slow_statement = section.milliseconds("slow_statement_ms");
    let log_one_of = section.positive("log_one_of");
    if let Some(users_file) = users_file.as_deref() {
        section.check_secret_file("users_file", users_file);
    }
    section.finish(errors);
    Some(RouterConfig {
        listen: listen?,
        users_file: users_file?,
        tls,
        statement_time_max,
        transaction_time_max,
        client_write_time_max,
        cell,
        replica_lag_max,
        read_wait,
        slow_statement,
        log_one_of,
    })
}

fn default_log() -> LogConfig {
    LogConfig {
        format: LogFormat::Text,
        filter: "info".to_owned(),
    }
}

fn resolve_log(mut section: Section, errors: &mut Vec<String>) -> Option<LogConfig> {
    let format = match section.optional("format").as_deref() {
        None | Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some(other) => {
            section.mistake(&format!(
                "format: '{other}' is neither \"text\" nor \"json\""
            ));
            None
        }
    };
    let filter = section
        .optional("filter")
        .unwrap_or_else(|| "info".to_owned());
    if let Err(error) = filter.parse::<tracing_subscriber::filter::EnvFilter>() {
        section.mistake(&format!("filter: '{filter}' is not a filter: {error}"));
    }
    section.finish(errors);
    Some(LogConfig {
        format: format?,
        filter,
    })
}

fn load_credentials(path: &Path, errors: &mut Vec<String>) -> Option<Credentials> {
    if let Err(error) = check_secret_permissions(path) {
        errors.push(format!("credentials_file {error}"));
        return None;
    }
    let table = match read_table(path) {
        Ok(table) => table,
        Err(error) => {
            errors.push(error);
            return None;
        }
    };
    let mut root = Section::new(path, "", table);
    let mut passwords = Vec::new();
    for name in ["admin", "replication", "app"] {
        let Some(mut section) = root.section(name) else {
            root.mistake(&format!("[{name}] is missing"));
            continue;
        };
        passwords.extend(section.required("password", |text| {
            if text.is_empty() {
                return Err("it is empty".to_owned());
            }
            Ok(Secret(text))
        }));
        section.finish(errors);
    }
    root.finish(errors);
    let [admin, replication, app] = <[Secret; 3]>::try_from(passwords).ok()?;
    Some(Credentials {
        admin,
        replication,
        app,
    })
}

/// A file with secrets is readable by its owner alone.
pub(crate) fn check_secret_permissions(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: does not exist", path.display()),
        _ => format!("{}: cannot be read: {error}", path.display()),
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{}: has mode {mode:04o} and is readable by others: chmod 0600 {}",
            path.display(),
            path.display()
        ));
    }
    Ok(())
}

/// What `coordinators` contains, as `host:port`.
pub(crate) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    endpoint(text)
}

#[cfg(test)]
mod tests;
