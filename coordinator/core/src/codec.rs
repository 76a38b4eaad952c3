//! The stored form of commands and states: our own messages, with the format in each (see [`crate::format`]). A newer format is
//! refused by name, never guessed at.

use prost::Message;
use vt_proto::{convert::ConvertError, epoch::Revision, wire};

use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    format,
    refusal::Refusal,
    requests::{Outcome, fingerprint},
    state::{State, Versioned},
};

/// Bytes that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Not our message at all.
    #[error("the {what} cannot be decoded")]
    Malformed {
        what: &'static str,
        source: prost::DecodeError,
    },
    /// Our message with a field that makes no sense.
    #[error("the {what} makes no sense")]
    Invalid {
        what: &'static str,
        source: ConvertError,
    },
    /// Written by a newer member.
    #[error(
        "the {what} has format {found} and this member understands up to {understood}: install the newer version here"
    )]
    Newer {
        what: &'static str,
        found: u32,
        understood: u32,
    },
}

/// The lowest format in which a command can be said.
fn format_of(command: &Command) -> u32 {
    if command.refusal.is_some() {
        return format::REFUSALS;
    }
    let needed = command.changes.iter().map(|change| match &change.value {
        Some(RecordValue::ReplicaSet(set)) if set.leaving.is_some() => format::LEAVING,
        _ if matches!(change.key, RecordKey::Drain(_)) => format::DRAINS,
        _ if matches!(change.key, RecordKey::User(_)) => format::USERS,
        _ if matches!(change.key, RecordKey::Coordinator(_)) => format::COORDINATORS,
        _ => format::FIRST,
    });
    needed.max().unwrap_or(format::FIRST)
}

/// The bytes of a log entry.
pub fn encode_command(command: &Command) -> Vec<u8> {
    if let Some(refusal) = &command.refusal {
        let outcome = Err(refusal.clone());
        let message = wire::Command {
            version: format_of(command),
            refused: Some(request_to_wire((&command.request_id, &outcome))),
            ..wire::Command::default()
        };
        return message.encode_to_vec();
    }
    let changes = command.changes.iter().map(|change| wire::RecordChange {
        key: Some(change.key.to_wire()),
        expected_revision: change.expected.0,
        value: change.value.clone().map(RecordValue::into_wire),
    });
    let events = command.events.iter().cloned();
    let message = wire::Command {
        version: format_of(command),
        request_id: command.request_id.clone(),
        changes: changes.collect(),
        events: events.map(Into::into).collect(),
        refused: None,
    };
    message.encode_to_vec()
}

/// The command that the bytes of a log entry stand for.
pub fn decode_command(bytes: &[u8]) -> Result<Command, CodecError> {
    command_from(bytes, format::NEWEST)
}

/// The same for a member that understands formats up to `newest`.
pub(crate) fn command_from(bytes: &[u8], newest: u32) -> Result<Command, CodecError> {
    const WHAT: &str = "log entry";
    let message = wire::Command::decode(bytes)
        .map_err(|source| CodecError::Malformed { what: WHAT, source })?;
    check_version(WHAT, message.version, newest)?;
    if let Some(refused) = message.refused {
        let refusal = refusal_from_wire(refused);
        return refusal.map_err(|source| CodecError::Invalid { what: WHAT, source });
    }
    let mut changes = Vec::with_capacity(message.changes.len());
    for (position, change) in message.changes.into_iter().enumerate() {
        let change = Change::from_wire(change).map_err(|source| CodecError::Invalid {
            what: WHAT,
            source: source.within(&format!("changes[{position}]")),
        })?;
        changes.push(change);
    }
    let events = message.events.into_iter().map(Into::into).collect();
    Ok(Command::new(message.request_id, changes, events))
}

fn refusal_from_wire(refused: wire::StoredRequest) -> Result<Command, ConvertError> {
    let (request_id, outcome) =
        request_from_wire(refused).map_err(|error| error.within("refused"))?;
    match outcome {
        Err(refusal) => Ok(Command::refusal(request_id, refusal)),
        Ok(_) => Err(ConvertError::missing("refused.refusal")),
    }
}

/// The bytes of a state: the same for equal states.
pub fn encode_state(state: &State) -> Vec<u8> {
    let events = state.events.iter().cloned();
    // Coordinators can be there before all of them understand the format that has them.
    let version = match state.coordinators.is_empty() {
        true => state.format,
        false => state.format.max(format::COORDINATORS),
    };
    let added = version >= format::COORDINATORS;
    let message = wire::StoredState {
        version,
        cluster_id: state.cluster_id.clone(),
        applied_index: state.applied,
        next_schema_change: state.next_schema_change,
        next_event: state.next_event,
        records: state.records().map(Versioned::into_wire).collect(),
        next_coordinator: if added { state.next_coordinator } else { 0 },
        format: if added { state.format } else { 0 },
        events: events
            .map(|(sequence, event)| wire::StoredEvent {
                sequence,
                event: Some(event.into()),
            })
            .collect(),
        requests: state.requests.iter().map(request_to_wire).collect(),
    };
    message.encode_to_vec()
}

/// The state that the bytes stand for.
pub fn decode_state(bytes: &[u8]) -> Result<State, CodecError> {
    state_from(bytes, format::NEWEST)
}

/// The same for a member that understands formats up to `newest`.
pub(crate) fn state_from(bytes: &[u8], newest: u32) -> Result<State, CodecError> {
    const WHAT: &str = "stored state";
    let message = wire::StoredState::decode(bytes)
        .map_err(|source| CodecError::Malformed { what: WHAT, source })?;
    check_version(WHAT, message.version, newest)?;
    state_from_wire(message).map_err(|source| CodecError::Invalid { what: WHAT, source })
}

impl State {
    /// Equal for equal states, on every member: what coordinators at the same log index compare.
    pub fn hash(&self) -> u64 {
        fingerprint(&encode_state(self))
    }
}

fn check_version(what: &'static str, found: u32, understood: u32) -> Result<(), CodecError> {
    if found > understood {
        return Err(CodecError::Newer {
            what,
            found,
            understood,
        });
    }
    if found == 0 {
        let source = ConvertError::missing("version");
        return Err(CodecError::Invalid { what, source });
    }
    Ok(())
}

fn state_from_wire(message: wire::StoredState) -> Result<State, ConvertError> {
    let mut state = State {
        cluster_id: message.cluster_id,
        applied: message.applied_index,
        next_schema_change: message.next_schema_change,
        next_event: message.next_event,
        // The first format has neither.
        next_coordinator: message.next_coordinator.max(1),
        format: message.format.max(format::FIRST),
        ..State::default()
    };
    for (position, record) in message.records.into_iter().enumerate() {
        let within = |error: ConvertError| error.within(&format!("records[{position}]"));
        let key = RecordKey::from_wire(record.key).map_err(within)?;
        let value = record
            .value
            .ok_or_else(|| within(ConvertError::missing("value")))?;
        let value = RecordValue::from_wire(value).map_err(within)?;
        if value.key() != key {
            return Err(within(ConvertError::new("key", "it names another record")));
        }
        state.put(Revision(record.revision), value);
    }
    for (position, stored) in message.events.into_iter().enumerate() {
        let event = stored
            .event
            .ok_or_else(|| ConvertError::missing(&format!("events[{position}].event")))?;
        state.events.push(stored.sequence, event.into());
    }
    for (position, request) in message.requests.into_iter().enumerate() {
        let within = |error: ConvertError| error.within(&format!("requests[{position}]"));
        let (id, outcome) = request_from_wire(request).map_err(within)?;
        if !state.requests.push(id, outcome, usize::MAX) {
            return Err(within(ConvertError::new("request_id", "it is there twice")));
        }
    }
    Ok(state)
}

fn request_to_wire((request_id, outcome): (&str, &Outcome)) -> wire::StoredRequest {
    let mut stored = wire::StoredRequest {
        request_id: request_id.to_owned(),
        ..wire::StoredRequest::default()
    };
    match outcome {
        Ok(revision) => stored.revision = revision.0,
        Err(Refusal::Conflict {
            key,
            expected,
            found,
        }) => {
            stored.conflict = Some(wire::StoredConflict {
                key: Some(key.to_wire()),
                expected_revision: expected.0,
                found_revision: found.0,
            });
        }
        Err(
            Refusal::Invalid { reason } | Refusal::Missing { reason } | Refusal::Exists { reason },
        ) => stored.refusal.clone_from(reason),
    }
    stored.set_kind(match outcome {
        Err(Refusal::Missing { .. }) => wire::RefusalKind::Missing,
        Err(Refusal::Exists { .. }) => wire::RefusalKind::Exists,
        _ => wire::RefusalKind::Unspecified,
    });
    stored
}

fn request_from_wire(stored: wire::StoredRequest) -> Result<(String, Outcome), ConvertError> {
    let outcome = if let Some(conflict) = stored.conflict {
        Err(Refusal::Conflict {
            key: RecordKey::from_wire(conflict.key).map_err(|error| error.within("conflict"))?,
            expected: Revision(conflict.expected_revision),
            found: Revision(conflict.found_revision),
        })
    } else if stored.refusal.is_empty() {
        Ok(Revision(stored.revision))
    } else {
        let reason = stored.refusal;
        let kind = wire::RefusalKind::try_from(stored.kind)
            .map_err(|_| ConvertError::new("kind", "it is not known"))?;
        Err(match kind {
            wire::RefusalKind::Unspecified => Refusal::Invalid { reason },
            wire::RefusalKind::Missing => Refusal::Missing { reason },
            wire::RefusalKind::Exists => Refusal::Exists { reason },
        })
    };
    Ok((stored.request_id, outcome))
}

#[cfg(test)]
mod tests;
