//! Statements about replication on the held administrative connection: what is true (`status`), threads and channel
//! (`control`), semi-sync (`semisync`), closing and opening for writes (`fence`), the others' accounts (`accounts`).
//!
//! It decides nothing: `vt-agent-core` names the action, the supervisor calls it here.

pub mod accounts;
pub mod control;
pub mod fence;
pub mod semisync;
pub mod status;

/// A text inside single quotes of a statement.
pub(crate) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// A name inside backquotes of a statement.
pub(crate) fn identifier(name: &str) -> String {
    name.replace('`', "``")
}
