//! Records and health -> what routers need, and when it is worth telling them.
//!
//! Only what may have changed is looked at: what is published shares everything else with what was published before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vt_proto::{
    epoch::Revision,
    ids::{KeyspaceName, ReplicaSetName, UserName},
    report::MysqldState,
    routing::{
        KeyspaceRoute, ReplicaRoute, ReplicaSetRoute, RoutingDelta, RoutingSnapshot, RoutingUpdate,
        RoutingVersion, ServingState, ShardRoute,
    },
    topology::{Phase, ReplicaSet, Tablet},
};

use crate::{
    event::Now,
    health::{ANSWER_AGE_MS, Health, lag_step},
    members::Members,
    records::RecordKey,
    state::State,
};

/// Least time between two snapshots that differ only in what routers can wait for.
pub const LAG_INTERVAL_MS: u64 = 200;

/// What a snapshot is made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub state: &'a State,
    pub members: &'a Members,
    pub health: &'a Health,
    pub now: Now,
}

/// What routers should know now, made from nothing.
pub fn snapshot(sources: Sources<'_>) -> RoutingSnapshot {
    let state = sources.state;
    let keyspaces = state.keyspaces.keys();
    let replica_sets = state.replica_sets.values();
    RoutingSnapshot {
        cluster_id: state.cluster_id.clone(),
        version: RoutingVersion {
            revision: Revision(state.applied),
            health: 0,
        },
        keyspaces: keyspaces
            .map(|name| Arc::new(keyspace(state, name)))
            .collect(),
        replica_sets: replica_sets
            .map(|set| Arc::new(replica_set(sources, None, &set.value)))
            .collect(),
        users: state
            .users
            .values()
            .map(|user| Arc::new(user.value.clone()))
            .collect(),
    }
}

fn keyspace(state: &State, name: &KeyspaceName) -> KeyspaceRoute {
    KeyspaceRoute {
        name: name.clone(),
        shards: state
            .shards_in(name)
            .map(|shard| ShardRoute {
                range: shard.value.range.clone(),
                schema: shard.value.schema_name(),
                replica_set: shard.value.replica_set.clone(),
            })
            .collect(),
    }
}

/// `before` is what the leader before said; it holds for tablets that this one could not hear yet.
fn replica_set(
    sources: Sources<'_>,
    before: Option<&ReplicaSetRoute>,
    record: &ReplicaSet,
) -> ReplicaSetRoute {
    let tablet = |alias| sources.state.tablets.get(alias).map(|tablet| &tablet.value);
    let primary = record.primary.as_ref().and_then(tablet);
    let replicas = sources
        .members
        .of_set(&record.name)
        .filter(|alias| Some(*alias) != record.primary.as_ref())
        .filter_map(tablet)
        .map(|tablet| replica(sources, before, tablet))
        .collect();
    ReplicaSetRoute {
        name: record.name.clone(),
        epoch: record.epoch,
        state: serving(sources.health, record),
        primary: primary.map(|tablet| (tablet.alias.clone(), tablet.mysql.clone())),
        replicas,
    }
}

/// Serving in `Stable` only, slowed until a switchover holds writes; and not while the guard says that the primary's mysqld is down, so that routers hold at once.
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
    match &record.phase {
        Phase::Stable if !known_down => ServingState::Serving,
        Phase::Switching { holds: false, .. } if !known_down => ServingState::Slowed,
        _ => ServingState::Moving,
    }
}

fn replica(
    sources: Sources<'_>,
    before: Option<&ReplicaSetRoute>,
    tablet: &Tablet,
) -> ReplicaRoute {
    let health = sources.health;
    if health.get(&tablet.alias).is_none()
        && let Some(before) = before
            .and_then(|set| set.replicas.iter().find(|r| r.alias == tablet.alias))
            .filter(|before| before.mysql == tablet.mysql && before.kind == tablet.kind)
    {
        return before.clone();
    }
    let service = health.service(&tablet.alias);
    ReplicaRoute {
        alias: tablet.alias.clone(),
        kind: tablet.kind,
        mysql: tablet.mysql.clone(),
        healthy: service.is_some_and(|service| service.replicates),
        lag_ms: service.and_then(|service| service.lag_ms),
    }
}

/// How soon routers should hear of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// There is none, or it is within one step of lag.
    None,
    /// A replica became fit, or its lag moved to another step.
    Soon,
    Now,
}

fn urgency(old: Option<&ReplicaSetRoute>, new: Option<&ReplicaSetRoute>) -> Urgency {
    let (old, new) = match (old, new) {
        (None, None) => return Urgency::None,
        (Some(old), Some(new)) => (old, new),
        _ => return Urgency::Now,
    };
    let same = old.epoch == new.epoch
        && old.state == new.state
        && old.primary == new.primary
        && old.replicas.len() == new.replicas.len();
    if !same {
        return Urgency::Now;
    }
    let pairs = old.replicas.iter().zip(&new.replicas);
    let each = pairs.map(|(old, new)| {
        let same = old.alias == new.alias && old.kind == new.kind && old.mysql == new.mysql;
        if !same || (old.healthy && !new.healthy) {
            Urgency::Now
        } else if old.healthy != new.healthy || lag_step(old.lag_ms) != lag_step(new.lag_ms) {
            Urgency::Soon
        } else {
            Urgency::None
        }
    });
    each.max().unwrap_or(Urgency::None)
}

/// Decides when news go out, and numbers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// What routers know: published from here or, while another member leads, relayed from there.
    last: Option<Arc<RoutingSnapshot>>,
    /// Since when this member publishes.
    since_ms: Option<u64>,
    /// Everything is to be looked at, and to be published whatever is found.
    all: bool,
    /// Tablets that were not heard yet are shown as the leader before showed them.
    trusting: bool,
    sets: BTreeSet<ReplicaSetName>,
    /// These differ in what can wait.
    waiting: BTreeSet<ReplicaSetName>,
    keyspaces: BTreeSet<KeyspaceName>,
    users: BTreeSet<UserName>,
    published_ms: u64,
}

impl Publisher {
    /// What was published or relayed last.
    pub fn last(&self) -> Option<&Arc<RoutingSnapshot>> {
        self.last.as_ref()
    }

    /// What the leader published, while another member leads.
    pub fn relayed(&mut self, snapshot: Arc<RoutingSnapshot>) {
        let known = |last: &Arc<RoutingSnapshot>| snapshot.version <= last.version;
        if self.since_ms.is_none() && !self.last.as_ref().is_some_and(known) {
            self.last = Some(snapshot);
        }
    }

    /// Publishes from now on. The state has an entry of this leader's own term: no leader before has numbered so high.
    pub fn start(&mut self, now: Now) {
        *self = Self {
            last: self.last.take(),
            since_ms: Some(now.monotonic_ms),
            all: true,
            trusting: true,
            ..Self::default()
        };
    }

    /// Whether it publishes.
    pub fn is_started(&self) -> bool {
        self.since_ms.is_some()
    }

    /// Publishes no more; what was published last is where the next leader's news lead on from.
    pub fn stop(&mut self) {
        *self = Self {
            last: self.last.take(),
            ..Self::default()
        };
    }

    /// Something about this replica set may have changed.
    pub fn set_changed(&mut self, set: &ReplicaSetName) {
        if self.is_started() && !self.sets.contains(set) {
            self.sets.insert(set.clone());
        }
    }

    /// This record has changed. What follows for replica sets is told by [`Self::set_changed`].
    pub fn record_changed(&mut self, key: &RecordKey) {
        match key {
            _ if !self.is_started() => {}
            RecordKey::Keyspace(keyspace) | RecordKey::Shard(keyspace, _) => {
                self.keyspaces.insert(keyspace.clone());
            }
            RecordKey::User(user) => drop(self.users.insert(user.clone())),
            _ => {}
        }
    }

    /// What to publish now, if there is news enough.
    pub fn next(&mut self, sources: Sources<'_>) -> Option<RoutingUpdate> {
        let now_ms = sources.now.monotonic_ms;
        let since_ms = self.since_ms?;
        if self.all {
            return Some(self.first(sources));
        }
        if self.trusting && now_ms.saturating_sub(since_ms) > ANSWER_AGE_MS {
            // Who was not heard until now does not answer.
            self.trusting = false;
            self.sets.extend(sources.state.replica_sets.keys().cloned());
        }
        let waited_ms = now_ms.saturating_sub(self.published_ms);
        let may_go = waited_ms >= LAG_INTERVAL_MS;
        let none_due = self.waiting.is_empty() || !may_go;
        let none_changed =
            self.sets.is_empty() && self.keyspaces.is_empty() && self.users.is_empty();
        if none_changed && none_due {
            return None;
        }
        let last = self.last.clone().unwrap_or_default();
        let mut delta = RoutingDelta::default();
        self.find_keyspaces(sources, &last, &mut delta);
        self.find_users(sources, &last, &mut delta);
        for name in std::mem::take(&mut self.sets) {
            let urgency = self.find_set(sources, &last, &name, Urgency::Now, &mut delta);
            if urgency == Urgency::Soon {
                self.waiting.insert(name);
            }
        }
        if delta.is_empty() && !may_go {
            return None;
        }
        for name in std::mem::take(&mut self.waiting) {
            let listed = delta.replica_sets.iter().any(|set| set.name == name);
            if !listed {
                self.find_set(sources, &last, &name, Urgency::Soon, &mut delta);
            }
        }
        if delta.is_empty() {
            return None;
        }
        delta
            .replica_sets
            .sort_by(|one, other| one.name.cmp(&other.name));
        Some(self.publish(sources, last, delta))
    }

    /// Puts a replica set into the delta if its difference is at least so urgent. Returns how urgent it is.
    fn find_set(
        &self,
        sources: Sources<'_>,
        last: &RoutingSnapshot,
        name: &ReplicaSetName,
        least: Urgency,
        delta: &mut RoutingDelta,
    ) -> Urgency {
        let old = last.replica_set(name);
        let trusted = old.filter(|_| self.trusting);
        let record = sources.state.replica_sets.get(name);
        let new = record.map(|record| replica_set(sources, trusted, &record.value));
        let urgency = urgency(old, new.as_ref());
        if urgency >= least && urgency > Urgency::None {
            match new {
                Some(route) => delta.replica_sets.push(Arc::new(route)),
                None => delta.removed_replica_sets.push(name.clone()),
            }
        }
        urgency
    }

    fn find_keyspaces(
        &mut self,
        sources: Sources<'_>,
        last: &RoutingSnapshot,
        delta: &mut RoutingDelta,
    ) {
        for name in std::mem::take(&mut self.keyspaces) {
            let old = last.keyspace(name.as_str());
            if sources.state.keyspaces.contains_key(&name) {
                let new = keyspace(sources.state, &name);
                if old != Some(&new) {
                    delta.keyspaces.push(Arc::new(new));
                }
            } else if old.is_some() {
                delta.removed_keyspaces.push(name);
            }
        }
    }

    fn find_users(
        &mut self,
        sources: Sources<'_>,
        last: &RoutingSnapshot,
        delta: &mut RoutingDelta,
    ) {
        for name in std::mem::take(&mut self.users) {
            let old = last.user(name.as_str());
            match sources.state.users.get(&name) {
                Some(new) if old.is_none_or(|old| **old != new.value) => {
                    delta.users.push(Arc::new(new.value.clone()));
                }
                None if old.is_some() => delta.removed_users.push(name),
                _ => {}
            }
        }
    }

    /// The first of a leader: it goes out also where nothing differs, for what the leader before published last may not have
    /// come here.
    fn first(&mut self, sources: Sources<'_>) -> RoutingUpdate {
        self.all = false;
        self.sets.clear();
        self.keyspaces.clear();
        let state = sources.state;
        let last = self.last.clone().unwrap_or_else(|| {
            Arc::new(RoutingSnapshot {
                cluster_id: state.cluster_id.clone(),
                ..RoutingSnapshot::default()
            })
        });
        let mut delta = RoutingDelta::default();
        self.keyspaces.extend(state.keyspaces.keys().cloned());
        self.keyspaces
            .extend(last.keyspaces.iter().map(|route| route.name.clone()));
        self.find_keyspaces(sources, &last, &mut delta);
        self.users.clear();
        self.users.extend(state.users.keys().cloned());
        self.users
            .extend(last.users.iter().map(|user| user.name.clone()));
        self.find_users(sources, &last, &mut delta);
        let known = last.replica_sets.iter().map(|route| (&route.name, ()));
        let names: BTreeMap<_, _> = state
            .replica_sets
            .keys()
            .map(|name| (name, ()))
            .chain(known)
            .collect();
        for name in names.keys() {
            self.find_set(sources, &last, name, Urgency::Soon, &mut delta);
        }
        self.publish(sources, last, delta)
    }

    fn publish(
        &mut self,
        sources: Sources<'_>,
        last: Arc<RoutingSnapshot>,
        mut delta: RoutingDelta,
    ) -> RoutingUpdate {
        delta.cluster_id.clone_from(&last.cluster_id);
        delta.from = last.version;
        delta.to = next_version(last.version, Revision(sources.state.applied));
        let snapshot = Arc::new(applied(&last, &delta));
        let is_first = self.last.is_none();
        self.published_ms = sources.now.monotonic_ms;
        self.last = Some(snapshot.clone());
        RoutingUpdate {
            snapshot,
            delta: (!is_first).then(|| Arc::new(delta)),
        }
    }
}

/// # Panics
/// Never: the delta was made from this snapshot.
fn applied(last: &RoutingSnapshot, delta: &RoutingDelta) -> RoutingSnapshot {
    match last.apply(delta) {
        Ok(snapshot) => snapshot,
        Err(error) => panic!("routing news do not lead on from what was published: {error}"),
    }
}

fn next_version(last: RoutingVersion, applied: Revision) -> RoutingVersion {
    if applied > last.revision {
        return RoutingVersion {
            revision: applied,
            health: 0,
        };
    }
    RoutingVersion {
        revision: last.revision,
        health: last.health + 1,
    }
}
