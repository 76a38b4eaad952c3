//! What a local cluster consists of: members, ports, paths. Everything follows from a few settings, kept in `vtctl.toml`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use vt_tls::{files::TlsFiles, role::Role};

use crate::{
    failure::{Failure, Kind},
    pki::Pki,
};

/// Names the local cluster; its presence makes a directory ours.
pub const SETTINGS_FILE: &str = "vtctl.toml";
/// Ports are given out in tens within hundreds.
pub const MEMBERS_MAX: u16 = 9;
/// Each write is acknowledged by a second tablet.
pub const TABLETS_MIN: u16 = 2;
/// All ports lie within this distance above the base.
pub const PORT_SPAN: u16 = 400;
/// Uids of tablets count up from here.
const UID_FIRST: u32 = 100;
/// The longest path of a unix socket, less the agent's longest socket name.
const DATA_PATH_LENGTH_MAX: usize = 107 - "/mysql.sock.lock".len();
/// Everything listens on loopback only.
pub const HOST: &str = "127.0.0.1";
/// The operator whose certificate vtctl uses here.
pub const OPERATOR: &str = "local";
/// The user that may connect to the routers.
pub const USER: &str = "app";

/// How ports follow from the base, for `--help`.
pub const PORTS_HELP: &str = "\
Ports, with B = --base-port and n counting from 0:
  coordinator n  B+100+10n gRPC, +1 status page and metrics
  tablet n       B+201+10n status page and metrics, B+206+10n mysqld, B+306+10n router";

/// What was asked for when the cluster was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub coordinators: u16,
    pub tablets: u16,
    pub base_port: u16,
    pub replica_set: String,
    pub cell: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql_prefix: Option<PathBuf>,
    /// Its programs have certificates; false: they speak plaintext.
    #[serde(default)]
    pub tls: bool,
}

/// The settings file: the addresses for whoever looks for coordinators, and the settings they follow from.
#[derive(Debug, Serialize, Deserialize)]
struct SettingsFile {
    coordinators: Vec<String>,
    local: Settings,
}

/// A cluster in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub dir: PathBuf,
    pub settings: Settings,
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub kind: MemberKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    Coordinator {
        id: u16,
        grpc: u16,
        http: u16,
    },
    Agent {
        alias: String,
        http: u16,
        mysqld: u16,
        router: u16,
    },
}

impl Member {
    /// Whom its certificate names.
    pub fn holder(&self) -> (Role, String) {
        match &self.kind {
            MemberKind::Coordinator { id, .. } => (Role::Coordinator, id.to_string()),
            MemberKind::Agent { alias, .. } => (Role::Agent, alias.clone()),
        }
    }
}

impl MemberKind {
    /// The ports that the process itself listens on; mysqld's is the guard's matter.
    pub fn ports(&self) -> Vec<u16> {
        match self {
            MemberKind::Coordinator { grpc, http, .. } => vec![*grpc, *http],
            MemberKind::Agent { http, router, .. } => vec![*http, *router],
        }
    }

    /// Where its status page and metrics are.
    pub fn http(&self) -> u16 {
        match self {
            MemberKind::Coordinator { http, .. } | MemberKind::Agent { http, .. } => *http,
        }
    }
}

impl Cluster {
    /// The cluster of a directory; none if there is none.
    pub fn load(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(SETTINGS_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let file: SettingsFile = toml::from_str(&text).with_context(|| {
            format!("{} is not the settings of a local cluster", path.display())
        })?;
        let cluster = Self {
            dir: dir.to_owned(),
            settings: file.local,
        };
        cluster.check()?;
        Ok(Some(cluster))
    }

    /// The contents of its settings file.
    pub fn settings_text(&self) -> anyhow::Result<String> {
        let file = SettingsFile {
            coordinators: self.coordinator_addresses(),
            local: self.settings.clone(),
        };
        let text = toml::to_string(&file).context("write the settings")?;
        Ok(format!(
            "# The local cluster of this directory, as `vtctl local up` made it.\n{text}"
        ))
    }

    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<(), Failure> {
        let settings = &self.settings;
        let refuse = |what: String, next: &str| Err(Failure::new(Kind::Usage, what).next(next));
        if ![1, 3, 5].contains(&settings.coordinators) {
            let what = format!(
                "{} coordinators have no useful majority",
                settings.coordinators
            );
            return refuse(what, "use 1, 3 or 5 coordinators");
        }
        if !(TABLETS_MIN..=MEMBERS_MAX).contains(&settings.tablets) {
            return refuse(
                format!("a local cluster cannot have {} tablets", settings.tablets),
                "use 2 to 9 tablets: each write is kept on two",
            );
        }
        if settings.base_port < 1024 || settings.base_port > u16::MAX - PORT_SPAN {
            return refuse(
                format!("no room for ports above {}", settings.base_port),
                "use a base port from 1024 to 65135",
            );
        }
        settings
            .cell
            .parse::<vt_proto::ids::CellName>()
            .map_err(|error| Failure::new(Kind::Usage, error))?;
        settings
            .replica_set
            .parse::<vt_proto::ids::ReplicaSetName>()
            .map_err(|error| Failure::new(Kind::Usage, error))?;
        let longest = self.data_dir(&self.alias(settings.tablets - 1));
        if longest.as_os_str().len() > DATA_PATH_LENGTH_MAX {
            let what = format!(
                "{} is too long: a unix socket in it would have no valid path",
                longest.display()
            );
            return refuse(what, "choose a shorter directory with --dir");
        }
        Ok(())
    }

    /// Where the coordinators serve, as `host:port`.
    pub fn coordinator_addresses(&self) -> Vec<String> {
        let port = |index| self.coordinator_port(index);
        (0..self.settings.coordinators)
            .map(|index| format!("{HOST}:{}", port(index)))
            .collect()
    }

    /// The coordinators.
    pub fn coordinators(&self) -> impl Iterator<Item = Member> + '_ {
        (0..self.settings.coordinators).map(|index| {
            let grpc = self.coordinator_port(index);
            Member {
                name: format!("coordinator-{}", index + 1),
                kind: MemberKind::Coordinator {
                    id: index + 1,
                    grpc,
                    http: grpc + 1,
                },
            }
        })
    }

    /// The agents.
    pub fn agents(&self) -> impl Iterator<Item = Member> + '_ {
        (0..self.settings.tablets).map(|index| {
            let alias = self.alias(index);
            let base = self.settings.base_port + 10 * index;
            Member {
                name: format!("agent-{alias}"),
                kind: MemberKind::Agent {
                    alias,
                    http: base + 201,
                    mysqld: base + 206,
                    router: base + 306,
                },
            }
        })
    }

    /// All processes, in the order in which they start.
    pub fn members(&self) -> Vec<Member> {
        self.coordinators().chain(self.agents()).collect()
    }

    /// Where the first router listens.
    pub fn router_port(&self) -> u16 {
        self.settings.base_port + 306
    }

    fn coordinator_port(&self, index: u16) -> u16 {
        self.settings.base_port + 100 + 10 * index
    }

    fn alias(&self, index: u16) -> String {
        format!("{}-{}", self.settings.cell, UID_FIRST + u32::from(index))
    }

    /// The data directory of a member: `name` is a tablet's alias or a coordinator's name.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(name)
    }

    /// The data directory of this member.
    pub fn member_data_dir(&self, member: &Member) -> PathBuf {
        match &member.kind {
            MemberKind::Coordinator { .. } => self.data_dir(&member.name),
            MemberKind::Agent { alias, .. } => self.data_dir(alias),
        }
    }

    /// Where its certificates are.
    pub fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The files of one of its programs; none in plaintext.
    pub fn tls(&self, member: &Member) -> Option<TlsFiles> {
        let (role, name) = member.holder();
        self.settings
            .tls
            .then(|| Pki::files_of(&self.pki_dir(), role, &name))
    }

    /// The files with which vtctl asks its coordinators; none in plaintext.
    pub fn operator_tls(&self) -> Option<TlsFiles> {
        self.settings
            .tls
            .then(|| Pki::files_of(&self.pki_dir(), Role::Operator, OPERATOR))
    }

    pub fn config_file(&self, member: &Member) -> PathBuf {
        self.dir
            .join("config")
            .join(format!("{}.toml", member.name))
    }

    pub fn log_file(&self, member: &Member) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", member.name))
    }

    pub fn pid_file(&self, member: &Member) -> PathBuf {
        self.dir.join("run").join(format!("{}.json", member.name))
    }

    pub fn credentials_file(&self) -> PathBuf {
        self.dir.join("config/credentials.toml")
    }

    pub fn users_file(&self) -> PathBuf {
        self.dir.join("config/users.toml")
    }

    /// What the `mysql` client reads to connect to the first router.
    pub fn client_file(&self) -> PathBuf {
        self.dir.join("client.cnf")
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A cluster that nobody starts.
    pub fn cluster(dir: &Path) -> Cluster {
        Cluster {
            dir: dir.to_owned(),
            settings: Settings {
                coordinators: 3,
                tablets: 2,
                base_port: 15000,
                replica_set: "main".to_owned(),
                cell: "zone1".to_owned(),
                mysql_prefix: None,
                tls: true,
            },
        }
    }

    #[test]
    fn settings_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cluster::load(dir.path()).unwrap(), None);
        let cluster = cluster(dir.path());
        fs::write(
            dir.path().join(SETTINGS_FILE),
            cluster.settings_text().unwrap(),
        )
        .unwrap();
        assert_eq!(Cluster::load(dir.path()).unwrap(), Some(cluster));
        fs::write(dir.path().join(SETTINGS_FILE), "x = 1").unwrap();
        assert!(Cluster::load(dir.path()).is_err());
    }

    #[test]
    fn ports_never_meet_and_stay_in_their_span() {
        let mut cluster = cluster(Path::new("/c"));
        cluster.settings.tablets = MEMBERS_MAX;
        cluster.settings.coordinators = 5;
        let mut all = BTreeSet::new();
        for member in cluster.members() {
            let mut ports = member.kind.ports();
            if let MemberKind::Agent { mysqld, .. } = member.kind {
                ports.push(mysqld);
            }
            for port in ports {
                assert!(all.insert(port), "{port} twice");
            }
        }
        assert!(
            all.iter()
                .all(|port| (15000..15000 + PORT_SPAN).contains(port))
        );
        assert_eq!(all.len(), 5 * 2 + 9 * 3);
        assert_eq!(cluster.coordinator_addresses()[1], "127.0.0.1:15110");
    }

    #[test]
    fn useless_settings_are_refused() {
        type Break = fn(&mut Cluster);
        let cases: [(&str, Break); 7] = [
            ("majority", |c| c.settings.coordinators = 2),
            ("1 tablets", |c| c.settings.tablets = 1),
            ("10 tablets", |c| c.settings.tablets = 10),
            ("no room", |c| c.settings.base_port = 65300),
            ("cell 'Zone'", |c| c.settings.cell = "Zone".to_owned()),
            ("replica set ''", |c| c.settings.replica_set.clear()),
            ("too long", |c| {
                c.dir = PathBuf::from(format!("/{}", "x".repeat(90)))
            }),
        ];
        for (words, spoil) in cases {
            let mut cluster = cluster(Path::new("/c"));
            spoil(&mut cluster);
            let failure = cluster.check().unwrap_err();
            assert!(failure.message.contains(words), "{failure}");
        }
    }
}
