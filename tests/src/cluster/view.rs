//! What `vtctl -o json` says of a cluster, as far as tests look at it.

use serde::Deserialize;

/// `vtctl local status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Overview {
    pub processes: Vec<Process>,
    /// None while no coordinator answers.
    pub replica_set: Option<ReplicaSet>,
    /// Why there is none, or what it misses.
    pub missing: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub pid: Option<i32>,
    /// Where it serves gRPC (a coordinator) or MySQL (an agent's router).
    pub serves: String,
    pub tablet: Option<String>,
    pub mysqld: Option<String>,
    pub guard_pid: Option<i32>,
    pub mysqld_pid: Option<i32>,
    pub log: std::path::PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ReplicaSet {
    pub epoch: u64,
    pub phase: String,
    pub primary: Option<String>,
    pub serving: bool,
    /// Why nothing goes on, and who would change that.
    #[serde(default)]
    pub blocked: Option<String>,
    pub ackers: Vec<String>,
    /// The epochs that are over.
    #[serde(default)]
    pub history: Vec<FinishedEpoch>,
    pub tablets: Vec<Tablet>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FinishedEpoch {
    pub epoch: u64,
    pub primary: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tablet {
    pub alias: String,
    pub role: String,
    pub acker: bool,
    pub report: Option<Report>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    #[serde(default)]
    pub blocked: Option<String>,
    pub super_read_only: Option<bool>,
    pub semi_sync_source: Option<bool>,
    pub semi_sync_replica: Option<bool>,
    #[serde(default)]
    pub replication: Option<Replication>,
}

/// The two threads of a replica: `on`, `off` or `connecting`.
#[derive(Clone, Debug, Deserialize)]
pub struct Replication {
    pub io: String,
    pub sql: String,
}

impl Report {
    /// Receives, applies and acknowledges.
    pub fn follows(&self) -> bool {
        let runs = |it: &Replication| it.io == "on" && it.sql == "on";
        self.replication.as_ref().is_some_and(runs) && self.semi_sync_replica == Some(true)
    }
}

/// `vtctl cluster show`.
#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    pub cluster_id: String,
    pub leader_id: u64,
}

impl Overview {
    /// The agents, in the order of their tablets.
    pub fn agents(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|it| it.tablet.is_some())
    }

    /// The coordinators, in the order of their ids, which count from one.
    pub fn coordinators(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|it| it.tablet.is_none())
    }

    /// The agent of a tablet.
    pub fn agent(&self, alias: &str) -> &Process {
        self.agents()
            .find(|it| it.tablet.as_deref() == Some(alias))
            .unwrap_or_else(|| panic!("no tablet {alias} in {self:?}"))
    }

    /// The alias of the primary that serves, once the replica set is at rest.
    pub fn serving_primary(&self) -> Option<&str> {
        let set = self.replica_set.as_ref()?;
        let is_open = set.serving && set.phase == "stable";
        set.primary.as_deref().filter(|_| is_open)
    }

    /// The replica set's epoch; zero while nobody says.
    pub fn epoch(&self) -> u64 {
        self.replica_set.as_ref().map_or(0, |set| set.epoch)
    }

    /// Whether everything runs, one serves and all others replicate.
    pub fn is_whole(&self) -> bool {
        let runs =
            |it: &Process| it.pid.is_some() && (it.tablet.is_none() || it.mysqld_pid.is_some());
        self.processes.iter().all(runs)
            && self.serving_primary().is_some()
            && self.missing.is_none()
    }
}
