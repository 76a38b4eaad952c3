//! A lost acker leaves the set of ackers, so that the next loss is survivable again; so does one that needs a copy, which takes away
//! what only it acknowledged. Until the last of three commits it counts.
//!
//! First it is told to stop to acknowledge. Then it has proven that it did, under an order on its disk. At last a row that the
//! primary wrote after that is acknowledged: by others, who then have everything before it. What the lost one ever acknowledged
//! comes before that row in the primary's log, also where its acknowledgement is still on the way. Only then it is out.
//!
//! Where its agent does not answer, its mysqld may be alive all the same, and the proof is the primary's: the lost one's account there is
//! locked and no connection of it is left, under an order on the primary's disk. That holds for this primary alone, and until the lost
//! one's own agent has stopped it; before, it would connect again as one that acknowledges. Another primary begins with nobody locked
//! out, since nobody who is no acker of it follows it: whoever may still follow it from an earlier epoch counts (see `candidate`).
//!
//! Nothing is remembered but in the record, so that any leader goes on; one that is needed after all is told to acknowledge again.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::Generation,
    ids::TabletAlias,
    topology::{Leaving, ReplicaSet},
};

use super::{
    Situation, Verdict,
    candidate::{errant, unkept},
    raising,
    table::Trigger,
};
use crate::{
    format,
    health::{ANSWER_AGE_MS, receives},
};

/// An acker that receives nothing for so long is lost. Less is a restart of mysqld.
pub const LOST_MS: u64 = 10_000;
/// How long a step may take; then it is taken back, for an acker that is told to stop is of no use to the writers.
pub const STEP_MS: u64 = 30_000;

/// The next step of an acker that leaves, or the first one of one that is lost.
pub fn leave(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    match &situation.record().leaving {
        Some(leaving) => go_on(situation, primary, leaving),
        None => begin(situation, primary),
    }
}

fn begin(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    let record = situation.record();
    if situation.state.format < format::LEAVING || !serves(situation, primary) {
        return Verdict::Wait;
    }
    // Whoever was stopped for a failover has the same time to connect; and what was taken back is not tried again at once.
    if situation.phase_age_ms() < LOST_MS {
        return Verdict::Wait;
    }
    let lost = record
        .ackers
        .iter()
        .filter(|acker| *acker != primary)
        .filter_map(|acker| Some((acker, why(situation, primary, acker)?)));
    // What answers goes by its own word; who does not is locked out.
    let is_silent = |acker: &TabletAlias| situation.answer(acker).is_none();
    let Some((acker, why)) = lost.min_by_key(|(acker, _)| is_silent(acker)) else {
        return Verdict::Wait;
    };
    if enough_others(situation, acker).is_err() {
        return Verdict::Wait;
    }
    match is_silent(acker) {
        true => lock_out(situation, primary, acker, &why),
        false => {
            let message = format!("{acker} is to stop to acknowledge: {why}");
            let locked_out = record.locked_out.clone();
            lost_commit(situation, primary, acker, message, locked_out)
        }
    }
}

/// The proof is to be the primary's.
fn lock_out(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    acker: &TabletAlias,
    why: &str,
) -> Verdict {
    let message = format!(
        "{primary} is to lock {acker} out, whose agent does not answer and whose mysqld may be alive: {why}"
    );
    let mut locked_out = situation.record().locked_out.clone();
    locked_out.insert(acker.clone());
    lost_commit(situation, primary, acker, message, locked_out)
}

fn lost_commit(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    acker: &TabletAlias,
    message: String,
    locked_out: BTreeSet<TabletAlias>,
) -> Verdict {
    let event = situation.event("acker.lost", message, evidence(situation, primary, acker));
    let record = ReplicaSet {
        leaving: Some(Leaving {
            acker: acker.clone(),
            silent: false,
        }),
        locked_out,
        ..situation.record().clone()
    };
    Verdict::commit(situation, Trigger::AckerLost, record, event)
}

/// One that was locked out has stopped, by an order on its disk: it may connect again, as a replica that acknowledges nothing.
pub fn readmit(situation: &Situation<'_>) -> Verdict {
    let record = situation.record();
    let asked = Generation(situation.set.revision.0);
    let has_stopped = |alias: &&TabletAlias| {
        let report = situation.last_report(alias);
        report.is_some_and(|report| report.silent >= Some(asked))
    };
    let Some(alias) = record.locked_out.iter().find(has_stopped) else {
        return Verdict::Wait;
    };
    let mut locked_out = record.locked_out.clone();
    locked_out.remove(alias);
    let event = situation.event(
        "replica.readmitted",
        format!("{alias} is back, has stopped to acknowledge, and may connect again"),
        vec![("order".to_owned(), format!("generation {asked}"))],
    );
    let record = ReplicaSet {
        locked_out,
        ..record.clone()
    };
    Verdict::commit(situation, Trigger::ReplicaReadmitted, record, event)
}

/// Who stays locked out in the epoch that `candidate` begins after `previous`: on the same server the locks hold, and nobody has heard
/// more of those who are out. An acker is never locked out, and another server has locked nobody out.
pub fn still_locked_out(
    old: &ReplicaSet,
    candidate: &TabletAlias,
    previous: &TabletAlias,
    ackers: &BTreeSet<TabletAlias>,
) -> BTreeSet<TabletAlias> {
    match candidate == previous {
        true => old.locked_out.difference(ackers).cloned().collect(),
        false => BTreeSet::new(),
    }
}

fn go_on(situation: &Situation<'_>, primary: &TabletAlias, leaving: &Leaving) -> Verdict {
    let acker = &leaving.acker;
    if let Err(why) = enough_others(situation, acker) {
        return keep(situation, primary, acker, &why);
    }
    // A claim counts if it was made under orders that follow from the present record.
    let asked = Generation(situation.set.revision.0);
    let is_locked = situation.record().locked_out.contains(acker);
    let own = situation.last_report(acker).and_then(|it| it.silent);
    let primarys = situation.answer(primary);
    let locked = primarys.and_then(|it| it.locked_out).filter(|_| is_locked);
    let (claim, waits_for) = match leaving.silent {
        false if is_locked => (own.max(locked), primary),
        false => (own, acker),
        true => (primarys.and_then(|it| it.confirmed), primary),
    };
    let is_gone = situation.health.silent_ms(acker, situation.now) >= LOST_MS;
    match claim.is_some_and(|claim| claim >= asked) {
        true if leaving.silent => remove(situation, primary, acker),
        true => silenced(situation, primary, acker),
        false if !leaving.silent && !is_locked && is_gone => {
            lock_out(situation, primary, acker, "it has fallen silent")
        }
        false if situation.phase_age_ms() > STEP_MS => {
            let why = format!("{waits_for} has not done its part within {STEP_MS} ms");
            keep(situation, primary, acker, &why)
        }
        false => Verdict::Wait,
    }
}

fn silenced(situation: &Situation<'_>, primary: &TabletAlias, acker: &TabletAlias) -> Verdict {
    let record = ReplicaSet {
        leaving: Some(Leaving {
            acker: acker.clone(),
            silent: true,
        }),
        ..situation.record().clone()
    };
    let event = situation.event(
        "acker.silent",
        format!("{acker} acknowledges nothing any more; {primary} writes a row that others have to acknowledge"),
        evidence(situation, primary, acker),
    );
    Verdict::commit(situation, Trigger::AckerSilent, record, event)
}

fn remove(situation: &Situation<'_>, primary: &TabletAlias, acker: &TabletAlias) -> Verdict {
    let mut ackers = situation.record().ackers.clone();
    ackers.remove(acker);
    let left: Vec<String> = ackers.iter().map(TabletAlias::to_string).collect();
    let event = situation.event(
        "acker.removed",
        format!(
            "{acker} is no acker any more{}; {} may acknowledge writes of {primary}",
            match situation.record().locked_out.contains(acker) {
                true => " and stays locked out until it has stopped",
                false => "",
            },
            left.join(", ")
        ),
        evidence(situation, primary, acker),
    );
    let record = ReplicaSet {
        ackers,
        leaving: None,
        ..situation.record().clone()
    };
    Verdict::commit(situation, Trigger::AckerReplaced, record, event)
}

fn keep(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    acker: &TabletAlias,
    why: &str,
) -> Verdict {
    // It counted as acker all the time, so it may connect as one.
    let mut locked_out = situation.record().locked_out.clone();
    locked_out.remove(acker);
    let record = ReplicaSet {
        leaving: None,
        locked_out,
        ..situation.record().clone()
    };
    let event = situation.event(
        "acker.kept",
        format!("{acker} may acknowledge again: {why}"),
        evidence(situation, primary, acker),
    );
    Verdict::commit(situation, Trigger::AckerNeeded, record, event)
}

/// Why an acker is of no use any more, if it is not.
fn why(situation: &Situation<'_>, primary: &TabletAlias, acker: &TabletAlias) -> Option<String> {
    if let Some(lost_ms) = lost_ms(situation, acker) {
        return Some(format!("it is lost for {lost_ms} ms"));
    }
    let record = situation.record();
    let report = situation.answer(acker)?;
    if !record.durability.allows(primary, acker) {
        return Some("the policy wants acknowledgements from other cells".to_owned());
    }
    // Each acker beyond those makes a failover ask one more.
    if record.ackers.len() > raising::ackers_wanted(record) && record.ackers.last() == Some(acker) {
        return Some("there are more ackers than the policy needs".to_owned());
    }
    let replication = report.replication.as_ref();
    if let Some(stuck) = replication.filter(|replication| replication.stuck) {
        let error = stuck
            .applier_error
            .as_deref()
            .unwrap_or("an error that it told before");
        return Some(format!(
            "it cannot apply what it received, and needs a copy: {error}"
        ));
    }
    let errant = errant(situation, report);
    if !errant.is_empty() {
        return Some(format!(
            "it wrote {errant} itself, which is kept nowhere else, and needs a copy"
        ));
    }
    let unkept = unkept(situation, primary, report);
    (!unkept.is_empty()).then(|| {
        format!(
            "it received {unkept} of an ended epoch, which was kept nowhere else, and needs a copy"
        )
    })
}

/// For how long an acker has been lost, if it is.
fn lost_ms(situation: &Situation<'_>, acker: &TabletAlias) -> Option<u64> {
    let deaf_since = situation.health.get(acker).and_then(|it| it.deaf_since_ms);
    let deaf_ms = deaf_since.map_or(0, |since| situation.now.monotonic_ms.saturating_sub(since));
    let lost_ms = deaf_ms.max(situation.health.silent_ms(acker, situation.now));
    (lost_ms >= LOST_MS).then_some(lost_ms)
}

/// Whether as many others acknowledge as each write needs; or who does not.
fn enough_others(situation: &Situation<'_>, acker: &TabletAlias) -> Result<(), String> {
    let record = situation.record();
    let others = record.ackers.iter().filter(|other| *other != acker);
    // Whom a new leader has not heard yet is not lost.
    let is_well = |other: &&TabletAlias| {
        situation.health.silent_ms(other, situation.now) <= ANSWER_AGE_MS
            && situation.last_report(other).is_none_or(receives)
    };
    let (well, lost): (Vec<&TabletAlias>, Vec<&TabletAlias>) = others.partition(is_well);
    let needed = record.durability.acks() as usize;
    if well.len() >= needed {
        return Ok(());
    }
    let lost: Vec<String> = lost.iter().map(|alias| alias.to_string()).collect();
    Err(format!(
        "{} others replicate and {needed} are needed; missing: {}",
        well.len(),
        lost.join(", ")
    ))
}

fn serves(situation: &Situation<'_>, primary: &TabletAlias) -> bool {
    situation
        .answer(primary)
        .is_some_and(|report| report.serving == Some(situation.record().epoch))
}

/// What everybody said.
fn evidence(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    acker: &TabletAlias,
) -> Vec<(String, String)> {
    let said = situation
        .record()
        .ackers
        .iter()
        .chain([primary])
        .filter_map(|alias| {
            let report = situation.last_report(alias)?;
            let role = match alias {
                _ if alias == acker => "leaving",
                _ if alias == primary => "primary",
                _ => "acker",
            };
            let sets = report.gtid.as_ref().map_or_else(String::new, |gtid| {
                format!(", received {}, executed {}", gtid.received, gtid.executed)
            });
            let io = report
                .replication
                .as_ref()
                .map(|replication| replication.io);
            let age_ms = situation.health.silent_ms(alias, situation.now);
            let words = format!(
                "{:?}, IO thread {io:?}, silent {:?}, locked out {:?}, confirmed {:?}, said {age_ms} ms ago{sets}",
                report.mysqld, report.silent, report.locked_out, report.confirmed
            );
            Some((format!("{role} {alias}"), words))
        });
    said.collect()
}
