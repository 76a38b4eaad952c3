//! What a primary's own writes tell: a full or stalled disk leaves its reads and its heartbeats healthy.
//!
//! Two classes that do not share a cause make a death: its writes to mysqld hang, and its writes to mysqld's disk do not arrive, or
//! mysqld says that it waits for space. Writes that hang on a healthy disk are saturation or a lock: an alarm, after half a minute a
//! switchover, and never a death.
//! Writes that wait for acknowledgements tell of the ackers, and make a death only if these run and have lost it. Nothing is concluded while no acker has a healthy disk: a storage that
//! all share, or data that fill every disk alike, would only send writers around.

use vt_proto::{
    ids::TabletAlias,
    report::{DiskState, MysqldState, Report, WriteCause, WriteFailure},
};

use super::{
    Situation, Verdict,
    evidence::{Death, ackers_hear_nothing},
    planned::begin,
    table::Trigger,
};
use crate::health::TabletHealth;

/// After the second that the agent gives each write: over so long its reports say without a break that writes hang before the primary
/// is dead, which takes three of them. An agent that slept finds its own writes late when it wakes, and done a moment later.
pub const HANGING_MS: u64 = 500;
/// For so long commits wait and ackers that run hear nothing before that is taken for more than a reconnection.
pub const CUT_OFF_MS: u64 = 1_000;
/// A disk that takes nothing while writes to mysqld still return is left in peace for so long.
pub const BAD_DISK_MS: u64 = 2_000;
/// A record younger than this was changed a moment ago: a primary that could not hand over is not asked again at once.
pub const HANDOVER_PAUSE_MS: u64 = 10_000;

/// Writes hang for so long on a healthy disk before another primary is tried: longer than a burst, or most locks.
pub const SATURATED_MS: u64 = 30_000;
/// And not again within this: the same load would send writers around for ever.
pub const SATURATED_PAUSE_MS: u64 = 600_000;
const SATURATED: &str = "switchover.load";

/// The death of a primary that can write no more, if it is concluded.
pub fn death(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Death> {
    let health = situation.health.get(primary)?;
    let (failure, hanging_ms) = hanging(health)?;
    let is_full = failure.cause == WriteCause::DiskSpace;
    let disk_ms = heard_ms(health, health.bad_disk_since_ms);
    if hanging_ms <= HANGING_MS || !(is_full || disk_ms.is_some_and(|ms| ms > HANGING_MS)) {
        return None;
    }
    healthy_acker(situation, primary)?;
    let disk = disk_words(&health.report);
    let why = format!("its writes hang, and {disk}");
    Some(Death {
        conclusive: false,
        restartable: None,
        evidence: vec![
            (
                format!("primary {primary}"),
                format!(
                    "a write hangs for {} ms: {}",
                    failure.since_ms, failure.detail
                ),
            ),
            (format!("disk of {primary}"), disk),
        ],
        why,
    })
}

/// The death of a primary whose commits wait although most of its ackers run: what they have lost is the way to it, a cut network or
/// a lock that lets nobody log in, and to each other they may find it. Those that come back a moment later are waited for.
pub fn cut_off(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Death> {
    let health = situation.health.get(primary)?;
    let waiting_ms = heard_ms(health, health.commits_wait_since_ms)?;
    let has_lost_it = |acker: &&TabletAlias| {
        let acker = situation.health.get(acker);
        let lost_ms = acker.and_then(|acker| heard_ms(acker, acker.source_lost_since_ms));
        lost_ms.is_some_and(|ms| ms > CUT_OFF_MS)
    };
    let runs = |acker: &&TabletAlias| situation.answer(acker).is_some_and(is_running);
    let running: Vec<_> = situation.record().ackers.iter().filter(runs).collect();
    let lost = running.iter().copied().filter(has_lost_it).count();
    if waiting_ms <= CUT_OFF_MS || lost * 2 <= running.len() {
        return None;
    }
    let (_, mut evidence) = ackers_hear_nothing(situation, primary);
    let failure = failure(&health.report)?;
    let words = format!(
        "a commit waits for acknowledgements for {} ms",
        failure.since_ms
    );
    evidence.insert(0, (format!("primary {primary}"), words));
    Some(Death {
        conclusive: false,
        restartable: None,
        why: "its commits wait, and its ackers run and have lost it".to_owned(),
        evidence,
    })
}

/// Why writes do not return although the primary is not dead, for people to read.
pub fn alarm(situation: &Situation<'_>, primary: &TabletAlias) -> Option<String> {
    let report = situation.answer(primary)?;
    let Some(failure) = failure(report) else {
        return report.has_bad_disk().then(|| {
            format!(
                "{primary} still writes, but {}: make room, or look at the device",
                disk_words(report)
            )
        });
    };
    Some(match failure.cause {
        WriteCause::Acknowledgements => format!(
            "commits on {primary} wait for acknowledgements: bring back its ackers; another primary would wait for them too"
        ),
        WriteCause::Refused => format!(
            "{primary} refuses writes: {}: make room, or end what holds its tables",
            failure.detail
        ),
        WriteCause::Unknown | WriteCause::DiskSpace if report.has_bad_disk() => format!(
            "writes on {primary} hang, {}, and no acker with a healthy disk answers: make room, or bring one back",
            disk_words(report)
        ),
        WriteCause::Unknown | WriteCause::DiskSpace => format!(
            "writes on {primary} hang although its disk is well: it has too much to do, or something holds a lock; look at its process list"
        ),
    })
}

/// A hand-over of a primary that is not dead: its disk fails and its writes will hang soon, or they have hung for long without that.
pub fn hand_over(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Verdict> {
    // What was taken back is not tried again at once.
    if situation.phase_age_ms() < HANDOVER_PAUSE_MS {
        return None;
    }
    let health = situation.health.get(primary)?;
    for_its_disk(situation, primary, health).or_else(|| for_its_load(situation, primary, health))
}

fn for_its_disk(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    health: &TabletHealth,
) -> Option<Verdict> {
    let bad_ms = heard_ms(health, health.bad_disk_since_ms)?;
    let hangs = health.writes_hang_since_ms.is_some();
    if !is_failing(situation, primary) || hangs || bad_ms <= BAD_DISK_MS {
        return None;
    }
    let evidence = vec![("bad_disk_ms".to_owned(), bad_ms.to_string())];
    let kind = (Trigger::DiskFailing, "switchover.disk");
    begin(
        situation,
        primary,
        kind,
        &disk_words(&health.report),
        evidence,
    )
}

/// Too much to do, or a lock that somebody holds. Elsewhere it may go on; and where it does not, it is not tried again soon.
fn for_its_load(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    health: &TabletHealth,
) -> Option<Verdict> {
    let (failure, hanging_ms) = hanging(health)?;
    let is_load = failure.cause == WriteCause::Unknown && !health.report.has_bad_disk();
    if !is_load || hanging_ms <= SATURATED_MS {
        return None;
    }
    let mut recent = situation.recent_events(SATURATED_PAUSE_MS);
    if recent.any(|event| event.kind == SATURATED) {
        return None;
    }
    let why = format!("its writes hang for {hanging_ms} ms although its disk is well");
    let evidence = vec![("write".to_owned(), failure.detail.clone())];
    let kind = (Trigger::PrimarySaturated, SATURATED);
    begin(situation, primary, kind, &why, evidence)
}

/// The death of a primary with a failing disk that could not hand over in its time.
pub fn could_not_hand_over(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    why: &str,
) -> Option<Death> {
    let report = situation.answer(primary)?;
    let is_concluded =
        is_failing(situation, primary) && healthy_acker(situation, primary).is_some();
    let disk = disk_words(report);
    is_concluded.then(|| Death {
        conclusive: false,
        restartable: None,
        why: format!("{disk}, and it could not hand over: {why}"),
        evidence: vec![(format!("disk of {primary}"), disk.clone())],
    })
}

/// The disk answers, and takes nothing. One that stalls may go on in a moment.
fn is_failing(situation: &Situation<'_>, primary: &TabletAlias) -> bool {
    let state = situation
        .answer(primary)
        .and_then(|report| report.disk_probe.as_ref())
        .map(|probe| probe.state);
    matches!(state, Some(DiskState::Full | DiskState::Failed))
}

fn hanging(health: &TabletHealth) -> Option<(&WriteFailure, u64)> {
    let hanging_ms = heard_ms(health, health.writes_hang_since_ms)?;
    Some((failure(&health.report)?, hanging_ms))
}

fn failure(report: &Report) -> Option<&WriteFailure> {
    report.write_probe.as_ref()?.failure.as_ref()
}

/// Over how long it was heard: from the first report that said so to the newest. Silence since then says nothing of writes.
fn heard_ms(health: &TabletHealth, since_ms: Option<u64>) -> Option<u64> {
    since_ms.map(|since_ms| health.received_ms.saturating_sub(since_ms))
}

/// Somebody whom writes could go to and return from.
fn healthy_acker<'a>(situation: &Situation<'a>, primary: &TabletAlias) -> Option<&'a TabletAlias> {
    let ackers = &situation.set.value.ackers;
    ackers.iter().find(|acker| {
        *acker != primary
            && situation.is_promotable(acker)
            && situation
                .answer(acker)
                .is_some_and(|report| is_running(report) && !report.has_bad_disk())
    })
}

fn is_running(report: &Report) -> bool {
    report.mysqld == MysqldState::Running
}

fn disk_words(report: &Report) -> String {
    let Some(probe) = &report.disk_probe else {
        return "nothing is known of its disk".to_owned();
    };
    match probe.state {
        DiskState::Good => "its disk takes what is written".to_owned(),
        DiskState::Stalled => "a write to its disk does not return".to_owned(),
        DiskState::Full => "its disk is full".to_owned(),
        DiskState::Failed => format!("a write to its disk fails: {}", probe.detail),
    }
}
