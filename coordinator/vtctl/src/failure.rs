//! What went wrong, as the operator and a script see it: a sentence, the next step, an exit code.

use std::fmt;

/// Decides the exit code; `vtctl --help` documents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Usage,
    NotFound,
    Refused,
    Unreachable,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Refused => 4,
            Kind::Unreachable => 5,
        }
    }
}

/// A command that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    /// What to do about it; may be empty.
    pub next: String,
}

impl Failure {
    /// A failure without a next step.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            next: String::new(),
        }
    }

    /// The same failure with the next step.
    #[must_use]
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = next.to_string();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: that of the failure in its chain, else that of any other error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    find(error).map_or(Kind::Failed, |f| f.kind).exit_code()
}

/// The text for the terminal: the chain in one sentence, then the next step.
pub fn describe(error: &anyhow::Error) -> String {
    let next = find(error).map_or("", |failure| failure.next.as_str());
    let separator = if next.is_empty() { "" } else { "\n  next: " };
    format!("error: {error:#}{separator}{next}")
}

fn find(error: &anyhow::Error) -> Option<&Failure> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_failure_in_the_chain_decides() {
        let failure = Failure::new(Kind::NotFound, "no keyspace a").next("vtctl keyspace list");
        let wrapped = Err::<(), _>(failure).context("applying").unwrap_err();
        assert_eq!(exit_code(&wrapped), 3);
        assert_eq!(
            describe(&wrapped),
            "error: applying: no keyspace a\n  next: vtctl keyspace list"
        );
        let other = anyhow::anyhow!("disk full");
        assert_eq!(
            (exit_code(&other), describe(&other)),
            (1, "error: disk full".to_owned())
        );
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let kinds = [
            Kind::Failed,
            Kind::Usage,
            Kind::NotFound,
            Kind::Refused,
            Kind::Unreachable,
        ];
        assert_eq!(kinds.map(Kind::exit_code), [1, 2, 3, 4, 5]);
    }
}
