//! What one host does next: what is observed and what is desired, compared; the answer is the next safe action.
//!
//! Pure: no clock (time is an argument), no I/O, no randomness, no hash maps, no tokio. The shell in `vt-agent` observes,
//! carries out one [`action::Action`] at a time, and calls again. The simulator does the same with a modelled mysqld.
//!
//! Layers, each importing only from those before it: `observed`, `persisted` -> `action` -> `memory` -> `accept`, `claims` -> `converge`, `report`.

pub mod accept;
pub mod action;
pub mod claims;
pub mod converge;
pub mod memory;
pub mod observed;
pub mod persisted;
pub mod report;

pub use accept::{OutOfDate, Refusal, accept, recall};
pub use action::{Action, Failure, Work};
pub use claims::{Claims, claims};
pub use converge::{Step, alone::alone, converge};
pub use memory::Memory;
pub use observed::{Channel, Observed, Process, SchemaChangeState, Server};
pub use persisted::{Acking, Persisted, Primaryship, Record};
pub use report::report;
