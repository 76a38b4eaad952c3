//! Where a statement goes: from the session's database and the keyspaces it names to one server.
//!
//! It reads the snapshot and never waits; that a primary moves is one of its answers.

use std::rc::Rc;
use std::sync::Arc;

use vt_proto::routing::{
    KeyspaceRoute, ReplicaSetRoute, RoutingSnapshot, ServingState, ShardRoute,
};
use vt_proto::topology::{Endpoint, TabletKind};

use super::choice::{Candidate, choose};
use super::reads::role_for;
use super::{Request, Worker};
use crate::router::error::RouterError;
use crate::router::pool::inner::{PoolKey, Purpose};
use crate::router::pool::place::Place;
use crate::router::state::{Database, Role, State};

/// What is known of where to go.
#[derive(Debug)]
pub enum Resolution {
    Ready(Rc<Place>),
    /// The primary moves, or no fit replica is there now.
    Wait {
        replica_set: String,
        role: Role,
    },
    Refuse(RouterError),
}

impl Resolution {
    /// The replica set, as far as it is known, for an error.
    #[must_use]
    pub fn replica_set(&self) -> String {
        match self {
            Self::Ready(place) => place.replica_set.to_string(),
            Self::Wait { replica_set, .. } => replica_set.clone(),
            Self::Refuse(_) => "the keyspace".to_owned(),
        }
    }
}

struct Server {
    endpoint: Endpoint,
    purpose: Purpose,
}

/// Finds the place for a statement; `at_primary` if a replica could not answer it.
pub fn resolve(
    worker: &Worker,
    state: &mut State,
    request: &Request,
    at_primary: bool,
) -> Resolution {
    let schemas = &request.schemas;
    let role = role_for(state, request, state.role(), at_primary);
    let kind = match role {
        Role::Primary | Role::Split => None,
        Role::Replica => Some(TabletKind::Replica),
        Role::Rdonly => Some(TabletKind::Rdonly),
    };
    if schemas.is_empty()
        && let Some(place) = &state.place
        && place.kind == kind
        && worker.topology.is_current(&place.snapshot)
        && !worker.is_shunned(place.endpoint())
    {
        return Resolution::Ready(Rc::clone(place));
    }
    let snapshot = worker.topology.load();
    let (set, schema) = match find_replica_set(&snapshot, state.database.as_ref(), schemas) {
        Ok(found) => found,
        Err(error) => return Resolution::Refuse(error),
    };
    let server = match kind {
        None => primary(set),
        Some(kind) => replica(worker, state, set, kind),
    };
    let Some(server) = server else {
        return Resolution::Wait {
            replica_set: set.name.to_string(),
            role,
        };
    };
    let key = PoolKey {
        endpoint: server.endpoint,
        purpose: server.purpose,
        capabilities: state.shared_capabilities(),
        collation: state.collation,
        has_schema: schema.is_some(),
    };
    let place = Rc::new(Place {
        replica_set: set.name.clone(),
        bucket: worker.pool.bucket(&key),
        schema: schema.map(Rc::from),
        kind,
        is_slowed: kind.is_none() && set.state == ServingState::Slowed,
        snapshot: Arc::clone(&snapshot),
    });
    if kind.is_some() && state.replica.as_ref() != Some(place.endpoint()) {
        state.replica = Some(place.endpoint().clone());
    }
    if schemas.is_empty() {
        state.place = Some(Rc::clone(&place));
    }
    Resolution::Ready(place)
}

type Found<'a> = (&'a ReplicaSetRoute, Option<&'a str>);

fn find_replica_set<'a>(
    snapshot: &'a RoutingSnapshot,
    database: Option<&'a Database>,
    schemas: &[String],
) -> Result<Found<'a>, RouterError> {
    let own = match database {
        Some(Database::Keyspace { name, .. }) => {
            let keyspace = snapshot
                .keyspace(name)
                .ok_or_else(|| RouterError::UnknownDatabase(name.clone()))?;
            Some(only_shard(keyspace)?)
        }
        _ => None,
    };
    let mut named: Option<(&ShardRoute, &str)> = None;
    for schema in schemas {
        let Some(keyspace) = snapshot.keyspace(schema) else {
            continue;
        };
        let shard = only_shard(keyspace)?;
        match named {
            Some((first, first_name)) if first.replica_set != shard.replica_set => {
                return Err(RouterError::SeveralReplicaSets {
                    first: first_name.to_owned(),
                    second: keyspace.name.to_string(),
                });
            }
            _ => named = Some((shard, keyspace.name.as_str())),
        }
    }
    let own_schema = match database {
        Some(Database::System(name)) => Some(name.as_str()),
        _ => own.map(|shard| shard.schema.as_str()),
    };
    let (set_name, schema) = match (named, own) {
        (Some((shard, _)), Some(own)) if shard.replica_set != own.replica_set => {
            (Some(&shard.replica_set), None)
        }
        (Some((shard, _)), None) => (Some(&shard.replica_set), own_schema),
        (_, Some(own)) => (Some(&own.replica_set), own_schema),
        (None, None) => (None, own_schema),
    };
    let set = match set_name {
        Some(name) => snapshot.replica_set(name),
        None => any_replica_set(snapshot),
    };
    set.map(|set| (set, schema)).ok_or(RouterError::NoKeyspace)
}

/// Statements that name no table may go to any primary; one that is open is better than one that moves.
fn any_replica_set(snapshot: &RoutingSnapshot) -> Option<&ReplicaSetRoute> {
    snapshot
        .replica_sets
        .iter()
        .find(|set| primary(set).is_some())
        .or(snapshot.replica_sets.first())
        .map(|set| &**set)
}

fn only_shard(keyspace: &KeyspaceRoute) -> Result<&ShardRoute, RouterError> {
    match keyspace.shards.as_slice() {
        [shard] => Ok(shard),
        _ => Err(RouterError::Sharded(keyspace.name.to_string())),
    }
}

fn primary(set: &ReplicaSetRoute) -> Option<Server> {
    let (_, endpoint) = set
        .primary
        .as_ref()
        .filter(|_| set.state != ServingState::Moving)?;
    Some(Server {
        endpoint: endpoint.clone(),
        purpose: Purpose::Primary(set.epoch),
    })
}

fn replica(
    worker: &Worker,
    state: &State,
    set: &ReplicaSetRoute,
    kind: TabletKind,
) -> Option<Server> {
    let lag_max = state.variables.replica_lag_max_ms(&worker.reads);
    let fit: Vec<Candidate<'_>> = set
        .replicas
        .iter()
        .filter(|replica| replica.kind == kind && replica.healthy)
        .filter(|replica| lag_max.is_none_or(|max| replica.lag_ms.is_some_and(|lag| lag <= max)))
        .filter(|replica| !worker.is_shunned(&replica.mysql))
        .map(|replica| Candidate {
            endpoint: &replica.mysql,
            is_near: worker.cell.as_ref() == Some(replica.alias.cell()),
            load: worker.pool.load(&replica.mysql),
        })
        .collect();
    let endpoint = choose(&fit, state.replica.as_ref(), state.id)?.clone();
    Some(Server {
        endpoint,
        purpose: Purpose::Read,
    })
}
