//! What runs of a local cluster and where it answers.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    local::{
        cluster::{Cluster, HOST, Member, MemberKind},
        guard,
        process::Mark,
    },
    output::{or_dash, table},
    views::replica_set::ReplicaSet,
};

/// The whole cluster at one moment.
#[derive(Debug, Serialize)]
pub struct Overview {
    pub dir: PathBuf,
    pub client_file: PathBuf,
    pub processes: Vec<Process>,
    /// None while no coordinator answers.
    pub replica_set: Option<ReplicaSet>,
    /// Why there is none, or what it misses.
    pub missing: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Process {
    pub name: String,
    /// None: it does not run.
    pub pid: Option<i32>,
    /// Where it serves gRPC (a coordinator) or MySQL (an agent's router).
    pub serves: String,
    pub tablet: Option<String>,
    pub mysqld: Option<String>,
    pub guard_pid: Option<i32>,
    pub mysqld_pid: Option<i32>,
    pub status_page: String,
    pub log: PathBuf,
}

impl Overview {
    /// Looks at the processes; the replica set is the caller's matter.
    pub async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut processes = Vec::new();
        for member in cluster.members() {
            processes.push(process(cluster, &member).await?);
        }
        Ok(Self {
            dir: cluster.dir.clone(),
            client_file: cluster.client_file(),
            processes,
            replica_set: None,
            missing: None,
        })
    }

    /// Whether everything runs and the replica set is whole.
    pub fn whole(&self) -> bool {
        let runs = |process: &Process| {
            process.pid.is_some() && (process.mysqld.is_none() || process.mysqld_pid.is_some())
        };
        self.processes.iter().all(runs) && self.replica_set.is_some() && self.missing.is_none()
    }

    /// The table of processes and, below, the replica set.
    pub fn text(&self) -> String {
        let state = |pid: Option<i32>| pid.map_or_else(|| "down".to_owned(), |pid| pid.to_string());
        // All are on this host: their ports say where.
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let rows = self.processes.iter().map(|process| {
            let mysqld = process.mysqld.as_deref();
            [
                process.name.clone(),
                state(process.pid),
                port(&process.serves),
                or_dash(mysqld.map(port)),
                or_dash(mysqld.map(|_| state(process.mysqld_pid))),
                process.status_page.clone(),
            ]
        });
        let headers = [
            "PROCESS",
            "PID",
            "PORT",
            "MYSQLD",
            "MYSQLD PID",
            "STATUS PAGE",
        ];
        let mut text = table(headers, rows);
        if let Some(set) = &self.replica_set {
            text.push_str(&format!("\n\n{}", set.text()));
        }
        if let Some(missing) = &self.missing {
            text.push_str(&format!("\n\nmissing: {missing}"));
        }
        text
    }
}

async fn process(cluster: &Cluster, member: &Member) -> anyhow::Result<Process> {
    let mark = Mark::load_alive(&cluster.pid_file(member))?;
    let (grpc_or_router, tablet, mysqld) = match &member.kind {
        MemberKind::Coordinator { grpc, .. } => (*grpc, None, None),
        MemberKind::Agent {
            alias,
            mysqld,
            router,
            ..
        } => (
            *router,
            Some(alias.clone()),
            Some(format!("{HOST}:{mysqld}")),
        ),
    };
    let guard = match tablet {
        Some(_) => guard::status(&cluster.member_data_dir(member)).await,
        None => guard::GuardStatus::default(),
    };
    Ok(Process {
        name: member.name.clone(),
        pid: mark.map(|mark| mark.pid),
        serves: format!("{HOST}:{grpc_or_router}"),
        tablet,
        mysqld,
        guard_pid: guard.guard.map(|mark| mark.pid),
        mysqld_pid: guard.mysqld.map(|mark| mark.pid),
        status_page: format!("http://{HOST}:{}/", member.kind.http()),
        log: cluster.log_file(member),
    })
}
