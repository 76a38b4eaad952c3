//! Whether a primary is dead, and on what evidence. It concludes; it decides nothing.
//!
//! Conclusive at once: the guard saw mysqld exit. Otherwise two silences that do not share a cause: ours (its agent is silent,
//! or its mysqld does not answer) and its ackers' (no heartbeat). Ackers that hear it forbid the conclusion, unless its own agent
//! says that its writes hang with its disk. An acker's silence and the primary's waiting commits are two more (`writes`).

use vt_proto::{
    epoch::Incarnation,
    ids::TabletAlias,
    report::{MysqldState, Replication, Report},
};

use super::{Situation, candidate::cannot_apply, writes};
use crate::health::SILENCE_MS;

/// A mysqld whose agent has waited in vain for 1 s and then says so for this long is hung, if its ackers do not hear it either: a
/// second question was not answered.
pub const UNRESPONSIVE_MS: u64 = 500;
/// A primary that is not heard for so long and is not taken for dead is told to people.
const DOUBT_MS: u64 = 3_000;
/// How long a restart in place may take before the exit counts again: a small crash recovery and some.
pub const RESTART_PATIENCE_MS: u64 = 5_000;

/// A concluded death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Known from the guard, not from silence.
    pub conclusive: bool,
    /// The life of mysqld that has ended, if its agent answers and could start another.
    pub restartable: Option<Incarnation>,
    pub why: String,
    /// Who said what.
    pub evidence: Vec<(String, String)>,
}

/// The death of the primary, if it is concluded.
pub fn death(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Death> {
    if let Some(report) = situation.last_report(primary)
        && let Some(death) = exit(situation, primary, report)
    {
        return Some(death);
    }
    // Told by the agent itself, so that no silence of ours can feign it.
    if let Some(death) = writes::death(situation, primary) {
        return Some(death);
    }
    if situation.mass_failure {
        return None;
    }
    if let Some(death) = writes::cut_off(situation, primary) {
        return Some(death);
    }
    let silent_ms = situation.health.silent_ms(primary, situation.now);
    let hung_ms = not_answering_ms(situation, primary);
    let why = if silent_ms > SILENCE_MS {
        format!("its agent is silent for {silent_ms} ms")
    } else if hung_ms > UNRESPONSIVE_MS {
        format!("its mysqld does not answer its agent for {hung_ms} ms")
    } else {
        return None;
    };
    let (unheard, mut evidence) = ackers_hear_nothing(situation, primary);
    evidence.insert(0, (format!("primary {primary}"), why.clone()));
    unheard.then(|| Death {
        conclusive: false,
        restartable: None,
        why: format!("{why}, and its ackers have lost it"),
        evidence,
    })
}

/// Why a primary that is not heard is not taken for dead, for people to read.
pub fn doubt(situation: &Situation<'_>, primary: &TabletAlias) -> Option<String> {
    let silent = situation.health.silent_ms(primary, situation.now) > DOUBT_MS;
    if !silent {
        return None;
    }
    Some(if situation.mass_failure {
        format!(
            "the agent of {primary} is silent like many others at the same time: look at this coordinator's own network first"
        )
    } else {
        format!(
            "the agent of {primary} is silent, and its ackers do not say that its mysqld is gone: start the agent, or bring back the ackers"
        )
    })
}

/// An exit that the guard saw and that is not being answered by a restart.
fn exit(situation: &Situation<'_>, primary: &TabletAlias, report: &Report) -> Option<Death> {
    let (how, startable) = match &report.mysqld {
        MysqldState::Exited { how } => (format!("its mysqld exited: {how}"), true),
        MysqldState::Held { why } => (format!("its mysqld is kept down: {why}"), false),
        _ => return None,
    };
    let restarting = situation.record().restart_after == Some(report.incarnation);
    if startable && restarting && situation.phase_age_ms() <= RESTART_PATIENCE_MS {
        return None;
    }
    let restartable = startable && !restarting && situation.answer(primary).is_some();
    let (_, mut evidence) = ackers_hear_nothing(situation, primary);
    evidence.insert(
        0,
        (
            format!("primary {primary}"),
            format!("{how} (life {})", report.incarnation),
        ),
    );
    Some(Death {
        conclusive: true,
        restartable: restartable.then_some(report.incarnation),
        why: how,
        evidence,
    })
}

/// A chosen primary that lacks what its epoch starts with never opens: it had that when it was chosen, in a relay log that its host's
/// end has taken. Nor does one whose applier has stopped on an error, which a switchover cannot know before. No epoch begins with
/// it, as with one that is dead.
pub fn lost_start(situation: &Situation<'_>, primary: &TabletAlias) -> Option<Death> {
    let record = situation.record();
    let report = situation.answer(primary)?;
    let received = &report.gtid.as_ref()?.received;
    let follows = report.promised == record.epoch && report.mysqld == MysqldState::Running;
    let lacks = record.start_gtid.subtract(received);
    let why = match cannot_apply(report) {
        _ if !lacks.is_empty() => format!("it has lost {lacks}, with which its epoch starts"),
        Some(error) => format!("it cannot apply what its epoch starts with: {error}"),
        None => return None,
    };
    follows.then(|| Death {
        conclusive: true,
        restartable: None,
        why,
        evidence: vec![(
            format!("primary {primary}"),
            format!(
                "received {received} (life {}, amnesiac {})",
                report.incarnation, report.amnesiac
            ),
        )],
    })
}

fn not_answering_ms(situation: &Situation<'_>, primary: &TabletAlias) -> u64 {
    let since = situation
        .health
        .get(primary)
        .and_then(|tablet| tablet.not_answering_since_ms);
    since.map_or(0, |since| situation.now.monotonic_ms.saturating_sub(since))
}

/// Whether more than half of the ackers that answer, and at least one, hear nothing of the primary (class C); and what each says.
pub fn ackers_hear_nothing(
    situation: &Situation<'_>,
    primary: &TabletAlias,
) -> (bool, Vec<(String, String)>) {
    let (mut answering, mut unheard) = (0, 0);
    let mut evidence = Vec::new();
    let record = situation.record();
    // Whoever leaves has been told to, or is locked out: it says nothing of the primary.
    let leaving = record.leaving.as_ref().map(|leaving| &leaving.acker);
    for acker in &record.ackers {
        if acker == primary || Some(acker) == leaving || record.locked_out.contains(acker) {
            continue;
        }
        let says = match situation.answer(acker) {
            None => {
                let silent_ms = situation.health.silent_ms(acker, situation.now);
                format!("does not answer for {silent_ms} ms")
            }
            Some(report) if report.mysqld != MysqldState::Running => {
                format!("mysqld is {:?}", report.mysqld)
            }
            Some(report) => {
                let replication = report.replication.as_ref();
                answering += 1;
                unheard += u32::from(!replication.is_some_and(Replication::hears_source));
                describe(replication)
            }
        };
        evidence.push((format!("acker {acker}"), says));
    }
    (answering >= 1 && unheard * 2 > answering, evidence)
}

fn describe(replication: Option<&Replication>) -> String {
    let Some(replication) = replication else {
        return "does not replicate".to_owned();
    };
    let heard = match replication.heartbeat_age_ms {
        Some(age) => format!("heard the primary {age} ms ago"),
        None => "has not heard the primary yet".to_owned(),
    };
    format!("IO thread is {:?}, {heard}", replication.io)
}
