//! How members talk: one long gRPC stream per direction and pair. Carries messages, never looks into them.

pub mod transport;
