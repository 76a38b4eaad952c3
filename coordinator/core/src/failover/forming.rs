//! The first primary of a replica set: chosen among tablets that gather, when their data are in one line.

use vt_proto::{
    epoch::Epoch,
    ids::TabletAlias,
    report::Report,
    topology::{Phase, ReplicaSet},
};

use super::{Situation, Verdict, candidate::position, table::Trigger};
use crate::durability::{self, ackers_wanted};

/// How long to wait for more tablets after the newest one, while only the least number is there.
pub const SETTLE_MS: u64 = 2_000;
/// With so many tablets nobody waits for more.
pub const ENOUGH_TABLETS: usize = 3;

/// In `Forming`: establish the first epoch when enough tablets run.
pub fn forming(situation: &Situation<'_>) -> Verdict {
    let record = situation.record();
    let acks = record.durability.acks();
    let running: Vec<(&TabletAlias, &Report)> = situation
        .promotable()
        .filter_map(|tablet| {
            let report = situation.answer(&tablet.alias)?;
            position(report)?;
            Some((&tablet.alias, report))
        })
        .collect();
    if running.len() < acks as usize + 1 {
        return Verdict::Blocked(format!(
            "{} tablets that may be promoted run, {} are needed for the first primary: start more agents",
            running.len(),
            acks + 1
        ));
    }
    if running.len() < ENOUGH_TABLETS && !is_settled(situation) {
        return Verdict::Wait;
    }
    // Everybody who was registered is heard before a choice is made: the one that is missing might have the most.
    if let Some(absent) = situation
        .promotable()
        .find(|tablet| !running.iter().any(|(alias, _)| **alias == tablet.alias))
    {
        return Verdict::Blocked(format!(
            "{} is registered and does not run: start it, so that the choice knows its data",
            absent.alias
        ));
    }
    choose(situation, &running, ackers_wanted(acks))
}

fn is_settled(situation: &Situation<'_>) -> bool {
    let newest_ms = situation
        .promotable()
        .filter_map(|tablet| situation.health.get(&tablet.alias))
        .map(|tablet| tablet.first_ms)
        .max();
    newest_ms
        .is_some_and(|newest_ms| situation.now.monotonic_ms.saturating_sub(newest_ms) >= SETTLE_MS)
}

fn choose(
    situation: &Situation<'_>,
    running: &[(&TabletAlias, &Report)],
    ackers_max: usize,
) -> Verdict {
    let received = running
        .iter()
        .filter_map(|(_, report)| position(report))
        .map(|position| &position.received);
    let maximum = match durability::maximum(received) {
        Ok(maximum) => maximum,
        Err(diverged) => {
            return Verdict::Blocked(format!(
                "the tablets have different data ({} against {}): wipe all but the right one",
                diverged.one, diverged.other
            ));
        }
    };
    let has_all = |report: &Report| {
        position(report).is_some_and(|position| position.executed.contains(&maximum))
    };
    let Some((primary, _)) = running.iter().find(|(_, report)| has_all(report)) else {
        return Verdict::Blocked(format!("no tablet has applied {maximum} yet"));
    };
    let promised = running.iter().map(|(_, report)| report.promised).max();
    let epoch: Epoch = promised
        .unwrap_or_default()
        .max(situation.record().epoch)
        .next();
    let record = ReplicaSet {
        epoch,
        phase: Phase::Establishing,
        primary: Some((*primary).clone()),
        ackers: running
            .iter()
            .map(|(alias, _)| (*alias).clone())
            .filter(|alias| alias != *primary)
            .take(ackers_max)
            .collect(),
        start_gtid: maximum.clone(),
        ..situation.record().clone()
    };
    let evidence = running
        .iter()
        .map(|(alias, report)| {
            let received = position(report).map(|position| position.received.to_string());
            let words = format!(
                "received '{}', promised {}",
                received.unwrap_or_default(),
                report.promised
            );
            (format!("tablet {alias}"), words)
        })
        .collect();
    let event = situation.event(
        "failover.form",
        format!("{primary} becomes the first primary, of epoch {epoch}"),
        evidence,
    );
    Verdict::commit(situation, Trigger::TabletsGathered, record, event)
}
