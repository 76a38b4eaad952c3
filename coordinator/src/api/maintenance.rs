//! What is asked of this member about itself: its status, a copy of the topology. Nothing is passed on to another member, nothing is
//! written.

use std::{fs, pin::Pin, time::Instant};

use prost::bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use vt_coordinator_core::{Core, codec};
use vt_proto::{
    backup::Backup,
    wire::{self, maintenance_server},
};

use super::{caller, error};
use crate::node::{Handle, NodeStatus};

/// Bytes of a backup that travel in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// The service of a member that belongs to a group.
pub struct Maintenance {
    node: Handle,
    since: Instant,
}

impl Maintenance {
    /// The service of this node.
    pub fn new(node: Handle) -> Self {
        Self {
            node,
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
        let look = self.node.read(false, status).await;
        let mut status = look.map_err(error::of_read)?;
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
        _: Request<Streaming<wire::TopologyChunk>>,
    ) -> Result<Response<wire::RestoreTopologyResponse>, Status> {
        let status = self.node.status();
        let cluster = status.borrow().cluster_id.clone();
        Err(Status::failed_precondition(format!(
            "this coordinator belongs to cluster {cluster} and keeps its topology: a backup is restored into a coordinator \
             with an empty data directory, after all others of the group were stopped"
        )))
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
