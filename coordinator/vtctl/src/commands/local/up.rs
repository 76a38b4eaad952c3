//! `vtctl local up`.

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{
    make::{self, Arguments},
    overview::Overview,
};
use crate::{
    cli::Global,
    client::Client,
    commands::replica_set,
    failure::{Failure, Kind},
    local::{
        cluster::{Cluster, HOST, Member, MemberKind},
        lock,
        process::{self, Mark},
    },
    output,
    progress::Progress,
    views::replica_set::ReplicaSet,
};

/// Making three data directories on a slow disk, electing and cloning: a minute is usual on a small machine.
const UP_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Coordinators that do not answer by then are asked again at the next look.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);
/// A router that listens greets at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);
/// Where the daemons lie, if not beside this program.
const BIN_DIR_ENV: &str = "VT_BIN_DIR";

/// The two daemons.
struct Programs {
    coordinator: PathBuf,
    agent: PathBuf,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let dir = global.local_dir()?;
    let programs = programs()?;
    let no_wait = arguments.no_wait;
    let count = make::coordinator_count(global)?;
    let cluster = match Cluster::load(&dir)? {
        Some(cluster) => {
            make::refuse_difference(&cluster.settings, &arguments, count)?;
            cluster
        }
        None => make::make(&dir, arguments, count)?,
    };
    let _lock = lock::take(&cluster)?;
    let mut progress = Progress::start(&format!("starting the cluster in {}", dir.display()));
    make::refuse_taken_ports(&cluster).await?;
    start(&cluster, &programs)?;
    let mut replica_set = None;
    if !no_wait {
        let limit = global.timeout_or(UP_TIMEOUT);
        let set = wait(&cluster, &mut progress, limit).await?;
        replica_set = Some(set);
    }
    drop(progress);
    let overview = Overview {
        replica_set,
        ..Overview::of(&cluster).await?
    };
    output::print(global.output, &overview, |it| {
        format!("{}\n\n{}", it.text(), farewell(&cluster, global))
    })
}

fn programs() -> anyhow::Result<Programs> {
    let dir = match env::var_os(BIN_DIR_ENV).filter(|dir| !dir.is_empty()) {
        Some(dir) => std::path::absolute(dir)?,
        None => {
            let myself = env::current_exe().context("find this program's own file")?;
            myself.parent().unwrap_or(Path::new("/")).to_owned()
        }
    };
    let find = |name: &str| {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(
            Failure::new(Kind::Usage, format!("{name} is not in {}", dir.display()))
                .next(format!("build it (`make build`) or set {BIN_DIR_ENV}")),
        )
    };
    Ok(Programs {
        coordinator: find("vt-coordinator")?,
        agent: find("vt-agent")?,
    })
}

/// Starts what does not run.
fn start(cluster: &Cluster, programs: &Programs) -> anyhow::Result<()> {
    for member in cluster.members() {
        let pid_file = cluster.pid_file(&member);
        if Mark::load_alive(&pid_file)?.is_some() {
            continue;
        }
        let program = match member.kind {
            MemberKind::Coordinator { .. } => &programs.coordinator,
            MemberKind::Agent { .. } => &programs.agent,
        };
        let mark = process::start(
            program,
            &cluster.config_file(&member),
            &cluster.log_file(&member),
        )?;
        mark.save(&pid_file)?;
    }
    Ok(())
}

/// Waits until a primary serves, all others replicate and every router greets.
async fn wait(
    cluster: &Cluster,
    progress: &mut Progress,
    limit: Duration,
) -> anyhow::Result<ReplicaSet> {
    let deadline = Instant::now() + limit;
    let tablets = usize::from(cluster.settings.tablets);
    let mut client = Client::new(
        cluster.coordinator_addresses(),
        cluster.operator_tls(),
        QUERY_TIMEOUT,
    );
    loop {
        for member in cluster.members() {
            refuse_ended(cluster, &member)?;
        }
        let missing = match replica_set::fetch_one(&mut client, &cluster.settings.replica_set).await
        {
            Ok(set) => match set.missing(tablets).or(silent_router(cluster).await) {
                None => return Ok(set),
                Some(missing) => missing,
            },
            Err(failure) if failure.kind == Kind::NotFound => {
                "waiting for the first reports of the agents".to_owned()
            }
            Err(_) => "waiting for the coordinators to elect their leader".to_owned(),
        };
        progress.step(&missing);
        if Instant::now() >= deadline {
            let seconds = limit.as_secs_f32();
            return Err(Failure::new(
                Kind::Failed,
                format!("the cluster is not whole after {seconds} s: {missing}"),
            )
            .next(format!(
                "it goes on trying: look again with `vtctl local status`; the logs are in {}",
                cluster.dir.join("log").display()
            ))
            .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn refuse_ended(cluster: &Cluster, member: &Member) -> anyhow::Result<()> {
    if Mark::load_alive(&cluster.pid_file(member))?.is_some() {
        return Ok(());
    }
    let log = cluster.log_file(member);
    let tail = process::log_tail(&log);
    Err(Failure::new(
        Kind::Failed,
        format!(
            "{} has ended; the end of {}:\n{tail}",
            member.name,
            log.display()
        ),
    )
    .next("remove the cause, then `vtctl local up` starts it again")
    .into())
}

async fn silent_router(cluster: &Cluster) -> Option<String> {
    for member in cluster.agents() {
        if let MemberKind::Agent { router, .. } = member.kind {
            let greeting = async {
                let mut stream = TcpStream::connect((HOST, router)).await?;
                stream.read_u32().await
            };
            if !matches!(
                tokio::time::timeout(GREETING_TIMEOUT, greeting).await,
                Ok(Ok(_))
            ) {
                return Some(format!(
                    "the router of {} does not answer on {HOST}:{router} yet",
                    member.name
                ));
            }
        }
    }
    None
}

fn farewell(cluster: &Cluster, global: &Global) -> String {
    // Where the directory is the default one, nobody needs to name it.
    let dir = global
        .dir
        .as_ref()
        .map_or_else(String::new, |_| format!(" --dir {}", cluster.dir.display()));
    let set = &cluster.settings.replica_set;
    output::list(&[
        (
            "keyspace",
            format!("vtctl{dir} keyspace create NAME --replica-set {set}"),
        ),
        (
            "connect",
            format!(
                "mysql --defaults-extra-file={}",
                cluster.client_file().display()
            ),
        ),
        ("look", format!("vtctl{dir} local status")),
        ("stop", format!("vtctl{dir} local down")),
        ("logs", cluster.dir.join("log").display().to_string()),
    ])
}
