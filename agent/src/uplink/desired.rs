//! Desired states as they arrive. Whether one is followed is said by the core.

use vt_proto::{convert::ConvertError, desired::Desired, wire};

/// A desired state and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub cluster_id: String,
    pub desired: Desired,
}

/// Reads a message of the coordinator; one without a desired state is only a sign of life.
pub fn read(message: wire::CoordinatorMessage) -> Result<Option<Arrival>, ConvertError> {
    let Some(desired) = message.desired else {
        return Ok(None);
    };
    let desired = Desired::try_from(desired)?;
    Ok(Some(Arrival {
        cluster_id: message.cluster_id,
        desired,
    }))
}
