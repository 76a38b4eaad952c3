//! What is true on this host at one moment, as plain data. Never an opinion: opinions are in `claims` and `converge`.

use std::collections::{BTreeMap, BTreeSet};

use vt_proto::{
    epoch::{Epoch, Incarnation},
    gtid::GtidSet,
    report::{DiskProbe, DiskState, Lost, ThreadState, WriteCause, WriteProbe},
    topology::Endpoint,
};

/// mysqld's process, as the guard knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// There is no data directory yet, so there is nothing to start.
    Absent,
    /// It does not run and nobody but this agent starts it. `how` tells how its last life ended, if the guard saw that.
    Down { how: Option<String> },
    /// The guard refuses to start it: a crash loop, a data directory of another server; the text says which and what to do.
    Held { why: String },
    /// It runs.
    Up,
}

/// The replication channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub source: Endpoint,
    /// It connects with the account of this very tablet; a copied one does not.
    pub own_account: bool,
    /// The server that the last connection to the source reached; none before the first.
    pub source_uuid: Option<String>,
    pub io: ThreadState,
    pub sql: ThreadState,
    pub io_error: Option<(u32, String)>,
    pub sql_error: Option<(u32, String)>,
    /// The source's answers tell that there was nothing more to send since this connection began.
    pub caught_up: bool,
    pub heartbeat_age_ms: Option<u64>,
    pub lag_ms: Option<u64>,
}

/// How far a schema change is, by the record that stands in the server itself beside the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChangeState {
    /// Written before the first statement: without a later word the outcome is unknown, because DDL is not transactional.
    Started,
    Done,
    Failed {
        error: String,
    },
}

/// What mysqld answers on the administrative connection.
///
/// The read-only flags and the thread states are read before the GTID sets: what is claimed of a closed server is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub server_uuid: String,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline_mode: bool,
    /// Source-side semi-sync is enabled.
    pub source_semi_sync: bool,
    /// `rpl_semi_sync_source_wait_for_replica_count`.
    pub wait_for_replica_count: u32,
    /// Commits that wait for an acknowledgement; mysqld counts a whole group as one.
    pub wait_sessions: u32,
    /// The number of the newest connection over which a replica acknowledges now; only asked for while commits wait for long.
    pub newest_acker: Option<u64>,
    /// Replica-side semi-sync is enabled; it takes effect when the IO thread starts.
    pub replica_semi_sync: bool,
    /// The running IO thread acknowledges.
    pub replica_acknowledges: bool,
    pub channel: Option<Channel>,
    pub executed: GtidSet,
    /// Retrieved and executed together.
    pub received: GtidSet,
    /// Open transactions of the application's account.
    pub app_transactions: u32,
    /// Schemas that exist, as far as someone asks for them.
    pub schemas: BTreeSet<String>,
    /// By the change's id and the schema it applies to.
    pub schema_changes: BTreeMap<(u64, String), SchemaChangeState>,
}

/// Everything that is known about this host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The kernel's boot id.
    pub boot_id: String,
    pub process: Process,
    /// The life of mysqld that runs, or that ended last.
    pub incarnation: Incarnation,
    /// The epoch of the fence marker in front of the guard.
    pub fence_marker: Option<Epoch>,
    /// The marker that makes the guard turn a stop into a kill.
    pub role_marker: bool,
    /// None while the administrative connection does not answer.
    pub server: Option<Server>,
    /// mysqld has answered before in this life and is silent since that long.
    pub unresponsive_ms: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    /// What the agent's own writes to mysqld found; none while it is not an open primary.
    pub write_probe: Option<WriteProbe>,
    /// What the agent's own writes to mysqld's disk found; none before the first.
    pub disk_probe: Option<DiskProbe>,
    /// What was cut off the binary log and is kept.
    pub lost: Lost,
    /// The guard was told to end and waits for this primary to hand over.
    pub stop_asked: bool,
}

impl Observed {
    /// mysqld is known not to run.
    pub fn is_down(&self) -> bool {
        !matches!(self.process, Process::Up)
    }

    /// The last write to mysqld's disk did not arrive there.
    pub fn has_bad_disk(&self) -> bool {
        self.disk_probe
            .as_ref()
            .is_some_and(|probe| probe.state != DiskState::Good)
    }

    /// A commit hangs, whatever it waits for.
    pub fn has_hanging_write(&self) -> bool {
        let failure = self
            .write_probe
            .as_ref()
            .and_then(|probe| probe.failure.as_ref());
        failure.is_some_and(|failure| failure.cause != WriteCause::Refused)
    }

    /// The channel, if mysqld answers and has one.
    pub fn channel(&self) -> Option<&Channel> {
        self.server.as_ref()?.channel.as_ref()
    }
}
