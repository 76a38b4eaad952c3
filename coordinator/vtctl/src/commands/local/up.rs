//! `vtctl local up`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::overview::Overview;
use crate::{
    cli::Global,
    client::Client,
    commands::replica_set,
    failure::{Failure, Kind},
    local::{
        cluster::{Cluster, HOST, Member, MemberKind, Settings},
        files, guard, lock, ports,
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
/// Where MySQL lies, if not where the agent looks.
const MYSQL_PREFIX_ENV: &str = "VT_MYSQL_PREFIX";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many tablets: agents with a mysqld [default: 3]
    #[arg(long)]
    tablets: Option<u16>,
    /// The port from which all others follow [default: 15000]
    #[arg(long)]
    base_port: Option<u16>,
    /// The replica set that the tablets form [default: main]
    #[arg(long)]
    replica_set: Option<String>,
    /// The failure zone they live in [default: zone1]
    #[arg(long)]
    cell: Option<String>,
    /// Where bin/mysqld or sbin/mysqld lies [default: VT_MYSQL_PREFIX, else where the agent finds it]
    #[arg(long, value_name = "DIR")]
    mysql_prefix: Option<PathBuf>,
    /// Return once the processes are started
    #[arg(long)]
    no_wait: bool,
}

/// The two daemons.
struct Programs {
    coordinator: PathBuf,
    agent: PathBuf,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let dir = global.local_dir()?;
    let programs = programs()?;
    let no_wait = arguments.no_wait;
    let count = coordinator_count(global)?;
    let cluster = match Cluster::load(&dir)? {
        Some(cluster) => {
            refuse_difference(&cluster.settings, &arguments, count)?;
            cluster
        }
        None => make(&dir, arguments, count)?,
    };
    let _lock = lock::take(&cluster)?;
    let mut progress = Progress::start(&format!("starting the cluster in {}", dir.display()));
    refuse_taken_ports(&cluster).await?;
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
        format!("{}\n\n{}", it.text(), farewell(&cluster))
    })
}

/// The number after `--coordinators`, which names addresses everywhere else.
fn coordinator_count(global: &Global) -> Result<Option<u16>, Failure> {
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            Failure::new(
                Kind::Usage,
                format!("`local up` makes its coordinators; '{text}' is not their number"),
            )
            .next("write --coordinators 3")
        })
    };
    global.coordinators.as_ref().map(parse).transpose()
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

/// A cluster keeps what it was made with.
fn refuse_difference(
    settings: &Settings,
    arguments: &Arguments,
    count: Option<u16>,
) -> Result<(), Failure> {
    let differs = [
        (
            "--coordinators",
            count.is_some_and(|it| it != settings.coordinators),
        ),
        (
            "--tablets",
            arguments.tablets.is_some_and(|it| it != settings.tablets),
        ),
        (
            "--base-port",
            arguments
                .base_port
                .is_some_and(|it| it != settings.base_port),
        ),
        (
            "--replica-set",
            arguments
                .replica_set
                .as_ref()
                .is_some_and(|it| *it != settings.replica_set),
        ),
        (
            "--cell",
            arguments
                .cell
                .as_ref()
                .is_some_and(|it| *it != settings.cell),
        ),
        (
            "--mysql-prefix",
            arguments.mysql_prefix.is_some() && arguments.mysql_prefix != settings.mysql_prefix,
        ),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((flag, _)) => Err(Failure::new(
            Kind::Refused,
            format!("the cluster that is there was made with another {flag}: {settings:?}"),
        )
        .next("leave the flag out to start it again, or use another --dir, or `vtctl local down --purge` first")),
    }
}

fn make(dir: &Path, arguments: Arguments, count: Option<u16>) -> anyhow::Result<Cluster> {
    let occupied = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || dir.is_file() {
        return Err(Failure::new(
            Kind::Refused,
            format!("{} holds something that is no local cluster", dir.display()),
        )
        .next("choose an empty or new directory with --dir")
        .into());
    }
    let prefix = arguments
        .mysql_prefix
        .or_else(|| env::var_os(MYSQL_PREFIX_ENV).map(PathBuf::from));
    let cluster = Cluster {
        dir: dir.to_owned(),
        settings: Settings {
            coordinators: count.unwrap_or(3),
            tablets: arguments.tablets.unwrap_or(3),
            base_port: arguments.base_port.unwrap_or(15000),
            replica_set: arguments.replica_set.unwrap_or_else(|| "main".to_owned()),
            cell: arguments.cell.unwrap_or_else(|| "zone1".to_owned()),
            mysql_prefix: prefix
                .filter(|it| !it.as_os_str().is_empty())
                .map(std::path::absolute)
                .transpose()?,
        },
    };
    cluster.check()?;
    let all = cluster.members().into_iter().flat_map(|member| {
        let mut ports = member.kind.ports();
        if let MemberKind::Agent { mysqld, .. } = member.kind {
            ports.push(mysqld);
        }
        ports
    });
    refuse_ports(ports::taken(all))?;
    files::make_dir(dir)?;
    files::write_all(&cluster)?;
    Ok(cluster)
}

/// The ports of what is about to start; those of what runs already are rightly taken.
async fn refuse_taken_ports(cluster: &Cluster) -> anyhow::Result<()> {
    let mut needed = Vec::new();
    for member in cluster.members() {
        if Mark::load_alive(&cluster.pid_file(&member))?.is_none() {
            needed.extend(member.kind.ports());
        }
        if let MemberKind::Agent { mysqld, .. } = member.kind
            && guard::status(&cluster.member_data_dir(&member))
                .await
                .mysqld
                .is_none()
        {
            needed.push(mysqld);
        }
    }
    Ok(refuse_ports(ports::taken(needed))?)
}

fn refuse_ports(taken: Vec<(u16, std::io::Error)>) -> Result<(), Failure> {
    if taken.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = taken
        .iter()
        .map(|(port, error)| format!("{HOST}:{port} ({error})"))
        .collect();
    Err(Failure::new(Kind::Refused, format!("ports are not free: {}", list.join(", ")))
        .next("end what uses them (`ss -ltnp` shows it), or choose others with --base-port for a new cluster"))
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
    let mut client = Client::new(cluster.coordinator_addresses(), QUERY_TIMEOUT);
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

fn farewell(cluster: &Cluster) -> String {
    let dir = cluster.dir.display();
    let set = &cluster.settings.replica_set;
    output::list(&[
        (
            "keyspace",
            format!("vtctl --dir {dir} keyspace create NAME --replica-set {set}"),
        ),
        (
            "connect",
            format!(
                "mysql --defaults-extra-file={}",
                cluster.client_file().display()
            ),
        ),
        ("look", format!("vtctl --dir {dir} local status")),
        ("stop", format!("vtctl --dir {dir} local down")),
        ("logs", cluster.dir.join("log").display().to_string()),
    ])
}
