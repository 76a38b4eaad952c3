//! Why a command has no effect. Errors that somebody chooses by; it never explains itself twice.

use vt_proto::epoch::Revision;

use crate::command::RecordKey;

/// Why a command had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else changed the record since it was read.
    #[error("{key} is at revision {found}, not at {expected}: read it again and retry")]
    Conflict {
        key: RecordKey,
        expected: Revision,
        found: Revision,
    },
    /// The change would break an invariant.
    #[error("{reason}")]
    Invalid { reason: String },
}

impl Refusal {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Refusal::Invalid {
            reason: reason.into(),
        }
    }
}
