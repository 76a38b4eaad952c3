//! What the admin API answers, as it is printed: stable snake_case keys for scripts, tables for people.

pub mod cluster;
pub mod coordinator;
pub mod event;
pub mod keyspace;
pub mod lost;
pub mod query;
pub mod replica_set;
pub mod session;
pub mod tablet;
pub mod tail;
pub mod user;
pub mod why;

use vt_proto::wire;

/// `host:port`, if there is one.
fn endpoint(endpoint: Option<wire::Endpoint>) -> Option<String> {
    endpoint.map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port))
}

/// A text that the wire spells as empty when there is none.
fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
