//! Random faults of the matrix, also several at once, for as long as asked. The plan follows from the seed alone; what it meets does not.
//!
//! A phase is a few rows whose steps overlap, then healing, then everything that was promised is looked for. The ledger and its table
//! begin anew with each phase, so that neither grows with the time it takes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    bed::Bed,
    matrix,
    play::{self, Outcome},
    row::{self, Row},
    rows::KNOWN,
    step::{Step, Who},
};
use crate::sim::random::Random;

/// Rows of a phase. Two that overlap are common, three hurt.
const ROWS: (u64, u64) = (1, 3);
/// Between the beginnings of two rows of a phase: within what a failover takes, or after it.
const APART_MS: (u64, u64) = (0, 4_000);
/// Where a row waits for something to be seen, a soak waits so long instead.
const LOOK_MS: (u64, u64) = (0, 2_500);
/// From the last step until it is healed.
const UNHEALED_MS: (u64, u64) = (0, 6_000);
/// A pause of a row is cut to this, so that a soak sees many of them.
const PAUSE_MS_MAX: u64 = 12_000;

/// A step and when it comes, from the beginning of its phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    pub at_ms: u64,
    pub row: &'static str,
    pub step: Step,
}

/// What is done between two healings.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub leader: Who,
    pub steps: Vec<Timed>,
    /// When it is healed.
    pub end_ms: u64,
}

/// What came of a soak.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Line {
    pub seed: u64,
    pub phases: usize,
    pub injections: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub gap_ms: u128,
    pub whole_ms: u128,
    pub wrong: Vec<String>,
}

/// Phases without end.
pub fn plan(seed: u64) -> impl Iterator<Item = Phase> {
    let mut random = Random::new(seed);
    let mut deck: Vec<_> = row::all()
        .into_iter()
        .filter(|row| is_drawn(row))
        .flat_map(|row| std::iter::repeat_n(row, row.weight as usize))
        .collect();
    std::iter::from_fn(move || {
        let phase = phase(&mut random, &deck);
        let is_in_it = |row: &Row| phase.steps.iter().any(|step| step.row == row.name);
        deck.retain(|row| !(row.once && is_in_it(row)));
        Some(phase)
    })
}

/// What is known to fail would end every soak.
fn is_drawn(row: &Row) -> bool {
    row.weight > 0 && KNOWN.iter().all(|(number, _)| *number != row.number)
}

fn phase(random: &mut Random, deck: &[&'static Row]) -> Phase {
    let mut steps = Vec::new();
    let mut begins_ms = 0;
    let mut end_ms = 0;
    for row in rows_of_a_phase(random, deck) {
        let mut at_ms = begins_ms;
        for step in row.steps {
            match step {
                Step::Pause(pause_ms) => at_ms += (*pause_ms).min(PAUSE_MS_MAX),
                step if step.is_expectation() || *step == Step::Swept => {
                    at_ms += random.between(LOOK_MS.0, LOOK_MS.1);
                }
                step => steps.push(Timed {
                    at_ms,
                    row: row.name,
                    step: *step,
                }),
            }
        }
        end_ms = end_ms.max(at_ms);
        begins_ms += random.between(APART_MS.0, APART_MS.1);
    }
    steps.sort_by_key(|it| it.at_ms);
    Phase {
        leader: *random.pick(&[Who::Primary, Who::First, Who::Second]),
        steps,
        end_ms: end_ms + random.between(UNHEALED_MS.0, UNHEALED_MS.1),
    }
}

fn rows_of_a_phase(random: &mut Random, deck: &[&'static Row]) -> Vec<&'static Row> {
    let count = random.between(ROWS.0, ROWS.1);
    let mut rows: Vec<_> = (0..count).map(|_| *random.pick(deck)).collect();
    if let Some(alone) = rows.iter().position(|row| row.alone) {
        rows = vec![rows[alone]];
    }
    rows
}

/// Plays phases for so long, or until something is wrong.
pub async fn run(bed: &mut Bed, minutes: u64, seed: u64, file: &Path) -> anyhow::Result<bool> {
    let began = Instant::now();
    let end = began + Duration::from_secs(60 * minutes);
    let mut line = Line {
        seed,
        ..Line::default()
    };
    for phase in plan(seed) {
        if Instant::now() >= end || !line.wrong.is_empty() {
            break;
        }
        line.phases += 1;
        line.injections += phase.steps.len();
        let outcome = play::play_phase(bed, &phase, began).await;
        tell(line.phases, &outcome, began);
        line.acknowledged += outcome.acknowledged;
        line.unknown += outcome.unknown;
        line.gap_ms = line.gap_ms.max(outcome.gap.as_millis());
        line.whole_ms = line.whole_ms.max(outcome.whole.as_millis());
        line.wrong.extend(outcome.wrong);
    }
    matrix::append(file, &line)?;
    Ok(line.wrong.is_empty())
}

/// When something happened, from the beginning of the soak.
pub fn stamp(began: Instant) -> String {
    format!("{:9.3} s", began.elapsed().as_secs_f64())
}

fn tell(number: usize, outcome: &Outcome, began: Instant) {
    println!(
        "{}  phase {number}: gap {} ms, whole after {} ms, {} acknowledged, {} unknown",
        stamp(began),
        outcome.gap.as_millis(),
        outcome.whole.as_millis(),
        outcome.acknowledged,
        outcome.unknown
    );
    play::tell_trouble(outcome);
}

/// The last words of a run.
pub fn summary(line: &Line) -> String {
    let verdict = match line.wrong[..] {
        [] => "nothing acknowledged was lost",
        _ => "FAILED",
    };
    format!(
        "seed {}: {} phases, {} injections, {} acknowledged, {} unknown, longest gap {} ms, whole after {} ms at most: {verdict}",
        line.seed,
        line.phases,
        line.injections,
        line.acknowledged,
        line.unknown,
        line.gap_ms,
        line.whole_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_the_same_again_and_each_row_comes() {
        let phases: Vec<_> = plan(7).take(500).collect();
        assert_eq!(phases, plan(7).take(500).collect::<Vec<_>>());
        assert_ne!(phases, plan(8).take(500).collect::<Vec<_>>());
        let has = |row: &&&Row| {
            let mut steps = phases.iter().flat_map(|phase| &phase.steps);
            steps.any(|step| step.row == row.name)
        };
        let rows = row::all();
        let missing: Vec<_> = rows
            .iter()
            .filter(|row| is_drawn(row) && !has(row))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        for once in rows.iter().filter(|row| row.once) {
            let of_it = |phase: &&Phase| phase.steps.iter().any(|step| step.row == once.name);
            assert_eq!(phases.iter().filter(of_it).count(), 1, "{}", once.name);
        }
        for alone in rows.iter().filter(|row| row.alone) {
            for phase in &phases {
                let of_it = |step: &Timed| step.row == alone.name;
                let is_alone = phase.steps.iter().all(of_it) || !phase.steps.iter().any(of_it);
                assert!(is_alone, "{phase:?}");
            }
        }
    }
}
