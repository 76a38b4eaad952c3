//! A state that outlived its group -> what a new group of one begins with. Agents and routers have perhaps seen what came after it,
//! so every number that only grows goes on far above. It never decides who is primary: see `failover/restored`.

use std::collections::BTreeSet;

use vt_proto::{
    cluster,
    epoch::Revision,
    topology::{AuditEvent, Coordinator, Phase, ReplicaSet, TabletKind},
};

use crate::{
    apply::apply,
    codec::{self, CodecError},
    command::RecordValue,
    failover::restored::REASON,
    peer::Stored,
    state::{State, Versioned},
};

/// Log indexes per second since 1970: no group ever writes that fast, so the index of this moment is above all that a group has
/// used before this moment, also one that itself began so. Below 2^53 for centuries, so that it is exact in JSON.
const INDEXES_PER_SECOND: u64 = 1 << 20;
/// Numbers of events and schema changes that may have been used since the copy was made.
const NUMBERS: u64 = 1 << 20;
/// How far clocks may disagree.
const CLOCK_SKEW_MS: u64 = 60_000;

/// Why a state cannot begin a group here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "the clock of this host is behind the newest event of that topology by {behind_ms} ms: correct the clock first"
    )]
    Clock { behind_ms: u64 },
}

/// The state of a group of which `me` is the only member.
///
/// All other coordinators are forgotten, and their ids are not used again; new ones are added. The group has an id of its own, above
/// the old one's: who has heard of it listens to the old group no more. Every replica set begins a new epoch before anything else
/// happens to it.
pub fn restored(
    old: State,
    me: Coordinator,
    why: &str,
    unix_ms: u64,
) -> Result<State, RestoreError> {
    let newest_ms = old.events.iter().map(|(_, event)| event.time_unix_ms).max();
    let behind_ms = newest_ms.unwrap_or(0).saturating_sub(unix_ms);
    if behind_ms > CLOCK_SKEW_MS {
        return Err(RestoreError::Clock { behind_ms });
    }
    let index = (unix_ms / 1000 * INDEXES_PER_SECOND).max(old.applied + NUMBERS);
    let mut state = State {
        applied: index,
        format: old.format,
        next_event: old.next_event + NUMBERS,
        next_schema_change: old.next_schema_change + NUMBERS,
        next_coordinator: old.next_coordinator.max(me.id + 1),
        events: old.events.clone(),
        requests: old.requests.clone(),
        ..State::new(cluster::successor(&old.cluster_id, unix_ms))
    };
    let message = format!(
        "coordinator {} begins a group of its own, {why}: all was true at log index {}; it goes on at {index}",
        me.id, old.applied
    );
    for Versioned { value, .. } in old.records() {
        let value = match value {
            RecordValue::Coordinator(_) => continue,
            RecordValue::ReplicaSet(set) => RecordValue::ReplicaSet(unknown(&old, set)),
            value => value,
        };
        // Generations are made of revisions, and an agent refuses an older one.
        state.put(Revision(index), value);
    }
    state.put(Revision(index), RecordValue::Coordinator(me));
    state.raise_format();
    let event = AuditEvent {
        time_unix_ms: unix_ms,
        kind: "coordinator.restored".to_owned(),
        subject: format!("cluster/{}", state.cluster_id),
        message,
        evidence: Vec::new(),
    };
    // The next command trims what is too much.
    state.events.push(state.next_event, event);
    state.next_event += 1;
    Ok(state)
}

/// A replica set of which it is not known who is primary and who acknowledges: any of its tablets.
fn unknown(state: &State, set: ReplicaSet) -> ReplicaSet {
    let promotable = state
        .tablets_of(&set.name)
        .filter(|tablet| tablet.value.kind == TabletKind::Replica)
        .map(|tablet| tablet.value.alias.clone());
    let everybody: BTreeSet<_> = promotable.collect();
    let former = match &set.phase {
        Phase::Revoking { previous, .. } => Some(previous.clone()),
        _ => set.primary.clone(),
    };
    // Where no tablet was registered there is nothing to find out.
    let Some(previous) = former.or_else(|| everybody.first().cloned()) else {
        return set;
    };
    ReplicaSet {
        phase: Phase::Revoking {
            previous,
            reason: REASON.to_owned(),
        },
        primary: None,
        ackers: everybody,
        restart_after: None,
        // All of them count, whoever may connect.
        locked_out: BTreeSet::new(),
        ..set.without_steps()
    }
}

/// A raft entry that carries a command; others change the group, or nothing.
const NORMAL_ENTRY: u32 = 0;

/// The state after everything that a member has stored, also what it does not know to be committed: a survivor of a lost majority
/// cannot ask, and what was acknowledged to anybody may be among it.
pub fn replayed(stored: &Stored) -> Result<State, CodecError> {
    let mut state = match &stored.snapshot {
        Some(snapshot) => codec::decode_state(&snapshot.data)?,
        None => State::default(),
    };
    for entry in &stored.entries {
        if entry.index <= state.applied {
            continue;
        }
        if entry.entry_type == NORMAL_ENTRY && !entry.data.is_empty() {
            let command = codec::decode_command(&entry.data)?;
            // A refused command has no effect here as it had none when it was applied.
            let _ = apply(&mut state, entry.index, &command);
        } else {
            state.applied = entry.index;
        }
    }
    Ok(state)
}
