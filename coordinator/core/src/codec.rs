//! The stored form of commands and states: our own messages, with a version in each. Reads its own version and the one
//! before; a newer one is refused by name, never guessed at.

use prost::Message;
use vt_proto::{
    convert::{ConvertError, parse},
    epoch::Revision,
    wire,
};

use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    refusal::Refusal,
    state::{State, Versioned},
};

/// The format of log entries that this member writes.
pub const COMMAND_VERSION: u32 = 1;
/// The format of states (snapshots) that this member writes.
pub const STATE_VERSION: u32 = 1;

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

/// The bytes of a log entry.
pub fn encode_command(command: &Command) -> Vec<u8> {
    let changes = command.changes.iter().map(|change| wire::RecordChange {
        key: Some(key_to_wire(&change.key)),
        expected_revision: change.expected.0,
        value: change.value.clone().map(value_to_wire),
    });
    let events = command.events.iter().cloned();
    let message = wire::Command {
        version: COMMAND_VERSION,
        request_id: command.request_id.clone(),
        changes: changes.collect(),
        events: events.map(Into::into).collect(),
    };
    message.encode_to_vec()
}

/// The command that the bytes of a log entry stand for.
pub fn decode_command(bytes: &[u8]) -> Result<Command, CodecError> {
    const WHAT: &str = "log entry";
    let message = wire::Command::decode(bytes)
        .map_err(|source| CodecError::Malformed { what: WHAT, source })?;
    check_version(WHAT, message.version, COMMAND_VERSION)?;
    let mut changes = Vec::with_capacity(message.changes.len());
    for (position, change) in message.changes.into_iter().enumerate() {
        let change = change_from_wire(change).map_err(|source| CodecError::Invalid {
            what: WHAT,
            source: source.within(&format!("changes[{position}]")),
        })?;
        changes.push(change);
    }
    Ok(Command {
        request_id: message.request_id,
        changes,
        events: message.events.into_iter().map(Into::into).collect(),
    })
}

/// The bytes of a state: the same for equal states.
pub fn encode_state(state: &State) -> Vec<u8> {
    let events = state.events.iter().cloned();
    let message = wire::StoredState {
        version: STATE_VERSION,
        cluster_id: state.cluster_id.clone(),
        applied_index: state.applied,
        next_schema_change: state.next_schema_change,
        next_event: state.next_event,
        records: records_to_wire(state),
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
    const WHAT: &str = "stored state";
    let message = wire::StoredState::decode(bytes)
        .map_err(|source| CodecError::Malformed { what: WHAT, source })?;
    check_version(WHAT, message.version, STATE_VERSION)?;
    state_from_wire(message).map_err(|source| CodecError::Invalid { what: WHAT, source })
}

/// A number that tells byte strings apart (FNV-1a, 64 bits): no key, no platform, no library version in it. Not for secrets.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
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

fn key_to_wire(key: &RecordKey) -> wire::RecordKey {
    use wire::record_key::Key;
    let key = match key {
        RecordKey::Cell(name) => Key::Cell(name.to_string()),
        RecordKey::Keyspace(name) => Key::Keyspace(name.to_string()),
        RecordKey::Shard(keyspace, range) => Key::Shard(wire::ShardKey {
            keyspace: keyspace.to_string(),
            range: range.to_string(),
        }),
        RecordKey::ReplicaSet(name) => Key::ReplicaSet(name.to_string()),
        RecordKey::Tablet(alias) => Key::Tablet(alias.to_string()),
        RecordKey::VschemaTable(keyspace, table) => Key::VschemaTable(wire::TableKey {
            keyspace: keyspace.to_string(),
            table: table.clone(),
        }),
        RecordKey::SchemaChange(id) => Key::SchemaChange(*id),
    };
    wire::RecordKey { key: Some(key) }
}

fn key_from_wire(key: Option<wire::RecordKey>) -> Result<RecordKey, ConvertError> {
    use wire::record_key::Key;
    let key = key.and_then(|key| key.key);
    Ok(match key.ok_or_else(|| ConvertError::missing("key"))? {
        Key::Cell(name) => RecordKey::Cell(parse("key.cell", &name)?),
        Key::Keyspace(name) => RecordKey::Keyspace(parse("key.keyspace", &name)?),
        Key::Shard(wire::ShardKey { keyspace, range }) => RecordKey::Shard(
            parse("key.shard.keyspace", &keyspace)?,
            parse("key.shard.range", &range)?,
        ),
        Key::ReplicaSet(name) => RecordKey::ReplicaSet(parse("key.replica_set", &name)?),
        Key::Tablet(alias) => RecordKey::Tablet(parse("key.tablet", &alias)?),
        Key::VschemaTable(wire::TableKey { keyspace, table }) => {
            RecordKey::VschemaTable(parse("key.vschema_table.keyspace", &keyspace)?, table)
        }
        Key::SchemaChange(id) => RecordKey::SchemaChange(id),
    })
}

fn value_to_wire(value: RecordValue) -> wire::RecordValue {
    use wire::record_value::Value;
    let value = match value {
        RecordValue::Cell(cell) => Value::Cell(cell.into()),
        RecordValue::Keyspace(keyspace) => Value::Keyspace(keyspace.into()),
        RecordValue::Shard(shard) => Value::Shard(shard.into()),
        RecordValue::ReplicaSet(set) => Value::ReplicaSet(set.into()),
        RecordValue::Tablet(tablet) => Value::Tablet(tablet.into()),
        RecordValue::VschemaTable(table) => Value::VschemaTable(table.into()),
        RecordValue::SchemaChange(change) => Value::SchemaChange(change.into()),
    };
    wire::RecordValue { value: Some(value) }
}

fn value_from_wire(value: wire::RecordValue) -> Result<RecordValue, ConvertError> {
    use wire::record_value::Value;
    let value = value.value.ok_or_else(|| ConvertError::missing("value"))?;
    let value = match value {
        Value::Cell(cell) => cell.try_into().map(RecordValue::Cell),
        Value::Keyspace(keyspace) => keyspace.try_into().map(RecordValue::Keyspace),
        Value::Shard(shard) => shard.try_into().map(RecordValue::Shard),
        Value::ReplicaSet(set) => set.try_into().map(RecordValue::ReplicaSet),
        Value::Tablet(tablet) => tablet.try_into().map(RecordValue::Tablet),
        Value::VschemaTable(table) => table.try_into().map(RecordValue::VschemaTable),
        Value::SchemaChange(change) => change.try_into().map(RecordValue::SchemaChange),
    };
    value.map_err(|error| error.within("value"))
}

fn change_from_wire(change: wire::RecordChange) -> Result<Change, ConvertError> {
    Ok(Change {
        key: key_from_wire(change.key)?,
        expected: Revision(change.expected_revision),
        value: change.value.map(value_from_wire).transpose()?,
    })
}

fn records_to_wire(state: &State) -> Vec<wire::StoredRecord> {
    fn store<T: Clone>(
        records: &mut Vec<wire::StoredRecord>,
        stored: impl Iterator<Item = Versioned<T>>,
        wrap: impl Fn(T) -> RecordValue,
    ) {
        records.extend(stored.map(|Versioned { revision, value }| {
            let value = wrap(value);
            wire::StoredRecord {
                key: Some(key_to_wire(&value.key())),
                revision: revision.0,
                value: Some(value_to_wire(value)),
            }
        }));
    }
    let mut all = Vec::new();
    store(&mut all, state.cells.values().cloned(), RecordValue::Cell);
    store(
        &mut all,
        state.keyspaces.values().cloned(),
        RecordValue::Keyspace,
    );
    store(&mut all, state.shards.values().cloned(), RecordValue::Shard);
    store(
        &mut all,
        state.replica_sets.values().cloned(),
        RecordValue::ReplicaSet,
    );
    store(
        &mut all,
        state.tablets.values().cloned(),
        RecordValue::Tablet,
    );
    store(
        &mut all,
        state.vschema_tables.values().cloned(),
        RecordValue::VschemaTable,
    );
    store(
        &mut all,
        state.schema_changes.values().cloned(),
        RecordValue::SchemaChange,
    );
    all
}

fn state_from_wire(message: wire::StoredState) -> Result<State, ConvertError> {
    let mut state = State {
        cluster_id: message.cluster_id,
        applied: message.applied_index,
        next_schema_change: message.next_schema_change,
        next_event: message.next_event,
        ..State::default()
    };
    for (position, record) in message.records.into_iter().enumerate() {
        let within = |error: ConvertError| error.within(&format!("records[{position}]"));
        let key = key_from_wire(record.key).map_err(within)?;
        let value = record
            .value
            .ok_or_else(|| within(ConvertError::missing("value")))?;
        let value = value_from_wire(value).map_err(within)?;
        if value.key() != key {
            return Err(within(ConvertError::new("key", "it names another record")));
        }
        state.put(Revision(record.revision), value);
    }
    for (position, stored) in message.events.into_iter().enumerate() {
        let event = stored
            .event
            .ok_or_else(|| ConvertError::missing(&format!("events[{position}].event")))?;
        state.events.push_back((stored.sequence, event.into()));
    }
    for (position, request) in message.requests.into_iter().enumerate() {
        let request = request_from_wire(request)
            .map_err(|error| error.within(&format!("requests[{position}]")))?;
        state.requests.push_back(request);
    }
    Ok(state)
}

fn request_to_wire(request: &(String, Result<Revision, Refusal>)) -> wire::StoredRequest {
    let (request_id, outcome) = request;
    let mut stored = wire::StoredRequest {
        request_id: request_id.clone(),
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
                key: Some(key_to_wire(key)),
                expected_revision: expected.0,
                found_revision: found.0,
            });
        }
        Err(Refusal::Invalid { reason }) => stored.refusal.clone_from(reason),
    }
    stored
}

fn request_from_wire(
    stored: wire::StoredRequest,
) -> Result<(String, Result<Revision, Refusal>), ConvertError> {
    let outcome = if let Some(conflict) = stored.conflict {
        Err(Refusal::Conflict {
            key: key_from_wire(conflict.key).map_err(|error| error.within("conflict"))?,
            expected: Revision(conflict.expected_revision),
            found: Revision(conflict.found_revision),
        })
    } else if stored.refusal.is_empty() {
        Ok(Revision(stored.revision))
    } else {
        Err(Refusal::Invalid {
            reason: stored.refusal,
        })
    };
    Ok((stored.request_id, outcome))
}

#[cfg(test)]
mod tests;
