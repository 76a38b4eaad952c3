//! Hosts that are to be maintained: their primaries hand over as in any planned switchover, as soon as another tablet is fit. Where none
//! is, the primary stays and it is said who is missing; an emergency takes a drained tablet where nobody else has everything.

use vt_proto::{
    ids::TabletAlias,
    topology::{Phase, ReplicaSet},
};

use super::{Situation, Verdict, planned::fit, table::Trigger, writes::HANDOVER_PAUSE_MS};

/// Whether the host of this tablet is to be maintained.
pub fn is_drained(situation: &Situation<'_>, alias: &TabletAlias) -> bool {
    situation.state.drains.contains_key(alias)
}

/// The hand-over of a drained primary, if somebody can take over.
pub fn hand_over(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Verdict> {
    // What was taken back is not tried again at once.
    if !is_drained(situation, primary) || situation.phase_age_ms() < pause_ms(situation, primary) {
        return None;
    }
    let record = situation.record();
    let mut ackers = record.ackers.iter();
    let candidate = ackers.find(|acker| fit(situation, primary, acker).is_ok())?;
    let event = situation.event(
        "switchover.drain",
        format!("{primary} is drained and is to hand over to {candidate}"),
        Vec::new(),
    );
    let switching = ReplicaSet {
        phase: Phase::Switching {
            candidate: candidate.clone(),
        },
        ..record.without_steps()
    };
    let verdict = Verdict::commit(situation, Trigger::PrimaryDrained, switching, event);
    Some(verdict)
}

/// A record that is older than the order to drain was not changed by an attempt to follow it.
fn pause_ms(situation: &Situation<'_>, primary: &TabletAlias) -> u64 {
    let drain = situation.state.drains.get(primary);
    match drain.is_some_and(|drain| drain.revision > situation.set.revision) {
        true => 0,
        false => HANDOVER_PAUSE_MS,
    }
}

/// Why a drained primary stays, for people to read.
pub fn alarm(situation: &Situation<'_>, primary: &TabletAlias) -> Option<String> {
    if !is_drained(situation, primary) {
        return None;
    }
    let ackers = situation.record().ackers.iter();
    let reasons: Vec<String> = ackers
        .filter_map(|acker| fit(situation, primary, acker).err())
        .collect();
    let is_fit = reasons.len() < situation.record().ackers.len();
    Some(match is_fit {
        true => format!(
            "{primary} is drained and hands over soon: a switchover was taken back a moment ago"
        ),
        false => format!(
            "{primary} is drained and stays primary, for nobody can take over: {}",
            reasons.join("; ")
        ),
    })
}
