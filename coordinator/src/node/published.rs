//! What the leader publishes for agents: desired states, the newest of each only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use vt_proto::{desired::Desired, ids::TabletAlias};

use super::changes::Changes;

type DesiredSender = watch::Sender<Option<Arc<Desired>>>;

/// One value per subject; subscribers see the newest and may miss those between.
#[derive(Default)]
pub(super) struct Published {
    desired: Mutex<BTreeMap<TabletAlias, DesiredSender>>,
    pub(super) changes: Changes,
}

impl Published {
    pub(super) fn desired(&self, alias: &TabletAlias) -> watch::Receiver<Option<Arc<Desired>>> {
        let mut all = self.lock();
        let sender = all.entry(alias.clone()).or_default();
        sender.subscribe()
    }

    pub(super) fn send_desired(&self, desired: Desired) {
        let mut all = self.lock();
        let sender = all.entry(desired.alias.clone()).or_default();
        sender.send_replace(Some(Arc::new(desired)));
    }

    /// Forgets what nobody watches and what was never set: aliases that were asked for and do not exist.
    pub(super) fn forget(&self, alias: &TabletAlias) {
        let mut all = self.lock();
        let unused = all
            .get(alias)
            .is_some_and(|sender| sender.receiver_count() == 0);
        if unused {
            all.remove(alias);
        }
    }

    /// This member leads no more: what it published is not to be handed to newcomers.
    pub(super) fn withdraw(&self) {
        let mut all = self.lock();
        all.retain(|_, sender| sender.receiver_count() > 0);
        for sender in all.values() {
            sender.send_replace(None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TabletAlias, DesiredSender>> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
