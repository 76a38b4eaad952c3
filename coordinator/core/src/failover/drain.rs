//! Hosts that are to be maintained, and tablets whose guard was told to end mysqld: their primaries hand over as in any planned
//! switchover, as soon as another tablet is fit. Where none is, the primary stays and it is said who is missing; an emergency takes a drained
//! tablet where nobody else has everything.

use std::fmt;

use vt_proto::ids::TabletAlias;

use super::{
    Situation, Verdict,
    planned::{SWITCHOVER_MS, begin, fit},
    table::Trigger,
    writes::HANDOVER_PAUSE_MS,
};

/// Why a tablet is not to be primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its host is to be maintained.
    Drained,
    /// Its guard was told to end mysqld, and waits for some seconds.
    Stopping,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained",
            Self::Stopping => "about to be stopped",
        })
    }
}

/// Whether a tablet is not to be primary, and why.
pub fn departure(situation: &Situation<'_>, alias: &TabletAlias) -> Option<Departure> {
    if situation.state.drains.contains_key(alias) {
        return Some(Departure::Drained);
    }
    let report = situation.answer(alias);
    let is_stopping = report.is_some_and(|report| report.stop_asked);
    is_stopping.then_some(Departure::Stopping)
}

/// The hand-over of a drained primary, if somebody can take over.
pub fn hand_over(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Verdict> {
    let why = departure(situation, primary)?;
    // What was taken back is not tried again at once.
    if situation.phase_age_ms() < pause_ms(situation, primary, why) {
        return None;
    }
    let kind = (Trigger::PrimaryDrained, "switchover.drain");
    begin(
        situation,
        primary,
        kind,
        &format!("it is {why}"),
        Vec::new(),
    )
}

/// A record that is older than the order to drain was not changed by an attempt to follow it.
fn pause_ms(situation: &Situation<'_>, primary: &TabletAlias, why: Departure) -> u64 {
    let drain = situation.state.drains.get(primary);
    match drain.is_some_and(|drain| drain.revision > situation.set.revision) {
        true => 0,
        // Nobody waits longer for it than a few tries take.
        false if why == Departure::Stopping => SWITCHOVER_MS,
        false => HANDOVER_PAUSE_MS,
    }
}

/// Why a drained primary stays, for people to read.
pub fn alarm(situation: &Situation<'_>, primary: &TabletAlias) -> Option<String> {
    let why = departure(situation, primary)?;
    let ackers = situation.record().ackers.iter();
    let reasons: Vec<String> = ackers
        .filter_map(|acker| fit(situation, primary, acker).err())
        .collect();
    let is_fit = reasons.len() < situation.record().ackers.len();
    Some(match is_fit {
        true => format!(
            "{primary} is {why} and hands over soon: a switchover was taken back a moment ago"
        ),
        false => format!(
            "{primary} is {why} and stays primary, for nobody can take over: {}",
            reasons.join("; ")
        ),
    })
}
