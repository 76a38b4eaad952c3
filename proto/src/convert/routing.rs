//! Routing snapshots between their domain form and the wire; agents also keep the wire form on disk.

use super::{ConvertError, list, parse, required};
use crate::{
    epoch::{Epoch, Revision},
    routing::{
        KeyspaceRoute, ReplicaRoute, ReplicaSetRoute, RoutingSnapshot, RoutingVersion,
        ServingState, ShardRoute,
    },
    topology::Endpoint,
    wire,
};

impl From<RoutingSnapshot> for wire::RoutingSnapshot {
    fn from(snapshot: RoutingSnapshot) -> Self {
        Self {
            cluster_id: snapshot.cluster_id,
            revision: snapshot.version.revision.0,
            health: snapshot.version.health,
            keyspaces: snapshot.keyspaces.into_iter().map(Into::into).collect(),
            replica_sets: snapshot.replica_sets.into_iter().map(Into::into).collect(),
        }
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
            keyspaces: list("keyspaces", snapshot.keyspaces)?,
            replica_sets: list("replica_sets", snapshot.replica_sets)?,
        })
    }
}

impl From<KeyspaceRoute> for wire::KeyspaceRoute {
    fn from(keyspace: KeyspaceRoute) -> Self {
        Self {
            name: keyspace.name.to_string(),
            shards: keyspace.shards.into_iter().map(Into::into).collect(),
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

impl From<ShardRoute> for wire::ShardRoute {
    fn from(shard: ShardRoute) -> Self {
        Self {
            range: shard.range.to_string(),
            schema: shard.schema,
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

impl From<ReplicaSetRoute> for wire::ReplicaSetRoute {
    fn from(set: ReplicaSetRoute) -> Self {
        Self {
            name: set.name.to_string(),
            epoch: set.epoch.0,
            state: wire::ServingState::from(set.state).into(),
            primary: set.primary.map(|(alias, mysql)| wire::PrimaryRoute {
                alias: alias.to_string(),
                mysql: Some(mysql.into()),
            }),
            replicas: set.replicas.into_iter().map(Into::into).collect(),
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
        }
    }
}

impl TryFrom<wire::ServingState> for ServingState {
    type Error = ConvertError;

    fn try_from(state: wire::ServingState) -> Result<Self, ConvertError> {
        match state {
            wire::ServingState::Serving => Ok(Self::Serving),
            wire::ServingState::Moving => Ok(Self::Moving),
            wire::ServingState::Unspecified => Err(ConvertError::missing("state")),
        }
    }
}

impl From<ReplicaRoute> for wire::ReplicaRoute {
    fn from(replica: ReplicaRoute) -> Self {
        Self {
            alias: replica.alias.to_string(),
            kind: wire::TabletKind::from(replica.kind).into(),
            mysql: Some(replica.mysql.into()),
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
    use crate::topology::TabletKind;

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
        let set = |name: &str, state, primary| ReplicaSetRoute {
            name: name.parse().unwrap(),
            epoch: Epoch(7),
            state,
            primary,
            replicas: vec![
                replica("zone1-2", TabletKind::Replica, Some(3)),
                replica("zone2-3", TabletKind::Rdonly, None),
            ],
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
            keyspaces: vec![KeyspaceRoute {
                name: "customer".parse().unwrap(),
                shards: vec![shard("-80", "customer$_80"), shard("80-", "customer$80_")],
            }],
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
            let wire: wire::RoutingSnapshot = given.clone().into();
            assert_eq!(RoutingSnapshot::try_from(wire).unwrap(), given);
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        type Break = fn(&mut wire::RoutingSnapshot);
        let cases: [(&str, Break); 6] = [
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
            let mut wire: wire::RoutingSnapshot = snapshot().into();
            spoil(&mut wire);
            assert_eq!(RoutingSnapshot::try_from(wire).unwrap_err().field, field);
        }
    }
}
