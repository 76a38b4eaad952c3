//! Checkers of the invariants in the design, outside the code under test. They see everything and change nothing.

pub mod acked_writes;
pub mod acknowledgements;
pub mod deposed;
pub mod epochs;
pub mod linearizable;
pub mod one_primary;
pub mod one_writer;
pub mod revisions;
pub mod same_state;

/// What was found to be wrong, in one sentence.
pub type Violation = String;
