//! A stricter policy takes effect in an open epoch: more acknowledgements behind each OK.
//!
//! First the primary is told to wait for as many, when as many replicate, and to write a row. When that row is acknowledged, so many have it
//! and everything before it; only then the record says so. Until that it is the weaker of the two, and whoever goes on from it asks more
//! tablets than it had to. Fewer acknowledgements are recorded before the primary hears of them, for the same reason.

use vt_proto::{
    epoch::Generation,
    ids::TabletAlias,
    topology::{Durability, Raising, ReplicaSet},
};

use super::{Situation, Verdict, leaving::STEP_MS, table::Trigger};
use crate::{durability, health::receives};

/// How many ackers are good, also for the policy that is on its way.
pub fn ackers_wanted(record: &ReplicaSet) -> usize {
    let raised = record.raising.map_or(0, |raising| raising.acks);
    durability::ackers_wanted(raised.max(record.durability.acks()))
}

/// The next step towards the policy that is asked for.
pub fn raise(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    match situation.record().raising {
        None => Verdict::Wait,
        Some(raising) if raising.ordered => confirm(situation, primary, raising),
        Some(raising) => order(situation, primary, raising),
    }
}

fn order(situation: &Situation<'_>, primary: &TabletAlias, raising: Raising) -> Verdict {
    let record = situation.record();
    let replicates = |acker: &&TabletAlias| {
        record.durability.allows(primary, acker) && situation.answer(acker).is_some_and(receives)
    };
    let count = record.ackers.iter().filter(replicates).count();
    if count < raising.acks as usize {
        return Verdict::Blocked(format!(
            "{} acknowledgements are asked for and {count} ackers replicate: start another replica; until then it stays at {}",
            raising.acks,
            record.durability.acks()
        ));
    }
    let event = situation.event(
        "durability.ordered",
        format!("{primary} is to wait for {} acknowledgements", raising.acks),
        vec![("ackers".to_owned(), count.to_string())],
    );
    let record = ReplicaSet {
        raising: Some(Raising {
            ordered: true,
            ..raising
        }),
        ..record.clone()
    };
    Verdict::commit(situation, Trigger::AcksOrdered, record, event)
}

fn confirm(situation: &Situation<'_>, primary: &TabletAlias, raising: Raising) -> Verdict {
    let Durability::SemiSync { cross_cell, .. } = situation.record().durability;
    // A claim counts if it was made under orders that follow from the present record.
    let asked = Generation(situation.set.revision.0);
    let confirmed = situation.answer(primary).and_then(|it| it.confirmed);
    let acks = raising.acks;
    if confirmed.is_some_and(|confirmed| confirmed >= asked) {
        let event = situation.event(
            "durability.raised",
            format!("{acks} acknowledgements stand behind each write of {primary}"),
            Vec::new(),
        );
        let record = ReplicaSet {
            durability: Durability::SemiSync { acks, cross_cell },
            raising: None,
            ..situation.record().clone()
        };
        return Verdict::commit(situation, Trigger::AcksConfirmed, record, event);
    }
    if situation.phase_age_ms() <= STEP_MS {
        return Verdict::Wait;
    }
    let event = situation.event(
        "durability.kept",
        format!(
            "a row was not acknowledged {acks} times within {STEP_MS} ms; it stays at {}: look at the ackers, then ask again",
            situation.record().durability.acks()
        ),
        Vec::new(),
    );
    let record = ReplicaSet {
        raising: None,
        ..situation.record().clone()
    };
    Verdict::commit(situation, Trigger::AcksGivenUp, record, event)
}
