//! What `local up` checks before it starts anything, and the making of a new cluster. A refusal leaves everything as it was.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    cli::Global,
    failure::{Failure, Kind},
    local::{
        cluster::{Cluster, HOST, MemberKind, Settings},
        files, guard, ports,
        process::Mark,
    },
};

/// Where MySQL lies, if not where the agent looks.
const MYSQL_PREFIX_ENV: &str = "VT_MYSQL_PREFIX";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many tablets: agents with a mysqld [default: 3]
    #[arg(long)]
    pub tablets: Option<u16>,
    /// The port from which all others follow [default: 15000]
    #[arg(long)]
    pub base_port: Option<u16>,
    /// The replica set that the tablets form [default: main]
    #[arg(long)]
    pub replica_set: Option<String>,
    /// The failure zone they live in [default: zone1]
    #[arg(long)]
    pub cell: Option<String>,
    /// Where bin/mysqld or sbin/mysqld lies [default: VT_MYSQL_PREFIX, else where the agent finds it]
    #[arg(long, value_name = "DIR")]
    pub mysql_prefix: Option<PathBuf>,
    /// Without certificates: everybody on this machine may ask everything
    #[arg(long)]
    pub plaintext: bool,
    /// Return once the processes are started
    #[arg(long)]
    pub no_wait: bool,
}

/// The number after `--coordinators`, which names addresses everywhere else.
pub fn coordinator_count(global: &Global) -> Result<Option<u16>, Failure> {
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

/// A cluster keeps what it was made with.
pub fn refuse_difference(
    settings: &Settings,
    arguments: &Arguments,
    count: Option<u16>,
) -> Result<(), Failure> {
    fn text<T: ToString>(value: &Option<T>) -> Option<String> {
        value.as_ref().map(ToString::to_string)
    }
    let path = |path: &Option<PathBuf>| path.as_ref().map(|it| it.display().to_string());
    let made_prefix = path(&settings.mysql_prefix).unwrap_or_else(|| "none".to_owned());
    let pairs = [
        (
            "coordinators",
            text(&count),
            settings.coordinators.to_string(),
        ),
        (
            "tablets",
            text(&arguments.tablets),
            settings.tablets.to_string(),
        ),
        (
            "base-port",
            text(&arguments.base_port),
            settings.base_port.to_string(),
        ),
        (
            "replica-set",
            arguments.replica_set.clone(),
            settings.replica_set.clone(),
        ),
        ("cell", arguments.cell.clone(), settings.cell.clone()),
        ("mysql-prefix", path(&arguments.mysql_prefix), made_prefix),
    ];
    let differs = pairs
        .iter()
        .find(|(_, given, made)| given.as_ref().is_some_and(|given| given != made));
    let Some((flag, _, made)) = differs else {
        if arguments.plaintext && settings.tls {
            return Err(Failure::new(
                Kind::Refused,
                "the cluster that is there was made with certificates",
            )
            .next(
                "leave --plaintext out, or use another --dir, or `vtctl local down --purge` first",
            ));
        }
        return Ok(());
    };
    Err(Failure::new(Kind::Refused, format!("the cluster that is there was made with --{flag} {made}"))
        .next("leave the flag out to start it again, or use another --dir, or `vtctl local down --purge` first"))
}

/// Writes the files of a new cluster.
pub fn make(dir: &Path, arguments: Arguments, count: Option<u16>) -> anyhow::Result<Cluster> {
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
            tls: !arguments.plaintext,
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
pub async fn refuse_taken_ports(cluster: &Cluster) -> anyhow::Result<()> {
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
    Ok(refuse_ports(ports::still_taken(&needed).await)?)
}

fn refuse_ports(taken: Vec<(u16, std::io::Error)>) -> Result<(), Failure> {
    let Some((_, error)) = taken.first() else {
        return Ok(());
    };
    let list: Vec<_> = taken.iter().map(|(port, _)| port.to_string()).collect();
    let message = format!(
        "ports of {HOST} are not free: {} ({error})",
        list.join(", ")
    );
    Err(Failure::new(Kind::Refused, message)
        .next("end what uses them (`ss -ltnp` shows it), or choose others with --base-port for a new cluster"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::cluster::tests::cluster;

    #[test]
    fn a_cluster_keeps_what_it_was_made_with() {
        let settings = cluster(Path::new("/c")).settings;
        let none = || Arguments {
            tablets: None,
            base_port: None,
            replica_set: None,
            cell: None,
            mysql_prefix: None,
            plaintext: false,
            no_wait: false,
        };
        let check = |arguments, count| refuse_difference(&settings, &arguments, count);
        assert_eq!(check(none(), None), Ok(()));
        assert_eq!(
            check(
                Arguments {
                    tablets: Some(2),
                    ..none()
                },
                Some(3)
            ),
            Ok(())
        );
        for (arguments, count, words) in [
            (
                Arguments {
                    tablets: Some(4),
                    ..none()
                },
                None,
                "--tablets 2",
            ),
            (
                Arguments {
                    cell: Some("x".to_owned()),
                    ..none()
                },
                None,
                "--cell zone1",
            ),
            (
                Arguments {
                    mysql_prefix: Some("/x".into()),
                    ..none()
                },
                None,
                "--mysql-prefix none",
            ),
            (none(), Some(1), "--coordinators 3"),
            (
                Arguments {
                    plaintext: true,
                    ..none()
                },
                None,
                "with certificates",
            ),
        ] {
            let failure = check(arguments, count).unwrap_err();
            assert!(failure.message.ends_with(words), "{failure}");
        }
    }

    #[test]
    fn a_directory_of_others_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter"), "mine").unwrap();
        let arguments = Arguments {
            tablets: None,
            base_port: None,
            replica_set: None,
            cell: None,
            mysql_prefix: None,
            plaintext: false,
            no_wait: false,
        };
        assert!(make(dir.path(), arguments, None).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
