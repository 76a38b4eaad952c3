//! What is asked of this member about itself: its status, a copy of the topology, and, while it is in no group, to begin one with such
//! a copy. Nothing is passed on to another member.

use std::{fs, pin::Pin, time::Instant};

use prost::bytes::Bytes;
use tokio::{sync::oneshot, task::spawn_blocking};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use vt_coordinator_core::{Core, codec};
use vt_proto::{
    backup::{BACKUP_BYTES_MAX, Backup},
    wire::{self, maintenance_server},
};

use super::{caller, error};
use crate::{
    node::{Handle, NodeStatus},
    restore::{Restores, Wanted},
};

/// Bytes of a backup that travel in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// The service of a member that belongs to a group.
pub struct Maintenance {
    node: Handle,
    restores: Restores,
    since: Instant,
}

impl Maintenance {
    /// The service of this node.
    pub fn new(node: Handle, restores: Restores) -> Self {
        Self {
            node,
            restores,
            since: Instant::now(),
        }
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<wire::TopologyChunk, Status>> + Send>>;

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn coordinator_status(
        &self,
        request: Request<wire::CoordinatorStatusRequest>,
    ) -> Result<Response<wire::CoordinatorStatusResponse>, Status> {
        caller::take(request);
        let mut status = match self.is_waiting() {
            true => waiting(),
            false => {
                let look = self.node.read(false, status).await;
                look.map_err(error::of_read)?
            }
        };
        status.uptime_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        status.resident_bytes = resident_bytes().unwrap_or(0);
        Ok(Response::new(status))
    }

    type BackupTopologyStream = Chunks;

    async fn backup_topology(
        &self,
        request: Request<wire::BackupTopologyRequest>,
    ) -> Result<Response<Chunks>, Status> {
        caller::take(request);
        let copy = |core: &Core, status: &NodeStatus| (core.state().clone(), status.now.unix_ms);
        let copied = self.node.read_anywhere(copy).await;
        let (state, time_unix_ms) = copied.map_err(error::of_read)?;
        // A large topology takes a while to encode, and nobody else is to wait for it.
        let encode = move || {
            let backup = Backup {
                cluster_id: state.cluster_id.clone(),
                index: state.applied,
                time_unix_ms,
                written_by: env!("CARGO_PKG_VERSION").to_owned(),
                state: codec::encode_state(&state),
            };
            Bytes::from(backup.to_bytes())
        };
        let bytes = spawn_blocking(encode).await;
        let bytes = bytes.map_err(|_| Status::internal("the topology could not be encoded"))?;
        let pieces = (0..bytes.len()).step_by(CHUNK_BYTES);
        let chunks: Vec<_> = pieces
            .map(|at| {
                let end = bytes.len().min(at + CHUNK_BYTES);
                let data = bytes[at..end].to_vec();
                Ok(wire::TopologyChunk { data })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn restore_topology(
        &self,
        request: Request<Streaming<wire::TopologyChunk>>,
    ) -> Result<Response<wire::RestoreTopologyResponse>, Status> {
        if self.restores.is_closed() {
            return Err(self.keeps_its_own());
        }
        let mut chunks = request.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?.data);
            if bytes.len() > BACKUP_BYTES_MAX {
                return Err(Status::invalid_argument(format!(
                    "a backup has at most {BACKUP_BYTES_MAX} bytes"
                )));
            }
        }
        let backup = Backup::from_bytes(&bytes);
        let backup = backup.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let state = codec::decode_state(&backup.state);
        let state = state.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (answer, outcome) = oneshot::channel();
        let sent = self.restores.send(Wanted { state, answer }).await;
        sent.map_err(|_| self.keeps_its_own())?;
        let begun = outcome.await.map_err(|_| self.keeps_its_own())?;
        let index = begun.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::RestoreTopologyResponse {
            cluster_id: backup.cluster_id,
            index,
        }))
    }
}

impl Maintenance {
    /// In no group yet.
    fn is_waiting(&self) -> bool {
        self.node.status().borrow().cluster_id.is_empty() && !self.restores.is_closed()
    }

    fn keeps_its_own(&self) -> Status {
        Status::failed_precondition(
            "this coordinator is in a group and keeps its topology: a backup is restored into a coordinator with an empty data \
             directory, after all others of the group were stopped for good",
        )
    }
}

fn waiting() -> wire::CoordinatorStatusResponse {
    wire::CoordinatorStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: "waiting".to_owned(),
        waits_for: "it is in no group yet: its log says what it waits for; or give it a backup with `vtctl coordinator restore`"
            .to_owned(),
        ..wire::CoordinatorStatusResponse::default()
    }
}

fn status(core: &Core, status: &NodeStatus) -> wire::CoordinatorStatusResponse {
    let record = core.state().coordinators.get(&status.id);
    let role = match status.leader_id {
        Some(leader) if leader == status.id => "leader",
        _ if status.membership.votes(status.id) => "follower",
        _ if status.membership.holds(status.id) => "learner",
        _ => "outside",
    };
    wire::CoordinatorStatusResponse {
        id: status.id,
        cluster_id: status.cluster_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: role.to_owned(),
        term: status.term,
        leader_id: status.leader_id.unwrap_or(0),
        applied_index: core.state().applied,
        commit_index: status.commit,
        snapshot_index: status.snapshot_index,
        log_bytes: status.log_bytes,
        state_hash: core.state().hash(),
        disk_full: status.disk_full,
        disk_stalled: status.disk_stalled,
        waits_for: status.membership_waits.clone().unwrap_or_default(),
        uptime_ms: 0,
        resident_bytes: 0,
        directory_id: record.map_or_else(String::new, |it| it.value.directory_id.clone()),
    }
}

/// Memory of this process that is in use, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages = text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * PAGE_BYTES)
}
