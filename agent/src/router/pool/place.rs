//! A server that was chosen for a session's statements, and the snapshot that named it.
//!
//! It never chooses; the executor does.

use std::rc::Rc;
use std::sync::Arc;

use vt_proto::ids::ReplicaSetName;
use vt_proto::routing::RoutingSnapshot;
use vt_proto::topology::{Endpoint, TabletKind};

use super::inner::{Bucket, Purpose};

/// A server for a session's statements, and the pool's bucket for it.
#[derive(Debug)]
pub struct Place {
    /// The snapshot that said so.
    pub snapshot: Arc<RoutingSnapshot>,
    pub replica_set: ReplicaSetName,
    pub bucket: Rc<Bucket>,
    pub schema: Option<Rc<str>>,
    /// Another will take this primary's place soon: new writes come one by one.
    pub is_slowed: bool,
    /// As what it was chosen: none as the primary.
    pub kind: Option<TabletKind>,
}

impl Place {
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.bucket.key.endpoint
    }

    #[must_use]
    pub fn is_primary(&self) -> bool {
        matches!(self.bucket.key.purpose, Purpose::Primary(_))
    }

    /// Does `snapshot` say that somebody else has taken this server's place?
    #[must_use]
    pub fn is_replaced(&self, snapshot: &RoutingSnapshot) -> bool {
        let Some(set) = snapshot.replica_set(&self.replica_set) else {
            return true;
        };
        match self.bucket.key.purpose {
            Purpose::Primary(epoch) => set.epoch > epoch,
            Purpose::Read => !set
                .replicas
                .iter()
                .any(|replica| replica.healthy && replica.mysql == *self.endpoint()),
        }
    }
}
