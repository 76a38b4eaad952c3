//! Everything that can happen to the deciding core: a closed list.

use std::sync::Arc;

use vt_proto::{ids::TabletAlias, report::Report, routing::RoutingSnapshot};

use crate::command::Command;

/// Milliseconds of the host's monotonic clock (CLOCK_BOOTTIME): only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    pub monotonic_ms: u64,
    /// Wall clock, for time stamps that people read; never compared.
    pub unix_ms: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed; sent at least every [`crate::TICK_MS`].
    Tick,
    /// This member became leader and has applied everything that was committed before.
    LeadershipGained,
    LeadershipLost,
    /// The log entry at `index` is committed; applied exactly once and in order, also when not leading.
    Committed {
        index: u64,
        command: Command,
    },
    /// An agent reported (leader only; ignored otherwise).
    Reported {
        report: Box<Report>,
    },
    /// The agent's stream ended: its host or process may be gone.
    StreamEnded {
        alias: TabletAlias,
    },
    /// What the leader published for routers (followers only; ignored otherwise).
    Relayed {
        snapshot: Arc<RoutingSnapshot>,
    },
}
