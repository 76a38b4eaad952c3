//! Everything that can happen to a member, and everything that it may ask its shell to do: closed lists.

use std::sync::Arc;

use vt_proto::{
    desired::Desired,
    epoch::Revision,
    ids::TabletAlias,
    report::Report,
    routing::{RoutingSnapshot, RoutingUpdate},
    topology::AuditEvent,
    wire,
};

use crate::{
    command::Command,
    peer::{Batch, MessageError},
    refusal::Refusal,
};

/// Names a request of the shell; its answer carries the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; sent every [`crate::TICK_MS`].
    Tick,
    /// Another member said something.
    Message(Box<wire::MemberMessage>),
    /// Somebody wants a command to be applied. Answered by [`Output::Done`].
    Propose {
        token: Token,
        command: Command,
        /// On the monotonic clock: later it is not proposed any more.
        deadline_ms: Option<u64>,
    },
    /// Somebody wants to look at the state as it is now for the whole group. Answered by [`Output::Readable`].
    Read {
        token: Token,
        /// What is looked at is known to the leader alone, as health is.
        of_leader: bool,
    },
    Report(Box<Report>),
    StreamEnded(TabletAlias),
    /// What the leader published for routers, while another member leads.
    Relayed(Arc<RoutingSnapshot>),
    /// All writes up to this one are on disk.
    Written {
        sequence: u64,
    },
    /// A message to that member was lost for certain.
    Unreachable(u64),
    /// The disk takes nothing, or takes things again.
    DiskFull(bool),
    /// Leadership is to go to this voter, or to the best one. Answered by [`Output::HandingOver`].
    Transfer {
        token: Token,
        to: Option<u64>,
    },
    /// The process is to end; leadership is handed over first.
    Stop,
}

/// Something to be done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// May be lost: raft says again what matters.
    Send(Box<wire::MemberMessage>),
    /// To be written in the order of sequences, each whole or not at all; answered by [`Input::Written`].
    Write { sequence: u64, batch: Batch },
    /// Nothing is to be written: the disk is to show, in the order of sequences, that it would be. Answered alike.
    Probe { sequence: u64 },
    Done {
        token: Token,
        outcome: Result<Revision, WriteError>,
    },
    /// The state may be looked at now, before anything else is handed in.
    Readable {
        token: Token,
        outcome: Result<(), ReadError>,
    },
    HandingOver {
        token: Token,
        outcome: Result<u64, TransferError>,
    },
    /// The newest desired state of one agent; replaces what was to be sent before.
    SendDesired(Box<Desired>),
    /// News for routers, which lead on from the news before.
    PublishRouting(RoutingUpdate),
    /// This member leads no more: what it published is not for newcomers.
    Withdraw,
    /// Decisions that took effect, with their evidence; each told once in the life of a member's disk.
    Decided { index: u64, events: Vec<AuditEvent> },
    /// Where the other members are has changed: see [`super::Member::addresses`].
    Addresses,
    /// A message was not listened to.
    Refused { from: u64, why: MessageRefused },
    /// Nothing more will come: the process ends.
    Stopped(StopReason),
}

/// Why a message of another member was not listened to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageRefused {
    #[error(
        "it belongs to cluster {theirs} and this is {ours}: correct the list of members on one of the two"
    )]
    Cluster { ours: String, theirs: String },
    #[error(
        "its data directory is not the one that joined the group: replace it with `vtctl coordinator replace {from}`"
    )]
    Directory { from: u64 },
    #[error("a snapshot of {bytes} bytes is larger than any topology may become")]
    SnapshotTooLarge { bytes: u64 },
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("it says nothing that this version understands")]
    Empty,
}

/// Why a member ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    #[error("told to stop")]
    Told,
    #[error(
        "member {id} was removed from the group: to use this host again, give it an empty data directory and add it as a new member"
    )]
    Removed { id: u64 },
    #[error(
        "the group {successor} has taken the place of {ours}, restored from a backup or recovered: what this member holds counts no more. \
         Keep its data directory as long as you may need it, give this host an empty one, and add it with `vtctl coordinator add`"
    )]
    Superseded { ours: String, successor: String },
}

/// Why a write was not done, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not done; to be sent to the leader.
    #[error("this coordinator does not lead: ask {}", leader.as_deref().unwrap_or("again in a moment, there is no leader now"))]
    NotLeader { leader: Option<String> },
    /// Not done, and doing it again would not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not done; to be tried again.
    #[error("too many writes are waiting: try again")]
    Busy,
    #[error("the write is too large: split it")]
    TooLarge,
    /// Not done.
    #[error("the deadline had passed before the write was begun; nothing was done")]
    Late,
    /// Not done.
    #[error(
        "the disk of this coordinator is full: free space in its data directory; another member will lead meanwhile"
    )]
    DiskFull,
    /// Perhaps done. The same request id may be sent again.
    #[error("whether the write was done is not known yet: send it again with the same request id")]
    Unknown,
    #[error("this coordinator is stopping")]
    Stopped,
}

/// Why a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("this coordinator does not lead: ask {}, or for a stale answer", leader.as_deref().unwrap_or("again in a moment, there is no leader now"))]
    NotLeader { leader: Option<String> },
    #[error("too many reads are waiting: try again")]
    Busy,
    #[error("no majority of coordinators confirmed in time what the newest state is: try again")]
    TimedOut,
    #[error("this coordinator is stopping")]
    Stopped,
}

/// Why leadership is not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("this coordinator does not lead: ask {}", leader.as_deref().unwrap_or("again in a moment, there is no leader now"))]
    NotLeader { leader: Option<String> },
    #[error("{}", to.map_or("there is no other voter to lead".to_owned(), |to| format!("coordinator {to} cannot lead: it is no other voter of the group")))]
    Nobody { to: Option<u64> },
}
