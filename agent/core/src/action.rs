//! The closed list of what the core may ask the shell to do, each with its time limit. Nothing here is done here.

use vt_proto::{
    desired::SchemaTask,
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    ids::TabletAlias,
    topology::Endpoint,
};

use crate::{observed::Observed, persisted::Record};

/// Work that may wait long for acknowledgements or for DDL; it runs beside the actions, one at a time but for a push,
/// on its own connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Begin a new binary log unless the present one is short: whoever replicates from here finds the place where it goes on
    /// without reading all that is before.
    RotateBinaryLog {
        epoch: Epoch,
        incarnation: Incarnation,
    },
    /// Write the first row of the epoch; it returns when it is acknowledged, which proves that the epoch can acknowledge.
    TermRow {
        epoch: Epoch,
        incarnation: Incarnation,
    },
    /// Write one more row of the epoch because of this desired state: when it is acknowledged, everything before it is as well.
    Confirm {
        epoch: Epoch,
        incarnation: Incarnation,
        generation: Generation,
    },
    /// Write one more row of the epoch because commits wait and an acker has connected anew: it says nothing of what it received
    /// before, and what it acknowledges later releases all before it. Beside other work, which may be what waits.
    Push {
        epoch: Epoch,
        incarnation: Incarnation,
        acker: u64,
    },
    CreateSchema {
        name: String,
    },
    /// Note the start in the server, run the statements, note the end.
    SchemaChange(SchemaTask),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to disk and fsync it before anything that depends on it.
    Persist(Record),
    /// Keep the whole desired state of this generation, for a start without any coordinator.
    KeepOrder {
        generation: Generation,
    },
    InitialiseDataDirectory,
    StartMysqld,
    /// SIGKILL through the guard. Never a clean shutdown: that answers OK to writes that are nowhere else.
    KillMysqld,
    /// Make the guard refuse to start mysqld.
    WriteFenceMarker {
        epoch: Epoch,
    },
    RemoveFenceMarker,
    /// Make the guard turn stops into kills.
    WriteRoleMarker,
    RemoveRoleMarker,
    /// Offline: cut what this server wrote in `epoch` beyond `kept`, keep it readable, give the server a new uuid.
    CutTail {
        kept: GtidSet,
        epoch: Epoch,
    },
    /// Replace all data by a copy of the donor's, which must have everything that is here but `may_lose`. `followed` is the server that was
    /// reached at the donor's address last: where another one is there now, what it lacks of that one was kept nowhere.
    Clone {
        donor: Endpoint,
        may_lose: GtidSet,
        followed: Option<String>,
    },
    /// Disconnect applications: `offline_mode`.
    CutSessions,
    RestoreSessions,
    /// `super_read_only=1`, with a limit, in a way that cannot take effect later.
    CloseServer,
    /// The same for a planned demotion: transactions still open are killed first, waiting commits make it fail.
    CloseForDemotion,
    /// `super_read_only=0`, `read_only=1`: the agent may write, applications may not.
    OpenForAgent,
    /// `read_only=0`.
    OpenForAll,
    /// STOP, and where that is late cut the thread's connection (what is half received is owed to nobody) and STOP again.
    StopIoThread,
    StartIoThread,
    StartSqlThread,
    /// Stop both threads and forget the channel. Only when everything received is applied.
    ResetReplication,
    /// Configure a channel where there is none, with GTID auto-position.
    ConfigureChannel {
        source: Endpoint,
    },
    /// Change host and port only, with the IO thread stopped and the SQL thread running: this keeps the relay log.
    RepointChannel {
        source: Endpoint,
    },
    SetReplicaSemiSync {
        enabled: bool,
    },
    /// Each of these tablets has an account of its own here to replicate with, and it is not locked. It is in no binary log and waits for nobody.
    SettleAccounts {
        open: Vec<TabletAlias>,
    },
    /// None of these can connect to replicate, and no connection of theirs is left when this has succeeded.
    LockOut {
        tablets: Vec<TabletAlias>,
    },
    EnableSourceSemiSync {
        acks: u32,
    },
    DisableSourceSemiSync,
    /// Start work that runs beside the actions.
    StartWork(Work),
}

/// That an action failed, and how often in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub action: Action,
    pub error: String,
    pub at_ms: u64,
    pub count: u32,
}

impl Action {
    /// What must be persisted when it has succeeded.
    pub fn on_success(&self) -> Option<Record> {
        match self {
            Action::CutTail { .. } => Some(Record::TailCut),
            Action::Clone { .. } => Some(Record::Cloned),
            _ => None,
        }
    }

    /// Puts into `observed` all that its success changes there, where that is known without another look: on the way to a new primary,
    /// where writers wait for each look. Whether it was known.
    pub fn foresee(&self, observed: &mut Observed) -> bool {
        match (self, &mut observed.server) {
            (Action::WriteRoleMarker, _) => observed.role_marker = true,
            (Action::EnableSourceSemiSync { acks }, Some(server)) => {
                server.source_semi_sync = true;
                server.wait_for_replica_count = *acks;
            }
            (Action::OpenForAgent, Some(server)) => {
                server.read_only = true;
                server.super_read_only = false;
            }
            (Action::RepointChannel { source }, Some(server)) => match &mut server.channel {
                Some(channel) => {
                    channel.source = source.clone();
                    // Who is there is not known before it is reached.
                    channel.source_uuid = None;
                }
                None => return false,
            },
            (
                Action::Persist(
                    Record::Promise { .. }
                    | Record::PromiseAsPrimary { .. }
                    | Record::PrimaryshipBegins { .. },
                )
                | Action::StartWork(Work::RotateBinaryLog { .. } | Work::TermRow { .. }),
                _,
            ) => {}
            _ => return false,
        }
        true
    }

    /// How long the shell lets it run. Fencing is short because somebody waits for it; copies are long because data is.
    pub fn limit_ms(&self) -> u64 {
        match self {
            Action::CutSessions => 300,
            // 300 ms for the statement, and the wait for its certain end after a kill.
            Action::CloseServer | Action::CloseForDemotion => 4_000,
            // Two times rpl_stop_replica_timeout = 2 s.
            Action::StopIoThread => 5_000,
            // Whoever it is for tries again anyhow; a full disk or a lock may hold it.
            Action::SettleAccounts { .. } => 3_000,
            Action::KillMysqld => 10_000,
            Action::InitialiseDataDirectory => 900_000,
            Action::CutTail { .. } => 300_000,
            Action::Clone { .. } => 6 * 3_600_000,
            _ => 5_000,
        }
    }

    /// A short stable word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Persist(_) => "persist",
            Action::KeepOrder { .. } => "keep-order",
            Action::InitialiseDataDirectory => "initialise-data-directory",
            Action::StartMysqld => "start-mysqld",
            Action::KillMysqld => "kill-mysqld",
            Action::WriteFenceMarker { .. } => "write-fence-marker",
            Action::RemoveFenceMarker => "remove-fence-marker",
            Action::WriteRoleMarker => "write-role-marker",
            Action::RemoveRoleMarker => "remove-role-marker",
            Action::CutTail { .. } => "cut-tail",
            Action::Clone { .. } => "clone",
            Action::CutSessions => "cut-sessions",
            Action::RestoreSessions => "restore-sessions",
            Action::CloseServer => "close-server",
            Action::CloseForDemotion => "close-for-demotion",
            Action::OpenForAgent => "open-for-agent",
            Action::OpenForAll => "open-for-all",
            Action::StopIoThread => "stop-io-thread",
            Action::StartIoThread => "start-io-thread",
            Action::StartSqlThread => "start-sql-thread",
            Action::ResetReplication => "reset-replication",
            Action::ConfigureChannel { .. } => "configure-channel",
            Action::RepointChannel { .. } => "repoint-channel",
            Action::SetReplicaSemiSync { .. } => "set-replica-semi-sync",
            Action::SettleAccounts { .. } => "settle-accounts",
            Action::LockOut { .. } => "lock-out",
            Action::EnableSourceSemiSync { .. } => "enable-source-semi-sync",
            Action::DisableSourceSemiSync => "disable-source-semi-sync",
            Action::StartWork(_) => "start-work",
        }
    }
}
