//! When a schema change is over: every primary that had to carry it out has reported.

use vt_proto::{
    epoch::Revision,
    ids::ReplicaSetName,
    topology::{AuditEvent, SchemaChange, SchemaChangeStatus},
};

use crate::{
    command::{Change, RecordKey, RecordValue},
    event::Now,
    health::Health,
    state::{State, Versioned},
};

/// Finished schema changes that are kept for people to read.
pub const FINISHED_KEPT_MAX: usize = 1_000;

/// The commit that finishes a pending schema change, if its outcome is known.
pub fn finish(
    state: &State,
    health: &Health,
    now: Now,
    change: &Versioned<SchemaChange>,
) -> Option<(Vec<Change>, AuditEvent)> {
    let status = outcome(state, health, now, &change.value)?;
    let (kind, message) = match &status {
        SchemaChangeStatus::Failed { error } => ("schema.failed", error.clone()),
        _ => ("schema.done", "every primary has applied it".to_owned()),
    };
    let done = SchemaChange {
        status,
        ..change.value.clone()
    };
    let key = RecordKey::SchemaChange(change.value.id);
    let mut changes = vec![Change::put(
        change.revision,
        RecordValue::SchemaChange(done),
    )];
    changes.extend(touch_shards(state, &change.value));
    changes.extend(forget_oldest(state));
    let event = AuditEvent {
        time_unix_ms: now.unix_ms,
        kind: kind.to_owned(),
        subject: key.to_string(),
        message,
        evidence: Vec::new(),
    };
    Some((changes, event))
}

/// Puts the shards of a change's keyspace again as they are: their new revision makes the agents' desired states newer.
pub fn touch_shards<'a>(
    state: &'a State,
    change: &'a SchemaChange,
) -> impl Iterator<Item = Change> + 'a {
    state
        .shards_in(&change.keyspace)
        .map(|shard| Change::put(shard.revision, RecordValue::Shard(shard.value.clone())))
}

fn outcome(
    state: &State,
    health: &Health,
    now: Now,
    change: &SchemaChange,
) -> Option<SchemaChangeStatus> {
    let mut waiting = false;
    for shard in state.shards_in(&change.keyspace) {
        match result(state, health, now, &shard.value.replica_set, change.id) {
            None => waiting = true,
            Some(None) => {}
            Some(Some(error)) => {
                return Some(SchemaChangeStatus::Failed {
                    error: format!("shard {}: {error}", shard.value.range),
                });
            }
        }
    }
    (!waiting).then_some(SchemaChangeStatus::Done)
}

/// What the primary of a set says about the change: nothing yet, done, or an error.
fn result(
    state: &State,
    health: &Health,
    now: Now,
    set: &ReplicaSetName,
    id: u64,
) -> Option<Option<String>> {
    let primary = state.replica_sets.get(set)?.value.primary.as_ref()?;
    let report = health.answer(primary, now)?;
    let result = report.schema_results.iter().find(|r| r.id == id)?;
    Some(result.error.clone())
}

fn forget_oldest(state: &State) -> Option<Change> {
    let finished = state
        .schema_changes
        .values()
        .filter(|change| change.value.status != SchemaChangeStatus::Pending);
    if finished.clone().count() < FINISHED_KEPT_MAX {
        return None;
    }
    let oldest = finished.min_by_key(|change| change.value.id)?;
    assert!(oldest.revision > Revision::ZERO, "a record has a revision");
    Some(Change::delete(
        oldest.revision,
        RecordKey::SchemaChange(oldest.value.id),
    ))
}
