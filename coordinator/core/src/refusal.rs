//! Why a command has no effect. Errors that somebody chooses by; it never explains itself twice.

use vt_proto::epoch::Revision;

use crate::records::RecordKey;

/// Bytes of a reason that is remembered: a few sentences, and little where there are [`crate::format::requests_max`] of them.
pub const REASON_LENGTH_MAX: usize = 1_024;

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
    /// What it is about does not exist.
    #[error("{reason}")]
    Missing { reason: String },
    /// What it would create is there.
    #[error("{reason}")]
    Exists { reason: String },
}

impl Refusal {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Refusal::Invalid {
            reason: reason.into(),
        }
    }

    /// The same with a text that may be remembered: not longer than [`REASON_LENGTH_MAX`], and there at all.
    pub(crate) fn bounded(mut self) -> Self {
        if let Refusal::Invalid { reason }
        | Refusal::Missing { reason }
        | Refusal::Exists { reason } = &mut self
        {
            const MORE: &str = "...";
            if reason.len() > REASON_LENGTH_MAX {
                reason.truncate(reason.floor_char_boundary(REASON_LENGTH_MAX - MORE.len()));
                reason.push_str(MORE);
            }
            if reason.is_empty() {
                reason.push_str("refused");
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_two_characters() {
        let cut = |reason: &str| Refusal::invalid(reason).bounded().to_string();
        let longest = "x".repeat(REASON_LENGTH_MAX);
        let cases = [
            ("", "refused".to_owned()),
            ("no", "no".to_owned()),
            (&longest, longest.clone()),
            (&format!("{longest}y"), format!("{}...", &longest[3..])),
            // Each takes two bytes, and the cut would go through one of them.
            (
                &"\u{e9}".repeat(600),
                format!("{}...", "\u{e9}".repeat(510)),
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(cut(given), expected);
            assert!(expected.len() <= REASON_LENGTH_MAX);
            assert_eq!(cut(&expected), expected, "cut once");
        }
    }
}
