//! Entries of the replicated log: compare-and-set changes of records, all or none, with the audit that explains them.

use vt_proto::{convert::ConvertError, epoch::Revision, topology::AuditEvent, wire};

pub use crate::records::{RecordKey, RecordValue};

use crate::refusal::Refusal;

/// One compare-and-set. `expected` is the record's revision, zero if it must not exist; no value deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: RecordKey,
    pub expected: Revision,
    pub value: Option<RecordValue>,
}

impl Change {
    /// Creates or replaces a record that is at `expected`.
    pub fn put(expected: Revision, value: RecordValue) -> Self {
        Self {
            key: value.key(),
            expected,
            value: Some(value),
        }
    }

    /// Deletes a record that is at `expected`.
    pub fn delete(expected: Revision, key: RecordKey) -> Self {
        Self {
            key,
            expected,
            value: None,
        }
    }
}

impl Change {
    /// The change that travelled or was stored.
    pub fn from_wire(change: wire::RecordChange) -> Result<Self, ConvertError> {
        Ok(Self {
            key: RecordKey::from_wire(change.key)?,
            expected: Revision(change.expected_revision),
            value: change.value.map(RecordValue::from_wire).transpose()?,
        })
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Applied once per id, also when it is proposed again by another leader.
    pub request_id: String,
    pub changes: Vec<Change>,
    pub events: Vec<AuditEvent>,
    /// Not to be done: remembered as what came of the request. Since [`crate::format::REFUSALS`].
    pub refusal: Option<Refusal>,
}

impl Command {
    /// Changes, and the audit that explains them.
    pub fn new(request_id: String, changes: Vec<Change>, events: Vec<AuditEvent>) -> Self {
        Self {
            request_id,
            changes,
            events,
            refusal: None,
        }
    }

    /// The refusal of a request; see [`crate::intent::plan`].
    pub(crate) fn refusal(request_id: String, refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal.bounded()),
            ..Self::new(request_id, Vec::new(), Vec::new())
        }
    }
}
