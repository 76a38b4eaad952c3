//! The files of a local cluster: configuration, credentials, the router's user. Secrets are random and readable by the owner alone.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use toml::{Table, Value};
use vt_tls::{files::TlsFiles, role::Role};

use super::cluster::{Cluster, HOST, Member, MemberKind, OPERATOR, SETTINGS_FILE, USER};
use crate::{
    password::hash,
    pki::{self, LEAF_DAYS, Pki, Request, authority::Authority},
};

/// 26 characters of 36: 134 bits.
const PASSWORD_LENGTH: usize = 26;
const PASSWORD_CHARACTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Writes every file of a new cluster; the settings last, so that a directory is ours only once it is whole.
pub fn write_all(cluster: &Cluster) -> anyhow::Result<()> {
    for folder in ["config", "data", "log", "run"] {
        make_dir(&cluster.dir.join(folder))?;
    }
    if cluster.settings.tls {
        make_certificates(cluster)?;
    }
    let password = password();
    write(&cluster.credentials_file(), 0o600, &credentials_text()?)?;
    write(&cluster.users_file(), 0o600, &users_text(&password)?)?;
    write(
        &cluster.client_file(),
        0o600,
        &client_text(cluster, &password),
    )?;
    for member in cluster.members() {
        make_dir(&cluster.member_data_dir(&member))?;
        let config = match &member.kind {
            MemberKind::Coordinator { .. } => coordinator_config(cluster, &member),
            MemberKind::Agent { .. } => agent_config(cluster, &member),
        };
        let text = toml::to_string(&config).context("write a configuration")?;
        write(&cluster.config_file(&member), 0o644, &text)?;
    }
    write(
        &cluster.dir.join(SETTINGS_FILE),
        0o644,
        &cluster.settings_text()?,
    )
}

/// A CA of its own and a certificate for each program and for vtctl.
fn make_certificates(cluster: &Cluster) -> anyhow::Result<()> {
    let pki = Pki::init(&cluster.pki_dir(), &Authority::new()?)?;
    let issue = |role, name, hosts| {
        let valid = pki::days(LEAF_DAYS);
        let request = Request {
            role,
            name,
            hosts,
            valid,
        };
        pki.issue(&request).map(drop)
    };
    for member in cluster.members() {
        let (role, name) = member.holder();
        issue(role, name, vec![HOST.to_owned(), "localhost".to_owned()])?;
    }
    issue(Role::Operator, OPERATOR.to_owned(), Vec::new())
}

/// Makes a directory that only its owner enters, with those above it.
pub fn make_dir(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

/// Writes a file whole: under another name first, so that nobody ever reads a part of it.
pub fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let context = || format!("write {}", path.display());
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    fs::rename(&fresh, path).with_context(context)
}

/// The router's user and where to connect, as a client file of MySQL spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFile {
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: u16,
}

impl ClientFile {
    /// Reads `[client]` of such a file; what it does not know is skipped.
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        let lines = text.lines().map(str::trim);
        let section = lines
            .skip_while(|line| *line != "[client]")
            .skip(1)
            .take_while(|line| !line.starts_with('['));
        for (key, value) in section.filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "user" => value.clone_into(&mut file.user),
                "password" => value.clone_into(&mut file.password),
                "host" => value.clone_into(&mut file.host),
                "port" => file.port = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        file
    }
}

fn client_text(cluster: &Cluster, password: &str) -> String {
    let port = cluster.router_port();
    format!("[client]\nuser={USER}\npassword={password}\nhost={HOST}\nport={port}\nprotocol=tcp\n")
}

fn password() -> String {
    let character = |_| {
        let index = rand::random_range(0..PASSWORD_CHARACTERS.len());
        char::from(PASSWORD_CHARACTERS[index])
    };
    (0..PASSWORD_LENGTH).map(character).collect()
}

fn credentials_text() -> anyhow::Result<String> {
    let account = |name: &str| {
        (
            name.to_owned(),
            Value::Table(table([("password", password().into())])),
        )
    };
    let accounts: Table = ["admin", "replication", "app"]
        .map(account)
        .into_iter()
        .collect();
    toml::to_string(&accounts).context("write the credentials")
}

fn users_text(password: &str) -> anyhow::Result<String> {
    let hashes = hash(password.as_bytes());
    let user = table([
        ("name", USER.into()),
        ("native", hex(&hashes.native).into()),
        ("sha2", hex(&hashes.sha2).into()),
    ]);
    let users = table([("user", Value::Array(vec![Value::Table(user)]))]);
    toml::to_string(&users).context("write the users")
}

fn coordinator_config(cluster: &Cluster, member: &Member) -> Table {
    let MemberKind::Coordinator { id, grpc, http } = member.kind else {
        unreachable!("only coordinators are configured here");
    };
    let addresses = cluster.coordinator_addresses().into_iter().enumerate();
    let members = addresses.map(|(index, address)| ((index + 1).to_string(), address.into()));
    let mut config = table([
        ("cluster", "local".into()),
        ("member_id", i64::from(id).into()),
        ("data_dir", path_value(&cluster.member_data_dir(member))),
        ("listen", format!("{HOST}:{grpc}").into()),
        ("http_listen", format!("{HOST}:{http}").into()),
        ("members", Value::Table(members.collect())),
    ]);
    add_tls(&mut config, cluster.tls(member));
    config
}

/// How it speaks with others: with its certificate, or in plaintext.
fn add_tls(config: &mut Table, files: Option<TlsFiles>) {
    let (key, value) = match files {
        None => ("plaintext", true.into()),
        Some(files) => {
            let files = table([
                ("certificate", path_value(&files.certificate)),
                ("key", path_value(&files.key)),
                ("ca", path_value(&files.ca)),
            ]);
            ("tls", Value::Table(files))
        }
    };
    config.insert(key.to_owned(), value);
}

fn agent_config(cluster: &Cluster, member: &Member) -> Table {
    let MemberKind::Agent {
        alias,
        http,
        mysqld,
        router,
    } = &member.kind
    else {
        unreachable!("only agents are configured here");
    };
    let addresses = cluster.coordinator_addresses().into_iter().map(Value::from);
    let tablet = table([
        ("alias", alias.as_str().into()),
        ("replica_set", cluster.settings.replica_set.as_str().into()),
        ("kind", "replica".into()),
        ("host", HOST.into()),
    ]);
    let mut server = table([("port", i64::from(*mysqld).into())]);
    if let Some(prefix) = &cluster.settings.mysql_prefix {
        server.insert("prefix".to_owned(), path_value(prefix));
    }
    let front = table([
        ("listen", format!("{HOST}:{router}").into()),
        ("users_file", path_value(&cluster.users_file())),
    ]);
    let mut config = table([
        ("coordinators", Value::Array(addresses.collect())),
        ("data_dir", path_value(&cluster.member_data_dir(member))),
        ("http_listen", format!("{HOST}:{http}").into()),
        ("credentials_file", path_value(&cluster.credentials_file())),
        ("tablet", Value::Table(tablet)),
        ("mysqld", Value::Table(server)),
        ("router", Value::Table(front)),
    ]);
    add_tls(&mut config, cluster.tls(member));
    config
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn path_value(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::local::cluster::tests::cluster;

    #[test]
    fn secrets_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        write_all(&cluster).unwrap();
        for path in [
            cluster.credentials_file(),
            cluster.users_file(),
            cluster.client_file(),
            cluster.operator_tls().unwrap().key,
        ] {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        assert_eq!(Cluster::load(dir.path()).unwrap(), Some(cluster));
    }

    #[test]
    fn the_user_file_holds_hashes_and_no_password() {
        // SHA1(SHA1("secret")) is what MySQL's mysql_native_password stores.
        let text = users_text("secret").unwrap();
        assert!(
            text.contains("14e65567abdb5135d0cfd9a70b3032c179a49ee7"),
            "{text}"
        );
        assert!(!text.contains("secret"));
    }

    #[test]
    fn the_client_file_is_read_back() {
        let cluster = cluster(Path::new("/c"));
        let file = ClientFile::parse(&client_text(&cluster, "secret"));
        let expected = ClientFile {
            user: "app".to_owned(),
            password: "secret".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 15306,
        };
        assert_eq!(file, expected);
        let other = ClientFile::parse("[mysqld]\nport=1\n[client]\nport = 7\n#x\n[x]\nport=2");
        assert_eq!(
            other,
            ClientFile {
                port: 7,
                ..ClientFile::default()
            }
        );
    }

    #[test]
    fn configurations_name_every_member() {
        let cluster = cluster(Path::new("/c"));
        let members = cluster.members();
        let coordinator = coordinator_config(&cluster, &members[1]);
        assert_eq!(coordinator["member_id"].as_integer(), Some(2));
        assert_eq!(
            coordinator["members"]["3"].as_str(),
            Some("127.0.0.1:15120")
        );
        let agent = agent_config(&cluster, &members[4]);
        assert_eq!(agent["tablet"]["alias"].as_str(), Some("zone1-101"));
        assert_eq!(agent["mysqld"]["port"].as_integer(), Some(15216));
        assert_eq!(agent["router"]["listen"].as_str(), Some("127.0.0.1:15316"));
        let key = |config: &Table| config["tls"]["key"].as_str().map(ToOwned::to_owned);
        let expected = "/c/pki/issued/agent-zone1-101/key.pem";
        assert_eq!(key(&agent).as_deref(), Some(expected));
        let expected = "/c/pki/issued/coordinator-2/key.pem";
        assert_eq!(key(&coordinator).as_deref(), Some(expected));
        let mut plain = cluster;
        plain.settings.tls = false;
        let agent = agent_config(&plain, &members[4]);
        assert_eq!(agent["plaintext"].as_bool(), Some(true));
        assert!(!agent.contains_key("tls"));
    }
}
