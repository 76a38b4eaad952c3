//! Who becomes primary and who acknowledges afterwards. It picks among facts; it does not judge whether it is time.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Epoch,
    gtid::GtidSet,
    ids::TabletAlias,
    report::{GtidPosition, MysqldState, Report, ThreadState},
    topology::{HISTORY_EPOCHS_MAX, Tablet},
};

use super::{Situation, drain::departure, restored};
use crate::durability;

/// Whether this report says that the IO thread was stopped under the promise of the record's epoch, or a later one.
///
/// It stays true although the report grows old: the promise is on disk and the thread is not started again below it.
pub fn is_revoked(situation: &Situation<'_>, report: &Report) -> bool {
    let epoch = situation.record().epoch;
    report.promised >= epoch && report.revoked.is_some_and(|revoked| revoked >= epoch)
}

/// A tablet that has everything, and how far it has applied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub alias: TabletAlias,
    /// Transactions that are received and not applied.
    pub backlog: u64,
    /// Its host is to be maintained: the last choice, however long another has to apply.
    drained: bool,
    preference: (bool, bool, bool),
    /// As many as must acknowledge do not answer now, where the policy wants them in other cells.
    lonely: bool,
}

/// The tablets that could become primary with exactly `maximum`, best first.
pub fn candidates(
    situation: &Situation<'_>,
    previous: &TabletAlias,
    maximum: &GtidSet,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = situation
        .promotable()
        .filter_map(|tablet| {
            let report = situation.answer(&tablet.alias)?;
            let position = position(report)?;
            let stopped = if tablet.alias == *previous {
                is_fenced_alive(situation, report)
            } else {
                is_revoked(situation, report)
            };
            if !stopped
                || cannot_apply(report).is_some()
                || position.received.union(&position.executed) != *maximum
            {
                return None;
            }
            let acker = situation.record().ackers.contains(&tablet.alias);
            Some(Candidate {
                alias: tablet.alias.clone(),
                lonely: is_lonely(situation, &tablet.alias),
                backlog: maximum.subtract(&position.executed).count(),
                drained: departure(situation, &tablet.alias).is_some(),
                preference: (
                    report.has_bad_disk(),
                    !acker,
                    tablet.alias.cell() != previous.cell(),
                ),
            })
        })
        .collect();
    found.sort_by(|a, b| {
        let rank = |it: &Candidate| (it.lonely, it.drained, it.backlog, it.preference);
        rank(a).cmp(&rank(b)).then_with(|| a.alias.cmp(&b.alias))
    });
    found
}

/// Whether too few tablets answer that may acknowledge its writes: it would open when they are back.
pub fn is_lonely(situation: &Situation<'_>, candidate: &TabletAlias) -> bool {
    let durability = situation.record().durability;
    let answering =
        may_acknowledge(situation, candidate).filter(|alias| situation.answer(alias).is_some());
    answering.count() < durability.acks() as usize
}

/// The sets of a tablet whose mysqld answers.
pub fn position(report: &Report) -> Option<&GtidPosition> {
    if report.mysqld != MysqldState::Running {
        return None;
    }
    report.gtid.as_ref()
}

/// The error that applying has stopped on while there is something to apply: this tablet may never have all that it received.
pub fn cannot_apply(report: &Report) -> Option<&str> {
    let replication = report.replication.as_ref()?;
    let gtid = report.gtid.as_ref()?;
    let has_backlog = !gtid.executed.contains(&gtid.received);
    replication.applier_error.as_deref().filter(|_| has_backlog)
}

/// What a tablet that has stopped received of the one history: without what it wrote itself past its primary, and without transactions
/// of older epochs that nobody kept.
///
/// Whoever received anything of the record's last open epoch has reached that epoch's primary last: nobody gets another source, or
/// loses the one it has, before the next epoch is established. One that was copied since counts for nothing until it has caught up.
pub fn received(situation: &Situation<'_>, report: &Report) -> Option<GtidSet> {
    let gtid = report.gtid.as_ref()?;
    let replication = report.replication.as_ref();
    let reached = replication.and_then(|replication| replication.source_uuid.as_deref());
    let own = errant(situation, report);
    let beyond = beyond(situation, gtid, reached);
    Some(gtid.received.subtract(&own).subtract(&beyond))
}

/// What an acker has written itself, past its primary: whatever it wrote as a primary and was kept is in the start of the epoch.
pub fn errant(situation: &Situation<'_>, report: &Report) -> GtidSet {
    match (&report.gtid, &report.server_uuid) {
        (Some(gtid), Some(own)) => {
            let start = &situation.record().start_gtid;
            gtid.executed.of_server(own).subtract(start)
        }
        _ => GtidSet::new(),
    }
}

/// Transactions of older epochs that nobody kept, in a tablet that replicates from `primary`. Where that is not known there are none.
pub fn unkept(situation: &Situation<'_>, primary: &TabletAlias, report: &Report) -> GtidSet {
    let source = situation.state.tablets.get(primary);
    let connected = report.replication.as_ref().filter(|replication| {
        source.is_some_and(|source| source.value.mysql == replication.source)
    });
    let reached = connected.and_then(|replication| replication.source_uuid.as_deref());
    match (&report.gtid, reached) {
        (Some(gtid), Some(_)) => beyond(situation, gtid, reached),
        _ => GtidSet::new(),
    }
}

/// What is neither in the start of the record's last open epoch nor by its only writer, the server that this tablet reached last.
fn beyond(situation: &Situation<'_>, gtid: &GtidPosition, reached: Option<&str>) -> GtidSet {
    let record = situation.record();
    // What a set held before its first epoch is in the start of none.
    if record.history.is_empty() {
        return GtidSet::new();
    }
    let beyond = gtid.received.subtract(&record.start_gtid);
    match reached {
        Some(writer) => beyond.subtract(&gtid.received.of_server(writer)),
        None => beyond,
    }
}

/// Whether a former primary is fenced in the record's epoch with its data readable.
pub fn is_fenced_alive(situation: &Situation<'_>, report: &Report) -> bool {
    let epoch = situation.record().epoch;
    report.promised >= epoch
        && report.fenced.is_some_and(|fenced| fenced >= epoch)
        && report.mysqld == MysqldState::Running
}

/// The ackers of the epoch that `candidate` begins with `maximum`: those of the old one that stopped, and then as many others
/// as the policy needs, the likeliest to be there first. Nothing if there are too few tablets.
pub fn ackers_after_failover(
    situation: &Situation<'_>,
    candidate: &TabletAlias,
    previous: &TabletAlias,
    maximum: &GtidSet,
) -> Option<BTreeSet<TabletAlias>> {
    let record = situation.record();
    // Of a restored set all tablets count as ackers of the epoch before; no more of them stay than a set has otherwise.
    let most = match restored::is_restored(record, previous) {
        true => durability::ackers_wanted(record.durability.acks()),
        false => usize::MAX,
    };
    let stopped = |alias: &TabletAlias| {
        situation
            .last_report(alias)
            .is_some_and(|report| is_revoked(situation, report))
    };
    let level = |alias: &TabletAlias| {
        situation
            .answer(alias)
            .and_then(position)
            .is_some_and(|position| maximum.contains(&position.received))
    };
    let others = || may_acknowledge(situation, candidate);
    let mut ackers: BTreeSet<TabletAlias> = others()
        .filter(|alias| record.ackers.contains(*alias) && stopped(alias))
        .take(most)
        .cloned()
        .collect();
    if candidate == previous || restored::is_restored(record, previous) {
        // It may have been primary of the epoch before, whose ackers go on until they hear that it is over.
        let heard_nothing = |alias: &&TabletAlias| *alias != candidate && !stopped(alias);
        ackers.extend(record.ackers.iter().filter(heard_nothing).cloned());
    }
    ackers.extend(lingering(situation, candidate));
    let spare = others()
        .filter(|alias| *alias != previous && stopped(alias) && level(alias))
        .chain(others().filter(|alias| record.ackers.contains(*alias)))
        .chain(others().filter(|alias| *alias == previous))
        .chain(others());
    fill(situation, candidate, ackers, spare)
}

/// Tablets whose acknowledgements the policy wants for writes of `candidate`.
fn may_acknowledge<'a>(
    situation: &Situation<'a>,
    candidate: &TabletAlias,
) -> impl Iterator<Item = &'a TabletAlias> {
    let durability = situation.record().durability;
    situation
        .promotable()
        .map(|tablet| &tablet.alias)
        .filter(move |alias| *alias != candidate && durability.allows(candidate, alias))
}

/// The ackers after a planned switchover: those that were, without the new primary and whom the policy does not want for it; the old
/// primary only if it takes it.
pub fn ackers_after_switchover(
    situation: &Situation<'_>,
    candidate: &TabletAlias,
    previous: &TabletAlias,
) -> Option<BTreeSet<TabletAlias>> {
    let record = situation.record();
    let mut ackers = record.ackers.clone();
    ackers.retain(|acker| acker != candidate && record.durability.allows(candidate, acker));
    ackers.extend(lingering(situation, candidate));
    let others = || may_acknowledge(situation, candidate);
    let spare = others().filter(|alias| *alias == previous).chain(others());
    fill(situation, candidate, ackers, spare)
}

/// Tablets that may acknowledge writes of `candidate` since an earlier epoch of which it was primary: nothing says that they have heard
/// of a later one. They acknowledge whatever it writes in the new epoch too, so they count among those who must be asked.
fn lingering(situation: &Situation<'_>, candidate: &TabletAlias) -> BTreeSet<TabletAlias> {
    let history = &situation.record().history;
    let oldest = history.first().map(|finished| finished.epoch);
    // What the history has forgotten may have been its epoch too.
    let forgotten = oldest.filter(|_| history.len() >= HISTORY_EPOCHS_MAX);
    let own = history.iter().rev().find(|it| it.primary == *candidate);
    let Some(latest) = own.map(|it| it.epoch).or(forgotten) else {
        return BTreeSet::new();
    };
    let has_left = |alias: &TabletAlias| {
        situation
            .last_report(alias)
            .is_some_and(|report| has_left(situation, report, candidate, latest))
    };
    situation
        .tablets()
        .map(|tablet| &tablet.alias)
        .filter(|alias| *alias != candidate && !has_left(alias))
        .cloned()
        .collect()
}

/// Whether a tablet has heard of an epoch after `latest`, the last one of `candidate`, and does not follow it any more. The promise
/// alone says nothing of a mysqld that hangs: it goes on with its old source when it wakes.
fn has_left(
    situation: &Situation<'_>,
    report: &Report,
    candidate: &TabletAlias,
    latest: Epoch,
) -> bool {
    let source = situation.state.tablets.get(candidate);
    let is_elsewhere = match &report.mysqld {
        MysqldState::Running => report.replication.as_ref().is_none_or(|replication| {
            replication.io == ThreadState::Off
                || source.is_some_and(|source| source.value.mysql != replication.source)
        }),
        MysqldState::Exited { .. } | MysqldState::Held { .. } => true,
        MysqldState::Starting | MysqldState::Unresponsive { .. } => false,
    };
    let has_stopped = report.revoked.is_some_and(|revoked| revoked > latest);
    report.promised > latest && (has_stopped || is_elsewhere)
}

/// As many more as the policy needs. Those it does not want count for nothing here, although nobody can keep them from acknowledging.
fn fill<'a>(
    situation: &Situation<'_>,
    candidate: &TabletAlias,
    mut ackers: BTreeSet<TabletAlias>,
    spare: impl Iterator<Item = &'a TabletAlias>,
) -> Option<BTreeSet<TabletAlias>> {
    let durability = situation.record().durability;
    let has_enough = |ackers: &BTreeSet<TabletAlias>| {
        let wanted = ackers.iter().filter(|it| durability.allows(candidate, it));
        wanted.count() >= durability.acks() as usize
    };
    for alias in spare {
        if has_enough(&ackers) {
            break;
        }
        ackers.insert(alias.clone());
    }
    has_enough(&ackers).then_some(ackers)
}

/// What the ackers that answer now have, or why a failover could not be finished with them.
pub fn prospect(situation: &Situation<'_>) -> Result<GtidSet, String> {
    let record = situation.record();
    let needed = durability::answers_needed(record.ackers.len(), record.durability.acks());
    let mut missing = Vec::new();
    let mut sets = Vec::new();
    for acker in &record.ackers {
        match situation.answer(acker) {
            Some(report)
                if !report.amnesiac && !report.has_bad_disk() && position(report).is_some() =>
            {
                sets.extend(received(situation, report).map(|received| (acker, received)));
            }
            _ => missing.push(acker.to_string()),
        }
    }
    if sets.len() < needed {
        return Err(format!(
            "{} of {} ackers answer with intact data and a healthy disk and {needed} are needed to find every acknowledged write: bring back {}",
            sets.len(),
            record.ackers.len(),
            missing.join(" or ")
        ));
    }
    let maximum = durability::maximum(sets.iter().map(|(_, set)| set)).map_err(|diverged| {
        format!(
            "the ackers have diverged ({} against {}): an operator must decide which is right",
            diverged.one, diverged.other
        )
    })?;
    let has_exactly = |alias: &TabletAlias, wanted: &GtidSet| {
        let report = situation
            .answer(alias)
            .filter(|report| !report.has_bad_disk() && cannot_apply(report).is_none());
        let position = report.and_then(position);
        position.is_some_and(|position| position.received == *wanted)
    };
    // None of them has anything of the epoch, then, and whoever has its start may begin the next one.
    let start = &record.start_gtid;
    let is_spare = |tablet: &Tablet| {
        Some(&tablet.alias) != record.primary.as_ref() && has_exactly(&tablet.alias, start)
    };
    let has_spare = || situation.promotable().any(is_spare);
    match maximum.contains(start) {
        true if maximum == *start && has_spare() => return Ok(maximum),
        true => {}
        false if start.contains(&maximum) && has_spare() => return Ok(start.clone()),
        false => {
            return Err(format!(
                "no tablet that answers has the start of the epoch ({start}): bring back the primary or another that has it"
            ));
        }
    }
    let able = |(alias, _): &(&TabletAlias, GtidSet)| {
        has_exactly(alias, &maximum) && situation.is_promotable(alias)
    };
    if !sets.iter().any(able) {
        let failing = record.ackers.iter().find_map(|acker| {
            let error = cannot_apply(situation.answer(acker)?)?;
            Some(format!(": {acker} cannot apply it: {error}"))
        });
        return Err(format!(
            "no acker that has the most can be promoted{}",
            failing.unwrap_or_default()
        ));
    }
    Ok(maximum)
}
