//! Everything that the deciding core may ask the shell to do: a closed list.

use vt_proto::{desired::Desired, epoch::Revision, routing::RoutingUpdate};

use crate::{command::Command, refusal::Refusal};

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Propose to raft. Whether it took effect is known by [`Effect::Finished`], or never.
    Propose(Command),
    /// A command was applied or refused: whoever waits for this request id learns it.
    Finished {
        request_id: String,
        outcome: Result<Revision, Refusal>,
    },
    /// The newest desired state of one agent; replaces what was to be sent before.
    SendDesired(Box<Desired>),
    /// News for routers, which lead on from the news before.
    PublishRouting(RoutingUpdate),
}
