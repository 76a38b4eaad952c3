//! What is written before anything starts: certificates, passwords, a configuration for every program.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use sha1::Digest;

use super::{FRONT, HOSTS, REPLICA_SET, alias};
use crate::{
    bed::network::{self, GRPC_PORT, HTTP_PORT},
    cluster::login::Login,
};

const AGENT_HTTP_PORT: u16 = 15102;
pub const MYSQLD_PORT: u16 = 3306;
const ROUTER_PORT: u16 = 3307;
/// The application's user at every router.
const USER: &str = "app";
/// Small servers start soon; what matters here is independent of their size.
const MY_CNF: &str =
    "[mysqld]\ninnodb_buffer_pool_size=64M\ninnodb_redo_log_capacity=64M\nmax_connections=200\n";

/// Where a run's programs and files lie.
#[derive(Clone, Debug)]
pub struct Files {
    pub programs: PathBuf,
    pub directory: PathBuf,
    /// Drawn for this run, for all accounts alike.
    password: String,
}

impl Files {
    /// Writes everything.
    pub fn write(programs: &Path, directory: &Path) -> anyhow::Result<Self> {
        let files = Self {
            programs: programs.to_owned(),
            directory: directory.to_owned(),
            password: format!("{:032x}", rand::random::<u128>()),
        };
        let path = |name: &str| directory.join(name);
        fs::write(path("my.cnf"), MY_CNF)?;
        let account = |name| format!("[{name}]\npassword = \"{}\"\n", files.password);
        let accounts = ["admin", "replication", "app"].map(account).concat();
        write_secret(&path("credentials.toml"), &accounts)?;
        write_secret(&path("users.toml"), &files.users())?;
        files.vtctl(&["pki", "init"])?;
        files.vtctl(&["pki", "issue", "operator", "chaos"])?;
        for host in 0..=FRONT {
            let address = network::address(host);
            let issue = |role: &str, name: &str| {
                files.vtctl(&["pki", "issue", role, name, "--host", &address])
            };
            issue("agent", &alias(host))?;
            fs::write(path(&format!("agent{host}.toml")), files.agent(host))?;
            if host < HOSTS {
                issue("coordinator", &host.to_string())?;
                let text = files.coordinator(host);
                fs::write(path(&format!("coordinator{host}.toml")), text)?;
            }
        }
        Ok(files)
    }

    fn vtctl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(self.programs.join("vtctl"))
            .args(arguments)
            .arg("--pki-dir")
            .arg(self.directory.join("pki"))
            .stdin(Stdio::null())
            .output()
            .context("run vtctl")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vtctl {arguments:?}: {words}");
        Ok(())
    }

    /// The certificate of an operator.
    pub fn operator(&self) -> PathBuf {
        self.directory.join("pki/issued/operator-chaos")
    }

    /// Where the disk of a host's mysqld is mounted.
    pub fn disk(&self, host: usize) -> PathBuf {
        self.directory.join(format!("disk{host}"))
    }

    /// Where the disk of a host's coordinator is mounted.
    pub fn coordinator_disk(&self, host: usize) -> PathBuf {
        self.directory.join(format!("coordinator{host}"))
    }

    /// All coordinators, as `host:port,host:port`.
    pub fn coordinators(&self) -> String {
        let address = |host| format!("{}:{GRPC_PORT}", network::address(host));
        (0..HOSTS).map(address).collect::<Vec<_>>().join(",")
    }

    /// The application's login at the router of a host.
    pub fn router(&self, host: usize) -> Login {
        self.login(host, ROUTER_PORT, USER)
    }

    /// The routers' own login at the mysqld of a host.
    pub fn mysqld(&self, host: usize) -> Login {
        self.login(host, MYSQLD_PORT, "vt_app")
    }

    /// A session that may everything, at the mysqld of a host; also where its network is gone.
    pub fn admin(&self, host: usize) -> mysql_async::Opts {
        let socket = self.socket(host);
        mysql_async::OptsBuilder::default()
            .socket(Some(socket.display().to_string()))
            .user(Some("vt_admin"))
            .pass(Some(&self.password))
            .into()
    }

    /// MySQL's own client, as the root user of the host: by its socket and without a password.
    pub fn root(&self, host: usize) -> anyhow::Result<Command> {
        let prefix = std::env::var_os("VT_MYSQL_PREFIX").context("set VT_MYSQL_PREFIX")?;
        let mut client = Command::new(Path::new(&prefix).join("bin/mysql"));
        let socket = self.socket(host);
        client
            .args(["--no-defaults", "--user=root", "--socket"])
            .arg(socket);
        client
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(client)
    }

    /// Of the mysqld of a host.
    fn socket(&self, host: usize) -> PathBuf {
        self.directory.join(format!("agent{host}/mysqld.sock"))
    }

    fn login(&self, host: usize, port: u16, user: &str) -> Login {
        Login {
            host: network::address(host),
            port,
            user: user.to_owned(),
            password: self.password.clone(),
        }
    }

    fn users(&self) -> String {
        let native = sha1::Sha1::digest(sha1::Sha1::digest(&self.password));
        let sha2 = sha2::Sha256::digest(sha2::Sha256::digest(&self.password));
        format!(
            "[[user]]\nname = \"{USER}\"\nnative = \"{}\"\nsha2 = \"{}\"\n",
            hex(&native),
            hex(&sha2)
        )
    }

    fn tls(&self, holder: &str) -> String {
        let folder = self.directory.join("pki/issued").join(holder);
        let line = |key: &str, file: &str| format!("{key} = {:?}\n", folder.join(file));
        format!(
            "[tls]\n{}{}{}",
            line("certificate", "certificate.pem"),
            line("key", "key.pem"),
            line("ca", "ca.pem")
        )
    }

    fn coordinator(&self, host: usize) -> String {
        let address = network::address(host);
        let member = |host| {
            format!(
                "{} = \"{}:{GRPC_PORT}\"\n",
                host + 1,
                network::address(host)
            )
        };
        let members: String = (0..HOSTS).map(member).collect();
        format!(
            "cluster = \"chaos\"\nmember_id = {}\ndata_dir = {:?}\nlisten = \"{address}:{GRPC_PORT}\"\n\
             http_listen = \"{address}:{HTTP_PORT}\"\n[members]\n{members}{}",
            host + 1,
            self.coordinator_disk(host).join("data"),
            self.tls(&format!("coordinator-{host}"))
        )
    }

    fn agent(&self, host: usize) -> String {
        let address = network::address(host);
        let coordinators: Vec<_> = (0..HOSTS)
            .map(|host| format!("{}:{GRPC_PORT}", network::address(host)))
            .collect();
        let tablet = format!(
            "[tablet]\nalias = \"{}\"\nreplica_set = \"{REPLICA_SET}\"\nkind = \"replica\"\nhost = \"{address}\"\n\
             [mysqld]\nport = {MYSQLD_PORT}\ndata_dir = {:?}\ninclude = {:?}\n",
            alias(host),
            self.disk(host).join("data"),
            self.directory.join("my.cnf"),
        );
        format!(
            "coordinators = {coordinators:?}\ndata_dir = {:?}\nhttp_listen = \"{address}:{AGENT_HTTP_PORT}\"\n\
             credentials_file = {:?}\n{}[router]\nlisten = \"{address}:{ROUTER_PORT}\"\nusers_file = {:?}\n{}",
            self.directory.join(format!("agent{host}")),
            self.directory.join("credentials.toml"),
            if host < HOSTS { tablet.as_str() } else { "" },
            self.directory.join("users.toml"),
            self.tls(&format!("agent-{}", alias(host)))
        )
    }
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
