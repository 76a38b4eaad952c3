//! What changed between two snapshots. Never applied to another version than the one that it was made from.

use std::{collections::BTreeMap, sync::Arc};

use super::{KeyspaceRoute, ReplicaSetRoute, RoutingSnapshot, RoutingVersion};
use crate::{
    ids::{KeyspaceName, ReplicaSetName, UserName},
    user::User,
};

/// The changes that lead from one version to a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingDelta {
    pub cluster_id: String,
    pub from: RoutingVersion,
    pub to: RoutingVersion,
    /// New and changed ones, in order of their names.
    pub keyspaces: Vec<Arc<KeyspaceRoute>>,
    pub removed_keyspaces: Vec<KeyspaceName>,
    /// New and changed ones, in order of their names.
    pub replica_sets: Vec<Arc<ReplicaSetRoute>>,
    pub removed_replica_sets: Vec<ReplicaSetName>,
    /// New and changed ones, in order of their names.
    pub users: Vec<Arc<User>>,
    pub removed_users: Vec<UserName>,
}

/// News for routers: the whole state, and what leads to it from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingUpdate {
    pub snapshot: Arc<RoutingSnapshot>,
    /// None where there was nothing before.
    pub delta: Option<Arc<RoutingDelta>>,
}

/// Why a delta cannot be taken over; then the whole state is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    #[error("the changes are of cluster {theirs}, the snapshot is of {ours}")]
    ForeignCluster { ours: String, theirs: String },
    #[error("the changes lead on from {from:?}, the snapshot is at {ours:?}")]
    OtherVersion {
        ours: RoutingVersion,
        from: RoutingVersion,
    },
}

impl RoutingDelta {
    /// What leads from one snapshot to another of the same cluster. What both share is not looked into.
    pub fn between(from: &RoutingSnapshot, to: &RoutingSnapshot) -> Self {
        let (keyspaces, removed_keyspaces) =
            differences(&from.keyspaces, &to.keyspaces, |route| &route.name);
        let (replica_sets, removed_replica_sets) =
            differences(&from.replica_sets, &to.replica_sets, |route| &route.name);
        let (users, removed_users) = differences(&from.users, &to.users, |user| &user.name);
        Self {
            cluster_id: to.cluster_id.clone(),
            from: from.version,
            to: to.version,
            keyspaces,
            removed_keyspaces,
            replica_sets,
            removed_replica_sets,
            users,
            removed_users,
        }
    }

    /// What leads from the start of the first to the end of the last of deltas that lead on from each other; None of none.
    pub fn merged<'a>(deltas: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut deltas = deltas.into_iter();
        let first = deltas.next()?;
        let (mut keyspaces, mut replica_sets) = (BTreeMap::new(), BTreeMap::new());
        let mut users = BTreeMap::new();
        let mut to = first.to;
        for delta in std::iter::once(first).chain(deltas) {
            to = delta.to;
            let (changed, removed) = (&delta.keyspaces, &delta.removed_keyspaces);
            keyspaces.extend(removed.iter().map(|name| (name, None)));
            keyspaces.extend(changed.iter().map(|route| (&route.name, Some(route))));
            let (changed, removed) = (&delta.replica_sets, &delta.removed_replica_sets);
            replica_sets.extend(removed.iter().map(|name| (name, None)));
            replica_sets.extend(changed.iter().map(|route| (&route.name, Some(route))));
            users.extend(delta.removed_users.iter().map(|name| (name, None)));
            users.extend(delta.users.iter().map(|user| (&user.name, Some(user))));
        }
        let (keyspaces, removed_keyspaces) = parted(keyspaces);
        let (replica_sets, removed_replica_sets) = parted(replica_sets);
        let (users, removed_users) = parted(users);
        Some(Self {
            cluster_id: first.cluster_id.clone(),
            from: first.from,
            to,
            keyspaces,
            removed_keyspaces,
            replica_sets,
            removed_replica_sets,
            users,
            removed_users,
        })
    }

    /// Whether nothing but the version differs.
    pub fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
            && self.removed_keyspaces.is_empty()
            && self.replica_sets.is_empty()
            && self.removed_replica_sets.is_empty()
            && self.users.is_empty()
            && self.removed_users.is_empty()
    }
}

impl RoutingSnapshot {
    /// The snapshot that a delta leads to.
    pub fn apply(&self, delta: &RoutingDelta) -> Result<Self, DeltaError> {
        if self.cluster_id != delta.cluster_id {
            return Err(DeltaError::ForeignCluster {
                ours: self.cluster_id.clone(),
                theirs: delta.cluster_id.clone(),
            });
        }
        if self.version != delta.from {
            return Err(DeltaError::OtherVersion {
                ours: self.version,
                from: delta.from,
            });
        }
        Ok(Self {
            cluster_id: self.cluster_id.clone(),
            version: delta.to,
            keyspaces: replaced(
                &self.keyspaces,
                &delta.keyspaces,
                &delta.removed_keyspaces,
                |route| &route.name,
            ),
            replica_sets: replaced(
                &self.replica_sets,
                &delta.replica_sets,
                &delta.removed_replica_sets,
                |route| &route.name,
            ),
            users: replaced(&self.users, &delta.users, &delta.removed_users, |user| {
                &user.name
            }),
        })
    }
}

/// Values that are there, and the names of those that are not.
fn parted<T, N: Clone>(all: BTreeMap<&N, Option<&Arc<T>>>) -> (Vec<Arc<T>>, Vec<N>) {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    for (name, route) in all {
        match route {
            Some(route) => changed.push(route.clone()),
            None => removed.push(name.clone()),
        }
    }
    (changed, removed)
}

/// New and changed values, and the names of those that are gone.
fn differences<T: Eq, N: Ord + Clone>(
    from: &[Arc<T>],
    to: &[Arc<T>],
    name: impl Fn(&T) -> &N,
) -> (Vec<Arc<T>>, Vec<N>) {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let mut old = from.iter().peekable();
    for new in to {
        while let Some(gone) = old.next_if(|old| name(old) < name(new)) {
            removed.push(name(gone).clone());
        }
        match old.next_if(|old| name(old) == name(new)) {
            Some(same) if Arc::ptr_eq(same, new) || same == new => {}
            _ => changed.push(new.clone()),
        }
    }
    removed.extend(old.map(|gone| name(gone).clone()));
    (changed, removed)
}

/// The old values with the changed ones in their places and without the removed ones.
fn replaced<T, N: Ord>(
    old: &[Arc<T>],
    changed: &[Arc<T>],
    removed: &[N],
    name: impl Fn(&T) -> &N,
) -> Vec<Arc<T>> {
    let position = |wanted: &N| old.binary_search_by(|route| name(route).cmp(wanted));
    let known = changed.iter().all(|route| position(name(route)).is_ok());
    if known && removed.is_empty() {
        // By far the most deltas: the list is the same but for a few of its values.
        let mut all = old.to_vec();
        for route in changed {
            if let Ok(index) = position(name(route)) {
                all[index] = route.clone();
            }
        }
        return all;
    }
    let mut all: BTreeMap<&N, &Arc<T>> = old.iter().map(|route| (name(route), route)).collect();
    for gone in removed {
        all.remove(gone);
    }
    all.extend(changed.iter().map(|route| (name(route), route)));
    all.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        epoch::{Epoch, Revision},
        routing::ServingState,
        user::PasswordHashes,
    };

    fn snapshot(revision: u64, sets: &BTreeMap<u8, u64>) -> RoutingSnapshot {
        let set = |(number, epoch): (&u8, &u64)| {
            Arc::new(ReplicaSetRoute {
                name: format!("rs-{number}").parse().unwrap(),
                epoch: Epoch(*epoch),
                state: ServingState::Serving,
                primary: None,
                replicas: Vec::new(),
            })
        };
        let keyspace = |(number, _): (&u8, &u64)| {
            Arc::new(KeyspaceRoute {
                name: format!("k{number}").parse().unwrap(),
                shards: Vec::new(),
            })
        };
        let mut replica_sets: Vec<_> = sets.iter().map(set).collect();
        replica_sets.sort_by(|one, other| one.name.cmp(&other.name));
        let mut keyspaces: Vec<_> = sets
            .iter()
            .filter(|(n, _)| *n % 3 == 0)
            .map(keyspace)
            .collect();
        keyspaces.sort_by(|one, other| one.name.cmp(&other.name));
        let users = sets.iter().filter(|(n, _)| *n % 5 < 2);
        let user = |(number, limit): (&u8, &u64)| {
            Arc::new(User {
                name: format!("u{number:02}").parse().unwrap(),
                password: PasswordHashes::HIDDEN,
                grants: BTreeMap::new(),
                connections_max: u32::try_from(*limit).ok(),
                statements_per_second_max: None,
            })
        };
        RoutingSnapshot {
            cluster_id: "c".to_owned(),
            version: RoutingVersion {
                revision: Revision(revision),
                health: 0,
            },
            users: users.map(user).collect(),
            keyspaces,
            replica_sets,
        }
    }

    proptest! {
        #[test]
        fn applying_what_is_between_leads_there(
            states in proptest::collection::vec(
                proptest::collection::btree_map(0_u8..30, 0_u64..3, 0..20), 2..8)
        ) {
            let snapshots: Vec<_> = (1..).zip(&states).map(|(n, sets)| snapshot(n, sets)).collect();
            for (start, first) in snapshots.iter().enumerate() {
                let mut state = first.clone();
                let mut deltas = Vec::new();
                for next in &snapshots[start + 1..] {
                    let delta = RoutingDelta::between(&state, next);
                    prop_assert_eq!(delta.is_empty(), RoutingSnapshot { version: next.version, ..state.clone() } == *next);
                    state = state.apply(&delta).unwrap();
                    prop_assert_eq!(&state, next);
                    deltas.push(delta);
                    let merged = RoutingDelta::merged(&deltas).unwrap();
                    prop_assert_eq!(&first.apply(&merged).unwrap(), next);
                    for set in &state.replica_sets {
                        prop_assert_eq!(state.replica_set(&set.name), Some(&**set));
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_right_version_of_the_right_cluster_is_led_on() {
        let one = snapshot(1, &BTreeMap::from([(1, 1)]));
        let two = snapshot(2, &BTreeMap::from([(1, 2)]));
        let delta = RoutingDelta::between(&one, &two);
        assert_eq!(one.apply(&delta).unwrap(), two);
        assert_eq!(
            two.apply(&delta),
            Err(DeltaError::OtherVersion {
                ours: two.version,
                from: one.version,
            })
        );
        let foreign = RoutingSnapshot {
            cluster_id: "d".to_owned(),
            ..one
        };
        assert!(matches!(
            foreign.apply(&delta),
            Err(DeltaError::ForeignCluster { .. })
        ));
    }
}
