//! What an agent says is true on its host. Health never enters the raft log; only decisions do.

use crate::{
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    topology::{Endpoint, Tablet},
};

/// The state of the supervised mysqld as guard and probes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MysqldState {
    /// Not started (yet), or the data directory is being made.
    Starting,
    /// Answers the administrative connection.
    Running,
    /// The process is there and the administrative connection does not answer in time.
    Unresponsive { since_ms: u64 },
    /// The guard saw it exit. Conclusive: it does not run and will not start by itself.
    Exited { how: String },
    /// It is kept down on purpose: fence marker, crash loop, or refused start; the text says which and what to do.
    Held { why: String },
}

/// A replication thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    Off,
    /// Alive: it will reconnect and acknowledge. It does not count as stopped.
    Connecting,
    On,
}

/// Heartbeats come every 200 ms: without one for so long a replica has lost its source.
pub const HEARTBEAT_AGE_MS: u64 = 1_000;

/// The replication channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    pub source: Endpoint,
    pub io: ThreadState,
    pub sql: ThreadState,
    /// Time since the source was last heard (heartbeat or event).
    pub heartbeat_age_ms: Option<u64>,
    /// How far applying is behind the source.
    pub lag_ms: Option<u64>,
    pub error: Option<String>,
    /// The server that the last connection to the source reached.
    pub source_uuid: Option<String>,
    /// Applying has stopped on an error, and starting it again has not helped: only other data would.
    pub stuck: bool,
    /// The error that applying has stopped on.
    pub applier_error: Option<String>,
}

impl Replication {
    /// Whether the source was heard a moment ago.
    pub fn hears_source(&self) -> bool {
        self.io == ThreadState::On
            && self
                .heartbeat_age_ms
                .is_none_or(|age| age <= HEARTBEAT_AGE_MS)
    }
}

/// The GTID sets of a tablet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidPosition {
    pub executed: GtidSet,
    /// Retrieved and executed together.
    pub received: GtidSet,
}

/// The outcome of one schema change on this primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaResult {
    pub id: u64,
    pub error: Option<String>,
}

/// Why a write does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCause {
    /// It hangs, and the agent does not know why: a stalled disk, locks inside mysqld, too much work.
    Unknown,
    /// It is in the binary log and waits for acknowledgements: the ackers' trouble and not this host's.
    Acknowledgements,
    /// mysqld waits for space on its disk.
    DiskSpace,
    /// mysqld answered with an error; nothing hangs.
    Refused,
}

/// A write that has not succeeded within its second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFailure {
    /// How long ago the first write began that did not succeed.
    pub since_ms: u64,
    pub cause: WriteCause,
    pub detail: String,
}

/// The agent's own small writes to mysqld, while it is an open primary: replicated and acknowledged like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteProbe {
    pub success_age_ms: Option<u64>,
    pub failure: Option<WriteFailure>,
}

/// What a write through to mysqld's disk met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    Good,
    /// A block has not returned within its second.
    Stalled,
    Full,
    Failed,
}

/// The agent's own writes through to mysqld's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskProbe {
    pub state: DiskState,
    pub success_age_ms: Option<u64>,
    /// What a failed one said; empty for the others.
    pub detail: String,
}

/// Transactions that were cut off the binary log of a former primary, as they are kept on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTransactions {
    /// The epoch in which they were lost.
    pub epoch: Epoch,
    pub gtids: GtidSet,
    pub transactions: u64,
    /// Of the piece of binary log.
    pub bytes: u64,
    /// UTC, RFC 3339; empty if its description cannot be read.
    pub cut_at: String,
    /// On the host.
    pub directory: String,
    /// The rows stand there in readable form too.
    pub readable: bool,
}

/// What is kept on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The newest, oldest first.
    pub kept: Vec<LostTransactions>,
    /// How many more there are.
    pub left_out: u32,
}

/// What is true on one host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who speaks, as configured.
    pub tablet: Tablet,
    /// The kernel's boot id: tells a restarted host from a restarted agent.
    pub boot_id: String,
    /// The highest epoch it has promised, on disk.
    pub promised: Epoch,
    /// The desired state that it acts on.
    pub generation: Generation,
    pub mysqld: MysqldState,
    pub incarnation: Incarnation,
    pub server_uuid: Option<String>,
    pub gtid: Option<GtidPosition>,
    pub replication: Option<Replication>,
    pub super_read_only: Option<bool>,
    pub semi_sync_source: Option<bool>,
    pub semi_sync_replica: Option<bool>,
    /// The epoch under whose promise its IO thread was proven off, before `gtid` was read. None while any channel runs.
    pub revoked: Option<Epoch>,
    /// The epoch in which it is fenced: not serving writes, no commit waiting, will not reopen; `gtid` is final.
    pub fenced: Option<Epoch>,
    /// The generation of the `Demote` goal under which it became read-only and `gtid` was read.
    pub demoted: Option<Generation>,
    /// The generation of the `Replica` goal under which it has prepared to become primary.
    pub prepared: Option<Generation>,
    /// The epoch in which it is open for writes as primary, its term row acknowledged.
    pub serving: Option<Epoch>,
    /// The generation of the `Revoke` goal, on disk, under which its IO thread was proven off: it follows no older order any more.
    pub silent: Option<Generation>,
    /// The generation of the `Primary` goal with `confirm` under which it wrote a row that is acknowledged.
    pub confirmed: Option<Generation>,
    /// The generation of the `Primary` goal whose `locked_out` can not connect and have no connection here; that goal is on disk, so that
    /// this stays so until a later one says otherwise.
    pub locked_out: Option<Generation>,
    /// It may have forgotten what it acknowledged: the host has rebooted since it last caught up with a primary.
    pub amnesiac: bool,
    pub schema_results: Vec<SchemaResult>,
    /// Why it does not get closer to the desired state, if it does not.
    pub blocked: Option<String>,
    /// Free space of the data directory's file system.
    pub disk_free_bytes: Option<u64>,
    /// None while it is not an open primary, and from agents that do not probe.
    pub write_probe: Option<WriteProbe>,
    /// None before the first answer, and from agents that do not probe.
    pub disk_probe: Option<DiskProbe>,
    /// What was cut off here and nobody has removed yet.
    pub lost: Lost,
    /// Its guard was told to end, and waits for this primary to hand over.
    pub stop_asked: bool,
}

impl Report {
    /// Whether what was written last to mysqld's disk did not arrive there.
    pub fn has_bad_disk(&self) -> bool {
        self.disk_probe
            .as_ref()
            .is_some_and(|probe| probe.state != DiskState::Good)
    }
}
