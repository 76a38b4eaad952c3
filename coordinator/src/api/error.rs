//! Refusals as gRPC statuses: which code, whether the same request may be sent again, who leads. Never decides what is refused.

use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
};
use vt_coordinator_core::refusal::Refusal;
use vt_proto::convert::ConvertError;

use crate::node::{ReadError, WriteError};

/// Names the leader's address.
pub const LEADER_KEY: &str = "vitrail-leader";
/// `true` where the same request, with the same request id, may be sent again.
pub const RETRYABLE_KEY: &str = "vitrail-retryable";

/// This member does not lead. With the leader's address callers go there; without one they ask again.
pub fn not_leader(leader: Option<String>) -> Status {
    match leader.filter(|leader| !leader.is_empty()) {
        Some(leader) => {
            let message = format!("this coordinator does not lead: ask {leader}");
            with(Code::FailedPrecondition, message, LEADER_KEY, &leader)
        }
        None => retry("there is no leader now: ask again in a moment".to_owned()),
    }
}

/// It was not done, or perhaps; the same request may be sent again.
pub fn retry(message: String) -> Status {
    with(Code::Unavailable, message, RETRYABLE_KEY, "true")
}

/// It was not even begun; the same request may be sent again.
pub fn exhausted(message: String) -> Status {
    with(Code::ResourceExhausted, message, RETRYABLE_KEY, "true")
}

/// What a write came to.
pub fn of_write(error: WriteError) -> Status {
    match error {
        WriteError::NotLeader { leader } => not_leader(leader),
        WriteError::Refused(refusal) => of_refusal(&refusal),
        WriteError::TooLarge => Status::invalid_argument(error.to_string()),
        WriteError::Late => Status::deadline_exceeded(error.to_string()),
        WriteError::Busy | WriteError::DiskFull | WriteError::Unknown | WriteError::Stopped => {
            retry(error.to_string())
        }
    }
}

/// Why a read was not answered.
pub fn of_read(error: ReadError) -> Status {
    match error {
        ReadError::NotLeader { leader } => not_leader(leader),
        ReadError::Busy | ReadError::TimedOut | ReadError::Stopped => retry(error.to_string()),
    }
}

/// Why the core refuses.
pub fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Conflict { .. } => Status::aborted(refusal.to_string()),
        Refusal::Invalid { .. } => Status::failed_precondition(refusal.to_string()),
        Refusal::Missing { .. } => Status::not_found(refusal.to_string()),
        Refusal::Exists { .. } => Status::already_exists(refusal.to_string()),
    }
}

/// A message that cannot be understood.
pub fn of_conversion(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn with(code: Code, message: String, key: &'static str, value: &str) -> Status {
    let mut metadata = MetadataMap::new();
    let value = MetadataValue::<Ascii>::try_from(value);
    // An address that is no header text cannot be followed either; the message still names it.
    if let Ok(value) = value {
        metadata.insert(MetadataKey::from_static(key), value);
    }
    Status::with_metadata(code, message, metadata)
}

#[cfg(test)]
mod tests {
    use vt_coordinator_core::command::RecordKey;
    use vt_proto::epoch::Revision;

    use super::*;

    fn shown(status: &Status) -> (Code, Option<&str>, Option<&str>) {
        let text = |key| {
            status
                .metadata()
                .get(key)
                .and_then(|value| value.to_str().ok())
        };
        (status.code(), text(LEADER_KEY), text(RETRYABLE_KEY))
    }

    #[test]
    fn writes_say_what_to_do_next() {
        let conflict = Refusal::Conflict {
            key: RecordKey::SchemaChange(1),
            expected: Revision(1),
            found: Revision(2),
        };
        let invalid = Refusal::Invalid {
            reason: "no".to_owned(),
        };
        let leader = Some("b:2".to_owned());
        let cases = [
            (
                WriteError::NotLeader { leader },
                (Code::FailedPrecondition, Some("b:2"), None),
            ),
            (
                WriteError::NotLeader { leader: None },
                (Code::Unavailable, None, Some("true")),
            ),
            (WriteError::Refused(conflict), (Code::Aborted, None, None)),
            (
                WriteError::Refused(invalid),
                (Code::FailedPrecondition, None, None),
            ),
            (WriteError::Busy, (Code::Unavailable, None, Some("true"))),
            (WriteError::Unknown, (Code::Unavailable, None, Some("true"))),
            (WriteError::TooLarge, (Code::InvalidArgument, None, None)),
        ];
        for (error, expected) in cases {
            assert_eq!(shown(&of_write(error)), expected);
        }
    }

    #[test]
    fn reads_say_what_to_do_next() {
        let leader = Some("b:2".to_owned());
        assert_eq!(
            shown(&of_read(ReadError::NotLeader { leader })),
            (Code::FailedPrecondition, Some("b:2"), None)
        );
        assert_eq!(
            shown(&of_read(ReadError::TimedOut)),
            (Code::Unavailable, None, Some("true"))
        );
    }
}
