//! What others may ask of a coordinator by gRPC: operators, agents, routers. It reads by the node's handle and proposes what the
//! core's intents say; it decides nothing and keeps nothing but the streams that are open.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use vt_proto::cluster::{Kinship, kinship};
use vt_proto::wire::{
    FILE_DESCRIPTOR_SET, admin_server::AdminServer, agent_uplink_server::AgentUplinkServer,
    maintenance_server::MaintenanceServer, records_server::RecordsServer,
    routing_server::RoutingServer,
};

use crate::{
    node::{Handle, NodeStatus},
    restore::Restores,
};

pub mod admin;
pub mod agent;
pub mod caller;
pub mod error;
pub mod guard;
pub mod maintenance;
pub mod members;
pub mod records;
pub mod roles;
pub mod routing;

mod admission;
mod coordinators;
mod leadership;
mod lost;
mod outgoing;
mod streams;
mod users;
mod views;
mod write;

use leadership::Leadership;
use streams::Streams;

/// A schema change or vschema is far smaller; what is larger is a mistake or an attack.
const ADMIN_BYTES_MAX: usize = 2 << 20;
/// A report carries GTID sets, which may be long texts on old clusters.
const REPORT_BYTES_MAX: usize = 4 << 20;
/// A router asks with two short texts.
const WATCH_BYTES_MAX: usize = 4 << 10;

/// All services but the transport of raft. `stop` ends the long streams, so that the server can end.
pub fn routes(
    node: &Handle,
    restores: Restores,
    stop: &CancellationToken,
) -> anyhow::Result<Routes> {
    let streams = Arc::<Streams>::default();
    let admin = AdminServer::new(admin::Admin::new(node.clone(), streams.clone()));
    let maintenance = MaintenanceServer::new(maintenance::Maintenance::new(node.clone(), restores));
    let records = RecordsServer::new(records::Records::new(node.clone(), stop.clone()));
    let leadership = Leadership::of(node);
    let uplink = agent::Uplink::new(node.clone(), streams, leadership.clone(), stop.clone());
    let uplink = AgentUplinkServer::new(uplink);
    let routing = routing::Watches::new(node.clone(), leadership, stop.clone());
    let routing = RoutingServer::new(routing);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("describe the services")?;
    let (_, health) = tonic_health::server::health_reporter();
    Ok(
        Routes::new(admin.max_decoding_message_size(ADMIN_BYTES_MAX))
            .add_service(maintenance.max_decoding_message_size(ADMIN_BYTES_MAX))
            .add_service(records.max_decoding_message_size(ADMIN_BYTES_MAX))
            .add_service(uplink.max_decoding_message_size(REPORT_BYTES_MAX))
            .add_service(routing.max_decoding_message_size(WATCH_BYTES_MAX))
            .add_service(reflection)
            .add_service(health),
    )
}

/// Only the leader has heard the agents, so only it serves them and the routers.
fn require_leader(status: &NodeStatus) -> Result<(), Status> {
    if status.is_leader {
        return Ok(());
    }
    let leader = status.leader_address.clone();
    // A member that was elected and has not applied everything yet names itself; it will serve in a moment.
    let itself = status.leader_id == Some(status.id);
    Err(error::not_leader(leader.filter(|_| !itself)))
}

/// A caller that belongs to another cluster must not act on this one's words. Empty: it does not know yet. One that knows the group
/// before is told of this one, and one that knows a newer group does not go back.
fn require_cluster(status: &NodeStatus, given: &str) -> Result<(), Status> {
    if given.is_empty() || given == status.cluster_id {
        return Ok(());
    }
    if status.cluster_id.is_empty() {
        return Err(error::retry(
            "this coordinator is in no group yet".to_owned(),
        ));
    }
    match kinship(given, &status.cluster_id) {
        Kinship::Same | Kinship::Older => return Ok(()),
        Kinship::Newer => {
            return Err(Status::permission_denied(format!(
                "this coordinator is of {}, and the group {given} has taken its place: stop this coordinator for good",
                status.cluster_id
            )));
        }
        Kinship::Foreign => {}
    }
    Err(Status::permission_denied(format!(
        "this coordinator serves cluster {} and the caller belongs to {given}: correct its list of coordinators, \
         or remove its data directory if it is to move to this cluster",
        status.cluster_id
    )))
}
