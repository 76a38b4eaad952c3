//! The raft library's structs <-> our messages, field by field. From outside every enum and every order is checked here,
//! because the library panics where they are wrong.

use raft::eraftpb::{
    ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
use vt_proto::wire;

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
}

/// The types that travel between members, with their numbers on the wire. The others are the library's own affairs, or
/// are not used: nobody forwards proposals or reads.
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
];

/// The only type of entry: membership does not change yet.
const NORMAL_ENTRY: u32 = 0;

pub(super) fn message_to_wire(message: &Message) -> wire::RaftMessage {
    let number = |of: MessageType| TYPES.iter().find(|(t, _)| *t == of).map(|(_, n)| *n);
    let snapshot = message.get_snapshot();
    wire::RaftMessage {
        // Who carries the message knows the cluster.
        cluster_id: String::new(),
        // Zero is refused by the receiver.
        message_type: number(message.get_msg_type()).unwrap_or(0),
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.iter().map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: (!snapshot.is_empty()).then(|| snapshot_to_wire(snapshot)),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context.to_vec(),
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
    let entries = message.entries.into_iter().map(entry_from_wire);
    let mut out = Message::default();
    out.set_msg_type(*message_type);
    out.to = message.to;
    out.from = message.from;
    out.term = message.term;
    out.log_term = message.log_term;
    out.index = message.index;
    out.set_entries(entries.collect::<Result<Vec<_>, _>>()?.into());
    out.commit = message.commit;
    out.commit_term = message.commit_term;
    if let Some(snapshot) = message.snapshot {
        out.set_snapshot(snapshot_from_wire(snapshot));
    }
    out.request_snapshot = message.request_snapshot;
    out.reject = message.reject;
    out.reject_hint = message.reject_hint;
    out.context = message.context.into();
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
    assert_eq!(
        entry.get_entry_type(),
        EntryType::EntryNormal,
        "nobody proposes changes of membership"
    );
    wire::RaftEntry {
        entry_type: NORMAL_ENTRY,
        term: entry.term,
        index: entry.index,
        data: entry.data.to_vec(),
        context: entry.context.to_vec(),
    }
}

pub(super) fn entry_from_wire(entry: wire::RaftEntry) -> Result<Entry, MessageError> {
    if entry.entry_type != NORMAL_ENTRY {
        return Err(MessageError::EntryType(entry.entry_type));
    }
    let mut out = Entry::default();
    out.set_entry_type(EntryType::EntryNormal);
    out.term = entry.term;
    out.index = entry.index;
    out.data = entry.data.into();
    out.context = entry.context.into();
    Ok(out)
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
