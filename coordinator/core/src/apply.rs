//! Command -> state: deterministic, every precondition checked again here, all changes or none.
//!
//! Never decides what is wise, only what is possible: that is the business of the layers above.

use std::collections::BTreeMap;

use vt_proto::{epoch::Revision, ids::ReplicaSetName};

use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    format::{events_bytes_max, requests_max},
    refusal::Refusal,
    state::{EVENTS_MAX, State},
};

mod rules;

pub use rules::validate_change;

/// Changes in one command: more than any decision or intent needs, and little enough to be applied within a tick.
pub const CHANGES_MAX: usize = 1_024;
/// Audit events in one command.
pub const COMMAND_EVENTS_MAX: usize = 64;
/// Length of a request id; they are remembered, so they must be small.
pub const REQUEST_ID_LENGTH_MAX: usize = 128;

/// Applies the log entry at `index`: all changes or, with a refusal, none. A request id that was applied before changes
/// nothing and returns what it returned then. The state is at `index` afterwards in any case.
///
/// # Panics
/// If the index is not beyond the one that was applied last: then the log was replayed wrongly and nothing may go on.
pub fn apply(state: &mut State, index: u64, command: &Command) -> Result<Revision, Refusal> {
    assert!(
        index > state.applied,
        "log entry {index} comes after {} was applied",
        state.applied
    );
    state.applied = index;
    if let Some(outcome) = remembered(state, &command.request_id) {
        return outcome;
    }
    let outcome = check(state, command).map(|()| change(state, Revision(index), command));
    remember(state, &command.request_id, outcome.clone());
    outcome
}

/// What the request returned when it was applied, if that is still known.
pub fn remembered(state: &State, request_id: &str) -> Option<Result<Revision, Refusal>> {
    state.requests.get(request_id).cloned()
}

fn remember(state: &mut State, request_id: &str, outcome: Result<Revision, Refusal>) {
    if request_id.is_empty() || request_id.len() > REQUEST_ID_LENGTH_MAX {
        return;
    }
    state
        .requests
        .push(request_id.to_owned(), outcome, requests_max(state.format));
}

/// Why a command would have no effect, if it were applied now.
pub fn check(state: &State, command: &Command) -> Result<(), Refusal> {
    let id_length = command.request_id.len();
    if id_length == 0 || id_length > REQUEST_ID_LENGTH_MAX {
        return Err(Refusal::invalid(format!(
            "a request id has 1 to {REQUEST_ID_LENGTH_MAX} bytes, this one has {id_length}"
        )));
    }
    if let Some(refusal) = &command.refusal {
        return Err(refusal.clone());
    }
    if command.changes.len() > CHANGES_MAX || command.events.len() > COMMAND_EVENTS_MAX {
        return Err(Refusal::invalid(format!(
            "one command holds at most {CHANGES_MAX} changes and {COMMAND_EVENTS_MAX} events: split it"
        )));
    }
    let mut after = BTreeMap::new();
    for change in &command.changes {
        check_one(state, change)?;
        if after.insert(&change.key, change.value.as_ref()).is_some() {
            return Err(Refusal::invalid(format!(
                "{} is changed twice in one command",
                change.key
            )));
        }
    }
    rules::check_group(state, &after)?;
    rules::check_references(state, &after)
}

fn check_one(state: &State, change: &Change) -> Result<(), Refusal> {
    let found = state.revision_of(&change.key);
    if found != change.expected {
        return Err(Refusal::Conflict {
            key: change.key.clone(),
            expected: change.expected,
            found,
        });
    }
    if let Some(value) = &change.value
        && value.key() != change.key
    {
        return Err(Refusal::invalid(format!(
            "the record for {} names itself {}",
            change.key,
            value.key()
        )));
    }
    let old = state.value_of(&change.key);
    rules::check_id(state, change)?;
    validate_change(old.as_ref(), change.value.as_ref())
}

fn change(state: &mut State, revision: Revision, command: &Command) -> Revision {
    for change in &command.changes {
        // What a generation is made of must not shrink when a record that contributed to it goes away.
        if let Some(set) = set_that_loses(state, change)
            && let Some(set) = state.replica_sets.get_mut(&set)
        {
            set.revision = revision;
        }
        match &change.value {
            Some(value) => state.put(revision, value.clone()),
            None => state.remove(&change.key),
        }
    }
    for event in &command.events {
        state.events.push(state.next_event, event.clone());
        state.next_event += 1;
    }
    state.raise_format();
    let bytes_max = events_bytes_max(state.format);
    state.events.trim(EVENTS_MAX, bytes_max);
    revision
}

/// The replica set from which the change takes a shard or a tablet.
fn set_that_loses(state: &State, change: &Change) -> Option<ReplicaSetName> {
    let (before, after) = match &change.key {
        RecordKey::Shard(keyspace, range) => {
            let before = state.shards.get(&(keyspace.clone(), range.clone()))?;
            let after = match &change.value {
                Some(RecordValue::Shard(shard)) => Some(&shard.replica_set),
                _ => None,
            };
            (&before.value.replica_set, after)
        }
        RecordKey::Tablet(alias) => {
            let before = state.tablets.get(alias)?;
            let after = match &change.value {
                Some(RecordValue::Tablet(tablet)) => Some(&tablet.replica_set),
                _ => None,
            };
            (&before.value.replica_set, after)
        }
        _ => return None,
    };
    (after != Some(before)).then(|| before.clone())
}

#[cfg(test)]
mod tests;
