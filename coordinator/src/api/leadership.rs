//! Whether this member leads, for many who wait for that alone: the node's status changes with every tick, this does not.

use tokio::sync::watch;
use tonic::Status;

use super::{error, require_leader};
use crate::node::{Handle, NodeStatus};

/// What many streams hold; clones are cheap, and sleep until leadership changes.
#[derive(Clone)]
pub struct Leadership {
    status: watch::Receiver<NodeStatus>,
    leads: watch::Receiver<bool>,
}

impl Leadership {
    /// Follows a node until it is gone.
    pub fn of(node: &Handle) -> Self {
        let status = node.status();
        let (sender, leads) = watch::channel(status.borrow().is_leader);
        let mut followed = status.clone();
        tokio::spawn(async move {
            while followed.changed().await.is_ok() {
                let is_leader = followed.borrow_and_update().is_leader;
                sender.send_if_modified(|leads| std::mem::replace(leads, is_leader) != is_leader);
            }
        });
        Self { status, leads }
    }

    /// Waits until this member no longer leads.
    pub async fn lost(mut self) -> Status {
        match self.leads.wait_for(|leads| !leads).await {
            Ok(_) => require_leader(&self.status.borrow())
                .err()
                .unwrap_or_else(|| error::not_leader(None)),
            Err(_) => error::retry("this coordinator is stopping".to_owned()),
        }
    }
}
