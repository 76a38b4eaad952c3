//! The deciding core of vt-coordinator: `step(now, event) -> effects`.
//!
//! Absent by design: no I/O, no clock, no randomness, no threads, no tokio, no sled; time and seeds are arguments.
//! Layers, each importing only what stands to its right:
//! `lib (Core) -> views, intent -> desired, routing -> failover -> health, durability -> apply -> state, command -> vt-proto`;
//! `event` and `effect` are the vocabulary of `step`; `peer` wraps raft and is driven by the shell; `codec` is the stored form.

pub mod apply;
pub mod codec;
pub mod command;
pub mod effect;
pub mod event;
pub mod state;

/// The longest time between two ticks that the shell may leave.
pub const TICK_MS: u64 = 50;
