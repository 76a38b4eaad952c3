//! Where a member stands in its group, for people and for those who look for the leader.

use crate::{event::Now, peer::Membership};

/// What a member of the group is to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It is to be in the group and is not yet: it has to be started, or to catch up.
    #[default]
    Joining,
    /// Receives the log and does not vote yet.
    Learner,
    Voter,
    /// It is to leave.
    Leaving,
}

/// A member as the answering one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: u64,
    /// Where it serves gRPC, as host:port.
    pub address: String,
    pub part: Part,
    /// The log index up to which it is known to have everything; zero where it is not known.
    pub matched: u64,
    /// Since when nothing was heard of it; None if nothing ever was.
    pub last_heard_ms: Option<u64>,
}

/// Where this member stands in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    pub cluster_id: String,
    pub id: u64,
    pub term: u64,
    pub leader_id: Option<u64>,
    pub leader_address: Option<String>,
    /// This member leads and has applied everything that was ever committed.
    pub is_leader: bool,
    pub applied: u64,
    pub commit: u64,
    pub snapshot_index: u64,
    pub log_start: u64,
    pub log_bytes: u64,
    /// Its disk takes nothing now.
    pub disk_full: bool,
    /// Its disk has owed an answer for too long.
    pub disk_stalled: bool,
    pub membership: Membership,
    /// What a change of membership waits for.
    pub membership_waits: Option<String>,
    /// In order of their ids.
    pub members: Vec<MemberStatus>,
    /// When this was true.
    pub now: Now,
}
