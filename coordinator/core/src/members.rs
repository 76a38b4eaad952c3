//! Which tablets belong to which replica set: an index over the state, so that deciding never walks every tablet.
//! It holds nothing of its own: it can be rebuilt from the state at any time.

use std::collections::{BTreeMap, BTreeSet};

use vt_proto::ids::{ReplicaSetName, TabletAlias};

use crate::{command::RecordKey, state::State};

/// The tablets of every replica set, in order of their aliases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    by_set: BTreeMap<ReplicaSetName, BTreeSet<TabletAlias>>,
    set_of: BTreeMap<TabletAlias, ReplicaSetName>,
}

impl Members {
    /// The index of this state.
    pub fn of(state: &State) -> Self {
        let mut members = Self::default();
        for (alias, tablet) in &state.tablets {
            members.insert(alias.clone(), tablet.value.replica_set.clone());
        }
        members
    }

    /// The tablets of one replica set.
    pub fn of_set<'a>(&'a self, set: &ReplicaSetName) -> impl Iterator<Item = &'a TabletAlias> {
        self.by_set.get(set).into_iter().flatten()
    }

    /// Follows one changed record; others than tablets do not matter.
    pub fn refresh(&mut self, state: &State, key: &RecordKey) {
        let RecordKey::Tablet(alias) = key else {
            return;
        };
        if let Some(old) = self.set_of.remove(alias)
            && let Some(aliases) = self.by_set.get_mut(&old)
        {
            aliases.remove(alias);
            if aliases.is_empty() {
                self.by_set.remove(&old);
            }
        }
        if let Some(tablet) = state.tablets.get(alias) {
            self.insert(alias.clone(), tablet.value.replica_set.clone());
        }
    }

    fn insert(&mut self, alias: TabletAlias, set: ReplicaSetName) {
        self.by_set
            .entry(set.clone())
            .or_default()
            .insert(alias.clone());
        self.set_of.insert(alias, set);
    }
}
