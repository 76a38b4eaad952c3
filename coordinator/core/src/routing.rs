//! Records and health -> what routers need, and when it is worth telling them.

use vt_proto::{
    epoch::Revision,
    report::MysqldState,
    routing::{
        KeyspaceRoute, ReplicaRoute, ReplicaSetRoute, RoutingSnapshot, RoutingVersion,
        ServingState, ShardRoute,
    },
    topology::{Phase, ReplicaSet, Tablet},
};

use crate::{
    event::Now,
    health::{Health, RoutingChange, lag_step},
    members::Members,
    state::State,
};

/// Least time between two snapshots that differ in lag only.
pub const LAG_INTERVAL_MS: u64 = 200;
/// How often silence is looked for: a tablet that stopped reporting changes nothing by itself.
pub const SILENCE_LOOK_MS: u64 = 1_000;

/// What routers should know now, without a version of health.
pub fn snapshot(state: &State, members: &Members, health: &Health, now: Now) -> RoutingSnapshot {
    let keyspaces = state
        .keyspaces
        .keys()
        .map(|name| KeyspaceRoute {
            name: name.clone(),
            shards: state
                .shards_in(name)
                .map(|shard| ShardRoute {
                    range: shard.value.range.clone(),
                    schema: shard.value.schema_name(),
                    replica_set: shard.value.replica_set.clone(),
                })
                .collect(),
        })
        .collect();
    let replica_sets = state
        .replica_sets
        .values()
        .map(|set| replica_set(state, members, health, now, &set.value))
        .collect();
    RoutingSnapshot {
        cluster_id: state.cluster_id.clone(),
        version: RoutingVersion {
            revision: Revision(state.applied),
            health: 0,
        },
        keyspaces,
        replica_sets,
    }
}

fn replica_set(
    state: &State,
    members: &Members,
    health: &Health,
    now: Now,
    record: &ReplicaSet,
) -> ReplicaSetRoute {
    let tablet = |alias| state.tablets.get(alias).map(|tablet| &tablet.value);
    let primary = record.primary.as_ref().and_then(tablet);
    let replicas = members
        .of_set(&record.name)
        .filter(|alias| Some(*alias) != record.primary.as_ref())
        .filter_map(tablet)
        .map(|tablet| replica(health, now, tablet))
        .collect();
    ReplicaSetRoute {
        name: record.name.clone(),
        epoch: record.epoch,
        state: serving(health, record),
        primary: primary.map(|tablet| (tablet.alias.clone(), tablet.mysql.clone())),
        replicas,
    }
}

/// Serving in `Stable` only; and not while the guard says that the primary's mysqld is down, so that routers hold at once.
/// A primary that was not heard yet by this leader is taken to serve: losing coordinators stops nobody.
fn serving(health: &Health, record: &ReplicaSet) -> ServingState {
    let known_down = record
        .primary
        .as_ref()
        .and_then(|primary| health.get(primary))
        .is_some_and(|tablet| {
            matches!(
                tablet.report.mysqld,
                MysqldState::Exited { .. } | MysqldState::Held { .. }
            )
        });
    if record.phase == Phase::Stable && !known_down {
        ServingState::Serving
    } else {
        ServingState::Moving
    }
}

fn replica(health: &Health, now: Now, tablet: &Tablet) -> ReplicaRoute {
    let service = health.service(&tablet.alias, now);
    ReplicaRoute {
        alias: tablet.alias.clone(),
        kind: tablet.kind,
        mysql: tablet.mysql.clone(),
        healthy: service.is_some_and(|service| service.replicates),
        lag_ms: service.and_then(|service| service.lag_ms),
    }
}

/// Decides when a snapshot goes out, and numbers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    last: Option<RoutingSnapshot>,
    changed: Option<RoutingChange>,
    published_ms: u64,
    looked_ms: u64,
}

impl Publisher {
    /// What was published last.
    pub fn last(&self) -> Option<&RoutingSnapshot> {
        self.last.as_ref()
    }

    /// Notes that something changed since the last look.
    pub fn note(&mut self, change: RoutingChange) {
        self.changed = self.changed.max(Some(change));
    }

    /// The snapshot to publish now, if there is news enough.
    pub fn next(
        &mut self,
        state: &State,
        members: &Members,
        health: &Health,
        now: Now,
    ) -> Option<RoutingSnapshot> {
        let due =
            |since_ms: u64, interval_ms| now.monotonic_ms.saturating_sub(since_ms) >= interval_ms;
        let lag_due = due(self.published_ms, LAG_INTERVAL_MS);
        let look = match self.changed {
            Some(RoutingChange::State) => true,
            Some(RoutingChange::Lag) => lag_due,
            Some(RoutingChange::Nothing) | None => due(self.looked_ms, SILENCE_LOOK_MS),
        };
        if !look {
            return None;
        }
        self.changed = None;
        self.looked_ms = now.monotonic_ms;
        let mut new = snapshot(state, members, health, now);
        if let Some(last) = &self.last {
            if in_steps(last) == in_steps(&new) {
                return None;
            }
            if last.version.revision == new.version.revision {
                new.version.health = last.version.health + 1;
            }
        }
        self.published_ms = now.monotonic_ms;
        self.last = Some(new.clone());
        Some(new)
    }
}

/// The content alone: no version, and lags only as steps.
fn in_steps(snapshot: &RoutingSnapshot) -> RoutingSnapshot {
    let mut content = snapshot.clone();
    content.version = RoutingVersion::default();
    for replica in content
        .replica_sets
        .iter_mut()
        .flat_map(|set| set.replicas.iter_mut())
    {
        replica.lag_ms = lag_step(replica.lag_ms).map(|step| step as u64);
    }
    content
}
