//! What the leader publishes, the newest value only: desired states by agent, and the routing snapshot.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use vt_proto::{desired::Desired, ids::TabletAlias, routing::RoutingSnapshot};

use super::changes::Changes;

type DesiredSender = watch::Sender<Option<Arc<Desired>>>;

/// One value per subject; subscribers see the newest and may miss those between.
pub(super) struct Published {
    desired: Mutex<BTreeMap<TabletAlias, DesiredSender>>,
    routing: watch::Sender<Option<Arc<RoutingSnapshot>>>,
    pub(super) changes: Changes,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            desired: Mutex::default(),
            routing: watch::Sender::new(None),
            changes: Changes::default(),
        }
    }
}

impl Published {
    pub(super) fn desired(&self, alias: &TabletAlias) -> watch::Receiver<Option<Arc<Desired>>> {
        let mut all = self.lock();
        let sender = all.entry(alias.clone()).or_default();
        sender.subscribe()
    }

    pub(super) fn routing(&self) -> watch::Receiver<Option<Arc<RoutingSnapshot>>> {
        self.routing.subscribe()
    }

    pub(super) fn send_desired(&self, desired: Desired) {
        let mut all = self.lock();
        let sender = all.entry(desired.alias.clone()).or_default();
        sender.send_replace(Some(Arc::new(desired)));
    }

    pub(super) fn publish_routing(&self, snapshot: RoutingSnapshot) {
        self.routing.send_replace(Some(Arc::new(snapshot)));
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
        self.routing.send_replace(None);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TabletAlias, DesiredSender>> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
