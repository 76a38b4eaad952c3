//! Three members of one system on free loopback ports. Ends by pid what it started, also when a benchmark fails.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};

use super::{
    client::{Client, Door},
    process,
};
use crate::pki;

pub const MEMBERS: usize = 3;
/// How long a group may take to have a leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// How long one member may take to say where it stands.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a member may take to end after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One member, running or not.
struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

/// Three members of one system.
pub struct Group {
    pub name: &'static str,
    /// What clients show; nothing in plaintext.
    shown: Option<pki::Credentials>,
    members: Vec<Member>,
}

impl Group {
    /// Three coordinators with their data under `directory`, encrypted or not.
    pub fn ours(program: &Path, directory: &Path, tls: bool) -> anyhow::Result<Self> {
        let directory_of_pki = directory.join("vitrail-pki");
        let shown = certificates(&directory_of_pki, tls)?;
        let ports = free_ports(2 * MEMBERS)?;
        let (grpc, http) = ports.split_at(MEMBERS);
        let mut list = String::new();
        for (id, address) in (1..).zip(grpc) {
            list.push_str(&format!("{id} = \"{address}\"\n"));
        }
        let mut members = Vec::new();
        for (position, (address, http)) in grpc.iter().zip(http).enumerate() {
            let home = directory.join(format!("vitrail-{}", position + 1));
            fs::create_dir_all(&home)?;
            let configuration = home.join("coordinator.toml");
            let security = match tls {
                true => {
                    let [certificate, key, ca] = pki::paths(&directory_of_pki, position);
                    format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {ca:?}")
                }
                false => "plaintext = true".to_owned(),
            };
            let text = format!(
                "cluster = \"bench\"\nmember_id = {}\ndata_dir = \"{}\"\nlisten = \"{address}\"\nhttp_listen = \"{http}\"\n{security}\n[members]\n{list}",
                position + 1,
                home.join("data").display(),
            );
            fs::write(&configuration, text)?;
            members.push(Member {
                program: program.to_owned(),
                arguments: vec!["--config".to_owned(), configuration.display().to_string()],
                log: home.join("log"),
                address: *address,
                child: None,
            });
        }
        let mut group = Self {
            name: "Vitrail",
            shown,
            members,
        };
        group.start_all()?;
        Ok(group)
    }

    /// Three members of etcd, with its defaults but for names and addresses.
    pub fn etcd(program: &Path, directory: &Path, tls: bool) -> anyhow::Result<Self> {
        let directory_of_pki = directory.join("etcd-pki");
        let shown = certificates(&directory_of_pki, tls)?;
        let scheme = if tls { "https" } else { "http" };
        let ports = free_ports(2 * MEMBERS)?;
        let (client, peer) = ports.split_at(MEMBERS);
        let list: Vec<String> = (1..)
            .zip(peer)
            .map(|(id, address)| format!("member-{id}={scheme}://{address}"))
            .collect();
        let mut members = Vec::new();
        for (position, (address, peer)) in client.iter().zip(peer).enumerate() {
            let name = format!("member-{}", position + 1);
            let home = directory.join(format!("etcd-{}", position + 1));
            fs::create_dir_all(&home)?;
            let arguments = [
                ("--name", name),
                ("--data-dir", home.join("data").display().to_string()),
                ("--listen-client-urls", format!("{scheme}://{address}")),
                ("--advertise-client-urls", format!("{scheme}://{address}")),
                ("--listen-peer-urls", format!("{scheme}://{peer}")),
                (
                    "--initial-advertise-peer-urls",
                    format!("{scheme}://{peer}"),
                ),
                ("--initial-cluster", list.join(",")),
            ];
            let mut arguments: Vec<String> = arguments
                .map(|(key, value)| format!("{key}={value}"))
                .into();
            if tls {
                arguments.extend(etcd_certificates(&pki::paths(&directory_of_pki, position)));
            }
            members.push(Member {
                program: program.to_owned(),
                arguments,
                log: home.join("log"),
                address: *address,
                child: None,
            });
        }
        let mut group = Self {
            name: "etcd",
            shown,
            members,
        };
        group.start_all()?;
        Ok(group)
    }

    /// Starts the members that do not run.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        (0..self.members.len()).try_for_each(|position| self.start(position))
    }

    /// Starts a member, unless it runs.
    pub fn start(&mut self, position: usize) -> anyhow::Result<()> {
        let member = &mut self.members[position];
        if member.child.is_some() {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&member.log)
            .with_context(|| format!("open {}", member.log.display()))?;
        let child = Command::new(&member.program)
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", member.program.display()))?;
        member.child = Some(child);
        Ok(())
    }

    /// Asks a member to end, and waits until it has.
    pub async fn stop(&mut self, position: usize) -> anyhow::Result<()> {
        let member = &mut self.members[position];
        let Some(mut child) = member.child.take() else {
            return Ok(());
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP_TIMEOUT {
                child.kill()?;
                child.wait()?;
                bail!("a member of {} does not end when asked to", self.name);
            }
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// The processes that run.
    pub fn pids(&self) -> Vec<u32> {
        let running = self.members.iter().filter_map(|m| m.child.as_ref());
        running.map(Child::id).collect()
    }

    /// Where the members serve clients.
    pub fn doors(&self) -> Vec<Door> {
        let each = self.members.iter().map(|member| Door {
            address: member.address,
            shown: self.shown.clone(),
        });
        each.collect()
    }

    /// Waits until every member answers and one of them leads; returns where that one stands.
    pub async fn leader<C: Client>(&self) -> anyhow::Result<usize> {
        let began = Instant::now();
        loop {
            let mut leaders = Vec::new();
            let mut trouble = None;
            for (position, door) in self.doors().iter().enumerate() {
                match timeout(ASK_TIMEOUT, leads::<C>(door)).await {
                    Ok(Ok(true)) => leaders.push(position),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => trouble = Some(error),
                    Err(_) => trouble = Some(anyhow::anyhow!("{door} does not answer")),
                }
            }
            if let ([leader], None) = (leaders.as_slice(), &trouble) {
                return Ok(*leader);
            }
            if began.elapsed() > ELECTION_TIMEOUT {
                let why = trouble.map_or("no member leads".to_owned(), |e| format!("{e:#}"));
                let log = self.members.first().map(|m| m.log.display().to_string());
                bail!(
                    "{} does not get to work: {why}; see {}",
                    self.name,
                    log.unwrap_or_default()
                );
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Resident memory of each member.
    pub fn resident_mib(&self) -> anyhow::Result<Vec<f64>> {
        self.pids().into_iter().map(process::resident_mib).collect()
    }
}

async fn leads<C: Client>(door: &Door) -> anyhow::Result<bool> {
    C::new(door, door.connect().await?, 0).leads().await
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|m| m.child.as_mut()) {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Certificates for members on this machine, in the directory.
fn certificates(directory: &Path, tls: bool) -> anyhow::Result<Option<pki::Credentials>> {
    if !tls {
        return Ok(None);
    }
    fs::create_dir_all(directory)?;
    let hosts = vec!["127.0.0.1".to_owned(); MEMBERS];
    pki::make(directory, &hosts).map(Some)
}

/// Both sides show a certificate, to clients and among the members.
fn etcd_certificates([certificate, key, ca]: &[PathBuf; 3]) -> Vec<String> {
    let mut arguments = Vec::new();
    for prefix in ["", "peer-"] {
        arguments.extend([
            format!("--{prefix}cert-file={}", certificate.display()),
            format!("--{prefix}key-file={}", key.display()),
            format!("--{prefix}trusted-ca-file={}", ca.display()),
            format!("--{prefix}client-cert-auth=true"),
        ]);
    }
    arguments
}

fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    Ok(addresses.collect::<Result<_, _>>()?)
}
