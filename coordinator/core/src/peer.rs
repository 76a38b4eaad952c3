//! A thin deterministic wrapper around the raft library: what one member of the coordinators' raft group knows and says.
//!
//! Election time-outs come from a seed that is an argument, so that a simulation replays; the library's own random draws are
//! overwritten after every call. Never does I/O: [`Peer::ready`] says what to persist and what to send, and in which order.
//! Messages from outside are checked before the library, which panics on nonsense, sees them.

use std::collections::{BTreeMap, VecDeque};

use raft::{
    RawNode, ReadOnlyOption, SnapshotStatus, StateRole,
    eraftpb::{EntryType, MessageType},
};
use vt_proto::wire;

mod convert;
mod log;
mod random;
mod snapshots;
mod stored;

pub use convert::{MEMBERSHIP_ENTRY, MessageError, NORMAL_ENTRY};
pub use stored::{Batch, LogStart, Stored};

use log::MemoryLog;
use random::SplitMix;

/// Ticks without a leader before an election; twice as many at most.
pub const ELECTION_TICKS: usize = 10;
/// Ticks between two heartbeats of a leader.
pub const HEARTBEAT_TICKS: usize = 2;
/// Size of one append message: several fit into a gRPC message, and one does not delay heartbeats noticeably.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages on their way to one member: more than a round trip within a region can hold.
pub const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Bytes of proposals that are not committed yet; beyond it proposals are refused as busy.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one proposal: several fit one append message, and a storage keeps it in one piece.
pub const PROPOSAL_BYTES_MAX: usize = 128 << 10;
/// Bytes of entries applied at one time, so that ticks are not late after a restart.
const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 << 20;

/// Who this member is. With whom it agrees stands in what is stored.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub id: u64,
    /// Seed of the election time-outs.
    pub seed: u64,
}

/// One change of who is in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberChange {
    /// Receives the log and does not count.
    AddLearner(u64),
    AddVoter(u64),
    Remove(u64),
}

/// Who is in the group, as far as this member has applied the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// Those who voted before the change that is under way; empty when none is.
    pub voters_before: Vec<u64>,
}

impl Membership {
    /// Everybody whose vote counts now.
    pub fn votes(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.voters_before.contains(&id)
    }

    /// Everybody who receives the log.
    pub fn holds(&self, id: u64) -> bool {
        self.votes(id) || self.learners.contains(&id)
    }

    fn of(conf: &raft::eraftpb::ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        let mut learners = sorted(&conf.learners);
        learners.extend(sorted(&conf.learners_next));
        Self {
            voters: sorted(&conf.voters),
            learners,
            voters_before: sorted(&conf.voters_outgoing),
        }
    }
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this member does not lead")]
    NotLeader,
    #[error("too many proposals are waiting to be committed: try again")]
    Busy,
    #[error("the proposal is larger than {PROPOSAL_BYTES_MAX} bytes: split it")]
    TooLarge,
}

/// The raft library refused to start or to go on.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the stored log is not usable: {reason}")]
    Stored { reason: String },
    #[error("raft refuses")]
    Raft(#[from] raft::Error),
}

/// Whether this member leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
}

/// A log entry that a majority has: to be applied in order, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub content: Content,
}

/// What a committed entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The mark of a new leader, and what is left of a change of membership that came too early.
    Empty,
    Command(Vec<u8>),
    /// Who is in the group from here on.
    Membership(Membership),
}

/// A read may be answered from the state at `index` or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReady {
    pub context: Vec<u8>,
    pub index: u64,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq)]
pub struct Ready {
    /// For [`Peer::persisted`].
    pub number: u64,
    /// To be persisted, in the order of numbers; one flush may serve several.
    pub batch: Batch,
    pub send_now: Vec<wire::RaftMessage>,
    /// They promise what stands in this batch and all earlier ones: to be sent when those are on disk, never before.
    pub send_after_persist: Vec<wire::RaftMessage>,
    /// A snapshot of the leader: replaces the applied state, before anything of `committed`.
    pub installed: Option<wire::RaftSnapshot>,
    pub committed: Vec<Committed>,
    pub reads: Vec<ReadReady>,
}

/// What a leader knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    pub id: u64,
    pub matched: u64,
    /// Heard within the last election time-out.
    pub active: bool,
}

/// One member of the raft group.
pub struct Peer {
    node: RawNode<MemoryLog>,
    random: SplitMix,
    /// Term and role for which the election time-out was drawn.
    drawn_for: (u64, StateRole),
    election_ticks: usize,
    /// Numbers of ready values that are not persisted, with the index of the snapshot in it.
    unpersisted: VecDeque<(u64, Option<u64>)>,
    /// How long a member has owed the answer to a snapshot.
    snapshot_ticks: BTreeMap<u64, u32>,
    /// How long the snapshot that is held ready was not received by anybody.
    snapshot_idle_ticks: u32,
    last_hard_state: wire::RaftHardState,
    electable: bool,
}

impl Peer {
    /// The member as it was when `stored` was persisted. The applied state must be that of the stored snapshot.
    pub fn new(
        config: &PeerConfig,
        stored: Stored,
        logger: &slog::Logger,
    ) -> Result<Self, PeerError> {
        let stored = stored.repaired()?;
        let last_hard_state = stored.hard_state;
        let applied = stored.snapshot.as_ref().map_or(0, |s| s.index);
        let raft_config = raft::Config {
            id: config.id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..raft::Config::default()
        };
        let node = RawNode::new(&raft_config, MemoryLog::new(stored)?, logger)?;
        let mut peer = Self {
            drawn_for: (u64::MAX, StateRole::Follower),
            node,
            random: SplitMix::new(config.seed),
            election_ticks: ELECTION_TICKS,
            unpersisted: VecDeque::new(),
            snapshot_ticks: BTreeMap::new(),
            snapshot_idle_ticks: 0,
            last_hard_state,
            electable: true,
        };
        if peer.membership().voters == [config.id] {
            // There is nobody to wait for.
            peer.node.campaign()?;
        }
        peer.keep_election_ticks();
        Ok(peer)
    }

    /// One tick passed.
    pub fn tick(&mut self) {
        if self.may_campaign() || self.is_leader() {
            self.node.tick();
        }
        self.give_up_lost_snapshots();
        self.keep_election_ticks();
    }

    /// A message of another member arrived. Nonsense is refused and changes nothing. The sender may be unknown: a member that
    /// is behind does not know everybody yet.
    pub fn step(&mut self, message: wire::RaftMessage) -> Result<(), MessageError> {
        let mut message = convert::message_from_wire(message)?;
        let me = self.node.raft.id;
        if message.from == raft::INVALID_ID || message.from == me || message.to != me {
            return Err(MessageError::WrongMember {
                from: message.from,
                to: message.to,
            });
        }
        if message.get_msg_type() == MessageType::MsgHeartbeat {
            // The leader remembers more than this member has only if its disk was lost; what is there must do.
            message.commit = message.commit.min(self.node.raft.raft_log.last_index());
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && !self.may_campaign() {
            // The leader that wanted to hand over goes on leading.
            return Ok(());
        }
        // What the library drops without harm, it reports as an error: a message of an unknown member, for example.
        drop(self.node.step(message));
        self.keep_election_ticks();
        Ok(())
    }

    /// A snapshot of the leader may be on its way to the disk. The library counts it as applied when it is there, and panics if
    /// it is to campaign before: the entries that it wants to look through are gone.
    fn may_campaign(&self) -> bool {
        let mut unpersisted = self.unpersisted.iter();
        self.electable && unpersisted.all(|(_, snapshot)| snapshot.is_none())
    }

    /// Whether it may be elected: one that cannot promise anything, for its disk hangs, only delays those who can.
    pub fn set_electable(&mut self, electable: bool) {
        self.electable = electable;
    }

    /// Neither leads nor wants to any more, and waits for another one that does.
    pub fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.keep_election_ticks();
    }

    /// Appends an entry to the log of the group; whether it is committed is seen in a later [`Ready`].
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        if data.len() > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge);
        }
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        self.node
            .propose(Vec::new(), data)
            .map_err(|_| ProposeError::Busy)
    }

    /// Appends a change of who is in the group. No changes: to leave a joint group. At most one change is under way.
    pub fn propose_membership(&mut self, changes: &[MemberChange]) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        if self.node.raft.has_pending_conf() {
            return Err(ProposeError::Busy);
        }
        let change = convert::membership_change(changes);
        self.node
            .propose_conf_change(Vec::new(), change)
            .map_err(|_| ProposeError::Busy)
    }

    /// A change of who is in the group may be in the log and is not applied.
    pub fn membership_changes(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Who is in the group, as far as applied.
    pub fn membership(&self) -> Membership {
        Membership::of(&self.node.raft.prs().conf().to_conf_state())
    }

    /// Asks for the index at which reads that began before this call may be answered. Another member asks its leader; the
    /// question or its answer may be lost. The context must be different from all that any member ever used.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.node.read_index(context);
    }

    /// What is to be done, if anything is.
    pub fn ready(&mut self) -> Result<Option<Ready>, PeerError> {
        if !self.node.has_ready() {
            return Ok(None);
        }
        let mut ready = self.node.ready();
        let mut batch = Batch::default();
        let mut installed = None;
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            installed = Some(convert::snapshot_to_wire(&snapshot));
            self.node.mut_store().install(&snapshot);
            batch.snapshot.clone_from(&installed);
            batch.start = installed.as_ref().map(|s| LogStart {
                index: s.index,
                term: s.term,
            });
            batch.reset = true;
        }
        if !ready.entries().is_empty() {
            let entries = ready.take_entries();
            batch.entries = entries.iter().map(convert::entry_to_wire).collect();
            self.node.mut_store().append(entries);
        }
        if let Some(hard_state) = ready.hs() {
            self.last_hard_state = convert::hard_state_to_wire(hard_state);
        }
        if ready.must_sync() {
            // A growing commit index alone is not worth a flush: it is found again by talking to the others.
            batch.hard_state = Some(self.last_hard_state);
        }
        let number = ready.number();
        let to_wire = |messages: Vec<_>| messages.iter().map(convert::message_to_wire).collect();
        let committed = ready.take_committed_entries();
        let out = Ready {
            number,
            batch,
            send_now: to_wire(ready.take_messages()),
            send_after_persist: to_wire(ready.take_persisted_messages()),
            committed: self.commit(committed)?,
            reads: reads(ready.take_read_states()),
            installed,
        };
        let snapshot_index = out.installed.as_ref().map(|s| s.index);
        self.unpersisted.push_back((number, snapshot_index));
        self.node.advance_append_async(ready);
        Ok(Some(out))
    }

    /// Everything up to the ready value of this number is on disk.
    pub fn persisted(&mut self, number: u64) {
        let mut snapshot_index = None;
        while let Some((first, snapshot)) = self.unpersisted.front() {
            if *first > number {
                break;
            }
            snapshot_index = snapshot.or(snapshot_index);
            self.unpersisted.pop_front();
        }
        self.node.on_persist_ready(number);
        if let Some(index) = snapshot_index {
            self.node.advance_apply_to(index);
        }
        self.keep_election_ticks();
    }

    /// The committed entries up to `index` were applied.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.keep_election_ticks();
    }

    /// Messages that wait for the next ready value.
    #[cfg(test)]
    pub(crate) fn unsent(&self) -> usize {
        self.node.raft.msgs.len()
    }

    fn commit(&mut self, entries: Vec<raft::eraftpb::Entry>) -> Result<Vec<Committed>, PeerError> {
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            let content = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => Content::Empty,
                EntryType::EntryNormal => Content::Command(entry.data.to_vec()),
                _ => {
                    let change = convert::membership_change(&convert::changes_of(&entry));
                    // A change that does not fit, the library refuses on every member alike.
                    match self.node.apply_conf_change(&change) {
                        Ok(conf) => {
                            self.step_down_if_left_out();
                            Content::Membership(Membership::of(&conf))
                        }
                        Err(raft::Error::ConfChangeError(_)) => Content::Empty,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            let index = entry.index;
            committed.push(Committed { index, content });
        }
        Ok(committed)
    }

    /// A leader that a change has left out of the group keeps no progress of its own, and the library panics when it confirms a
    /// write: it must not lead for a moment longer. Those who stay elect another one.
    fn step_down_if_left_out(&mut self) {
        let me = self.node.raft.id;
        if self.is_leader() && self.node.raft.prs().get(me).is_none() {
            self.step_down();
        }
    }

    /// Keeps a snapshot of the state at the applied index on disk, and of the log the entries after `keep_after`, or fewer
    /// where they take more than `tail_bytes_max`. Returns what to persist.
    pub fn compact(&mut self, state: Vec<u8>, keep_after: u64, tail_bytes_max: u64) -> Batch {
        let index = self.node.raft.raft_log.applied();
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        let log = self.node.mut_store();
        let snapshot = log.snapshot_at(index, conf_state, state);
        let keep_after = keep_after.max(log.index_leaving_bytes(tail_bytes_max));
        let start = log.drop_entries_up_to(keep_after.min(index));
        self.last_hard_state.commit = self.last_hard_state.commit.max(index);
        Batch {
            hard_state: Some(self.last_hard_state),
            snapshot: Some(convert::snapshot_to_wire(&snapshot)),
            start: Some(start),
            ..Batch::default()
        }
    }

    /// A member is too far behind for the log: [`Peer::offer_snapshot`] is waited for.
    pub fn wants_snapshot(&self) -> bool {
        self.is_leader() && self.node.store().wants_snapshot()
    }

    /// Offers the state at the applied index to members that are too far behind for the log.
    pub fn offer_snapshot(&mut self, state: Vec<u8>) {
        let index = self.node.raft.raft_log.applied();
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        let log = self.node.mut_store();
        let snapshot = log.snapshot_at(index, conf_state, state);
        log.hold_snapshot(Some(snapshot));
        self.snapshot_idle_ticks = 0;
    }

    /// The snapshot that was sent to this member arrived, or will not.
    pub fn snapshot_sent(&mut self, id: u64, arrived: bool) {
        let status = match arrived {
            true => SnapshotStatus::Finish,
            false => SnapshotStatus::Failure,
        };
        self.snapshot_ticks.remove(&id);
        self.node.report_snapshot(id, status);
    }

    /// A snapshot is still on its way to this member: that it does not answer means nothing.
    pub fn snapshot_goes_on(&mut self, id: u64) {
        self.snapshot_ticks.remove(&id);
    }

    /// Hands leadership to this voter, or to the one that is furthest. Returns to whom, if there is anybody.
    pub fn transfer_leadership(&mut self, to: Option<u64>) -> Option<u64> {
        let me = self.node.raft.id;
        let voters = self.membership().voters;
        let others = self.progress().into_iter();
        let others = others.filter(|m| m.id != me && voters.contains(&m.id));
        let mut others = others.filter(|m| to.is_none_or(|to| to == m.id));
        let to = others.by_ref().max_by_key(|m| (m.active, m.matched))?.id;
        self.node.transfer_leader(to);
        self.keep_election_ticks();
        Some(to)
    }

    /// A message to that member could not be sent.
    pub fn unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    pub fn is_leader(&self) -> bool {
        self.role() == Role::Leader
    }

    /// Leads, and has applied an entry of its own term: knows everything that was ever committed.
    pub fn leads(&self) -> bool {
        self.is_leader() && self.node.raft.apply_to_current_term()
    }

    /// The leader as far as known.
    pub fn leader_id(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != raft::INVALID_ID)
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The index before the first entry that is still in the log.
    pub fn log_start_index(&self) -> u64 {
        self.node.store().start().index
    }

    /// Bytes of the log in memory, about.
    pub fn log_bytes(&self) -> u64 {
        self.node.store().bytes()
    }

    /// What is known of each member, in order of their ids; empty where it does not lead.
    pub fn progress(&self) -> Vec<MemberProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let me = self.node.raft.id;
        let progress = self.node.raft.prs().iter();
        let progress = progress.map(|(id, progress)| MemberProgress {
            id: *id,
            matched: progress.matched,
            active: progress.recent_active || *id == me,
        });
        let mut progress: Vec<_> = progress.collect();
        progress.sort_unstable_by_key(|member| member.id);
        progress
    }

    /// The library draws election time-outs at random whenever it resets: put ours in their place. A new one is drawn only
    /// when term or role changed, so that it does not matter what the library drew.
    fn keep_election_ticks(&mut self) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.drawn_for {
            self.drawn_for = now;
            let beyond = self.random.below(ELECTION_TICKS as u64);
            self.election_ticks = ELECTION_TICKS + usize::try_from(beyond).unwrap_or(0);
        }
        if self.node.raft.randomized_election_timeout() != self.election_ticks {
            let ticks = self.election_ticks;
            self.node.raft.set_randomized_election_timeout(ticks);
        }
    }
}

fn reads(states: Vec<raft::ReadState>) -> Vec<ReadReady> {
    let convert = |state: raft::ReadState| ReadReady {
        context: state.request_ctx,
        index: state.index,
    };
    states.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests;
