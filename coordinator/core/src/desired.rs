//! Records -> what one host should be: the only producer of desired states.
//!
//! A pure function of replicated records and never of health, so that every coordinator at one log index says the same.

use vt_proto::{
    desired::{Candidacy, Desired, Goal, SchemaTask},
    ids::TabletAlias,
    topology::{Phase, ReplicaSet, SchemaChangeStatus, TABLETS_OF_A_SET_MAX},
};

use crate::{
    failover,
    members::Members,
    state::{State, Versioned},
};

/// How long transactions may end by themselves before a planned switchover ends them.
pub const DEMOTE_GRACE_MS: u64 = 100;

/// What this tablet should become; nothing for one that is not registered, or whose replica set is not known yet.
pub fn desired(state: &State, members: &Members, alias: &TabletAlias) -> Option<Desired> {
    let tablet = &state.tablets.get(alias)?.value;
    let set = state.replica_sets.get(&tablet.replica_set)?;
    // Orders that may be older than what the agent does already are not given.
    if failover::restored::is_unknown(&set.value) {
        return None;
    }
    Some(Desired {
        alias: alias.clone(),
        replica_set: tablet.replica_set.clone(),
        generation: failover::generation(state, members, &tablet.replica_set),
        epoch: set.value.epoch,
        replicas: members
            .of_set(&tablet.replica_set)
            .filter(|other| *other != alias)
            .take(TABLETS_OF_A_SET_MAX)
            .cloned()
            .collect(),
        goal: goal(state, members, set, alias),
    })
}

fn goal(
    state: &State,
    members: &Members,
    set: &Versioned<ReplicaSet>,
    alias: &TabletAlias,
) -> Goal {
    let record = &set.value;
    let is_primary = record.primary.as_ref() == Some(alias);
    match &record.phase {
        Phase::Forming => Goal::Standby,
        Phase::Revoking { previous, .. } if previous == alias => match record.restart_after {
            Some(restart_after) => Goal::Reveal { restart_after },
            None => Goal::Fence,
        },
        Phase::Revoking { .. } => Goal::Revoke,
        Phase::Switching { holds: true, .. } if is_primary => Goal::Demote {
            grace_ms: DEMOTE_GRACE_MS,
        },
        Phase::Stable | Phase::Establishing | Phase::Switching { .. } if is_primary => {
            primary(state, members, record)
        }
        Phase::Stable | Phase::Establishing | Phase::Switching { .. }
            if is_to_stop(record, alias) =>
        {
            Goal::Revoke
        }
        Phase::Stable | Phase::Establishing | Phase::Switching { .. } => {
            replica(state, record, alias)
        }
    }
}

fn primary(state: &State, members: &Members, record: &ReplicaSet) -> Goal {
    let schemas = members
        .shards_of(state, &record.name)
        .map(|shard| shard.value.schema_name())
        .collect();
    let pending = state
        .schema_changes
        .values()
        .map(|change| &change.value)
        .filter(|change| change.status == SchemaChangeStatus::Pending);
    let schema_tasks = pending
        .flat_map(|change| {
            state
                .shards_in(&change.keyspace)
                .filter(|shard| shard.value.replica_set == record.name)
                .map(|shard| SchemaTask {
                    id: change.id,
                    schema: shard.value.schema_name(),
                    statements: change.statements.clone(),
                })
        })
        .collect();
    let ordered = record.raising.filter(|raising| raising.ordered);
    Goal::Primary {
        start_gtid: record.start_gtid.clone(),
        acks: ordered.map_or(record.durability.acks(), |raising| raising.acks),
        restart_after: record.restart_after,
        schemas,
        schema_tasks,
        confirm: ordered.is_some() || record.leaving.as_ref().is_some_and(|it| it.silent),
        locked_out: record.locked_out.iter().cloned().collect(),
    }
}

/// Whether this tablet is to prove that it acknowledges nothing any more.
fn is_to_stop(record: &ReplicaSet, alias: &TabletAlias) -> bool {
    let leaving = record.leaving.as_ref();
    leaving.is_some_and(|leaving| leaving.acker == *alias) || record.locked_out.contains(alias)
}

/// Replicating from the primary; standing by if the record of the primary is missing, which invariants exclude.
fn replica(state: &State, record: &ReplicaSet, alias: &TabletAlias) -> Goal {
    let source = record
        .primary
        .as_ref()
        .and_then(|primary| state.tablets.get(primary));
    let Some(source) = source else {
        return Goal::Standby;
    };
    Goal::Replica {
        source: source.value.mysql.clone(),
        source_alias: source.value.alias.clone(),
        acker: record.ackers.contains(alias),
        history: record.history.clone(),
        candidacy: candidacy(record, alias),
    }
}

fn candidacy(record: &ReplicaSet, alias: &TabletAlias) -> Candidacy {
    match &record.phase {
        Phase::Switching { candidate, holds } if candidate == alias => match holds {
            true => Candidacy::Awaited,
            false => Candidacy::Prepares,
        },
        _ => Candidacy::None,
    }
}
