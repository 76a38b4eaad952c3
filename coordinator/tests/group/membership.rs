//! Operators and real processes: a group grows, loses a member and replaces it, shrinks, is backed up, restored, and recovered after its
//! majority is lost.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use vt_proto::{
    backup::Backup,
    wire::{
        self, admin_client::AdminClient, maintenance_client::MaintenanceClient,
        records_client::RecordsClient,
    },
};

use super::{DEADLINE, STEP, free_ports};

/// Members by id; ids are given by the group.
struct Members {
    directory: TempDir,
    ports: Vec<SocketAddr>,
    at: BTreeMap<u64, SocketAddr>,
    running: BTreeMap<u64, Child>,
}

impl Members {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            ports: free_ports(14),
            at: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    fn path(&self, id: u64, what: &str) -> PathBuf {
        self.directory.path().join(format!("{id}.{what}"))
    }

    fn address(&mut self) -> SocketAddr {
        self.ports.pop().unwrap()
    }

    fn configure(&mut self, id: u64, grpc: SocketAddr, members: &[u64]) {
        let http = self.address();
        self.at.insert(id, grpc);
        let mut text = format!(
            "cluster = \"ops\"\nmember_id = {id}\ndata_dir = \"{}\"\nlisten = \"{grpc}\"\nhttp_listen = \"{http}\"\nplaintext = true\n[members]\n",
            self.path(id, "data").display()
        );
        for id in members {
            text.push_str(&format!("{id} = \"{}\"\n", self.at[id]));
        }
        fs::write(self.path(id, "toml"), text).unwrap();
    }

    fn command(&self, id: u64) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vt-coordinator"));
        command.arg("--config").arg(self.path(id, "toml"));
        command.stdin(Stdio::null());
        command
    }

    fn start(&mut self, id: u64) {
        let mut options = File::options();
        let log = options.create(true).append(true).open(self.path(id, "log"));
        let log = log.unwrap();
        let mut command = self.command(id);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.running.insert(id, child.unwrap());
    }

    fn kill(&mut self, id: u64) {
        if let Some(mut child) = self.running.remove(&id) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A removed member ends by itself.
    async fn ended(&mut self, id: u64) {
        let mut child = self.running.remove(&id).unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < DEADLINE, "{id} does not end");
            sleep(STEP).await;
        }
    }

    async fn channel(&self, id: u64) -> Result<Channel, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.at[&id])).unwrap();
        let connected = endpoint.connect().await;
        connected.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Asks the members that run until one answers.
    async fn ask<T, F, A>(&self, ask: F) -> T
    where
        F: Fn(Channel) -> A,
        A: Future<Output = Result<T, Status>>,
    {
        let began = Instant::now();
        loop {
            for id in self.running.keys() {
                let asked = async { ask(self.channel(*id).await?).await };
                match timeout(DEADLINE, asked).await.unwrap() {
                    Ok(answer) => return answer,
                    Err(status) => assert!(began.elapsed() < DEADLINE, "{id}: {status}"),
                }
            }
            sleep(STEP).await;
        }
    }

    async fn list(&self) -> wire::ListCoordinatorsResponse {
        let request = wire::ListCoordinatorsRequest { stale: false };
        let answer = self.ask(|channel| async move {
            let mut admin = AdminClient::new(channel);
            admin.list_coordinators(request).await
        });
        answer.await.into_inner()
    }

    /// Waits until these vote and nobody else is in the group.
    async fn voters(&self, expected: &[u64]) {
        let began = Instant::now();
        loop {
            let list = self.list().await;
            let parts: Vec<(u64, String)> = list
                .members
                .iter()
                .map(|it| (it.coordinator.as_ref().unwrap().id, it.part.clone()))
                .collect();
            let wanted: Vec<_> = expected
                .iter()
                .map(|id| (*id, "voter".to_owned()))
                .collect();
            if parts == wanted && list.waits_for.is_empty() {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "{parts:?}: {}", list.waits_for);
            sleep(STEP).await;
        }
    }

    async fn add(&mut self) -> u64 {
        let grpc = self.address();
        let request = wire::AddCoordinatorRequest {
            address: grpc.to_string(),
            request_id: format!("add-{grpc}"),
        };
        let answer = self.ask(|channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).add_coordinator(request).await }
        });
        let id = answer.await.into_inner().id;
        self.join(id, grpc);
        id
    }

    fn join(&mut self, id: u64, grpc: SocketAddr) {
        self.at.insert(id, grpc);
        let mut members: Vec<u64> = self.running.keys().copied().collect();
        members.push(id);
        self.configure(id, grpc, &members);
        self.start(id);
    }

    async fn remove(&self, id: u64) {
        let request = wire::RemoveCoordinatorRequest {
            id,
            request_id: format!("remove-{id}"),
        };
        self.ask(|channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).remove_coordinator(request).await }
        })
        .await;
    }

    /// Writes a cell, to be looked for later.
    async fn write(&self, name: &str) {
        let cell = wire::Cell {
            name: name.to_owned(),
        };
        let change = wire::RecordChange {
            key: Some(wire::RecordKey {
                key: Some(wire::record_key::Key::Cell(name.to_owned())),
            }),
            expected_revision: 0,
            value: Some(wire::RecordValue {
                value: Some(wire::record_value::Value::Cell(cell)),
            }),
        };
        let request = wire::WriteRecordsRequest {
            request_id: format!("cell-{name}"),
            changes: vec![change],
        };
        self.ask(|channel| {
            let request = request.clone();
            async move { RecordsClient::new(channel).write(request).await }
        })
        .await;
    }

    async fn cells(&self) -> Vec<String> {
        let request = wire::GetClusterRequest { stale: false };
        let answer =
            self.ask(|channel| async move { AdminClient::new(channel).get_cluster(request).await });
        answer.await.into_inner().cells
    }

    async fn backup(&self, id: u64) -> Vec<u8> {
        let channel = self.channel(id).await.unwrap();
        let request = wire::BackupTopologyRequest {};
        let mut client = MaintenanceClient::new(channel);
        let answer = client.backup_topology(request).await;
        let mut chunks = answer.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend(chunk.unwrap().data);
        }
        bytes
    }

    async fn restore(&self, id: u64, bytes: &[u8]) -> Result<u64, Status> {
        let chunks = bytes.chunks(1_000);
        let chunks: Vec<_> = chunks
            .map(|data| wire::TopologyChunk {
                data: data.to_vec(),
            })
            .collect();
        let mut client = MaintenanceClient::new(self.channel(id).await?);
        let answer = client.restore_topology(tokio_stream::iter(chunks)).await?;
        Ok(answer.into_inner().index)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One member, made to three.
async fn three() -> Members {
    let mut members = Members::new();
    let first = members.address();
    members.at.insert(1, first);
    members.configure(1, first, &[1]);
    members.start(1);
    members.voters(&[1]).await;
    members.write("zone1").await;
    assert_eq!(members.add().await, 2);
    members.voters(&[1, 2]).await;
    assert_eq!(members.add().await, 3);
    members.voters(&[1, 2, 3]).await;
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_loses_a_member_replaces_it_and_shrinks() {
    let mut members = three().await;
    // One is lost with its disk; another one takes its place under its address.
    members.kill(2);
    fs::remove_dir_all(members.path(2, "data")).unwrap();
    let address = members.at[&2];
    let request = wire::ReplaceCoordinatorRequest {
        id: 2,
        address: address.to_string(),
        request_id: "replace-2".to_owned(),
    };
    let answer = members.ask(|channel| {
        let request = request.clone();
        async move { AdminClient::new(channel).replace_coordinator(request).await }
    });
    assert_eq!(answer.await.into_inner().id, 4);
    members.join(4, address);
    members.voters(&[1, 3, 4]).await;
    // Leadership goes where it is asked to go, and the leader leaves like any other.
    let request = wire::TransferLeadershipRequest { to: 4 };
    members
        .ask(|channel| async move { AdminClient::new(channel).transfer_leadership(request).await })
        .await;
    let began = Instant::now();
    while members.list().await.leader_id != 4 {
        assert!(began.elapsed() < DEADLINE);
        sleep(STEP).await;
    }
    members.remove(4).await;
    members.ended(4).await;
    members.voters(&[1, 3]).await;
    members.write("zone2").await;
    assert_eq!(members.cells().await, ["zone1", "zone2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_group_begins_again_from_a_backup() {
    let mut members = three().await;
    let bytes = members.backup(2).await;
    let backup = Backup::from_bytes(&bytes).unwrap();
    let refused = members.restore(1, &bytes).await.unwrap_err();
    assert!(
        refused.message().contains("keeps its topology"),
        "{refused}"
    );
    for id in 1..=3 {
        members.kill(id);
        fs::remove_dir_all(members.path(id, "data")).unwrap();
    }
    members.at.retain(|id, _| *id <= 3);
    let first = members.at[&1];
    members.configure(1, first, &[1, 2, 3]);
    members.start(1);
    let began = Instant::now();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let refused = loop {
        match members.restore(1, &damaged).await.unwrap_err() {
            status if status.code() == tonic::Code::Unavailable => {
                assert!(began.elapsed() < DEADLINE, "{status}");
                sleep(STEP).await;
            }
            status => break status,
        }
    };
    assert!(refused.message().contains("damaged"), "{refused}");
    let index = members.restore(1, &bytes).await.unwrap();
    assert!(index > backup.index + 1_000_000);
    members.voters(&[1]).await;
    assert_eq!(members.cells().await, ["zone1"]);
    assert_eq!(members.add().await, 4, "ids are never used again");
    members.voters(&[1, 4]).await;
    members.write("zone2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_of_a_lost_majority_becomes_a_group_of_its_own() {
    let mut members = three().await;
    let running = members
        .command(3)
        .args(["recover", "--yes"])
        .output()
        .unwrap();
    assert!(!running.status.success(), "it runs");
    for id in 1..=3 {
        members.kill(id);
    }
    let asked = members.command(3).arg("recover").output().unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(
        !asked.status.success() && said.contains("last log index"),
        "{said}"
    );
    let done = members
        .command(3)
        .args(["recover", "--yes"])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    members.start(3);
    members.voters(&[3]).await;
    assert_eq!(members.cells().await, ["zone1"]);
    assert_eq!(members.add().await, 4);
    members.voters(&[3, 4]).await;
}
