//! A whole cluster on this machine, by the programs that users run: `vtctl local up` in a directory of its own, on free
//! ports. It ends with the test, also when the test is killed. It signals only processes of this cluster, by number.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, TryLockError},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    login::Login,
    view::{Cluster, Overview},
};
use crate::bed::{disk::Disk, shell::run_with};

/// Longer than anything takes on a slow machine that still works.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// `local up` makes three data directories and waits for a whole replica set.
const UP_TIMEOUT: Duration = Duration::from_secs(240);
/// All ports of a cluster lie within this distance above its base.
const PORT_SPAN: u16 = 400;
/// Bases that are tried: many tests of many users may run at once.
const BASES_TRIED_MAX: u16 = 200;
/// Lines of each log that a failed test shows.
const LOG_LINES: usize = 25;

/// The replica set of the cluster's tablets.
pub const REPLICA_SET: &str = "main";
pub const TABLETS: usize = 3;
/// The number in the first tablet's alias; the others count on from it.
const FIRST_TABLET: usize = 100;
/// A filesystem of a tablet: room for a server without data and for some binary logs.
const DISK_BYTES: u64 = 800 * 1024 * 1024;

/// A running cluster.
pub struct LocalCluster {
    /// Removed at the end.
    directory: TempDir,
    vtctl: PathBuf,
    /// The filesystem of each tablet by its alias, where it has one of its own.
    disks: BTreeMap<String, Disk>,
    /// Clusters take turns: two at once would take each other's processor time.
    _turn: File,
}

impl LocalCluster {
    /// Three coordinators, three agents, three mysqlds, a primary that serves and two replicas.
    pub async fn up() -> anyhow::Result<Self> {
        Self::up_with(false).await
    }

    /// The same, with a small filesystem for each tablet. Needs root.
    pub async fn up_on_disks() -> anyhow::Result<Self> {
        Self::up_with(true).await
    }

    async fn up_with(own_disks: bool) -> anyhow::Result<Self> {
        let bin_dir = bin_dir()?;
        let vtctl = bin_dir.join("vtctl");
        ensure!(
            vtctl.is_file(),
            "{} is missing: build the workspace, or set VT_BIN_DIR to where its programs lie",
            vtctl.display()
        );
        // Short, for the sake of unix sockets.
        let directory = tempfile::Builder::new().prefix("vt-").tempdir_in("/tmp")?;
        let mut cluster = Self {
            directory,
            disks: BTreeMap::new(),
            _turn: turn(&bin_dir).await?,
            vtctl,
        };
        cluster.end_when_this_process_does()?;
        let base = free_base_port()?.to_string();
        let arguments = ["local", "up", "--coordinators", "3", "--base-port", &base];
        let up = cluster.vtctl_within(&arguments, UP_TIMEOUT).await;
        if let Err(error) = up {
            cluster.show_logs().await;
            return Err(error);
        }
        if own_disks {
            cluster.vtctl_within(&["local", "down"], UP_TIMEOUT).await?;
            cluster.move_to_disks()?;
            cluster.heal().await?;
        }
        Ok(cluster)
    }

    fn move_to_disks(&mut self) -> anyhow::Result<()> {
        for number in 0..TABLETS {
            let alias = format!("zone1-{}", FIRST_TABLET + number);
            let image = self.dir().join(format!("{alias}.image"));
            let place = self.dir().join("data").join(&alias);
            let before = self.dir().join(format!("{alias}.before"));
            fs::rename(&place, &before)?;
            let disk = Disk::make(image, place.clone(), DISK_BYTES)?;
            self.disks.insert(alias, disk);
            let contents = before.join(".");
            run_with(
                "cp",
                ["-a".as_ref(), contents.as_os_str(), place.as_os_str()],
            )?;
            fs::remove_dir_all(&before)?;
        }
        Ok(())
    }

    /// The filesystem of a tablet of [`LocalCluster::up_on_disks`].
    pub fn disk(&mut self, alias: &str) -> anyhow::Result<&mut Disk> {
        let disk = self.disks.get_mut(alias);
        disk.with_context(|| format!("{alias} has no filesystem of its own"))
    }

    /// All such filesystems.
    pub fn disks(&mut self) -> impl Iterator<Item = &mut Disk> {
        self.disks.values_mut()
    }

    /// Starts again whatever does not run, and waits until all is whole.
    pub async fn heal(&self) -> anyhow::Result<Overview> {
        self.vtctl_within(&["local", "up"], UP_TIMEOUT).await?;
        self.wait("a whole cluster", |overview| overview.is_whole())
            .await
    }

    /// Starts one agent alone, as its service manager would; what else does not run stays down.
    pub fn start_agent(&self, name: &str) -> anyhow::Result<()> {
        let log = self.dir().join(format!("log/{name}.log"));
        let output = File::options().append(true).open(&log)?;
        let child = Command::new(self.vtctl.with_file_name("vt-agent"))
            .arg("--config")
            .arg(self.dir().join(format!("config/{name}.toml")))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let pid = child.id().context("it ended at once")?;
        // The runtime waits for children that nobody holds, so that a killed one does not stay a zombie.
        drop(child);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
        // After the state, the 3rd field, the start time is the 22nd.
        let start_ticks = fields.and_then(|fields| fields.split(' ').nth(19));
        let start_ticks: u64 = start_ticks.context("a start time")?.parse()?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        // By this `vtctl local` finds it again.
        let mark = serde_json::json!({
            "pid": pid, "start_ticks": start_ticks, "boot_id": boot_id.trim()
        });
        fs::write(
            self.dir().join(format!("run/{name}.json")),
            mark.to_string(),
        )?;
        Ok(())
    }

    /// Where `vtctl.toml` lies.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `vtctl` on this cluster; its output is the answer, a failure an error that has its words.
    pub async fn vtctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.vtctl_within(arguments, PATIENCE).await
    }

    async fn vtctl_within(&self, arguments: &[&str], limit: Duration) -> anyhow::Result<String> {
        let output = self.run(arguments, limit).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("vtctl {}: {}: {words}", arguments.join(" "), output.status)
    }

    async fn run(&self, arguments: &[&str], limit: Duration) -> anyhow::Result<Output> {
        let running = Command::new(&self.vtctl)
            .arg("--dir")
            .arg(self.dir())
            .args(arguments)
            .env_remove("VT_COORDINATORS")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(limit, running).await;
        output
            .with_context(|| format!("vtctl {} does not end", arguments.join(" ")))?
            .with_context(|| format!("run {}", self.vtctl.display()))
    }

    async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let arguments = [&["-o", "json"], arguments].concat();
        // A status that is not whole is told by the exit code as well.
        let output = self.run(&arguments, PATIENCE).await?;
        let words = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("read what vtctl {} says: {words}", arguments.join(" ")))
    }

    /// What runs and how the replica set stands.
    pub async fn overview(&self) -> anyhow::Result<Overview> {
        self.json(&["local", "status"]).await
    }

    /// What the coordinators agree on.
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        self.json(&["cluster", "show"]).await
    }

    /// Waits for a state of the cluster.
    pub async fn wait(
        &self,
        what: &str,
        is_there: impl Fn(&Overview) -> bool,
    ) -> anyhow::Result<Overview> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let overview = self.overview().await?;
            if is_there(&overview) {
                return Ok(overview);
            }
            ensure!(
                Instant::now() < deadline,
                "waited in vain for {what}; at last there was {overview:#?}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The application's login at the router of each agent.
    pub async fn routers(&self) -> anyhow::Result<Vec<Login>> {
        let login = Login::read(&self.dir().join("client.cnf"))?;
        let overview = self.overview().await?;
        overview
            .agents()
            .map(|agent| Ok(login.at_port(port(&agent.serves)?)))
            .collect()
    }

    /// The router's own login at the mysqld of a tablet.
    pub async fn mysqld(&self, alias: &str) -> anyhow::Result<Login> {
        let overview = self.overview().await?;
        let address = overview.agent(alias).mysqld.clone().unwrap_or_default();
        Ok(Login {
            host: "127.0.0.1".to_owned(),
            port: port(&address)?,
            user: "vt_app".to_owned(),
            password: password(&self.dir().join("config/credentials.toml"), "[app]")?,
        })
    }

    /// The agent's own session at the mysqld of its tablet, which may everything.
    pub fn admin(&self, alias: &str, database: &str) -> anyhow::Result<mysql_async::Opts> {
        let socket = self.dir().join("data").join(alias).join("mysqld.sock");
        let password = password(&self.dir().join("config/credentials.toml"), "[admin]")?;
        let options = mysql_async::OptsBuilder::default()
            .socket(Some(socket.display().to_string()))
            .user(Some("vt_admin"))
            .pass(Some(password))
            .db_name(Some(database));
        Ok(options.into())
    }

    /// What everybody said, for whoever looks into a failed test.
    pub async fn show_logs(&self) {
        match self.vtctl_within(&["events"], PATIENCE).await {
            Ok(events) => eprintln!("--- events\n{events}"),
            Err(error) => eprintln!("--- events\n{error:#}"),
        }
        let logs = fs::read_dir(self.dir().join("log")).into_iter().flatten();
        let data = fs::read_dir(self.dir().join("data")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = logs.flatten().map(|entry| entry.path()).collect();
        for folder in data.flatten() {
            paths.extend(["mysqld.log", "guard.log"].map(|name| folder.path().join(name)));
        }
        paths.sort();
        for path in paths {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
        }
    }

    /// Nobody else ends a cluster whose test was killed by a time limit.
    fn end_when_this_process_does(&self) -> anyhow::Result<()> {
        let script = r#"while kill -0 "$1" 2>/dev/null; do sleep 1; done
            for place in "$3"/data/*; do
                mountpoint -q "$place" && { fsfreeze --unfreeze "$place" 2>/dev/null; umount --lazy "$place"; }
            done
            for attempt in 1 2 3; do "$2" --dir "$3" local down --purge && break; sleep 2; done
            rm -rf "$3""#;
        std::process::Command::new("setsid")
            .args(["sh", "-c", script, "sh"])
            .arg(std::process::id().to_string())
            .arg(&self.vtctl)
            .arg(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the one that cleans up")?;
        Ok(())
    }
}

impl LocalCluster {
    fn down(&self, arguments: &[&str]) {
        let down = std::process::Command::new(&self.vtctl)
            .arg("--dir")
            .arg(self.dir())
            .args(["local", "down"])
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        match down {
            Ok(output) if output.status.success() => {}
            other => eprintln!(
                "the cluster in {} did not end: {other:?}",
                self.dir().display()
            ),
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.disks.is_empty() {
            // What hangs on a disk ends with the hanging; what is mounted cannot be removed.
            for disk in self.disks.values_mut() {
                report(disk.thaw());
            }
            self.down(&[]);
            for disk in self.disks.values_mut() {
                report(disk.unmount());
            }
        }
        self.down(&["--purge"]);
    }
}

fn report(done: anyhow::Result<()>) {
    if let Err(error) = done {
        eprintln!("{error:#}");
    }
}

/// Waits until no other test of the same programs has a cluster; the test runner's time limit bounds it.
async fn turn(bin_dir: &Path) -> anyhow::Result<File> {
    let path = bin_dir.join("cluster-tests.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL_INTERVAL).await,
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Ends a process at once, as the kernel's memory killer or a crash would.
pub fn kill_now(pid: Option<i32>) -> anyhow::Result<()> {
    let pid = pid.context("it does not run")?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill process {pid}"))?;
    let end = Instant::now() + PATIENCE;
    while !is_gone(pid) {
        ensure!(Instant::now() < end, "process {pid} was killed and stays");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Stops a process, or lets it go on.
pub fn signal(pid: Option<i32>, signal: Signal) -> anyhow::Result<()> {
    let pid = pid.context("it does not run")?;
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to process {pid}"))
}

/// A process that ends keeps its ports until its last thread is gone; its first one may be left, as a zombie, for its parent.
fn is_gone(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.contains(") Z ") && threads <= 1
}

/// Where the programs under test lie.
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::var_os("VT_BIN_DIR").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    // This program lies in the folder `deps` beside them.
    let myself = env::current_exe()?;
    let folder = myself.parent().and_then(Path::parent);
    Ok(folder.context("this program lies nowhere")?.to_owned())
}

/// Below the range from which the kernel gives ports to outgoing connections.
fn free_base_port() -> anyhow::Result<u16> {
    for _ in 0..BASES_TRIED_MAX {
        let base = rand::random_range(16_000..32_000 - PORT_SPAN);
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base + 100..base + PORT_SPAN).all(is_free) {
            return Ok(base);
        }
    }
    bail!("no {PORT_SPAN} free ports in a row were found in {BASES_TRIED_MAX} attempts")
}

fn port(address: &str) -> anyhow::Result<u16> {
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    port.with_context(|| format!("'{address}' has no port"))
}

fn password(credentials: &Path, of: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(credentials)?;
    let lines = text.lines().map(str::trim);
    let mut section = lines.skip_while(|line| *line != of).skip(1);
    let line = section.find_map(|line| line.strip_prefix("password = "));
    let password = line.with_context(|| format!("find the password of {of}"))?;
    Ok(password.trim_matches('"').to_owned())
}
