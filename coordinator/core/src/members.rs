//! Which tablets and shards belong to which replica set: an index over the state, so that deciding never walks everything.
//! It holds nothing of its own: it can be rebuilt from the state at any time.

use std::collections::{BTreeMap, BTreeSet};

use vt_proto::{
    ids::{KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::Shard,
};

use crate::{
    command::RecordKey,
    state::{State, Versioned},
};

type ShardKey = (KeyspaceName, KeyRange);

/// What belongs to every replica set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    tablets: Index<TabletAlias>,
    shards: Index<ShardKey>,
}

/// Things by their replica set, in their own order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Index<K> {
    by_set: BTreeMap<ReplicaSetName, BTreeSet<K>>,
    set_of: BTreeMap<K, ReplicaSetName>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            by_set: BTreeMap::new(),
            set_of: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Index<K> {
    fn of_set(&self, set: &ReplicaSetName) -> impl Iterator<Item = &K> {
        self.by_set.get(set).into_iter().flatten()
    }

    /// The key belongs to this replica set now, or to none.
    fn put(&mut self, key: &K, set: Option<&ReplicaSetName>) {
        if let Some(old) = self.set_of.remove(key)
            && let Some(keys) = self.by_set.get_mut(&old)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_set.remove(&old);
            }
        }
        if let Some(set) = set {
            let keys = self.by_set.entry(set.clone()).or_default();
            keys.insert(key.clone());
            self.set_of.insert(key.clone(), set.clone());
        }
    }
}

impl Members {
    /// The index of this state.
    pub fn of(state: &State) -> Self {
        let mut members = Self::default();
        for (alias, tablet) in &state.tablets {
            members.tablets.put(alias, Some(&tablet.value.replica_set));
        }
        for (key, shard) in &state.shards {
            members.shards.put(key, Some(&shard.value.replica_set));
        }
        members
    }

    /// The tablets of one replica set, in order of their aliases.
    pub fn of_set<'a>(&'a self, set: &ReplicaSetName) -> impl Iterator<Item = &'a TabletAlias> {
        self.tablets.of_set(set)
    }

    /// The shards that a replica set holds.
    pub fn shards_of<'a>(
        &'a self,
        state: &'a State,
        set: &ReplicaSetName,
    ) -> impl Iterator<Item = &'a Versioned<Shard>> {
        let keys = self.shards.of_set(set);
        keys.filter_map(|key| state.shards.get(key))
    }

    /// Follows one changed record; others than tablets and shards do not matter.
    pub fn refresh(&mut self, state: &State, key: &RecordKey) {
        match key {
            RecordKey::Tablet(alias) => {
                let tablet = state.tablets.get(alias);
                let set = tablet.map(|tablet| &tablet.value.replica_set);
                self.tablets.put(alias, set);
            }
            RecordKey::Shard(keyspace, range) => {
                let key = (keyspace.clone(), range.clone());
                let shard = state.shards.get(&key);
                self.shards
                    .put(&key, shard.map(|shard| &shard.value.replica_set));
            }
            _ => {}
        }
    }
}
