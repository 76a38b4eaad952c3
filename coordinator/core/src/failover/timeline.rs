//! What every change of phase says of itself in the audit, beside its own evidence: which step, which epoch, who was and who is
//! primary, and how long the phase that it ends took. `vtctl why` and the metrics are made of these words.

use vt_proto::{
    epoch::Revision,
    topology::{Phase, ReplicaSet},
};

use super::{
    Situation,
    table::{self, PhaseName, Trigger},
};
use crate::{event::Now, health::SILENCE_MS};

/// The names under which it stands in the evidence of an event.
pub const STEP: &str = "step";
pub const TRIGGER: &str = "trigger";
pub const EPOCH: &str = "epoch";
pub const PRIMARY_BEFORE: &str = "primary_before";
pub const PRIMARY_AFTER: &str = "primary_after";
/// From the first sign of trouble that this leader saw to the decision.
pub const DETECT_MS: &str = "detect_ms";
/// From the commit that revoked the epoch until enough answers had shown every acknowledged write.
pub const PROMISE_MS: &str = "promise_ms";
/// From then on until the candidate had applied what it had received.
pub const DRAIN_MS: &str = "drain_ms";
/// The parts of a change that are measured, in the order in which they follow each other.
pub const PHASES_MS: [&str; 5] = [
    DETECT_MS,
    "switching_ms",
    PROMISE_MS,
    DRAIN_MS,
    "establishing_ms",
];

/// Since when a record is as it is, as far as this leader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub revision: Revision,
    pub since_ms: u64,
    /// Since when the answers show every acknowledged write of a revoked epoch.
    pub found_ms: Option<u64>,
}

impl Seen {
    /// Begins anew where the record is another one.
    pub fn look(&mut self, revision: Revision, now: Now) {
        if self.revision != revision {
            *self = Self {
                revision,
                since_ms: now.monotonic_ms,
                found_ms: None,
            };
        }
    }
}

/// What a step into another phase or epoch says; nothing for a step that stays where it is.
pub fn evidence(
    situation: &Situation<'_>,
    trigger: Trigger,
    new: &ReplicaSet,
) -> Vec<(String, String)> {
    let old = situation.record();
    let (from, to) = (PhaseName::of(&old.phase), PhaseName::of(&new.phase));
    if from == to && old.epoch == new.epoch {
        return Vec::new();
    }
    let mut said = vec![
        (STEP, format!("{from} -> {to}")),
        (TRIGGER, table::words(trigger)),
        (EPOCH, new.epoch.to_string()),
    ];
    let before = match &old.phase {
        Phase::Revoking { previous, .. } => Some(previous),
        _ => old.primary.as_ref(),
    };
    let names = [
        (PRIMARY_BEFORE, before),
        (PRIMARY_AFTER, new.primary.as_ref()),
    ];
    let names = names.into_iter();
    said.extend(names.filter_map(|(name, alias)| Some((name, alias?.to_string()))));
    let ages = match (from, trigger) {
        (_, Trigger::PrimaryDead) => vec![(DETECT_MS, detected_ms(situation))],
        (PhaseName::Revoking, Trigger::CandidateDrained) => {
            let found_ms = situation.found_ms.unwrap_or(situation.now.monotonic_ms);
            vec![
                (PROMISE_MS, found_ms.saturating_sub(situation.since_ms)),
                (
                    DRAIN_MS,
                    situation.now.monotonic_ms.saturating_sub(found_ms),
                ),
            ]
        }
        _ => Vec::new(),
    };
    said.extend(ages.into_iter().map(|(name, age)| (name, age.to_string())));
    let owned = said.into_iter();
    owned
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// How long ago the first of the signs was seen that the primary shows now: silence, no answers, hanging writes, an exit.
fn detected_ms(situation: &Situation<'_>) -> u64 {
    let Some(primary) = &situation.record().primary else {
        return 0;
    };
    let silent_ms = situation.health.silent_ms(primary, situation.now);
    let silent_ms = (silent_ms > SILENCE_MS).then_some(silent_ms);
    let known = situation.health.get(primary);
    let since = known.map_or([None; 3], |known| {
        [
            known.not_answering_since_ms,
            known.writes_hang_since_ms,
            known.down_since_ms,
        ]
    });
    let ages = since
        .into_iter()
        .flatten()
        .map(|since_ms| situation.now.monotonic_ms.saturating_sub(since_ms));
    ages.chain(silent_ms).max().unwrap_or(0)
}
