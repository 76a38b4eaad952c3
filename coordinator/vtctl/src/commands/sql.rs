//! `vtctl sql`: runs statements through a router, as any application would.

use std::{
    env, fs,
    io::{self, IsTerminal as _, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _};

use crate::{
    cli::Global,
    failure::{Failure, Kind},
    local::{cluster::Cluster, files::ClientFile},
    output::{self, Format},
    statements,
};

mod rows;

use rows::Outcome;

/// The password, where no file holds it.
const PASSWORD_ENV: &str = "VT_PASSWORD";
/// Statements wait for a moving primary; then this is long enough.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest packet of the server's answer.
const PACKET_BYTES_MAX: usize = 64 << 20;
/// What standard input may hold.
const INPUT_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The password comes from a client file (--defaults-file, mode 0600) or from VT_PASSWORD, never from the command line.
Without --router the local cluster's own file is read.

Examples:
  vtctl sql --keyspace commerce -e 'SELECT * FROM product'
  vtctl sql --keyspace commerce@replica -e 'SELECT COUNT(*) FROM customer' -o json
  vtctl sql --keyspace commerce < load.sql")]
pub struct Arguments {
    /// The statements; without it they are read from standard input
    #[arg(short, long, value_name = "STATEMENTS")]
    execute: Option<String>,
    /// The keyspace, as in commerce or commerce@replica
    #[arg(long, default_value = "")]
    keyspace: String,
    /// A router, as host:port
    #[arg(long, value_name = "ADDRESS")]
    router: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// A client file of MySQL with [client] user, password, host, port
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let text = match &arguments.execute {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let statements = statements::split(&text).map_err(|error| Failure::new(Kind::Usage, error))?;
    let login = login(&arguments, global)?;
    let limit = global.timeout_or(STATEMENT_TIMEOUT);
    let mut connection = connect(&login, &arguments.keyspace, limit.min(CONNECT_TIMEOUT)).await?;
    let mut outcomes = Vec::new();
    for statement in statements {
        let outcome = tokio::time::timeout(limit, rows::execute(&mut connection, &statement)).await;
        let outcome = outcome.map_err(|_| {
            Failure::new(
                Kind::Failed,
                format!("no answer within {} s: {statement}", limit.as_secs_f32()),
            )
            .next("`vtctl replica-set list` says whether a primary serves")
        })?;
        let outcome =
            outcome.map_err(|error| Failure::new(Kind::Failed, format!("{error}: {statement}")))?;
        match global.output {
            Format::Table => outcome
                .iter()
                .try_for_each(|it| output::print_text(&it.text()))?,
            Format::Json => outcomes.extend(outcome),
        }
    }
    // The answers are here: a server that hangs on goodbye is no failure.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
    match global.output {
        Format::Table => Ok(()),
        Format::Json => output::print(Format::Json, &outcomes, |_: &Vec<Outcome>| String::new()),
    }
}

fn read_stdin() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "no statement is given")
            .next("use -e 'STATEMENT', pipe statements in, or connect with the `mysql` client for a session")
            .into());
    }
    let mut text = String::new();
    io::stdin()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context("read standard input")?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(
            Failure::new(Kind::Usage, "standard input holds more than 16 MiB")
                .next("use the `mysql` client")
                .into(),
        );
    }
    Ok(text)
}

fn login(arguments: &Arguments, global: &Global) -> anyhow::Result<ClientFile> {
    let mut login = match (&arguments.defaults_file, &arguments.router) {
        (Some(file), _) => read_client_file(file)?,
        (None, Some(_)) => ClientFile::default(),
        (None, None) => {
            let dir = global.local_dir()?;
            let cluster = Cluster::load(&dir)?.ok_or_else(|| {
                Failure::new(
                    Kind::Usage,
                    format!(
                        "no router is named and {} is no local cluster",
                        dir.display()
                    ),
                )
                .next(
                    "give --router host:port with --user and VT_PASSWORD, or --defaults-file FILE",
                )
            })?;
            read_client_file(&cluster.client_file())?
        }
    };
    if let Some(user) = &arguments.user {
        user.clone_into(&mut login.user);
    }
    if let Some(address) = &arguments.router {
        let parts = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts
            .ok_or_else(|| Failure::new(Kind::Usage, format!("'{address}' is no host:port")))?;
        host.clone_into(&mut login.host);
        login.port = port;
    }
    if let Ok(password) = env::var(PASSWORD_ENV) {
        login.password = password;
    }
    if login.user.is_empty() || login.host.is_empty() || login.port == 0 {
        return Err(Failure::new(
            Kind::Usage,
            "user, host or port of the router are not known",
        )
        .next("give --router host:port and --user, or --defaults-file FILE with all of them")
        .into());
    }
    Ok(login)
}

fn read_client_file(path: &Path) -> anyhow::Result<ClientFile> {
    let read = || format!("read {}", path.display());
    let mode = fs::metadata(path).with_context(read)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            Kind::Refused,
            format!("{} holds a password and others may read it", path.display()),
        )
        .next(format!("chmod 600 {}", path.display()))
        .into());
    }
    Ok(ClientFile::parse(
        &fs::read_to_string(path).with_context(read)?,
    ))
}

async fn connect(login: &ClientFile, keyspace: &str, limit: Duration) -> anyhow::Result<Conn> {
    let options = OptsBuilder::default()
        .ip_or_hostname(login.host.clone())
        .tcp_port(login.port)
        .user(Some(login.user.clone()))
        .pass(Some(login.password.clone()))
        .db_name((!keyspace.is_empty()).then(|| keyspace.to_owned()))
        .prefer_socket(false)
        // Given, so that the client does not ask the server for them.
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(28_800));
    let address = format!("{}:{}", login.host, login.port);
    let connected = tokio::time::timeout(limit, Conn::new(Opts::from(options))).await;
    match connected {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(mysql_async::Error::Server(error))) => Err(Failure::new(
            refusal_kind(error.code),
            format!("the router at {address} refuses: {error}"),
        )
        .into()),
        Ok(Err(error)) => Err(Failure::new(
            Kind::Unreachable,
            format!("no router at {address}: {error}"),
        )
        .next("`vtctl tablet list -o json` says where routers are")
        .into()),
        Err(_) => Err(Failure::new(
            Kind::Unreachable,
            format!("no answer from a router at {address} in time"),
        )
        .into()),
    }
}

/// A keyspace that is not there is something else than a user who is not let in.
fn refusal_kind(code: u16) -> Kind {
    const ER_BAD_DB_ERROR: u16 = 1049;
    if code == ER_BAD_DB_ERROR {
        return Kind::NotFound;
    }
    Kind::Refused
}

/// Whether the local cluster's first router serves a keyspace; true where its credentials are not known here.
pub async fn local_router_serves(global: &Global, keyspace: &str) -> anyhow::Result<bool> {
    if global.coordinators.is_some() {
        return Ok(true);
    }
    let Some(cluster) = Cluster::load(&global.local_dir()?)? else {
        return Ok(true);
    };
    let login = read_client_file(&cluster.client_file())?;
    let asked = async {
        let mut connection = connect(&login, keyspace, CONNECT_TIMEOUT).await.ok()?;
        connection.query_drop("SELECT 1").await.ok()
    };
    Ok(tokio::time::timeout(CONNECT_TIMEOUT, asked)
        .await
        .is_ok_and(|served| served.is_some()))
}
