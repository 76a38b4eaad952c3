//! What must hold of every replica set after every step, in production and in simulation.

use vt_proto::{
    epoch::{Epoch, Generation},
    ids::{ReplicaSetName, TabletAlias},
    topology::{HISTORY_EPOCHS_MAX, Phase, ReplicaSet, TabletKind},
};

use crate::{
    failover::table::{PhaseName, leads},
    state::State,
};

/// What of a replica set may only grow, or change along the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub epoch: Epoch,
    pub generation: Generation,
    pub phase: PhaseName,
}

/// What is wrong with a replica set's record, if anything.
pub fn broken(state: &State, name: &ReplicaSetName) -> Option<String> {
    let record = &state.replica_sets.get(name)?.value;
    let has_primary = record.primary.is_some();
    let (needs_primary, starts) = match &record.phase {
        Phase::Forming | Phase::Revoking { .. } => (false, false),
        Phase::Stable | Phase::Switching { .. } | Phase::Establishing => (true, true),
    };
    if has_primary != needs_primary {
        return Some(format!(
            "phase {:?} with primary {:?}",
            record.phase, record.primary
        ));
    }
    if starts && record.ackers.len() < record.durability.acks() as usize {
        return Some(format!(
            "{} ackers for {} acknowledgements",
            record.ackers.len(),
            record.durability.acks()
        ));
    }
    if record
        .primary
        .as_ref()
        .is_some_and(|primary| record.ackers.contains(primary))
    {
        return Some("the primary is among its ackers".to_owned());
    }
    if record
        .primary
        .as_ref()
        .is_some_and(|primary| record.locked_out.contains(primary))
    {
        return Some("the primary is to lock itself out".to_owned());
    }
    part_of_set(state, record).or_else(|| history(record))
}

fn part_of_set(state: &State, record: &ReplicaSet) -> Option<String> {
    let promotable = |alias: &TabletAlias| {
        state.tablets.get(alias).is_some_and(|tablet| {
            tablet.value.replica_set == record.name && tablet.value.kind == TabletKind::Replica
        })
    };
    record
        .primary
        .iter()
        .chain(&record.ackers)
        .find(|alias| !promotable(alias))
        .map(|alias| {
            format!("{alias} has a part in it and is no tablet of it that may be promoted")
        })
}

fn history(record: &ReplicaSet) -> Option<String> {
    if record.history.len() > HISTORY_EPOCHS_MAX {
        return Some(format!("{} finished epochs", record.history.len()));
    }
    let grows = record
        .history
        .windows(2)
        .all(|pair| pair[0].epoch < pair[1].epoch);
    let ended = record
        .history
        .last()
        .is_none_or(|last| last.epoch < record.epoch);
    (!grows || !ended).then(|| "finished epochs are not in order".to_owned())
}

/// What is wrong with a step from one record to the next, if anything.
pub fn broken_growth(before: Growth, after: Growth) -> Option<String> {
    if after.epoch < before.epoch {
        return Some(format!(
            "the epoch fell from {} to {}",
            before.epoch, after.epoch
        ));
    }
    if after.generation < before.generation {
        return Some(format!(
            "the generation fell from {} to {}",
            before.generation, after.generation
        ));
    }
    let epoch_grew = after.epoch > before.epoch;
    let same = before.phase == after.phase && !epoch_grew;
    if !same && !leads(before.phase, after.phase, epoch_grew) {
        return Some(format!(
            "the table does not lead from {} to {}",
            before.phase, after.phase
        ));
    }
    None
}
