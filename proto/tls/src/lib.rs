//! TLS between the project's programs: roles in certificates, files that are read again when they change, listeners with limits,
//! and the one way to dial a coordinator. Decides nothing about what a role may do, and makes no certificates.

pub mod dial;
pub mod files;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod role;
pub mod trust;

#[cfg(test)]
mod tests;
