//! The whole cluster on its hosts: made, asked, healed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mysql_async::{Row, prelude::Queryable};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::process::Command;

use super::{
    FRONT, HOSTS, KEYSPACE, REPLICA_SET, alias,
    files::Files,
    host::{Host, Program},
};
use crate::{
    bed::{namespaces, network},
    cluster::{
        login::Login,
        view::{Cluster, ReplicaSet},
    },
};

/// Longer than anything takes on a slow machine that still works.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Three data directories are made at the first start.
const FIRST_START: Duration = Duration::from_secs(300);
/// What an operator waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Everything that runs on a host.
pub const EVERYTHING: &[Program] = &[
    Program::Coordinator,
    Program::Agent,
    Program::Guard,
    Program::Mysqld,
];

/// A running cluster. Its processes end with the namespaces.
pub struct Bed {
    pub files: Files,
    pub hosts: Vec<Host>,
}

/// What was decided, as `vtctl events` tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub sequence: u64,
    pub time: String,
    pub kind: String,
    pub message: String,
}

impl Bed {
    /// Makes network, disks and files, starts everything and waits until the keyspace can be written to. Expects namespaces of its
    /// own: see [`namespaces`].
    pub async fn make(programs: &Path, directory: &Path) -> anyhow::Result<Self> {
        namespaces::hide_names()?;
        network::make(FRONT + 1).context("make a network between namespaces")?;
        let files = Files::write(programs, directory)?;
        let hosts = (0..=FRONT).map(|number| Host::make(number, &files));
        let mut bed = Self {
            hosts: hosts.collect::<anyhow::Result<_>>()?,
            files,
        };
        bed.hosts.iter_mut().try_for_each(Host::start)?;
        bed.wait_until_whole(FIRST_START).await?;
        let create = ["keyspace", "create", KEYSPACE, "--replica-set", REPLICA_SET];
        bed.vtctl(&create).await?;
        Ok(bed)
    }

    /// Copies binary logs and relay logs out of the disks that are about to go: they tell why tablets differ.
    pub fn keep_logs(&self) -> anyhow::Result<()> {
        for host in 0..HOSTS {
            let kept = self.files.directory.join(format!("logs{host}"));
            fs::create_dir(&kept)?;
            let data = self.files.disk(host).join("data");
            for entry in fs::read_dir(&data)
                .with_context(|| format!("read {}", data.display()))?
                .flatten()
            {
                let name = entry.file_name();
                let is_log = |start: &&str| name.as_encoded_bytes().starts_with(start.as_bytes());
                if ["binlog.", "relay."].iter().any(is_log) {
                    fs::copy(entry.path(), kept.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Whatever was done is taken back, everything runs, and the cluster is whole.
    pub async fn heal(&mut self) -> anyhow::Result<ReplicaSet> {
        network::heal(FRONT + 1)?;
        self.hosts.iter_mut().try_for_each(Host::heal)?;
        self.wait_until_whole(PATIENCE).await
    }

    /// Starts the agents anew. Trial after trial kills the same servers soon after their start, and an agent lets a mysqld that ends time
    /// and again wait longer for its next start.
    pub async fn forget_ends(&mut self) -> anyhow::Result<()> {
        for host in &mut self.hosts {
            host.kill(&[Program::Agent])?;
            host.start()?;
        }
        self.wait_until_whole(PATIENCE).await?;
        Ok(())
    }

    /// Waits until one serves and all others replicate and acknowledge.
    pub async fn wait_until_whole(&self, limit: Duration) -> anyhow::Result<ReplicaSet> {
        match self.wait("a whole cluster", limit, is_whole).await {
            Ok(set) => Ok(set),
            Err(error) => Err(error.context(self.story().await)),
        }
    }

    /// All that the coordinators and the servers say of the replica set, for whoever has to find out what holds it up.
    async fn story(&self) -> String {
        let mut story = String::from("not whole:");
        let asked: [&[&str]; 2] = [
            &["-o", "json", "replica-set", "show", REPLICA_SET],
            &["-o", "json", "tablet", "list"],
        ];
        for arguments in asked {
            let said = self.vtctl(arguments).await;
            story += &format!("\n{}", said.unwrap_or_else(|error| format!("{error:#}")));
        }
        for (alias, login) in self.tablets() {
            story += &format!("\n{alias}");
            let said = tokio::time::timeout(ANSWER_TIMEOUT, said_by(&login)).await;
            match said.unwrap_or_else(|_| anyhow::bail!("does not answer")) {
                Ok(said) => story += &said,
                Err(error) => story += &format!(": {error:#}"),
            }
        }
        story
    }

    /// Waits for a state of the replica set.
    pub async fn wait(
        &self,
        what: &str,
        limit: Duration,
        is_there: impl Fn(&ReplicaSet) -> bool,
    ) -> anyhow::Result<ReplicaSet> {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.replica_set().await;
            match found {
                Ok(set) if is_there(&set) => return Ok(set),
                found if Instant::now() >= deadline => {
                    anyhow::bail!("waited in vain for {what}; at last there was {found:#?}")
                }
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// How the replica set stands.
    pub async fn replica_set(&self) -> anyhow::Result<ReplicaSet> {
        self.json(&["replica-set", "show", REPLICA_SET]).await
    }

    /// Which host's coordinator leads.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let cluster: Cluster = self.json(&["cluster", "show"]).await?;
        let leader = usize::try_from(cluster.leader_id)?.checked_sub(1);
        leader.context("a leader")
    }

    /// Hands leadership over, unless that host leads already.
    pub async fn lead(&self, host: usize) -> anyhow::Result<()> {
        if self.leader().await? != host {
            let id = (host + 1).to_string();
            self.vtctl(&["coordinator", "transfer", "--to", &id])
                .await?;
        }
        Ok(())
    }

    /// What was decided after an event of that number.
    pub async fn events_after(&self, sequence: u64) -> anyhow::Result<Vec<Event>> {
        let events: Vec<Event> = self.json(&["events", "--limit", "1000"]).await?;
        let later = events.into_iter().filter(|event| event.sequence > sequence);
        Ok(later.collect())
    }

    /// Runs `vtctl` on this cluster; its output is the answer, a failure an error that has its words.
    pub async fn vtctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let running = Command::new(self.files.programs.join("vtctl"))
            .arg("--coordinators")
            .arg(self.files.coordinators())
            .arg("--tls-dir")
            .arg(self.files.operator())
            .arg("--timeout")
            .arg(ANSWER_TIMEOUT.as_secs().to_string())
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(2 * ANSWER_TIMEOUT, running).await;
        let output = output.context("vtctl does not end")??;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "vtctl {}: {}: {words}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let answer = self.vtctl(&[&["-o", "json"], arguments].concat()).await?;
        serde_json::from_str(&answer).context("read what vtctl says")
    }

    /// Where each tablet can be asked directly.
    pub fn tablets(&self) -> Vec<(String, Login)> {
        let tablet = |host| (alias(host), self.files.mysqld(host));
        (0..HOSTS).map(tablet).collect()
    }
}

/// What a server knows of its replication and of whoever is connected.
async fn said_by(login: &Login) -> anyhow::Result<String> {
    let mut conn = login.connect(None).await?;
    let mut said = String::new();
    for sql in [
        "SELECT @@server_uuid, @@gtid_executed",
        "SHOW REPLICA STATUS",
        "SELECT * FROM performance_schema.replication_applier_status_by_worker",
        "SHOW FULL PROCESSLIST",
    ] {
        let rows: Vec<Row> = conn.query(sql).await?;
        for row in rows {
            said += "\n  ";
            for (column, value) in row.columns_ref().iter().zip(row.clone().unwrap()) {
                said += &format!("{}={} ", column.name_str(), value.as_sql(false));
            }
        }
    }
    Ok(said)
}

/// Which host's tablet is primary.
pub fn primary(set: &ReplicaSet) -> anyhow::Result<usize> {
    let primary = set.primary.as_deref();
    let host = (0..HOSTS).find(|host| primary == Some(&alias(*host)));
    host.with_context(|| format!("no primary: {set:#?}"))
}

fn is_whole(set: &ReplicaSet) -> bool {
    let is_level = |tablet: &crate::cluster::view::Tablet| {
        let is_primary = set.primary.as_ref() == Some(&tablet.alias);
        let Some(report) = &tablet.report else {
            return false;
        };
        match is_primary {
            true => report.super_read_only == Some(false) && report.semi_sync_source == Some(true),
            false => report.super_read_only == Some(true) && tablet.acker && report.follows(),
        }
    };
    set.serving
        && set.phase == "stable"
        && set.tablets.len() == HOSTS
        && set.tablets.iter().all(is_level)
}
