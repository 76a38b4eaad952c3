//! What the members of a new group begin with: the same on each of them.

use vt_coordinator_core::{codec::STATE_VERSION, state::State};
use vt_proto::topology::{Coordinator, Standing};

use super::NodeConfig;

/// The log index of the state that a group begins with.
pub(super) const INDEX: u64 = 1;

/// The state of a new group: who is in it, and nothing else.
pub fn first_state(config: &NodeConfig) -> State {
    let members = config.members.iter().map(|(id, address)| Coordinator {
        id: *id,
        address: address.clone(),
        directory_id: String::new(),
        standing: Standing::Voter,
        formats: STATE_VERSION,
    });
    State::first(config.cluster_id.clone(), INDEX, members.collect())
}
