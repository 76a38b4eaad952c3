//! A planned switchover: the old primary hands over alive, and until it says that it is read-only all can be taken back.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Generation,
    ids::TabletAlias,
    report::{MysqldState, Report, ThreadState},
    topology::{Phase, ReplicaSet},
};

use super::{
    Situation, Verdict,
    candidate::{ackers_after_switchover, is_lonely, position},
    drain::{Departure, departure},
    emergency::{answer_death, longer_history},
    evidence::death,
    table::Trigger,
    writes,
};

/// How long writes may be held for a switchover; then the old primary reopens.
pub const SWITCHOVER_MS: u64 = 2_000;
/// A candidate further behind would keep writers waiting longer than the switchover may take.
pub const SWITCHOVER_LAG_MS: u64 = 1_000;

/// How long writes may be slowed for a candidate that has to catch up or to prepare. Slowed writers make progress; then they are held all the same.
pub const APPROACH_MS: u64 = 1_000;
/// What a candidate may still have to apply when writes are held: about as much as arrives at the pace of slowed writers.
pub const NEAR_TRANSACTIONS_MAX: u64 = 4;

/// The phase in which a switchover begins: writes are slowed until the candidate is near.
pub fn approaching(candidate: &TabletAlias) -> Phase {
    Phase::Switching {
        candidate: candidate.clone(),
        holds: false,
    }
}

/// Whether it has applied almost all, and done beforehand what need not be done while writes are held.
fn is_near(situation: &Situation<'_>, candidate: &TabletAlias) -> bool {
    let asked = Generation(situation.set.revision.0);
    let report = situation.answer(candidate);
    let prepared = report.and_then(|report| report.prepared);
    prepared.is_some_and(|prepared| prepared >= asked)
        && backlog(situation, candidate).is_some_and(|backlog| backlog <= NEAR_TRANSACTIONS_MAX)
}

/// Transactions that it received and has not applied.
fn backlog(situation: &Situation<'_>, candidate: &TabletAlias) -> Option<u64> {
    let position = situation.answer(candidate).and_then(position)?;
    Some(position.received.subtract(&position.executed).count())
}

/// A switchover that nobody has asked for, to the first acker that is fit. None where nobody is.
pub fn begin(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    (trigger, kind): (Trigger, &str),
    why: &str,
    evidence: Vec<(String, String)>,
) -> Option<Verdict> {
    let record = situation.record();
    let mut ackers = record.ackers.iter();
    let candidate = ackers.find(|acker| fit(situation, primary, acker).is_ok())?;
    let message = format!("{primary} is to hand over to {candidate}: {why}");
    let event = situation.event(kind, message, evidence);
    let switching = ReplicaSet {
        phase: approaching(candidate),
        ..record.without_steps()
    };
    Some(Verdict::commit(situation, trigger, switching, event))
}

/// In `Switching`: hold writes when the candidate is near, hand over when both sides are ready, take it back when one is not in time.
pub fn switching(situation: &Situation<'_>, candidate: &TabletAlias, holds: bool) -> Verdict {
    let Some(primary) = &situation.record().primary else {
        return Verdict::Blocked("the record names no primary".to_owned());
    };
    if let Some(death) = death(situation, primary) {
        return answer_death(situation, primary, &death);
    }
    if let Err(why_not) = fit(situation, primary, candidate) {
        return take_back(situation, &why_not);
    }
    if !holds {
        return approach(situation, candidate);
    }
    let report = situation.last_report(primary);
    if let Some(final_report) = report.filter(|report| is_demoted(situation, report)) {
        return hand_over(situation, primary, candidate, final_report);
    }
    let blocked = report
        .filter(|report| report.generation >= Generation(situation.set.revision.0))
        .and_then(|report| report.blocked.as_ref());
    let why = match blocked {
        Some(blocked) => format!("{primary} cannot hand over: {blocked}"),
        None if situation.phase_age_ms() > SWITCHOVER_MS => {
            format!("{primary} did not become read-only within {SWITCHOVER_MS} ms")
        }
        None => return Verdict::Wait,
    };
    match writes::could_not_hand_over(situation, primary, &why) {
        Some(death) => answer_death(situation, primary, &death),
        None => take_back(situation, &why),
    }
}

/// Writes are slowed: hold them when the candidate is near, or has had its time.
fn approach(situation: &Situation<'_>, candidate: &TabletAlias) -> Verdict {
    if !is_near(situation, candidate) && situation.phase_age_ms() <= APPROACH_MS {
        return Verdict::Wait;
    }
    let backlog = backlog(situation, candidate).map_or("?".to_owned(), |it| it.to_string());
    let event = situation.event(
        "switchover.hold",
        format!("writes are held: {candidate} has {backlog} transactions to apply"),
        vec![("slowed_ms".to_owned(), situation.phase_age_ms().to_string())],
    );
    let record = ReplicaSet {
        phase: Phase::Switching {
            candidate: candidate.clone(),
            holds: true,
        },
        ..situation.record().clone()
    };
    Verdict::commit(situation, Trigger::CandidateNear, record, event)
}

/// Whether the primary became read-only under this very switchover: under a desired state made of the present record.
fn is_demoted(situation: &Situation<'_>, report: &Report) -> bool {
    let asked = Generation(situation.set.revision.0);
    report.demoted.is_some_and(|demoted| demoted >= asked) && position(report).is_some()
}

/// Whether a tablet could take over from the primary soon; or why not.
pub fn fit(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    candidate: &TabletAlias,
) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{candidate} cannot take over: {why}"));
    if candidate == primary {
        return refuse("it is the primary already");
    }
    if !situation.is_promotable(candidate) {
        return refuse("it is not a tablet of this replica set that may be promoted");
    }
    if !situation.record().ackers.contains(candidate) {
        return refuse(
            "it does not acknowledge writes, so it need not have them; wait until it does",
        );
    }
    match departure(situation, candidate) {
        Some(Departure::Drained) => {
            return refuse("its host is drained; `vtctl host undrain` ends that");
        }
        Some(Departure::Stopping) => return refuse("its mysqld is about to be stopped"),
        None => {}
    }
    let Some(report) = situation.answer(candidate) else {
        return refuse("it does not answer");
    };
    if report.mysqld != MysqldState::Running {
        return refuse("its mysqld does not run");
    }
    if report.has_bad_disk() {
        return refuse("its disk is full, stalled or fails");
    }
    let Some(replication) = &report.replication else {
        return refuse("it does not replicate");
    };
    if replication.io != ThreadState::On || replication.sql != ThreadState::On {
        return refuse("its replication threads do not run");
    }
    if is_lonely(situation, candidate) {
        return refuse("too few tablets answer that may acknowledge its writes under the policy");
    }
    if replication
        .lag_ms
        .is_some_and(|lag| lag > SWITCHOVER_LAG_MS)
    {
        return refuse("it lags behind by more than a second; wait until it has caught up");
    }
    Ok(())
}

fn in_time(situation: &Situation<'_>, what: &str) -> Verdict {
    if situation.phase_age_ms() > SWITCHOVER_MS {
        return take_back(situation, &format!("{what} within {SWITCHOVER_MS} ms"));
    }
    Verdict::Wait
}

fn hand_over(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    candidate: &TabletAlias,
    final_report: &Report,
) -> Verdict {
    let old = situation.record();
    let (Some(end), Some(received)) = (
        position(final_report).map(|position| &position.executed),
        situation
            .answer(candidate)
            .and_then(position)
            .map(|position| &position.received),
    ) else {
        return in_time(situation, &format!("{candidate} did not say what it has"));
    };
    if !received.contains(end) {
        return in_time(
            situation,
            &format!("{candidate} did not receive everything"),
        );
    }
    if !end.contains(received) {
        return take_back(
            situation,
            &format!(
                "{candidate} has transactions that {primary} has not: {}",
                received.subtract(end)
            ),
        );
    }
    let Some(ackers) = ackers_after_switchover(situation, candidate, primary) else {
        return take_back(situation, "too few tablets could acknowledge afterwards");
    };
    let record = ReplicaSet {
        epoch: old.epoch.next(),
        phase: Phase::Establishing,
        primary: Some(candidate.clone()),
        ackers,
        history: longer_history(old, primary, old.epoch.0, end),
        start_gtid: end.clone(),
        restart_after: None,
        // Whoever follows the old primary acknowledges nothing of another one.
        locked_out: BTreeSet::new(),
        ..old.without_steps()
    };
    let event = situation.event(
        "switchover.establish",
        format!(
            "{candidate} becomes primary of epoch {} after {primary}, which is read-only",
            record.epoch
        ),
        vec![
            (format!("primary {primary}"), format!("executed {end}")),
            (
                format!("candidate {candidate}"),
                format!("received {received}"),
            ),
            (
                "switching_ms".to_owned(),
                situation.phase_age_ms().to_string(),
            ),
        ],
    );
    Verdict::commit(situation, Trigger::PrimaryDemoted, record, event)
}

/// Back to the old primary in the old epoch.
pub fn take_back(situation: &Situation<'_>, why: &str) -> Verdict {
    let record = ReplicaSet {
        phase: Phase::Stable,
        ..situation.record().clone()
    };
    let evidence = vec![(
        "switching_ms".to_owned(),
        situation.phase_age_ms().to_string(),
    )];
    let event = situation.event(
        "switchover.taken_back",
        format!("the switchover is taken back: {why}"),
        evidence,
    );
    Verdict::commit(situation, Trigger::SwitchoverFailed, record, event)
}
