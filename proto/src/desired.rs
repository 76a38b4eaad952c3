//! What the coordinator wants to be true on one host. A pure function of replicated records, so that every coordinator computes the same.

use crate::{
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    ids::{ReplicaSetName, TabletAlias},
    topology::{Endpoint, FinishedEpoch},
};

/// DDL to carry out on the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaTask {
    pub id: u64,
    /// The MySQL schema it applies to.
    pub schema: String,
    pub statements: Vec<String>,
}

/// What this tablet should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Run mysqld, read-only, without replication: the replica set has no primary yet.
    Standby,
    /// Be the primary of the epoch: drain to `start_gtid`, open, keep open.
    Primary {
        start_gtid: GtidSet,
        /// Acknowledgements that each OK must have: k.
        acks: u32,
        /// Permission to start mysqld again after this life of it ended. Without it an exited primary stays down.
        restart_after: Option<Incarnation>,
        /// Schemas that must exist.
        schemas: Vec<String>,
        schema_tasks: Vec<SchemaTask>,
        /// Write a row and report `confirmed` when it is acknowledged: then everything before it is acknowledged as well by
        /// those who may acknowledge now.
        confirm: bool,
        /// Let nobody of these connect, leave no connection of theirs, and report `locked_out`.
        locked_out: Vec<TabletAlias>,
    },
    /// Planned: stay primary in name, let transactions end within `grace_ms`, become read-only, report `demoted`. Never reopen alone.
    Demote { grace_ms: u64 },
    /// Promise the epoch, stop the IO thread whatever it shows, then report `revoked` (and `silent`) and what was received. The
    /// applier goes on.
    Revoke,
    /// Promise the epoch and stop serving as primary, at any price; report `fenced`.
    Fence,
    /// Fenced, and needed: when this life of mysqld ended, start it again, closed and without replication, so that its data can
    /// be read. Then report `fenced` as for `Fence`.
    Reveal { restart_after: Incarnation },
    /// Replicate from the source.
    Replica {
        source: Endpoint,
        source_alias: TabletAlias,
        /// Acknowledge what is received (semi-sync).
        acker: bool,
        /// What was kept of the epochs before: transactions of an ended epoch beyond it must be cut before mysqld starts.
        history: Vec<FinishedEpoch>,
        candidacy: Candidacy,
    },
}

/// What a replica has to do with a planned switchover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidacy {
    #[default]
    None,
    /// It is to become primary as soon as it is near: do beforehand what writers would wait for, and report `prepared`.
    Prepares,
    /// Writers are held until it has said that it received everything.
    Awaited,
}

/// The whole of what one agent should make true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub alias: TabletAlias,
    pub replica_set: ReplicaSetName,
    /// Only grows; the agent refuses and reports an older one.
    pub generation: Generation,
    /// To be promised, on disk, before acting.
    pub epoch: Epoch,
    /// The other tablets of the replica set, at most [`TABLETS_OF_A_SET_MAX`](crate::topology::TABLETS_OF_A_SET_MAX): each replicates with an account of its
    /// own, which must exist wherever it may have to connect to.
    pub replicas: Vec<TabletAlias>,
    pub goal: Goal,
}
