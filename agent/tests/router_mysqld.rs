//! The router in front of real servers: what applications do, and what they see when a primary moves.
//!
//! A server that is not installed fails these tests; it never skips them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[path = "router_mysqld/raw.rs"]
mod raw;
#[path = "router_mysqld/server.rs"]
mod server;

#[path = "router_mysqld/attributes.rs"]
mod attributes;
#[path = "router_mysqld/compression.rs"]
mod compression;
#[path = "router_mysqld/differential.rs"]
mod differential;
#[path = "router_mysqld/failover.rs"]
mod failover;
#[path = "router_mysqld/files.rs"]
mod files;
#[path = "router_mysqld/logins.rs"]
mod logins;
#[path = "router_mysqld/processes.rs"]
mod processes;
#[path = "router_mysqld/protocol.rs"]
mod protocol;
#[path = "router_mysqld/reads.rs"]
mod reads;
#[path = "router_mysqld/sessions.rs"]
mod sessions;
#[path = "router_mysqld/users.rs"]
mod users;
