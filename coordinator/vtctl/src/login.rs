//! How to log in to a router, as any application would.

use std::{
    env, fs,
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
};

/// The password, where no file holds it.
const PASSWORD_ENV: &str = "VT_PASSWORD";
/// To be let in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest packet of the server's answer.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// Who logs in.
#[derive(Debug, clap::Args)]
pub struct LoginArguments {
    #[arg(long)]
    user: Option<String>,
    /// A client file of MySQL with [client] user, password, host, port
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
}

/// Who logs in, and where: at the router that is named, else at that of the file.
pub fn login(
    arguments: &LoginArguments,
    router: Option<&str>,
    global: &Global,
) -> anyhow::Result<ClientFile> {
    let mut login = credentials(arguments, router.is_some(), global)?;
    if let Some(address) = router {
        (login.host, login.port) = host_and_port(address)?;
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

/// The parts of host:port.
pub fn host_and_port(address: &str) -> Result<(String, u16), Failure> {
    let parts = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| Failure::new(Kind::Usage, format!("'{address}' is no host:port")))
}

/// User and password. `is_elsewhere`: the router is known, so that no local cluster has to name one.
pub fn credentials(
    arguments: &LoginArguments,
    is_elsewhere: bool,
    global: &Global,
) -> anyhow::Result<ClientFile> {
    let mut login = match (&arguments.defaults_file, is_elsewhere) {
        (Some(file), _) => read_client_file(file)?,
        (None, true) => ClientFile::default(),
        (None, false) => {
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
    if let Ok(password) = env::var(PASSWORD_ENV) {
        login.password = password;
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

/// A session at a router, at a keyspace or at none.
pub async fn connect(login: &ClientFile, keyspace: &str, limit: Duration) -> anyhow::Result<Conn> {
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
