//! How long clients wait when something happens: many trials of each kind, as a table with the targets.

use std::{path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{
    bed::Bed,
    fault::Fault,
    matrix,
    trial::{self, Outcome},
};

/// A row of the table: what happens, and the longest gap that clients should see.
struct Row {
    name: &'static str,
    fault: Fault,
    p50: Duration,
    p99: Duration,
}

const fn row(name: &'static str, fault: Fault, p50_ms: u64, p99_ms: u64) -> Row {
    Row {
        name,
        fault,
        p50: Duration::from_millis(p50_ms),
        p99: Duration::from_millis(p99_ms),
    }
}

/// No gap: what writers see of each other on a busy machine.
const UNNOTICED: u64 = 200;

const ROWS: &[Row] = &[
    row("switchover", Fault::Switchover, 40, 150),
    row("mysqld-killed", Fault::KillMysqld, 300, 500),
    row("host-killed", Fault::KillHost, 1_300, 2_000),
    row("host-cut", Fault::CutHost, 1_300, 2_000),
    row("host-frozen", Fault::FreezeHost, 1_300, 2_000),
    row("mysqld-stopped", Fault::StopMysqld, 2_000, 3_000),
    row("disk-frozen", Fault::FreezeDisk, 2_000, 3_000),
    row("disk-full", Fault::FillDisk, 2_000, 3_000),
    row("host-and-leader-cut", Fault::CutHostOfLeader, 2_300, 3_500),
    row("agent-killed", Fault::KillAgent, UNNOTICED, UNNOTICED),
    row(
        "coordinators-killed",
        Fault::KillCoordinators,
        UNNOTICED,
        UNNOTICED,
    ),
];

/// Names that can be asked for.
pub fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// A line of the table; milliseconds.
#[derive(Serialize, Deserialize)]
pub struct Line {
    event: String,
    trials: usize,
    /// Lost something, did not come back, or nothing was written before it was healed.
    failed: usize,
    gap_p50: Option<u128>,
    gap_max: Option<u128>,
    target_p50: u128,
    target_p99: u128,
    whole_p50: Option<u128>,
    whole_max: Option<u128>,
    unknown: usize,
    refused: u64,
}

impl Line {
    /// Of a row for which there was no bed.
    pub fn not_played(event: &str) -> Self {
        Self {
            event: event.to_owned(),
            trials: 0,
            failed: 1,
            gap_p50: None,
            gap_max: None,
            target_p50: 0,
            target_p99: 0,
            whole_p50: None,
            whole_max: None,
            unknown: 0,
            refused: 0,
        }
    }

    /// Whether every trial kept its promises.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

/// Plays so many trials of a row and adds its line to the file. Returns whether every trial kept its promises.
pub async fn run(bed: &mut Bed, name: &str, trials: usize, file: &Path) -> anyhow::Result<bool> {
    let mut rows = ROWS.iter().filter(|row| row.name == name);
    let row = rows.next().context("a row of that name")?;
    let mut outcomes = Vec::new();
    let mut failed = 0;
    for number in 1..=trials {
        match trial::play(bed, row.fault).await {
            Ok(outcome) => {
                println!("{} {number}: {outcome}", row.name);
                failed += usize::from(outcome.gap.is_none());
                outcomes.push(outcome);
            }
            Err(error) => {
                println!("FOUND: {} {number}: {error:#}", row.name);
                failed += 1;
                bed.heal().await?;
            }
        }
    }
    tell_worst(row, &outcomes);
    matrix::append(file, &line(row, trials, &outcomes, failed))?;
    Ok(failed == 0)
}

/// Where the time of the longest gap went.
fn tell_worst(row: &Row, outcomes: &[Outcome]) {
    let worst = outcomes
        .iter()
        .max_by_key(|it| it.gap.unwrap_or(Duration::MAX));
    let Some(worst) = worst.filter(|it| it.gap.is_none_or(|gap| gap > row.p99)) else {
        return;
    };
    println!("{}: the worst, {worst}", row.name);
    for event in &worst.events {
        println!("  {} {}: {}", event.time, event.kind, event.message);
    }
    for error in &worst.errors {
        println!("  client: {error}");
    }
}

fn line(row: &Row, trials: usize, outcomes: &[Outcome], failed: usize) -> Line {
    // Where nothing came, there is no figure to tell.
    let gaps: Option<Vec<_>> = outcomes.iter().map(|it| it.gap).collect();
    let gaps = gaps.unwrap_or_default();
    let wholes: Vec<_> = outcomes.iter().map(|it| it.whole).collect();
    Line {
        event: row.name.to_owned(),
        trials,
        failed,
        gap_p50: median(&gaps),
        gap_max: gaps.iter().max().map(Duration::as_millis),
        target_p50: row.p50.as_millis(),
        target_p99: row.p99.as_millis(),
        whole_p50: median(&wholes),
        whole_max: wholes.iter().max().map(Duration::as_millis),
        unknown: outcomes.iter().map(|it| it.unknown).sum(),
        refused: outcomes.iter().map(|it| it.refused).sum(),
    }
}

fn median(times: &[Duration]) -> Option<u128> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map(Duration::as_millis)
}

/// All lines, for people.
pub fn table(lines: &[Line]) -> String {
    let mut text = "| event | trials | gap p50 / target | longest gap / target p99 | whole p50 / longest | unknown | refused | lost |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let ms = |it: Option<u128>| it.map_or_else(|| "none".to_owned(), |it| it.to_string());
    for line in lines {
        let lost = match line.failed {
            0 => "0".to_owned(),
            failed => format!("{failed} trials failed"),
        };
        text.push_str(&format!(
            "| {} | {} | {} / {} ms | {} / {} ms | {} / {} ms | {} | {} | {lost} |\n",
            line.event,
            line.trials,
            ms(line.gap_p50),
            line.target_p50,
            ms(line.gap_max),
            line.target_p99,
            ms(line.whole_p50),
            ms(line.whole_max),
            line.unknown,
            line.refused
        ));
    }
    text
}
