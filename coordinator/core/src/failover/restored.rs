//! A replica set whose record may be older than the truth, because the coordinators began again from a copy. Others may have been
//! primary or have acknowledged since, so all tablets count as if they had, and nobody gets orders before the epoch is above
//! every promise.
//!
//! Such a round is known by its record alone: the former primary is among the ackers, which no other round has.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Epoch,
    ids::TabletAlias,
    topology::{Phase, ReplicaSet},
};

use super::{Situation, Verdict, table::Trigger};

/// The reason in the record until the epoch is raised.
pub const REASON: &str = "the coordinators began again from a copy of the topology";
/// How long agents may take to come back before the epoch is raised above the promises that were heard.
pub const SETTLE_MS: u64 = 3_000;

/// Nothing is known yet: agents get no orders and go on as they were.
pub fn is_unknown(record: &ReplicaSet) -> bool {
    matches!(&record.phase, Phase::Revoking { reason, .. } if reason == REASON)
}

/// The round of a replica set that was restored.
pub fn is_restored(record: &ReplicaSet, previous: &TabletAlias) -> bool {
    record.ackers.contains(previous)
}

/// How many tablets must have stopped. Every acknowledged write is on its primary and on k others, and all of them are counted.
pub fn answers_needed(record: &ReplicaSet) -> usize {
    let acks = record.durability.acks() as usize;
    record.ackers.len().saturating_sub(acks).max(1)
}

/// The highest promise that was heard from the set's tablets.
fn promised(situation: &Situation<'_>) -> Epoch {
    let reports = situation
        .tablets()
        .filter_map(|tablet| situation.last_report(&tablet.alias));
    reports
        .map(|report| report.promised)
        .max()
        .unwrap_or(Epoch::ZERO)
}

/// Raises the epoch of a restored set above every promise, as soon as enough tablets answer; then all of them are to stop.
pub fn raise(situation: &Situation<'_>, previous: &TabletAlias) -> Verdict {
    let old = situation.record();
    let everybody: BTreeSet<TabletAlias> = situation
        .promotable()
        .map(|tablet| tablet.alias.clone())
        .collect();
    let answering = everybody
        .iter()
        .filter(|alias| situation.answer(alias).is_some());
    let candidate = ReplicaSet {
        ackers: everybody.clone(),
        ..old.clone()
    };
    let (answering, needed) = (answering.count(), answers_needed(&candidate));
    if answering < needed {
        return Verdict::Blocked(format!(
            "{REASON}: {answering} tablets answer and {needed} are needed to find every acknowledged write: start more agents"
        ));
    }
    if situation.phase_age_ms() < SETTLE_MS {
        return Verdict::Blocked(format!("{REASON}: waiting a moment for more agents"));
    }
    // Who serves is who has to be fenced, whoever the copy says it was.
    let serving = everybody
        .iter()
        .filter_map(|alias| Some((situation.last_report(alias)?.serving?, alias)))
        .max();
    let previous = serving.map_or(previous, |(_, alias)| alias).clone();
    // A tablet that has changed its kind since is still one of those that may have acknowledged.
    let promised = promised(situation);
    let record = ReplicaSet {
        epoch: promised.max(old.epoch).next(),
        phase: Phase::Revoking {
            previous: previous.clone(),
            reason: format!("{REASON}, and epoch {promised} was promised"),
        },
        ackers: everybody.into_iter().chain([previous.clone()]).collect(),
        locked_out: BTreeSet::new(),
        ..old.clone()
    };
    again(situation, record, promised)
}

/// In any phase: a tablet has promised more than the record's epoch, so it takes no orders until the epoch is above that.
/// Happens only after a restore, to one that was not heard in time.
pub fn ahead(situation: &Situation<'_>) -> Option<Verdict> {
    let old = situation.record();
    let promised = promised(situation);
    if promised <= old.epoch {
        return None;
    }
    let (previous, reason) = match (&old.phase, &old.primary) {
        (Phase::Revoking { previous, reason }, _) => (previous.clone(), reason.clone()),
        (Phase::Forming, _) | (_, None) => return None,
        (_, Some(primary)) => {
            if let Err(why_not) = super::candidate::prospect(situation) {
                return Some(Verdict::Blocked(format!(
                    "epoch {promised} was promised and the record has {}: {why_not}",
                    old.epoch
                )));
            }
            (primary.clone(), format!("epoch {promised} was promised"))
        }
    };
    let record = ReplicaSet {
        epoch: promised.next(),
        phase: Phase::Revoking { previous, reason },
        primary: None,
        restart_after: None,
        ..old.without_steps()
    };
    Some(again(situation, record, promised))
}

fn again(situation: &Situation<'_>, record: ReplicaSet, promised: Epoch) -> Verdict {
    let promises = situation.tablets().filter_map(|tablet| {
        let report = situation.last_report(&tablet.alias)?;
        Some((
            format!("tablet {}", tablet.alias),
            format!("promised {}, serving {:?}", report.promised, report.serving),
        ))
    });
    let event = situation.event(
        "failover.raise",
        format!(
            "the epoch goes from {} to {}, above {promised}, which was promised",
            situation.record().epoch,
            record.epoch
        ),
        promises.collect(),
    );
    Verdict::commit(situation, Trigger::PromiseAhead, record, event)
}
