//! The raft library's structs <-> our messages, field by field. From outside every enum and every order is checked here,
//! because the library panics where they are wrong.

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
use vt_proto::wire;

use super::MemberChange;

/// A message that the library must not see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("message type {0} is not one that members send each other")]
    Type(u32),
    #[error("entry type {0} is not known: the sender may be newer")]
    EntryType(u32),
    #[error("the entries of the message do not follow each other")]
    Order,
    #[error("the message is from member {from} to member {to}")]
    WrongMember { from: u64, to: u64 },
    #[error("the change of membership in the message makes no sense")]
    Membership,
}

/// The types that travel between members, with their numbers on the wire. The others are the library's own affairs, or
/// are not used: nobody forwards proposals.
const TYPES: &[(MessageType, u32)] = &[
    (MessageType::MsgAppend, 1),
    (MessageType::MsgAppendResponse, 2),
    (MessageType::MsgRequestVote, 3),
    (MessageType::MsgRequestVoteResponse, 4),
    (MessageType::MsgSnapshot, 5),
    (MessageType::MsgHeartbeat, 6),
    (MessageType::MsgHeartbeatResponse, 7),
    (MessageType::MsgTimeoutNow, 8),
    (MessageType::MsgRequestPreVote, 9),
    (MessageType::MsgRequestPreVoteResponse, 10),
    (MessageType::MsgReadIndex, 11),
    (MessageType::MsgReadIndexResp, 12),
];

/// The type of an entry that carries a command.
pub const NORMAL_ENTRY: u32 = 0;
/// The type of an entry that changes who is in the group.
pub const MEMBERSHIP_ENTRY: u32 = 2;

/// The library carries the context of a read in an entry that is none; on the wire it stands in the context.
fn is_read(message_type: MessageType) -> bool {
    matches!(
        message_type,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    )
}

pub(super) fn message_to_wire(message: &Message) -> wire::RaftMessage {
    let number = |of: MessageType| TYPES.iter().find(|(t, _)| *t == of).map(|(_, n)| *n);
    let snapshot = message.get_snapshot();
    let is_read = is_read(message.get_msg_type());
    let entries = message.entries.iter().filter(|_| !is_read);
    let read = message.entries.first().filter(|_| is_read);
    wire::RaftMessage {
        // Zero is refused by the receiver.
        message_type: number(message.get_msg_type()).unwrap_or(0),
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: (!snapshot.is_empty()).then(|| snapshot_to_wire(snapshot)),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: read.map_or(&message.context, |entry| &entry.data).to_vec(),
        deprecated_priority: message.deprecated_priority,
        priority: message.priority,
    }
}

pub(super) fn message_from_wire(message: wire::RaftMessage) -> Result<Message, MessageError> {
    let number = message.message_type;
    let message_type = TYPES.iter().find(|(_, n)| *n == number);
    let (message_type, _) = message_type.ok_or(MessageError::Type(number))?;
    check_order(&message)?;
    if *message_type == MessageType::MsgSnapshot && message.snapshot.is_none() {
        return Err(MessageError::Order);
    }
    let mut entries = message
        .entries
        .into_iter()
        .map(entry_from_wire)
        .collect::<Result<Vec<_>, _>>()?;
    let mut context = message.context;
    if is_read(*message_type) {
        if context.is_empty() || !entries.is_empty() {
            return Err(MessageError::Order);
        }
        entries.push(Entry {
            data: std::mem::take(&mut context).into(),
            ..Entry::default()
        });
    }
    let mut out = Message::default();
    out.set_msg_type(*message_type);
    out.to = message.to;
    out.from = message.from;
    out.term = message.term;
    out.log_term = message.log_term;
    out.index = message.index;
    out.set_entries(entries.into());
    out.commit = message.commit;
    out.commit_term = message.commit_term;
    if let Some(snapshot) = message.snapshot {
        out.set_snapshot(snapshot_from_wire(snapshot));
    }
    out.request_snapshot = message.request_snapshot;
    out.reject = message.reject;
    out.reject_hint = message.reject_hint;
    out.context = context.into();
    out.deprecated_priority = message.deprecated_priority;
    out.priority = message.priority;
    Ok(out)
}

/// Entries must continue the position that the message names, with terms that never fall and never pass the sender's.
fn check_order(message: &wire::RaftMessage) -> Result<(), MessageError> {
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in &message.entries {
        index = index.checked_add(1).ok_or(MessageError::Order)?;
        if entry.index != index || entry.term < term || entry.term > message.term {
            return Err(MessageError::Order);
        }
        term = entry.term;
    }
    Ok(())
}

pub(super) fn entry_to_wire(entry: &Entry) -> wire::RaftEntry {
    let (entry_type, data) = match entry.get_entry_type() {
        EntryType::EntryNormal => (NORMAL_ENTRY, entry.data.to_vec()),
        EntryType::EntryConfChangeV2 => {
            let changes = changes_of(entry);
            let message = wire::MembershipChange {
                changes: changes.into_iter().map(change_to_wire).collect(),
            };
            (MEMBERSHIP_ENTRY, message.encode_to_vec())
        }
        EntryType::EntryConfChange => unreachable!("this form of change is never proposed"),
    };
    wire::RaftEntry {
        entry_type,
        term: entry.term,
        index: entry.index,
        data,
        context: entry.context.to_vec(),
    }
}

pub(super) fn entry_from_wire(entry: wire::RaftEntry) -> Result<Entry, MessageError> {
    let mut out = Entry::default();
    match entry.entry_type {
        NORMAL_ENTRY => {
            out.set_entry_type(EntryType::EntryNormal);
            out.data = entry.data.into();
        }
        MEMBERSHIP_ENTRY => {
            let message = wire::MembershipChange::decode(entry.data.as_slice())
                .map_err(|_| MessageError::Membership)?;
            let changes = message.changes.into_iter().map(change_from_wire);
            let changes = changes.collect::<Result<Vec<_>, _>>()?;
            let change = membership_change(&changes);
            out.set_entry_type(EntryType::EntryConfChangeV2);
            let data = change.write_to_bytes();
            out.data = data.map_err(|_| MessageError::Membership)?.into();
        }
        other => return Err(MessageError::EntryType(other)),
    }
    out.term = entry.term;
    out.index = entry.index;
    out.context = entry.context.into();
    Ok(out)
}

/// The library's form of the changes. No changes: to leave a joint group.
pub(super) fn membership_change(changes: &[MemberChange]) -> ConfChangeV2 {
    let single = |change: &MemberChange| {
        let mut single = ConfChangeSingle::default();
        let (kind, id) = match change {
            MemberChange::AddLearner(id) => (ConfChangeType::AddLearnerNode, *id),
            MemberChange::AddVoter(id) => (ConfChangeType::AddNode, *id),
            MemberChange::Remove(id) => (ConfChangeType::RemoveNode, *id),
        };
        single.set_change_type(kind);
        single.node_id = id;
        single
    };
    let mut change = ConfChangeV2::default();
    // The library forgets to leave a joint group if its leader is lost in between: whoever leads does it himself.
    change.set_transition(match changes.len() {
        0 | 1 => ConfChangeTransition::Auto,
        _ => ConfChangeTransition::Explicit,
    });
    change.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    change
}

/// The changes in an entry that the library or [`entry_from_wire`] made.
pub(super) fn changes_of(entry: &Entry) -> Vec<MemberChange> {
    let mut change = ConfChangeV2::default();
    if change.merge_from_bytes(&entry.data).is_err() {
        unreachable!("the entry was written by the same library");
    }
    let kind = |single: &ConfChangeSingle| match single.get_change_type() {
        ConfChangeType::AddLearnerNode => MemberChange::AddLearner(single.node_id),
        ConfChangeType::AddNode => MemberChange::AddVoter(single.node_id),
        ConfChangeType::RemoveNode => MemberChange::Remove(single.node_id),
    };
    change.get_changes().iter().map(kind).collect()
}

fn change_to_wire(change: MemberChange) -> wire::MemberChange {
    use wire::MemberChangeKind as Kind;
    let (kind, id) = match change {
        MemberChange::AddLearner(id) => (Kind::AddLearner, id),
        MemberChange::AddVoter(id) => (Kind::AddVoter, id),
        MemberChange::Remove(id) => (Kind::Remove, id),
    };
    let kind = kind.into();
    wire::MemberChange { kind, id }
}

fn change_from_wire(change: wire::MemberChange) -> Result<MemberChange, MessageError> {
    use wire::MemberChangeKind as Kind;
    let id = Some(change.id).filter(|id| *id != raft::INVALID_ID);
    let id = id.ok_or(MessageError::Membership)?;
    match change.kind() {
        Kind::AddLearner => Ok(MemberChange::AddLearner(id)),
        Kind::AddVoter => Ok(MemberChange::AddVoter(id)),
        Kind::Remove => Ok(MemberChange::Remove(id)),
        Kind::Unspecified => Err(MessageError::Membership),
    }
}

pub(super) fn hard_state_to_wire(state: &HardState) -> wire::RaftHardState {
    wire::RaftHardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}

pub(super) fn hard_state_from_wire(state: wire::RaftHardState) -> HardState {
    HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
        ..HardState::default()
    }
}

pub(super) fn snapshot_to_wire(snapshot: &Snapshot) -> wire::RaftSnapshot {
    let metadata = snapshot.get_metadata();
    let conf_state = metadata.get_conf_state();
    wire::RaftSnapshot {
        index: metadata.index,
        term: metadata.term,
        conf_state: Some(wire::RaftConfState {
            voters: conf_state.voters.clone(),
            learners: conf_state.learners.clone(),
            voters_outgoing: conf_state.voters_outgoing.clone(),
            learners_next: conf_state.learners_next.clone(),
            auto_leave: conf_state.auto_leave,
        }),
        data: snapshot.data.to_vec(),
    }
}

pub(super) fn snapshot_from_wire(snapshot: wire::RaftSnapshot) -> Snapshot {
    let conf = snapshot.conf_state.unwrap_or_default();
    let mut conf_state = ConfState::default();
    conf_state.set_voters(conf.voters);
    conf_state.set_learners(conf.learners);
    conf_state.set_voters_outgoing(conf.voters_outgoing);
    conf_state.set_learners_next(conf.learners_next);
    conf_state.auto_leave = conf.auto_leave;
    let mut metadata = SnapshotMetadata {
        index: snapshot.index,
        term: snapshot.term,
        ..SnapshotMetadata::default()
    };
    metadata.set_conf_state(conf_state);
    let mut out = Snapshot {
        data: snapshot.data.into(),
        ..Snapshot::default()
    };
    out.set_metadata(metadata);
    out
}
