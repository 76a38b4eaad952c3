//! Each action of the core, carried out. Nothing here chooses.

use std::time::Duration;

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use vt_agent_core::Action;
use vt_proto::{gtid::GtidSet, ids::TabletAlias, topology::Endpoint};

use super::host::{Host, fence_text};
use crate::{
    guard::marker::Marker,
    mysqld::{
        CLONE_USER,
        admin_conn::AdminConn,
        clone::{clone_from, verify},
        rewind::{Rewind, forget_start, rewind},
    },
    replication::{accounts, control, fence, semisync},
};

/// How long a donor may take to say what it has.
const DONOR_LIMIT: Duration = Duration::from_secs(5);
/// How long a copy may take; terabytes over a slow line.
const CLONE_LIMIT: Duration = Duration::from_secs(6 * 3_600);
/// How long mysqld may take to end and to come back with the copied data.
const CLONE_RESTART_LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at a mysqld that comes back.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What the core would be given as the reason.
type Outcome = Result<(), String>;

/// Whether it may be given up half-way when a newer epoch arrives. What works on data files ends by itself.
pub(super) fn is_interruptible(action: &Action) -> bool {
    !matches!(
        action,
        Action::InitialiseDataDirectory
            | Action::CutTail { .. }
            | Action::Clone { .. }
            | Action::KillMysqld
            | Action::Persist(_)
            | Action::KeepOrder { .. }
    )
}

fn said<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// Carries out one action.
pub(super) async fn carry_out(host: &mut Host, action: &Action) -> Outcome {
    match action {
        Action::Persist(_) | Action::KeepOrder { .. } | Action::StartWork(_) => {
            Err("the loop's own business".to_owned())
        }
        Action::InitialiseDataDirectory => host.init().prepare().await.map(drop).map_err(said),
        Action::StartMysqld => start(host).await,
        Action::KillMysqld => kill(host).await,
        Action::WriteFenceMarker { epoch } => {
            mark(host, Marker::Fence, Some(fence_text(*epoch))).await
        }
        Action::RemoveFenceMarker => mark(host, Marker::Fence, None).await,
        Action::WriteRoleMarker => {
            mark(
                host,
                Marker::PrimaryOpen,
                Some("open as primary\n".to_owned()),
            )
            .await
        }
        Action::RemoveRoleMarker => mark(host, Marker::PrimaryOpen, None).await,
        Action::CutTail { kept, epoch } => {
            let done = rewind(&host.layout, &host.binaries, kept, *epoch).await;
            match done.map_err(said)? {
                Rewind::Nothing => Ok(()),
                Rewind::Cut(tail) => {
                    tracing::warn!(gtids = %tail.gtids, bytes = tail.length_bytes, kept_in = %tail.directory.display(),
                        "transactions that were never acknowledged are cut off and kept aside");
                    Ok(())
                }
                Rewind::NeedsClone { why } => Err(why),
            }
        }
        Action::Clone {
            donor,
            may_lose,
            followed,
        } => clone(host, donor, may_lose, followed.as_deref()).await,
        other => on_connection(host, other).await,
    }
}

/// What one or two administrative connections suffice for.
async fn on_connection(host: &mut Host, action: &Action) -> Outcome {
    match action {
        Action::StopIoThread => {
            let (conn, spare) = host.pool.both().await.map_err(said)?;
            return control::stop_io_thread(conn, spare).await.map_err(said);
        }
        Action::ResetReplication => {
            let (conn, spare) = host.pool.both().await.map_err(said)?;
            return control::reset(conn, spare).await.map_err(said);
        }
        Action::CloseServer => {
            let (conn, spare) = host.pool.both().await.map_err(said)?;
            return fence::close(conn, spare).await.map_err(said);
        }
        Action::SettleAccounts { open } => return settle_accounts(host, open).await,
        Action::LockOut { tablets } => return lock_out(host, tablets).await,
        Action::CloseForDemotion => {
            let (conn, spare) = host.pool.both().await.map_err(said)?;
            return fence::close_for_demotion(conn, spare).await.map_err(said);
        }
        _ => {}
    }
    let password = host.credentials.replication.clone();
    let user = accounts::replication_user(&host.alias);
    let conn = host.pool.main().await.map_err(said)?;
    let done = match action {
        Action::CutSessions => fence::cut_sessions(conn).await,
        Action::RestoreSessions => fence::restore_sessions(conn).await,
        Action::OpenForAgent => fence::open_for_agent(conn).await,
        Action::OpenForAll => fence::open_for_all(conn).await,
        Action::StartIoThread => control::start_io_thread(conn).await,
        Action::StartSqlThread => control::start_sql_thread(conn).await,
        Action::ConfigureChannel { source } => {
            control::configure(conn, source, &user, password.expose()).await
        }
        Action::RepointChannel { source } => control::repoint(conn, source).await,
        Action::SetReplicaSemiSync { enabled } => semisync::set_replica(conn, *enabled).await,
        Action::EnableSourceSemiSync { acks } => semisync::enable_source(conn, *acks).await,
        Action::DisableSourceSemiSync => semisync::disable_source(conn).await,
        other => return Err(format!("{} needs no connection", other.name())),
    };
    done.map_err(said)
}

async fn settle_accounts(host: &mut Host, open: &[TabletAlias]) -> Outcome {
    let (socket, admin) = (host.layout.socket(), host.credentials.admin.clone());
    let own = AdminConn::connect(&socket, admin.expose());
    let own = own.await.map_err(said)?;
    let password = host.credentials.replication.clone();
    let (_, spare) = host.pool.both().await.map_err(said)?;
    let settled = accounts::settle(own, spare, open, password.expose());
    settled.await.map_err(said)
}

async fn lock_out(host: &Host, tablets: &[TabletAlias]) -> Outcome {
    let (socket, admin) = (host.layout.socket(), host.credentials.admin.clone());
    let own = AdminConn::connect(&socket, admin.expose());
    let own = own.await.map_err(said)?;
    accounts::lock_out(own, tablets).await.map_err(said)
}

async fn mark(host: &Host, marker: Marker, text: Option<String>) -> Outcome {
    let dir = host.layout.data_dir.clone();
    let writing = host.marks.run(move || match text {
        Some(text) => marker.set(&dir, &text),
        None => marker.clear(&dir),
    });
    writing.await.map_err(said)
}

async fn start(host: &mut Host) -> Outcome {
    // Also renders my.cnf anew: the agent may have been upgraded.
    host.init().prepare().await.map_err(said)?;
    host.pool.clear();
    host.service.start(&host.binaries).await.map_err(said)?;
    host.heard(|status| status.pid().is_some()).await;
    Ok(())
}

async fn kill(host: &mut Host) -> Outcome {
    host.service.kill().await.map_err(said)?;
    host.heard(|status| status.pid().is_none()).await;
    host.pool.clear();
    Ok(())
}

/// Asks the donor first: nothing is replaced by less than is here, but for what nobody kept.
async fn clone(
    host: &mut Host,
    donor: &Endpoint,
    may_lose: &GtidSet,
    followed: Option<&str>,
) -> Outcome {
    let (donor_uuid, donor_has) = ask_donor(host, donor).await?;
    let conn = host.pool.main().await.map_err(said)?;
    let own: Vec<String> = conn
        .rows("SELECT @@global.gtid_executed")
        .await
        .map_err(said)?;
    let own: GtidSet = own
        .first()
        .map_or("", String::as_str)
        .parse()
        .map_err(said)?;
    let mut missing = own.subtract(may_lose).subtract(&donor_has);
    // A server gets another uuid with other data: when its tail was cut, or its data were replaced.
    if let Some(former) = followed.filter(|uuid| *uuid != donor_uuid) {
        missing = missing.subtract(&own.of_server(former));
    }
    if !missing.is_empty() {
        return Err(format!(
            "the donor lacks transactions that are here: {missing}; nothing is replaced"
        ));
    }
    forget_start(&host.layout).map_err(said)?;
    // CLONE refuses where nothing at all may be written; mysqld comes back closed, and if it fails the core closes it.
    fence::open_for_agent(conn).await.map_err(said)?;
    let socket = host.layout.socket();
    let admin = host.credentials.admin.clone();
    let login = async || {
        AdminConn::connect(&socket, admin.expose())
            .await
            .map_err(said)
    };
    let (conn, observer) = (login().await?, login().await?);
    let life = host.incarnation();
    let password = host.credentials.replication.clone();
    host.pool.clear();
    clone_from(
        conn,
        observer,
        donor,
        password.expose(),
        CLONE_LIMIT,
        |progress| {
            tracing::info!(
                copied_bytes = progress.copied_bytes,
                total_bytes = progress.total_bytes,
                "copying"
            );
        },
    )
    .await
    .map_err(said)?;
    comes_back(host, life).await
}

/// The guard starts mysqld again by itself after a copy, unless it had adopted it.
async fn comes_back(host: &mut Host, life: u64) -> Outcome {
    let deadline = tokio::time::Instant::now() + CLONE_RESTART_LIMIT;
    loop {
        tokio::time::sleep(RESTART_PAUSE).await;
        if tokio::time::Instant::now() >= deadline {
            return Err("mysqld did not come back with the copied data".to_owned());
        }
        let status = host.service.status().await.map_err(said)?;
        if status.pid().is_none() {
            host.service.start(&host.binaries).await.map_err(said)?;
            continue;
        }
        if status.incarnation == life {
            continue;
        }
        if let Ok(conn) = host.pool.main().await {
            return match verify(conn).await {
                Ok(verdict) => verdict,
                Err(_) => continue,
            };
        }
    }
}

/// Who the donor is, and what it has.
async fn ask_donor(host: &Host, donor: &Endpoint) -> Result<(String, GtidSet), String> {
    let options = OptsBuilder::default()
        .ip_or_hostname(donor.host.clone())
        .tcp_port(donor.port)
        .user(Some(CLONE_USER))
        .pass(Some(host.credentials.replication.expose()))
        .prefer_socket(false)
        .stmt_cache_size(0);
    let asking = async {
        let mut conn = Conn::new(options).await?;
        let words = "SELECT @@global.server_uuid, @@global.gtid_executed";
        let answer: Option<(String, String)> = conn.query_first(words).await?;
        conn.disconnect().await?;
        Ok::<_, mysql_async::Error>(answer.unwrap_or_default())
    };
    let place = format!("{}:{}", donor.host, donor.port);
    let (uuid, set) = tokio::time::timeout(DONOR_LIMIT, asking)
        .await
        .map_err(|_| format!("the donor {place} does not answer"))?
        .map_err(|error| format!("the donor {place} does not say what it has: {error}"))?;
    Ok((uuid, set.parse().map_err(said)?))
}
