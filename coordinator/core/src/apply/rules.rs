//! What a record may become, and which records must exist beside it. Looks at records only, never at health or time.

use std::collections::BTreeMap;

use vt_proto::{
    ids::{KeyspaceName, ReplicaSetName},
    topology::{HISTORY_EPOCHS_MAX, Phase, ReplicaSet},
};

use super::Refusal;
use crate::{
    command::{Change, RecordKey, RecordValue},
    state::State,
};

/// Records as a command leaves them: present with a value, deleted without.
pub(super) type After<'a> = BTreeMap<&'a RecordKey, Option<&'a RecordValue>>;

/// Whether a record may go from `old` to `new`. None means that it does not exist.
pub fn validate_change(
    old: Option<&RecordValue>,
    new: Option<&RecordValue>,
) -> Result<(), Refusal> {
    let Some(RecordValue::ReplicaSet(new)) = new else {
        return Ok(());
    };
    validate_replica_set(new)?;
    match old {
        Some(RecordValue::ReplicaSet(old)) => validate_epoch(old, new),
        _ => Ok(()),
    }
}

/// What must hold for a replica set at any time.
fn validate_replica_set(set: &ReplicaSet) -> Result<(), Refusal> {
    let refuse = |reason: &str| {
        Err(Refusal::invalid(format!(
            "replica set {}: {reason}",
            set.name
        )))
    };
    if set.durability.acks() == 0 {
        return refuse("at least one acknowledgement must stand behind each write");
    }
    if set.history.len() > HISTORY_EPOCHS_MAX {
        return refuse("it remembers too many finished epochs");
    }
    if set.history.windows(2).any(|w| w[0].epoch >= w[1].epoch) {
        return refuse("its finished epochs are not in order");
    }
    if set
        .history
        .last()
        .is_some_and(|last| last.epoch >= set.epoch)
    {
        return refuse("an epoch that is not over stands among the finished ones");
    }
    match (&set.phase, &set.primary) {
        (Phase::Forming | Phase::Revoking { .. }, Some(_)) => {
            refuse("nobody is primary while it is forming or revoking")
        }
        (Phase::Stable | Phase::Switching { .. } | Phase::Establishing, None) => {
            refuse("this phase needs a primary")
        }
        (Phase::Switching { candidate }, Some(primary)) if candidate == primary => {
            refuse("the candidate is the primary already")
        }
        _ => Ok(()),
    }
}

/// Which phases may follow each other, within an epoch and into a later one.
fn validate_epoch(old: &ReplicaSet, new: &ReplicaSet) -> Result<(), Refusal> {
    use Phase::{Establishing, Forming, Revoking, Stable, Switching};
    let refuse = |reason: String| {
        Err(Refusal::invalid(format!(
            "replica set {}: {reason}",
            new.name
        )))
    };
    if new.epoch < old.epoch {
        return refuse(format!(
            "epoch {} cannot follow epoch {}",
            new.epoch, old.epoch
        ));
    }
    let same_epoch = new.epoch == old.epoch;
    let legal = match (&old.phase, &new.phase) {
        // A primaryship begins with an epoch of its own.
        (Forming, Establishing) => !same_epoch,
        (Forming, Forming)
        | (Stable, Stable | Switching { .. })
        | (Switching { .. }, Stable | Switching { .. })
        | (Establishing, Stable | Establishing)
        | (Revoking { .. }, Establishing) => same_epoch,
        (Switching { .. }, Establishing)
        | (Stable | Switching { .. } | Establishing, Revoking { .. }) => !same_epoch,
        (Revoking { .. }, Revoking { .. }) => true,
        _ => false,
    };
    if !legal {
        return refuse(format!(
            "{} in epoch {} cannot become {} in epoch {}",
            phase_word(&old.phase),
            old.epoch,
            phase_word(&new.phase),
            new.epoch
        ));
    }
    if same_epoch && old.primary.is_some() && old.primary != new.primary {
        return refuse(format!("epoch {} has a primary already", new.epoch));
    }
    Ok(())
}

fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Forming => "forming",
        Phase::Stable => "stable",
        Phase::Switching { .. } => "switching",
        Phase::Revoking { .. } => "revoking",
        Phase::Establishing => "establishing",
    }
}

/// Ids of schema changes are handed out once, in order, and never again.
pub(super) fn check_id(state: &State, change: &Change) -> Result<(), Refusal> {
    let RecordKey::SchemaChange(id) = change.key else {
        return Ok(());
    };
    let created = change.value.is_some() && !state.schema_changes.contains_key(&id);
    if created && (id < state.next_schema_change || id == u64::MAX) {
        return Err(Refusal::invalid(format!(
            "schema change {id} was there before: the next one is {}",
            state.next_schema_change
        )));
    }
    Ok(())
}

/// Whether every record that the command touches finds, after the command, the records that it names.
pub(super) fn check_references(state: &State, after: &After<'_>) -> Result<(), Refusal> {
    for (key, value) in after {
        match (key, value) {
            (_, Some(RecordValue::Shard(shard))) => {
                need_keyspace(state, after, key, &shard.keyspace)?;
                need_replica_set(state, after, key, &shard.replica_set)?;
            }
            (_, Some(RecordValue::VschemaTable(table))) => {
                need_keyspace(state, after, key, &table.keyspace)?;
            }
            (_, Some(RecordValue::SchemaChange(change)))
                if !state.schema_changes.contains_key(&change.id) =>
            {
                need_keyspace(state, after, key, &change.keyspace)?;
            }
            (RecordKey::Keyspace(keyspace), None) => keyspace_is_empty(state, after, keyspace)?,
            (RecordKey::ReplicaSet(set), None) => replica_set_is_empty(state, after, set)?,
            _ => {}
        }
    }
    Ok(())
}

fn exists(state: &State, after: &After<'_>, key: &RecordKey) -> bool {
    match after.get(key) {
        Some(value) => value.is_some(),
        None => state.revision_of(key) > vt_proto::epoch::Revision::ZERO,
    }
}

fn need_keyspace(
    state: &State,
    after: &After<'_>,
    who: &RecordKey,
    keyspace: &KeyspaceName,
) -> Result<(), Refusal> {
    if exists(state, after, &RecordKey::Keyspace(keyspace.clone())) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "{who} names keyspace {keyspace}, which does not exist: create it first"
    )))
}

fn need_replica_set(
    state: &State,
    after: &After<'_>,
    who: &RecordKey,
    set: &ReplicaSetName,
) -> Result<(), Refusal> {
    if exists(state, after, &RecordKey::ReplicaSet(set.clone())) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "{who} names replica set {set}, which does not exist: start an agent with a tablet in it first"
    )))
}

fn keyspace_is_empty(
    state: &State,
    after: &After<'_>,
    keyspace: &KeyspaceName,
) -> Result<(), Refusal> {
    let shards = state.shards.keys();
    let shards = shards.map(|(name, range)| RecordKey::Shard(name.clone(), range.clone()));
    let tables = state.vschema_tables.keys();
    let tables = tables.map(|(name, table)| RecordKey::VschemaTable(name.clone(), table.clone()));
    let mut held = shards.chain(tables).filter(|key| match key {
        RecordKey::Shard(name, _) | RecordKey::VschemaTable(name, _) => name == keyspace,
        _ => false,
    });
    match held.find(|key| exists(state, after, key)) {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(format!(
            "keyspace {keyspace} still has {key}: delete that in the same step"
        ))),
    }
}

fn replica_set_is_empty(
    state: &State,
    after: &After<'_>,
    set: &ReplicaSetName,
) -> Result<(), Refusal> {
    let shards = state.shards_of(set).map(|shard| {
        let shard = &shard.value;
        RecordKey::Shard(shard.keyspace.clone(), shard.range.clone())
    });
    let tablets = state.tablets_of(set);
    let tablets = tablets.map(|tablet| RecordKey::Tablet(tablet.value.alias.clone()));
    // A shard or tablet that moves elsewhere in the same command is not held any more.
    let held = shards.chain(tablets).find(|key| match after.get(key) {
        None => true,
        Some(Some(RecordValue::Shard(shard))) => shard.replica_set == *set,
        Some(Some(RecordValue::Tablet(tablet))) => tablet.replica_set == *set,
        Some(_) => false,
    });
    match held {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(format!(
            "replica set {set} still holds {key}: move or delete that first"
        ))),
    }
}
