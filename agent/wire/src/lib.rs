//! MySQL packets and binlog events as bytes: what they say, how to build them, where an answer ends.
//!
//! Pure: no sockets, no clock, no randomness (nonces are arguments). It never decodes rows, never
//! assumes that text is UTF-8, and never panics on bytes that came from a peer.

pub mod attributes;
pub mod auth;
pub mod binlog;
pub mod capability;
pub mod collation;
pub mod command;
pub mod compression;
pub mod error_code;
pub mod handshake;
pub mod packet;
pub mod prepared;
pub mod reader;
pub mod response;
pub mod result_set;
pub mod scanner;
pub mod session_track;
pub mod upload;

pub use capability::{Capabilities, ServerStatus};
pub use reader::{Malformed, Reader};
