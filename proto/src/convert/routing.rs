//! Routing snapshots between their domain form and the wire; agents also keep the wire form on disk.

use std::sync::Arc;

use prost::Message;

use super::{ConvertError, list, parse, required};
use crate::{
    epoch::{Epoch, Revision},
    routing::{
        DeltaError, KeyspaceRoute, ReplicaRoute, ReplicaSetRoute, RoutingDelta, RoutingSnapshot,
        RoutingUpdate, RoutingVersion, ServingState, ShardRoute,
    },
    topology::Endpoint,
    user::User,
    wire::{self, routing_update::Update},
};

/// Why routing news cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error("the message cannot be read: {0}")]
    Unreadable(String),
    #[error(transparent)]
    NotValid(#[from] ConvertError),
    #[error("changes came before the whole state")]
    NothingKnown,
    #[error(transparent)]
    LeadsOnFromElsewhere(#[from] DeltaError),
}

/// What a message of news says, for somebody who knows this much.
pub fn read_update(
    message: wire::RoutingUpdate,
    known: Option<&RoutingSnapshot>,
) -> Result<RoutingUpdate, UpdateError> {
    let unreadable = |error: prost::DecodeError| UpdateError::Unreadable(error.to_string());
    match message.update {
        Some(Update::Full(body)) => {
            let message = wire::RoutingSnapshot::decode(body).map_err(unreadable)?;
            Ok(RoutingUpdate {
                snapshot: Arc::new(message.try_into()?),
                delta: None,
            })
        }
        Some(Update::Delta(body)) => {
            let message = wire::RoutingDelta::decode(body).map_err(unreadable)?;
            let delta = RoutingDelta::try_from(message)?;
            let known = known.ok_or(UpdateError::NothingKnown)?;
            Ok(RoutingUpdate {
                snapshot: Arc::new(known.apply(&delta)?),
                delta: Some(Arc::new(delta)),
            })
        }
        None => Err(ConvertError::missing("update").into()),
    }
}

impl From<&RoutingSnapshot> for wire::RoutingSnapshot {
    fn from(snapshot: &RoutingSnapshot) -> Self {
        Self {
            cluster_id: snapshot.cluster_id.clone(),
            revision: snapshot.version.revision.0,
            health: snapshot.version.health,
            keyspaces: messages(&snapshot.keyspaces),
            replica_sets: messages(&snapshot.replica_sets),
            users: messages(&snapshot.users),
        }
    }
}

fn messages<'a, T, W: From<&'a T>>(routes: &'a [Arc<T>]) -> Vec<W> {
    routes.iter().map(|route| W::from(route)).collect()
}

/// Routes are looked up by halving, so they must come in order.
fn routes<W, T, N>(
    field: &str,
    messages: Vec<W>,
    name: impl Fn(&T) -> &N,
) -> Result<Vec<Arc<T>>, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
    N: Ord,
{
    let routes: Vec<T> = list(field, messages)?;
    if !routes.is_sorted_by(|one, next| name(one) < name(next)) {
        return Err(ConvertError::new(
            field,
            "they are not in order of their names",
        ));
    }
    Ok(routes.into_iter().map(Arc::new).collect())
}

fn names<N>(field: &str, names: &[String]) -> Result<Vec<N>, ConvertError>
where
    N: std::str::FromStr<Err = crate::ids::NameError>,
{
    names.iter().map(|name| parse(field, name)).collect()
}

impl From<RoutingVersion> for wire::RoutingVersion {
    fn from(version: RoutingVersion) -> Self {
        Self {
            revision: version.revision.0,
            health: version.health,
        }
    }
}

impl From<wire::RoutingVersion> for RoutingVersion {
    fn from(version: wire::RoutingVersion) -> Self {
        Self {
            revision: Revision(version.revision),
            health: version.health,
        }
    }
}

impl From<&RoutingDelta> for wire::RoutingDelta {
    fn from(delta: &RoutingDelta) -> Self {
        Self {
            cluster_id: delta.cluster_id.clone(),
            from: Some(delta.from.into()),
            to: Some(delta.to.into()),
            keyspaces: messages(&delta.keyspaces),
            removed_keyspaces: texts(&delta.removed_keyspaces),
            replica_sets: messages(&delta.replica_sets),
            removed_replica_sets: texts(&delta.removed_replica_sets),
            users: messages(&delta.users),
            removed_users: texts(&delta.removed_users),
        }
    }
}

fn texts<N: ToString>(names: &[N]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl TryFrom<wire::RoutingDelta> for RoutingDelta {
    type Error = ConvertError;

    fn try_from(delta: wire::RoutingDelta) -> Result<Self, ConvertError> {
        let (from, to) = match (delta.from, delta.to) {
            (Some(from), Some(to)) => (from.into(), to.into()),
            (None, _) => return Err(ConvertError::missing("from")),
            (_, None) => return Err(ConvertError::missing("to")),
        };
        Ok(Self {
            cluster_id: delta.cluster_id,
            from,
            to,
            keyspaces: routes("keyspaces", delta.keyspaces, |route: &KeyspaceRoute| {
                &route.name
            })?,
            removed_keyspaces: names("removed_keyspaces", &delta.removed_keyspaces)?,
            replica_sets: routes(
                "replica_sets",
                delta.replica_sets,
                |route: &ReplicaSetRoute| &route.name,
            )?,
            removed_replica_sets: names("removed_replica_sets", &delta.removed_replica_sets)?,
            users: routes("users", delta.users, |user: &User| &user.name)?,
            removed_users: names("removed_users", &delta.removed_users)?,
        })
    }
}

impl TryFrom<wire::RoutingSnapshot> for RoutingSnapshot {
    type Error = ConvertError;

    fn try_from(snapshot: wire::RoutingSnapshot) -> Result<Self, ConvertError> {
        Ok(Self {
            cluster_id: snapshot.cluster_id,
            version: RoutingVersion {
                revision: Revision(snapshot.revision),
                health: snapshot.health,
            },
            keyspaces: routes("keyspaces", snapshot.keyspaces, |route: &KeyspaceRoute| {
                &route.name
            })?,
            replica_sets: routes(
                "replica_sets",
                snapshot.replica_sets,
                |route: &ReplicaSetRoute| &route.name,
            )?,
            users: routes("users", snapshot.users, |user: &User| &user.name)?,
        })
    }
}

impl From<&KeyspaceRoute> for wire::KeyspaceRoute {
    fn from(keyspace: &KeyspaceRoute) -> Self {
        Self {
            name: keyspace.name.to_string(),
            shards: keyspace.shards.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::KeyspaceRoute> for KeyspaceRoute {
    type Error = ConvertError;

    fn try_from(keyspace: wire::KeyspaceRoute) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse("name", &keyspace.name)?,
            shards: list("shards", keyspace.shards)?,
        })
    }
}

impl From<&ShardRoute> for wire::ShardRoute {
    fn from(shard: &ShardRoute) -> Self {
        Self {
            range: shard.range.to_string(),
            schema: shard.schema.clone(),
            replica_set: shard.replica_set.to_string(),
        }
    }
}

impl TryFrom<wire::ShardRoute> for ShardRoute {
    type Error = ConvertError;

    fn try_from(shard: wire::ShardRoute) -> Result<Self, ConvertError> {
        if shard.schema.is_empty() {
            return Err(ConvertError::missing("schema"));
        }
        Ok(Self {
            range: parse("range", &shard.range)?,
            schema: shard.schema,
            replica_set: parse("replica_set", &shard.replica_set)?,
        })
    }
}

impl From<&ReplicaSetRoute> for wire::ReplicaSetRoute {
    fn from(set: &ReplicaSetRoute) -> Self {
        Self {
            name: set.name.to_string(),
            epoch: set.epoch.0,
            state: wire::ServingState::from(set.state).into(),
            primary: set
                .primary
                .as_ref()
                .map(|(alias, mysql)| wire::PrimaryRoute {
                    alias: alias.to_string(),
                    mysql: Some(mysql.clone().into()),
                }),
            replicas: set.replicas.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::ReplicaSetRoute> for ReplicaSetRoute {
    type Error = ConvertError;

    fn try_from(set: wire::ReplicaSetRoute) -> Result<Self, ConvertError> {
        let state = set.state();
        let primary = set.primary.map(|primary| {
            let mysql: Endpoint = required("primary.mysql", primary.mysql)?;
            Ok((parse("primary.alias", &primary.alias)?, mysql))
        });
        Ok(Self {
            name: parse("name", &set.name)?,
            epoch: Epoch(set.epoch),
            state: state.try_into()?,
            primary: primary.transpose()?,
            replicas: list("replicas", set.replicas)?,
        })
    }
}

impl From<ServingState> for wire::ServingState {
    fn from(state: ServingState) -> Self {
        match state {
            ServingState::Serving => Self::Serving,
            ServingState::Moving => Self::Moving,
            ServingState::Slowed => Self::Slowed,
        }
    }
}

impl TryFrom<wire::ServingState> for ServingState {
    type Error = ConvertError;

    fn try_from(state: wire::ServingState) -> Result<Self, ConvertError> {
        match state {
            wire::ServingState::Serving => Ok(Self::Serving),
            wire::ServingState::Moving => Ok(Self::Moving),
            wire::ServingState::Slowed => Ok(Self::Slowed),
            wire::ServingState::Unspecified => Err(ConvertError::missing("state")),
        }
    }
}

impl From<&ReplicaRoute> for wire::ReplicaRoute {
    fn from(replica: &ReplicaRoute) -> Self {
        Self {
            alias: replica.alias.to_string(),
            kind: wire::TabletKind::from(replica.kind).into(),
            mysql: Some(replica.mysql.clone().into()),
            healthy: replica.healthy,
            lag_ms: replica.lag_ms,
        }
    }
}

impl TryFrom<wire::ReplicaRoute> for ReplicaRoute {
    type Error = ConvertError;

    fn try_from(replica: wire::ReplicaRoute) -> Result<Self, ConvertError> {
        Ok(Self {
            alias: parse("alias", &replica.alias)?,
            kind: replica.kind().try_into()?,
            mysql: required("mysql", replica.mysql)?,
            healthy: replica.healthy,
            lag_ms: replica.lag_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{topology::TabletKind, user::PasswordHashes};

    fn snapshot() -> RoutingSnapshot {
        let mysql = |port| Endpoint {
            host: "db1".to_owned(),
            port,
        };
        let replica = |alias: &str, kind, lag_ms: Option<u64>| ReplicaRoute {
            alias: alias.parse().unwrap(),
            kind,
            mysql: mysql(3307),
            healthy: lag_ms.is_some(),
            lag_ms,
        };
        let set = |name: &str, state, primary| {
            Arc::new(ReplicaSetRoute {
                name: name.parse().unwrap(),
                epoch: Epoch(7),
                state,
                primary,
                replicas: vec![
                    replica("zone1-2", TabletKind::Replica, Some(3)),
                    replica("zone2-3", TabletKind::Rdonly, None),
                ],
            })
        };
        let shard = |range: &str, schema: &str| ShardRoute {
            range: range.parse().unwrap(),
            schema: schema.to_owned(),
            replica_set: "rs-1".parse().unwrap(),
        };
        RoutingSnapshot {
            cluster_id: "demo".to_owned(),
            version: RoutingVersion {
                revision: Revision(9),
                health: 4,
            },
            keyspaces: vec![Arc::new(KeyspaceRoute {
                name: "customer".parse().unwrap(),
                shards: vec![shard("-80", "customer$_80"), shard("80-", "customer$80_")],
            })],
            users: vec![Arc::new(User {
                name: "app".parse().unwrap(),
                password: PasswordHashes::HIDDEN,
                grants: [("*".parse().unwrap(), "read".parse().unwrap())].into(),
                connections_max: None,
                statements_per_second_max: None,
            })],
            replica_sets: vec![
                set(
                    "rs-1",
                    ServingState::Serving,
                    Some(("zone1-1".parse().unwrap(), mysql(3306))),
                ),
                set("rs-2", ServingState::Moving, None),
            ],
        }
    }

    #[test]
    fn snapshots_survive_the_wire() {
        for given in [snapshot(), RoutingSnapshot::default()] {
            let wire = wire::RoutingSnapshot::from(&given);
            assert_eq!(RoutingSnapshot::try_from(wire).unwrap(), given);
        }
    }

    #[test]
    fn deltas_survive_the_wire() {
        let (old, new) = (RoutingSnapshot::default(), snapshot());
        for (from, to) in [(&old, &new), (&new, &old)] {
            let given = RoutingDelta::between(from, to);
            let wire = wire::RoutingDelta::from(&given);
            assert_eq!(RoutingDelta::try_from(wire).unwrap(), given);
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        type Break = fn(&mut wire::RoutingSnapshot);
        let cases: [(&str, Break); 8] = [
            ("users[0].name", |s| s.users[0].name.clear()),
            ("replica_sets", |s| s.replica_sets.swap(0, 1)),
            ("keyspaces[0].name", |s| s.keyspaces[0].name.push('!')),
            ("keyspaces[0].shards[1].range", |s| {
                s.keyspaces[0].shards[1].range = "x".to_owned();
            }),
            ("keyspaces[0].shards[0].schema", |s| {
                s.keyspaces[0].shards[0].schema.clear();
            }),
            ("replica_sets[1].state", |s| s.replica_sets[1].state = 0),
            ("replica_sets[0].primary.mysql", |s| {
                s.replica_sets[0].primary.as_mut().unwrap().mysql = None;
            }),
            ("replica_sets[0].replicas[1].alias", |s| {
                s.replica_sets[0].replicas[1].alias = "zone1".to_owned();
            }),
        ];
        for (field, spoil) in cases {
            let mut wire = wire::RoutingSnapshot::from(&snapshot());
            spoil(&mut wire);
            assert_eq!(RoutingSnapshot::try_from(wire).unwrap_err().field, field);
        }
    }
}
