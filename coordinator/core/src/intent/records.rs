//! Records that operators write as such: which kinds, and what must hold of a batch beyond what every command must. Whether the records are
//! as the caller expects, only applying says: then the refusal is remembered under the request's id, and an earlier attempt of
//! the same request that is still on its way cannot take effect after its caller was told that it did not.

use std::collections::BTreeSet;

use vt_proto::{epoch::Revision, ids::KeyspaceName, keyrange::check_cover, topology::VschemaTable};

use crate::{
    apply::{CHANGES_MAX, COMMAND_EVENTS_MAX},
    codec,
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    peer::PROPOSAL_BYTES_MAX,
    refusal::Refusal,
    state::State,
};

use super::{event, refuse};

/// Length of a table's name: that of MySQL.
const TABLE_NAME_LENGTH_MAX: usize = 64;

/// The changes as one command, or why they are none in any state of the records they name.
pub fn write_records(
    state: &State,
    changes: &[Change],
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    if changes.is_empty() || changes.len() > CHANGES_MAX {
        return refuse(format!(
            "a write holds 1 to {CHANGES_MAX} changes and this one has {}: split it",
            changes.len()
        ));
    }
    for change in changes {
        check_kind(change)?;
        if let Some(RecordValue::VschemaTable(table)) = &change.value {
            check_table(table)?;
        }
    }
    check_shards(state, changes)?;
    let events = events(changes, now);
    let command = Command::new(request_id.to_owned(), changes.to_vec(), events);
    let bytes = codec::encode_command(&command).len();
    if bytes > PROPOSAL_BYTES_MAX {
        return refuse(format!(
            "a write holds at most {PROPOSAL_BYTES_MAX} bytes and this one has {bytes}: split it"
        ));
    }
    Ok(command)
}

fn check_kind(change: &Change) -> Result<(), Refusal> {
    match change.key.kind().written_by() {
        None => Ok(()),
        Some(by) => refuse(format!(
            "{} is not written as a record: it follows from {by}",
            change.key
        )),
    }
}

fn check_table(table: &VschemaTable) -> Result<(), Refusal> {
    if table.table.len() > TABLE_NAME_LENGTH_MAX {
        return refuse(format!(
            "table '{}' of keyspace {} has a name of more than {TABLE_NAME_LENGTH_MAX} bytes",
            table.table, table.keyspace
        ));
    }
    Ok(())
}

/// Shards come and go with their keyspace: rows do not move because a record does. Those that come with it own every id once.
fn check_shards(state: &State, changes: &[Change]) -> Result<(), Refusal> {
    let of = |change: &Change| match &change.key {
        RecordKey::Shard(keyspace, _) => Some(keyspace.clone()),
        _ => None,
    };
    let new_keyspace = |change: &Change| match &change.key {
        RecordKey::Keyspace(name) if change.expected == Revision::ZERO => Some(name.clone()),
        _ => None,
    };
    let created: BTreeSet<KeyspaceName> = changes.iter().filter_map(new_keyspace).collect();
    for change in changes {
        let (Some(keyspace), RecordKey::Shard(_, range)) = (of(change), &change.key) else {
            continue;
        };
        let known = state.shards.get(&(keyspace.clone(), range.clone()));
        let moved = match (&change.value, known) {
            (Some(RecordValue::Shard(new)), Some(old)) => new.replica_set != old.value.replica_set,
            (Some(_), None) => !created.contains(&keyspace),
            _ => deletes_shard_alone(changes, &keyspace),
        };
        if moved {
            return refuse(format!(
                "{} cannot be added, moved or deleted alone, for its rows would not follow: shards are created and deleted \
                 together with their keyspace",
                change.key
            ));
        }
    }
    for keyspace in created {
        let shards = changes.iter().filter_map(|change| match &change.key {
            RecordKey::Shard(of, range) if *of == keyspace => Some(range),
            _ => None,
        });
        check_cover(shards).map_err(|what| Refusal::Invalid {
            reason: format!("the shards of keyspace {keyspace} must own every id once: {what}"),
        })?;
    }
    Ok(())
}

fn deletes_shard_alone(changes: &[Change], keyspace: &KeyspaceName) -> bool {
    let key = RecordKey::Keyspace(keyspace.clone());
    !changes
        .iter()
        .any(|change| change.key == key && change.value.is_none())
}

/// The audit of a write. Vschema tables are left out: tools write them by the thousand, and the audit's room is for decisions.
fn events(changes: &[Change], now: Now) -> Vec<vt_proto::topology::AuditEvent> {
    let audited = changes
        .iter()
        .filter(|change| !matches!(change.key, RecordKey::VschemaTable(..)));
    let say = |change: &Change| {
        let word = match (&change.value, change.expected) {
            (None, _) => "deleted",
            (Some(_), Revision::ZERO) => "created",
            (Some(_), _) => "changed",
        };
        let kind = format!("{}.{word}", change.key.kind());
        event(
            now,
            &kind,
            &change.key,
            format!("{} was {word} as a record", change.key),
        )
    };
    audited.map(say).take(COMMAND_EVENTS_MAX).collect()
}

#[cfg(test)]
mod tests;
