//! The records of the topology: what the coordinators replicate. Every record carries, beside it, the revision that last changed it.

use std::collections::BTreeSet;

use crate::{
    epoch::{Epoch, Incarnation},
    gtid::GtidSet,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
};

/// Tablets of one replica set: each has an account on every other, and keeps a connection to the primary.
pub const TABLETS_OF_A_SET_MAX: usize = 64;
/// How many finished epochs a replica set remembers for the return of an old primary.
pub const HISTORY_EPOCHS_MAX: usize = 64;

/// A failure zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub name: CellName,
}

/// A logical database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    pub name: KeyspaceName,
}

/// A range of keyspace ids and the replica set that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub keyspace: KeyspaceName,
    pub range: KeyRange,
    pub replica_set: ReplicaSetName,
}

impl Shard {
    /// The MySQL schema that holds its rows.
    pub fn schema_name(&self) -> String {
        self.range.schema_name(&self.keyspace)
    }
}

/// What a tablet is for; who is primary stands in its replica set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TabletKind {
    /// May be promoted.
    Replica,
    /// Never promoted and never an acker: analytics, backups.
    Rdonly,
}

/// A network address of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// One mysqld under one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablet {
    pub alias: TabletAlias,
    pub kind: TabletKind,
    pub replica_set: ReplicaSetName,
    /// Where its mysqld listens.
    pub mysql: Endpoint,
    /// Where its agent's router listens, for people who look for one.
    pub router: Option<Endpoint>,
}

/// What makes a write safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each OK means that `acks` (>= 1) ackers have the write in a relay log file; with `cross_cell` they live outside the primary's
    /// cell.
    SemiSync { acks: u32, cross_cell: bool },
}

impl Durability {
    /// The number of acknowledgements behind each OK: k.
    pub fn acks(self) -> u32 {
        let Durability::SemiSync { acks, .. } = self;
        acks
    }

    /// Whether a tablet may acknowledge this primary's writes.
    pub fn allows(self, primary: &TabletAlias, acker: &TabletAlias) -> bool {
        let Durability::SemiSync { cross_cell, .. } = self;
        !cross_cell || primary.cell() != acker.cell()
    }
}

/// Where a replica set stands. `docs/failover.md` draws the transitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No primary yet: tablets are gathering.
    Forming,
    /// The primary of this epoch is open, or may be restarted in place.
    Stable,
    /// A planned switchover is under way in the old epoch; it can be taken back. Writes are slowed until the candidate has
    /// applied almost all, then they are held.
    Switching { candidate: TabletAlias, holds: bool },
    /// The epoch before this one is being revoked; nobody is primary of this one yet.
    Revoking {
        previous: TabletAlias,
        reason: String,
    },
    /// `primary` of this epoch is chosen for good and is not open yet.
    Establishing,
}

/// How an epoch ended: what a returning tablet compares itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedEpoch {
    pub epoch: Epoch,
    pub primary: TabletAlias,
    /// Everything that was kept of it: the start of the following epoch.
    pub kept: GtidSet,
}

/// An acker that is lost and on its way out of the set of ackers; until it is out, it counts like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub acker: TabletAlias,
    /// It has proven that it acknowledges nothing any more. What is acknowledged from here on, others have.
    pub silent: bool,
}

/// More acknowledgements that are asked for. Until a row has them they count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raising {
    pub acks: u32,
    /// The primary is to wait for as many, and to write that row.
    pub ordered: bool,
}

/// The tablets that replicate from one primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    pub name: ReplicaSetName,
    pub epoch: Epoch,
    pub phase: Phase,
    /// Set from the first establishing on; in `Revoking` nobody.
    pub primary: Option<TabletAlias>,
    pub durability: Durability,
    /// Who may acknowledge: E. Never stronger than what mysqld enforces.
    pub ackers: BTreeSet<TabletAlias>,
    /// The GTID set at which the epoch begins.
    pub start_gtid: GtidSet,
    /// The life of the primary's mysqld whose exit is answered by a restart in place.
    pub restart_after: Option<Incarnation>,
    /// Who of the ackers is being taken out; only while the set is stable.
    pub leaving: Option<Leaving>,
    /// A stricter policy that is on its way; ordered only while the set is stable.
    pub raising: Option<Raising>,
    /// Whom the primary is to refuse: their accounts there are locked and no connection is left, until they have stopped by an order on
    /// their own disk. Who of them is no acker has provably acknowledged nothing since.
    pub locked_out: BTreeSet<TabletAlias>,
    /// Oldest first, at most [`HISTORY_EPOCHS_MAX`].
    pub history: Vec<FinishedEpoch>,
}

impl ReplicaSet {
    /// This record without the steps that are taken only while a set is stable.
    pub fn without_steps(&self) -> Self {
        let raising = self.raising.map(|raising| Raising {
            ordered: false,
            ..raising
        });
        Self {
            leaving: None,
            raising,
            ..self.clone()
        }
    }
}

/// The vschema of one table. For an unsharded keyspace it only names the table; sharding adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VschemaTable {
    pub keyspace: KeyspaceName,
    pub table: String,
    /// The table's specification as JSON text, kept as it was given.
    pub spec_json: String,
}

/// How far a schema change is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChangeStatus {
    Pending,
    Done,
    Failed { error: String },
}

/// DDL that an operator wants applied to a keyspace; carried out by the primaries of its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    pub id: u64,
    pub keyspace: KeyspaceName,
    pub statements: Vec<String>,
    pub status: SchemaChangeStatus,
}

/// Whether a coordinator is to be in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to vote, as soon as it has caught up.
    Voter,
    /// It is to go; its record goes when it has.
    Leaving,
}

/// One member of the coordinators' group, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// Never used again, also when it is gone.
    pub id: u64,
    /// Where it serves gRPC, as host:port.
    pub address: String,
    /// The data directory in which it lives and has voted; empty until it joined.
    pub directory_id: String,
    pub standing: Standing,
    /// The highest format of log entries and snapshots that it understands; 0 until it said so.
    pub formats: u32,
}

/// A tablet whose host is to be maintained: it gives up being primary, and becomes it only where nobody else can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    pub alias: TabletAlias,
}

/// One entry of the audit: what was decided, about whom, on what evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Wall-clock time of the proposing leader, for people only.
    pub time_unix_ms: u64,
    /// A short stable word, as in `failover.revoke`.
    pub kind: String,
    /// The record it is about, as in `replica-set/rs-1`.
    pub subject: String,
    pub message: String,
    /// What was known, as name and value, in the order it was gathered.
    pub evidence: Vec<(String, String)>,
}
