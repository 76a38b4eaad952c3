//! The operator's API: reads by the node's handle, writes by the core's intents. Retries of one request id are applied once.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vt_coordinator_core::{
    Core,
    command::{Command, RecordKey},
    event::Now,
    intent,
    refusal::Refusal,
    state::State,
};
use vt_proto::{
    convert::{parse, parse_unless_empty},
    epoch::Revision,
    ids::{KeyspaceName, ReplicaSetName, TabletAlias},
    wire,
};

use super::{
    caller, coordinators, error, lost,
    streams::Streams,
    users, views,
    write::{CONFLICTS_MAX, Written, write},
};
use crate::node::{Handle, NodeStatus};

/// The service.
pub struct Admin {
    node: Handle,
    streams: Arc<Streams>,
}

impl Admin {
    /// The service of this node; agents are asked over `streams`.
    pub fn new(node: Handle, streams: Arc<Streams>) -> Self {
        Self { node, streams }
    }

    async fn read<T: Send + 'static>(
        &self,
        stale: bool,
        look: impl FnOnce(&Core, &NodeStatus) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.node.read(!stale, look).await.map_err(error::of_read)
    }

    async fn write<F>(&self, request_id: String, make: F) -> Result<Written, Status>
    where
        F: Fn(&Core, &str, Now) -> Result<Command, Refusal> + Clone + Send + 'static,
    {
        write(&self.node, request_id, CONFLICTS_MAX, make).await
    }
}

fn keyspace_name(text: &str) -> Result<KeyspaceName, Status> {
    parse("keyspace", text).map_err(|error| error::of_conversion(&error))
}

fn replica_set_name(text: &str) -> Result<Option<ReplicaSetName>, Status> {
    parse_unless_empty("replica_set", text).map_err(|error| error::of_conversion(&error))
}

fn alias(field: &str, text: &str) -> Result<Option<TabletAlias>, Status> {
    parse_unless_empty(field, text).map_err(|error| error::of_conversion(&error))
}

pub(super) fn answer(written: Written) -> Result<Response<wire::WriteResponse>, Status> {
    let revision = written.revision;
    Ok(Response::new(wire::WriteResponse { revision }))
}

/// The schema change that a request made: by its command, or, where an earlier try of the request did it, by its contents.
fn schema_change_id(
    state: &State,
    command: Option<&Command>,
    keyspace: &KeyspaceName,
    statements: &[String],
) -> Option<u64> {
    let made = command.and_then(|command| {
        command.changes.iter().find_map(|change| match change.key {
            RecordKey::SchemaChange(id) => Some(id),
            _ => None,
        })
    });
    made.or_else(|| {
        let mut newest = state
            .schema_changes
            .values()
            .rev()
            .map(|change| &change.value);
        let same =
            newest.find(|change| change.keyspace == *keyspace && change.statements == statements);
        same.map(|change| change.id)
    })
}

#[tonic::async_trait]
impl wire::admin_server::Admin for Admin {
    async fn get_cluster(
        &self,
        request: Request<wire::GetClusterRequest>,
    ) -> Result<Response<wire::ClusterView>, Status> {
        let stale = caller::take(request).stale;
        self.read(stale, views::cluster).await.map(Response::new)
    }

    async fn list_keyspaces(
        &self,
        request: Request<wire::ListKeyspacesRequest>,
    ) -> Result<Response<wire::ListKeyspacesResponse>, Status> {
        let stale = caller::take(request).stale;
        let keyspaces = self
            .read(stale, |core, _| views::keyspaces(core.state()))
            .await?;
        Ok(Response::new(wire::ListKeyspacesResponse { keyspaces }))
    }

    async fn create_keyspace(
        &self,
        request: Request<wire::CreateKeyspaceRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let name = keyspace_name(&request.name)?;
        let set = replica_set_name(&request.replica_set)?;
        let make = move |core: &Core, id: &str, now| {
            intent::create_keyspace(core.state(), &name, set.as_ref(), id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn delete_keyspace(
        &self,
        request: Request<wire::DeleteKeyspaceRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let name = keyspace_name(&request.name)?;
        let (force, expected) = (request.force, Revision(request.expected_revision));
        let make = move |core: &Core, id: &str, now| {
            let state = core.state();
            intent::check_deletion(state, &name, force, expected)?;
            intent::delete_keyspace(state, &name, id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn list_replica_sets(
        &self,
        request: Request<wire::ListReplicaSetsRequest>,
    ) -> Result<Response<wire::ListReplicaSetsResponse>, Status> {
        let request = caller::take(request);
        let name = replica_set_name(&request.name)?;
        let look = move |core: &Core, status: &NodeStatus| {
            views::replica_sets(core, status.now, name.as_ref())
        };
        let replica_sets = self.read(request.stale, look).await?;
        Ok(Response::new(wire::ListReplicaSetsResponse {
            replica_sets,
        }))
    }

    async fn list_tablets(
        &self,
        request: Request<wire::ListTabletsRequest>,
    ) -> Result<Response<wire::ListTabletsResponse>, Status> {
        let request = caller::take(request);
        let alias = alias("alias", &request.alias)?;
        let look = move |core: &Core, status: &NodeStatus| {
            views::tablets(core, status.now, alias.as_ref())
        };
        let tablets = self.read(request.stale, look).await?;
        Ok(Response::new(wire::ListTabletsResponse { tablets }))
    }

    async fn switchover(
        &self,
        request: Request<wire::SwitchoverRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let set = replica_set_name(&request.replica_set)?;
        let set =
            set.ok_or_else(|| Status::invalid_argument("name the replica set to switch over"))?;
        let candidate = alias("candidate", &request.candidate)?;
        let make = move |core: &Core, id: &str, now| {
            let (state, health) = (core.state(), core.health());
            intent::switchover(state, health, &set, candidate.as_ref(), id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn set_drained(
        &self,
        request: Request<wire::SetDrainedRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let parsed = request.tablets.iter().map(|text| parse("tablets", text));
        let aliases: Result<Vec<TabletAlias>, _> = parsed.collect();
        let aliases = aliases.map_err(|error| error::of_conversion(&error))?;
        let drained = request.drained;
        let make = move |core: &Core, id: &str, now| {
            intent::set_drained(core.state(), &aliases, drained, id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn set_durability(
        &self,
        request: Request<wire::SetDurabilityRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let set = replica_set_name(&request.replica_set)?;
        let set = set.ok_or_else(|| Status::invalid_argument("name the replica set"))?;
        let (acks, cross_cell) = (request.acks, request.cross_cell);
        let make = move |core: &Core, id: &str, now| {
            intent::set_durability(core.state(), &set, acks, cross_cell, id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn read_lost(
        &self,
        request: Request<wire::ReadLostRequest>,
    ) -> Result<Response<wire::ReadLostResponse>, Status> {
        lost::read(&self.node, &self.streams, caller::take(request)).await
    }

    async fn forget_lost(
        &self,
        request: Request<wire::ForgetLostRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        lost::forget(&self.node, &self.streams, caller::take(request)).await
    }

    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Result<Response<wire::ListEventsResponse>, Status> {
        let request = caller::take(request);
        let look = move |core: &Core, _: &NodeStatus| views::events(core.state(), &request);
        self.read(false, look).await.map(Response::new)
    }

    async fn apply_schema(
        &self,
        request: Request<wire::ApplySchemaRequest>,
    ) -> Result<Response<wire::ApplySchemaResponse>, Status> {
        let request = caller::take(request);
        let keyspace = keyspace_name(&request.keyspace)?;
        let statements = request.statements;
        let (of, asked) = (keyspace.clone(), statements.clone());
        let make = move |core: &Core, id: &str, now| {
            intent::apply_schema(core.state(), &of, asked.clone(), id, now)
        };
        let Written { revision, command } = self.write(request.request_id, make).await?;
        let find = move |core: &Core, _: &NodeStatus| {
            schema_change_id(core.state(), command.as_ref(), &keyspace, &statements)
        };
        let id = self.read(false, find).await?;
        let id = id.ok_or_else(|| {
            Status::not_found("the schema change was made and is forgotten again: see the events")
        })?;
        Ok(Response::new(wire::ApplySchemaResponse { id, revision }))
    }

    async fn get_schema_change(
        &self,
        request: Request<wire::GetSchemaChangeRequest>,
    ) -> Result<Response<wire::SchemaChangeView>, Status> {
        let id = caller::take(request).id;
        let look = move |core: &Core, _: &NodeStatus| core.state().schema_changes.get(&id).cloned();
        let change = self.read(false, look).await?;
        let change =
            change.ok_or_else(|| Status::not_found(format!("there is no schema change {id}")))?;
        Ok(Response::new(wire::SchemaChangeView {
            change: Some(change.value.into()),
            revision: change.revision.0,
        }))
    }

    async fn get_vschema(
        &self,
        request: Request<wire::GetVschemaRequest>,
    ) -> Result<Response<wire::Vschema>, Status> {
        let keyspace = keyspace_name(&caller::take(request).keyspace)?;
        let look = move |core: &Core, _: &NodeStatus| {
            let known = intent::known_keyspace(core.state(), &keyspace);
            known.map_err(|refusal| error::of_refusal(&refusal))?;
            Ok(views::vschema(core.state(), &keyspace))
        };
        self.read(false, look).await?.map(Response::new)
    }

    async fn apply_vschema(
        &self,
        request: Request<wire::ApplyVschemaRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let request = caller::take(request);
        let keyspace = keyspace_name(&request.keyspace)?;
        let replace = request.replace;
        let mut tables: Vec<_> = request.tables.into_iter().collect();
        // The log entry must not depend on the order of a hash map.
        tables.sort_unstable();
        let make = move |core: &Core, id: &str, now| {
            let state = core.state();
            let build = if replace {
                intent::replace_vschema
            } else {
                intent::apply_vschema
            };
            build(state, &keyspace, tables.clone(), id, now)
        };
        answer(self.write(request.request_id, make).await?)
    }

    async fn list_users(
        &self,
        request: Request<wire::ListUsersRequest>,
    ) -> Result<Response<wire::ListUsersResponse>, Status> {
        users::list(&self.node, caller::take(request)).await
    }

    async fn create_user(
        &self,
        request: Request<wire::CreateUserRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        users::create(&self.node, caller::take(request)).await
    }

    async fn change_user(
        &self,
        request: Request<wire::ChangeUserRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        users::change(&self.node, caller::take(request)).await
    }

    async fn drop_user(
        &self,
        request: Request<wire::DropUserRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        users::drop_one(&self.node, caller::take(request)).await
    }

    async fn list_coordinators(
        &self,
        request: Request<wire::ListCoordinatorsRequest>,
    ) -> Result<Response<wire::ListCoordinatorsResponse>, Status> {
        coordinators::list(&self.node, caller::take(request)).await
    }

    async fn add_coordinator(
        &self,
        request: Request<wire::AddCoordinatorRequest>,
    ) -> Result<Response<wire::CoordinatorResponse>, Status> {
        coordinators::add(&self.node, caller::take(request)).await
    }

    async fn remove_coordinator(
        &self,
        request: Request<wire::RemoveCoordinatorRequest>,
    ) -> Result<Response<wire::CoordinatorResponse>, Status> {
        coordinators::remove(&self.node, caller::take(request)).await
    }

    async fn replace_coordinator(
        &self,
        request: Request<wire::ReplaceCoordinatorRequest>,
    ) -> Result<Response<wire::CoordinatorResponse>, Status> {
        coordinators::replace(&self.node, caller::take(request)).await
    }

    async fn set_coordinator_address(
        &self,
        request: Request<wire::SetCoordinatorAddressRequest>,
    ) -> Result<Response<wire::CoordinatorResponse>, Status> {
        coordinators::set_address(&self.node, caller::take(request)).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<wire::TransferLeadershipRequest>,
    ) -> Result<Response<wire::TransferLeadershipResponse>, Status> {
        coordinators::transfer(&self.node, caller::take(request)).await
    }
}
