//! The primary is dead: revoke its epoch, find every acknowledged write, choose and establish the next primary.
//!
//! Nothing here depends on the leader's memory except the reports: a leader elected in the middle reads the record and goes
//! on. In `Revoking` it collects answers for the same epoch again. That is safe because promises and stopped IO threads are
//! facts on the agents' disks, bound to the epoch and not to the leader that asked for them.

use vt_proto::{
    gtid::GtidSet,
    ids::TabletAlias,
    report::{MysqldState, Report, ThreadState},
    topology::{AuditEvent, FinishedEpoch, HISTORY_EPOCHS_MAX, Phase, ReplicaSet},
};

use super::{
    Situation, Verdict,
    candidate::{
        ackers_after_failover, candidates, cannot_apply, is_fenced_alive, is_revoked, position,
        prospect, received,
    },
    drain,
    evidence::{Death, death, doubt, lost_start},
    leaving, membership, raising, restored,
    table::Trigger,
    writes,
};
use crate::durability::{self, answers_needed};

/// How long ackers may take to come back with intact data before the former primary is started to be read.
pub const REVEAL_AFTER_MS: u64 = 5_000;

/// So many primaries that end within this time are not taken for an accident.
const REPEATED_DEATHS: usize = 3;
const REPEATED_MS: u64 = 600_000;
/// What the events of deaths are known by.
const DEATHS: &str = "primaries that ended lately";

/// In `Stable`: the primary serves, unless it is dead.
pub fn stable(situation: &Situation<'_>) -> Verdict {
    let Some(primary) = &situation.record().primary else {
        return Verdict::Blocked("the record names no primary".to_owned());
    };
    match death(situation, primary) {
        Some(death) => answer_death(situation, primary, &death),
        None => match doubt(situation, primary) {
            Some(doubt) => Verdict::Blocked(doubt),
            None => alive(situation, primary),
        },
    }
}

/// Another acker may be what commits wait for, so it comes before the alarm.
fn alive(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    if let Some(hand_over) = writes::hand_over(situation, primary) {
        return hand_over;
    }
    if let Some(hand_over) = drain::hand_over(situation, primary) {
        return hand_over;
    }
    let alarms = [writes::alarm, drain::alarm].map(|alarm| alarm(situation, primary));
    let alarms: Vec<String> = alarms.into_iter().flatten().collect();
    let alarm = (!alarms.is_empty()).then(|| alarms.join("; "));
    match (ackers(situation, primary), alarm) {
        (Verdict::Wait, Some(alarm)) => Verdict::Blocked(alarm),
        (Verdict::Blocked(why), Some(alarm)) => Verdict::Blocked(format!("{alarm}; {why}")),
        (other, _) => other,
    }
}

/// One that is lost leaves, one that was locked out and has stopped may connect again, one that is level comes, a stricter policy takes its
/// next step: one thing at a time.
fn ackers(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    let record = situation.record();
    if record.raising.is_some_and(|raising| raising.ordered) {
        return raising::raise(situation, primary);
    }
    let leaves = leaving::leave(situation, primary);
    if record.leaving.is_some() || matches!(leaves, Verdict::Commit { .. }) {
        return leaves;
    }
    let steps = [
        leaving::readmit(situation),
        membership::add_acker(situation, primary),
        raising::raise(situation, primary),
    ];
    let mut steps = steps.into_iter();
    steps
        .find(|verdict| *verdict != Verdict::Wait)
        .filter(|verdict| matches!(verdict, Verdict::Commit { .. }) || leaves == Verdict::Wait)
        .unwrap_or(leaves)
}

/// In `Establishing`: the primary of the epoch is chosen and opens; it may die before.
pub fn establishing(situation: &Situation<'_>) -> Verdict {
    let record = situation.record();
    let Some(primary) = &record.primary else {
        return Verdict::Blocked("the record names no primary".to_owned());
    };
    let report = situation.last_report(primary);
    if report.is_some_and(|report| report.serving == Some(record.epoch)) {
        let stable = ReplicaSet {
            phase: Phase::Stable,
            ..record.clone()
        };
        let event = situation.event(
            "failover.open",
            format!("{primary} is open as primary of epoch {}", record.epoch),
            vec![(
                "establishing_ms".to_owned(),
                situation.phase_age_ms().to_string(),
            )],
        );
        return Verdict::commit(situation, Trigger::PrimaryOpen, stable, event);
    }
    if let Some(death) = death(situation, primary).or_else(|| lost_start(situation, primary)) {
        return answer_death(situation, primary, &death);
    }
    match membership::add_acker(situation, primary) {
        Verdict::Wait => waiting_for(primary, report, "open"),
        other => other,
    }
}

/// What keeps a tablet from what it is to do, in its own words.
fn waiting_for(alias: &TabletAlias, report: Option<&Report>, what: &str) -> Verdict {
    match report.and_then(|report| report.blocked.as_ref()) {
        Some(blocked) => Verdict::Blocked(format!("{alias} cannot {what}: {blocked}")),
        None => Verdict::Wait,
    }
}

/// A new epoch if it can be finished with who answers now; else a restart in place; else neither.
pub fn answer_death(situation: &Situation<'_>, primary: &TabletAlias, death: &Death) -> Verdict {
    match (prospect(situation), death.restartable) {
        (Ok(_), _) => revoke(situation, primary, death),
        (Err(why_not), Some(_)) if matches!(situation.record().phase, Phase::Switching { .. }) => {
            // Back to the old epoch first: a restart in place belongs to a primary, not to one that hands over.
            super::planned::take_back(situation, &format!("{primary}: {}; {why_not}", death.why))
        }
        (Err(why_not), Some(incarnation)) => {
            let record = ReplicaSet {
                restart_after: Some(incarnation),
                ..situation.record().clone()
            };
            let (suspicion, mut evidence) = repeated(situation, death);
            evidence.push(("no failover because".to_owned(), why_not));
            let event = situation.event(
                "failover.restart_in_place",
                format!(
                    "{primary} may start its mysqld again: {}{suspicion}",
                    death.why
                ),
                evidence,
            );
            Verdict::commit(situation, Trigger::PrimaryExitedAlone, record, event)
        }
        (Err(why_not), None) => {
            Verdict::Blocked(format!("{primary} is dead ({}), but {why_not}", death.why))
        }
    }
}

fn revoke(situation: &Situation<'_>, primary: &TabletAlias, death: &Death) -> Verdict {
    let old = situation.record();
    let record = ReplicaSet {
        epoch: old.epoch.next(),
        phase: Phase::Revoking {
            previous: primary.clone(),
            reason: death.why.clone(),
        },
        primary: None,
        restart_after: None,
        ..old.without_steps()
    };
    let (suspicion, evidence) = repeated(situation, death);
    let event = situation.event(
        "failover.revoke",
        format!(
            "epoch {} of {primary} is revoked: {}{suspicion}",
            old.epoch, death.why
        ),
        evidence,
    );
    Verdict::commit(situation, Trigger::PrimaryDead, record, event)
}

/// The evidence of a death, and what to think of it where primaries have ended one after the other: a statement that kills a mysqld is
/// sent again to the next one. Counted in the events, which every leader has.
fn repeated(situation: &Situation<'_>, death: &Death) -> (String, Vec<(String, String)>) {
    let mut evidence = death.evidence.clone();
    let primary = situation.record().primary.as_ref();
    let report = primary.and_then(|primary| situation.last_report(primary));
    if !report.is_some_and(|report| matches!(report.mysqld, MysqldState::Exited { .. })) {
        return (String::new(), evidence);
    }
    let is_death = |event: &&AuditEvent| event.evidence.iter().any(|(name, _)| name == DEATHS);
    let before = situation
        .recent_events(REPEATED_MS)
        .filter(is_death)
        .count();
    let deaths = before + 1;
    evidence.push((DEATHS.to_owned(), deaths.to_string()));
    let suspicion = match deaths >= REPEATED_DEATHS {
        true => format!(
            "; {deaths} primaries have ended within {} minutes: a statement may kill one after the other",
            REPEATED_MS / 60_000
        ),
        false => String::new(),
    };
    (suspicion, evidence)
}

/// In `Revoking`: nobody is primary; collect who has stopped and what they have.
pub fn revoking(situation: &Situation<'_>, previous: &TabletAlias, reason: &str) -> Verdict {
    if restored::is_unknown(situation.record()) {
        return restored::raise(situation, previous);
    }
    if !is_old_epoch_over(situation, previous) {
        return Verdict::Blocked(format!(
            "epoch {} is not revoked yet: {}",
            situation.record().epoch,
            missing(situation)
        ));
    }
    let maximum = match discovered(situation, previous) {
        Ok(maximum) => maximum,
        Err(why_not) => return reveal_previous(situation, previous, why_not),
    };
    let mut maximum = maximum;
    let mut able = candidates(situation, previous, &maximum);
    if able.is_empty()
        && let Some(other) = acknowledged_at_most(situation, previous)
            .or_else(|| own_data(situation, previous, &maximum))
    {
        able = candidates(situation, previous, &other);
        maximum = other;
    }
    let Some(best) = able.first() else {
        // Whoever has it may have more, which nobody kept; the former primary may have it without.
        let mut why_not = format!(
            "no tablet that answers and may be promoted has exactly {maximum}: bring back one that has it"
        );
        for tablet in situation.promotable() {
            let report = situation.answer(&tablet.alias);
            if let Some(error) = report.and_then(cannot_apply) {
                let alias = &tablet.alias;
                why_not += &format!(", or let {alias} apply what it received: {error}");
            }
        }
        return reveal_previous(situation, previous, why_not);
    };
    if best.backlog > 0 {
        return Verdict::Blocked(format!(
            "{} still applies {} received transactions",
            best.alias, best.backlog
        ));
    }
    establish(situation, previous, reason, &best.alias, maximum)
}

/// Where nobody can begin with all that was received: the most that somebody can begin with and that lacks nothing acknowledged. Whatever
/// it lacks is with fewer ackers than had to acknowledge it, also if all that were not heard have it.
fn acknowledged_at_most(situation: &Situation<'_>, previous: &TabletAlias) -> Option<GtidSet> {
    let record = situation.record();
    if restored::is_restored(record, previous) {
        return None;
    }
    let heard: Vec<GtidSet> = record
        .ackers
        .iter()
        .filter_map(|acker| situation.last_report(acker))
        .filter(|report| has_stopped(situation, previous, report) && !report.amnesiac)
        .filter_map(|report| received(situation, report))
        .collect();
    let unheard = record.ackers.len() - heard.len();
    let lacks_nothing = |set: &GtidSet| {
        let more = heard.iter().filter(|theirs| !set.contains(theirs)).count();
        more + unheard < record.durability.acks() as usize
    };
    let able = |set: &GtidSet| !candidates(situation, previous, set).is_empty();
    let mut sets = heard.clone();
    sets.sort_by_key(|set| std::cmp::Reverse(set.count()));
    let enough =
        |set: &GtidSet| set.contains(&record.start_gtid) && lacks_nothing(set) && able(set);
    sets.into_iter().find(enough)
}

/// What the former primary can begin with itself, once it is started to be read: everything that it ever acknowledged, and more.
fn own_data(
    situation: &Situation<'_>,
    previous: &TabletAlias,
    maximum: &GtidSet,
) -> Option<GtidSet> {
    let report = situation.answer(previous)?;
    let is_own = is_fenced_alive(situation, report) && situation.is_promotable(previous);
    let own = &position(report).filter(|_| is_own)?.executed;
    own.contains(maximum).then(|| own.clone())
}

/// Whether the answers show every acknowledged write of the epoch that is revoked: from now on it only waits for a candidate.
pub fn is_found(situation: &Situation<'_>) -> bool {
    let Phase::Revoking { previous, .. } = &situation.record().phase else {
        return false;
    };
    !restored::is_unknown(situation.record())
        && is_old_epoch_over(situation, previous)
        && discovered(situation, previous).is_ok()
}

/// Lets the former primary be read when the ackers' data do not suffice. Late, because its start commits what nobody
/// acknowledged: then nothing of it can be cut any more, and if another becomes primary after all it needs a copy.
fn reveal_previous(situation: &Situation<'_>, previous: &TabletAlias, why_not: String) -> Verdict {
    let record = situation.record();
    let ended = situation.answer(previous).filter(|report| {
        report.promised >= record.epoch
            && matches!(report.mysqld, MysqldState::Exited { .. })
            && record.restart_after != Some(report.incarnation)
    });
    let Some(ended) = ended.filter(|_| situation.phase_age_ms() >= REVEAL_AFTER_MS) else {
        return Verdict::Blocked(why_not);
    };
    let event = situation.event(
        "failover.reveal",
        format!("{previous} may start its mysqld, closed, to be read"),
        vec![
            ("because".to_owned(), why_not),
            ("life".to_owned(), ended.incarnation.to_string()),
        ],
    );
    let record = ReplicaSet {
        restart_after: Some(ended.incarnation),
        ..record.clone()
    };
    Verdict::commit(situation, Trigger::DataMissing, record, event)
}

/// Whether no transaction of the epoch before can get an OK any more.
fn is_old_epoch_over(situation: &Situation<'_>, previous: &TabletAlias) -> bool {
    let record = situation.record();
    let needed = needed(record, previous);
    let stopped = record
        .ackers
        .iter()
        .filter_map(|acker| situation.last_report(acker))
        .filter(|report| has_stopped(situation, previous, report))
        .count();
    // Of a restored set nobody knows for certain who the former primary was.
    stopped >= needed
        || (!restored::is_restored(record, previous) && is_fenced(situation, previous))
}

/// Whether the tablet acknowledges nothing of the epoch before any more. In a restored set the one that is fenced is among those who
/// may have acknowledged: then it must not replicate either.
fn has_stopped(situation: &Situation<'_>, previous: &TabletAlias, report: &Report) -> bool {
    let epoch = situation.record().epoch;
    let is_fenced = report.promised >= epoch && report.fenced.is_some_and(|fenced| fenced >= epoch);
    let is_deaf = report
        .replication
        .as_ref()
        .is_none_or(|replication| replication.io == ThreadState::Off);
    let restored = restored::is_restored(situation.record(), previous);
    is_revoked(situation, report) || (restored && is_fenced && is_deaf)
}

/// How many ackers must have stopped, so that one of them has every acknowledged write.
fn needed(record: &ReplicaSet, previous: &TabletAlias) -> usize {
    match restored::is_restored(record, previous) {
        true => restored::answers_needed(record),
        false => answers_needed(record.ackers.len(), record.durability.acks()),
    }
}

/// Whether the former primary itself cannot acknowledge: fenced, or dead with the promise that keeps its guard from a start.
fn is_fenced(situation: &Situation<'_>, previous: &TabletAlias) -> bool {
    let epoch = situation.record().epoch;
    situation.last_report(previous).is_some_and(|report| {
        let down = matches!(
            report.mysqld,
            MysqldState::Exited { .. } | MysqldState::Held { .. }
        );
        report.promised >= epoch && (down || report.fenced.is_some_and(|fenced| fenced >= epoch))
    })
}

/// The set that has every acknowledged write, or who is missing to know it.
fn discovered(situation: &Situation<'_>, previous: &TabletAlias) -> Result<GtidSet, String> {
    let record = situation.record();
    let needed = needed(record, previous);
    let is_restored = restored::is_restored(record, previous);
    let stopped: Vec<&Report> = record
        .ackers
        .iter()
        .filter_map(|acker| situation.last_report(acker))
        .filter(|report| has_stopped(situation, previous, report) && report.gtid.is_some())
        .collect();
    let intact = stopped.iter().filter(|report| !report.amnesiac).count();
    let mut sets: Vec<GtidSet> = stopped
        .iter()
        .filter_map(|report| match is_restored {
            true => report.gtid.as_ref().map(|gtid| gtid.received.clone()),
            false => received(situation, report),
        })
        .collect();
    // One of them was primary: what it wrote itself it did not receive.
    let unions: Vec<GtidSet> = stopped
        .iter()
        .filter_map(|report| report.gtid.as_ref())
        .filter(|_| is_restored)
        .map(|gtid| gtid.received.union(&gtid.executed))
        .collect();
    sets.extend(unions);
    if is_restored && intact < needed {
        return Err(format!(
            "{intact} of {needed} tablets have stopped with intact data: {}",
            missing(situation)
        ));
    }
    // The former primary's own data have every write that it ever acknowledged, and perhaps more. Amnesia is about relay
    // logs; what it wrote itself was on disk before it answered.
    let own = situation
        .last_report(previous)
        .filter(|report| is_fenced_alive(situation, report))
        .and_then(position);
    if intact < needed {
        let Some(own) = own else {
            return Err(format!(
                "{intact} of {needed} answers with intact data: {}, or {previous} fenced with its data readable",
                missing(situation)
            ));
        };
        sets.push(own.executed.clone());
    }
    let maximum = match (durability::maximum(&sets), own) {
        (Ok(maximum), _) => maximum,
        // Some of them have what was kept of no epoch. It has what it acknowledged itself, and what its epoch began with.
        (Err(_), Some(own)) if !is_restored && own.executed.contains(&record.start_gtid) => {
            return Ok(own.executed.clone());
        }
        (Err(diverged), _) => {
            return Err(format!(
                "the tablets have diverged ({} against {}): an operator must decide which is right",
                diverged.one, diverged.other
            ));
        }
    };
    // When the epoch before was never open, its ackers need not have its start, and the writes acknowledged earlier are
    // within that start: nothing smaller may be taken, and with nothing of the epoch in any of them nothing larger need be.
    let start = &record.start_gtid;
    let wanted = match start.contains(&maximum) {
        true => start.clone(),
        false => maximum,
    };
    let is_held = !candidates(situation, previous, &wanted).is_empty();
    let own = own.filter(|own| !is_held && own.executed.contains(&wanted));
    match own {
        Some(own) => Ok(own.executed.clone()),
        None if wanted.contains(start) && (is_held || wanted != *start) => Ok(wanted),
        None => Err(format!(
            "no tablet that answers has everything up to {start}: bring back {previous} or another that has it"
        )),
    }
}

fn missing(situation: &Situation<'_>) -> String {
    let waiting: Vec<String> = situation
        .record()
        .ackers
        .iter()
        .filter(|acker| {
            !situation
                .last_report(acker)
                .is_some_and(|report| is_revoked(situation, report) && !report.amnesiac)
        })
        .map(TabletAlias::to_string)
        .collect();
    format!("waiting for {}", waiting.join(", "))
}

fn establish(
    situation: &Situation<'_>,
    previous: &TabletAlias,
    reason: &str,
    candidate: &TabletAlias,
    maximum: GtidSet,
) -> Verdict {
    let old = situation.record();
    let ackers = ackers_after_failover(situation, candidate, previous, &maximum);
    let Some(ackers) = ackers else {
        return Verdict::Blocked(format!(
            "{} acknowledgements are asked for and there are too few tablets that may be promoted: add one",
            old.durability.acks()
        ));
    };
    let locked_out = leaving::still_locked_out(old, candidate, previous, &ackers);
    let mut evidence: Vec<(String, String)> = situation
        .tablets()
        .filter_map(|tablet| {
            let report = situation.last_report(&tablet.alias)?;
            let gtid = report.gtid.as_ref()?;
            let words = format!(
                "received {}, executed {}, revoked {:?}, fenced {:?}, amnesiac {}",
                gtid.received, gtid.executed, report.revoked, report.fenced, report.amnesiac
            );
            Some((format!("tablet {}", tablet.alias), words))
        })
        .collect();
    evidence.push((
        "revoking_ms".to_owned(),
        situation.phase_age_ms().to_string(),
    ));
    let event = situation.event(
        "failover.establish",
        format!(
            "{candidate} becomes primary of epoch {} from {maximum}, after {previous}: {reason}",
            old.epoch
        ),
        evidence,
    );
    let record = ReplicaSet {
        phase: Phase::Establishing,
        primary: Some(candidate.clone()),
        ackers,
        history: longer_history(old, previous, old.epoch.0 - 1, &maximum),
        start_gtid: maximum,
        restart_after: None,
        locked_out,
        ..old.without_steps()
    };
    Verdict::commit(situation, Trigger::CandidateDrained, record, event)
}

/// The history with one more finished epoch, the oldest forgotten beyond the bound.
pub fn longer_history(
    record: &ReplicaSet,
    primary: &TabletAlias,
    epoch: u64,
    kept: &GtidSet,
) -> Vec<FinishedEpoch> {
    let mut history = record.history.clone();
    history.push(FinishedEpoch {
        epoch: vt_proto::epoch::Epoch(epoch),
        primary: primary.clone(),
        kept: kept.clone(),
    });
    let excess = history.len().saturating_sub(HISTORY_EPOCHS_MAX);
    history.drain(..excess);
    history
}
