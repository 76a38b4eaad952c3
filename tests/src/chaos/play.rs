//! One trial of a row: writers and readers at work, its steps, healing, and then everything that was promised. Whatever goes wrong is
//! told in the outcome; it never gives up before the bed is healed.

use std::{
    slice,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::{
    FRONT, KEYSPACE,
    bed::{Bed, Event, PATIENCE, primary},
    reader::Readers,
    row::Row,
    soak::{self, Phase},
    stage::{Stage, in_ms},
    step::{Step, Who},
    verdict::{self, Promises},
};
use crate::cluster::{view::ReplicaSet, writer::Writers};

/// On a machine that has other things to do, all hosts on two processors, so many times the bound of a row is accepted.
pub const LOADED_FACTOR: u32 = 2;
/// Writers, all through the router of the application's host.
pub const WRITERS: usize = 8;
/// Writes that show that writes go on.
const WRITES: usize = 50;
/// Longer than any failover that works takes on a busy machine.
const MOVE_LIMIT: Duration = Duration::from_secs(30);
/// Until the coordinators say what they wait for.
const SAID_LIMIT: Duration = Duration::from_secs(20);
/// What is under way when writes stop has an answer by then.
const SETTLING: Duration = Duration::from_millis(300);
/// Between two questions, each of which starts a program.
const QUESTION_INTERVAL: Duration = Duration::from_millis(100);

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The longest time between two successful writes until it was healed.
    pub gap: Duration,
    /// The same from the healing on.
    pub gap_healing: Duration,
    /// From the healing on.
    pub whole: Duration,
    pub acknowledged: usize,
    pub unknown: usize,
    /// What does not hold.
    pub wrong: Vec<String>,
    /// What took too long.
    pub late: Vec<String>,
    /// What the coordinators decided meanwhile.
    pub events: Vec<Event>,
    /// What clients were told.
    pub errors: Vec<String>,
    /// The bed cannot be used any more.
    pub is_bed_lost: bool,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty() && self.late.is_empty()
    }
}

/// Plays a row once, on a bed that is whole.
pub async fn play(bed: &mut Bed, row: &Row, swept_ms: u64) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = try_to_play(bed, row, swept_ms, &mut outcome).await {
        outcome.wrong.push(format!("{error:#}"));
        outcome.is_bed_lost = true;
    }
    outcome
}

async fn try_to_play(
    bed: &mut Bed,
    row: &Row,
    swept_ms: u64,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut scene = Scene::begin(bed, row.leader).await?;
    for step in row.steps {
        if let Err(error) = scene.step(*step, swept_ms).await {
            outcome.wrong.push(format!("{step:?}: {error:#}"));
            break;
        }
    }
    let bounds = Bounds {
        epochs: row.epochs,
        gap_ms: row.gap_ms,
        whole_ms: row.whole_ms,
    };
    scene.end(bounds, outcome).await
}

/// Plays a phase of a soak that began then.
pub async fn play_phase(bed: &mut Bed, phase: &Phase, began: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = try_to_play_phase(bed, phase, began, &mut outcome).await {
        outcome.wrong.push(format!("{error:#}"));
    }
    outcome
}

async fn try_to_play_phase(
    bed: &mut Bed,
    phase: &Phase,
    began: Instant,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut scene = Scene::begin(bed, phase.leader).await?;
    let start = tokio::time::Instant::now();
    for timed in &phase.steps {
        tokio::time::sleep_until(start + Duration::from_millis(timed.at_ms)).await;
        println!("{}  {}: {:?}", soak::stamp(began), timed.row, timed.step);
        // Where two meet, the second may find nobody to whom it could be done.
        if let Err(error) = scene.stage.inject(timed.step).await {
            println!("{}  not done: {error:#}", soak::stamp(began));
        }
    }
    tokio::time::sleep_until(start + Duration::from_millis(phase.end_ms)).await;
    println!("{}  healed", soak::stamp(began));
    scene.end(Bounds::NONE, outcome).await
}

/// What a trial is measured by.
struct Bounds {
    epochs: (u64, u64),
    gap_ms: Option<u64>,
    whole_ms: u64,
}

impl Bounds {
    /// Nothing but what always holds.
    const NONE: Self = Self {
        epochs: (0, u64::MAX),
        gap_ms: None,
        whole_ms: u64::MAX / 1_000,
    };
}

/// A row that is being played.
struct Scene<'a> {
    stage: Stage<'a>,
    writers: Writers,
    readers: Readers,
    before: ReplicaSet,
    /// The newest event before.
    seen: u64,
    /// The epoch from which the next move counts.
    epoch: u64,
}

impl<'a> Scene<'a> {
    async fn begin(bed: &'a mut Bed, leader: Who) -> anyhow::Result<Self> {
        let before = bed.wait_until_whole(PATIENCE).await?;
        let stage = Stage::new(bed, primary(&before)?);
        let bed = &stage.bed;
        bed.lead(stage.host(leader).await?).await?;
        let seen = bed.events_after(0).await?;
        let seen = seen.iter().map(|event| event.sequence).max().unwrap_or(0);
        let router = bed.files.router(FRONT);
        let writers = Writers::start_anew(slice::from_ref(&router), KEYSPACE, WRITERS).await?;
        let logins = bed.tablets().into_iter().map(|(_, login)| login);
        let readers = Readers::start(logins.chain([router]).collect());
        ensure!(
            writers.go_on(WRITES, PATIENCE).await,
            "nothing is written: {:#?}",
            writers.so_far().errors
        );
        writers.forget_gaps();
        Ok(Self {
            stage,
            writers,
            readers,
            epoch: before.epoch,
            before,
            seen,
        })
    }

    async fn step(&mut self, step: Step, swept_ms: u64) -> anyhow::Result<()> {
        let bed = &self.stage.bed;
        match step {
            Step::Swept => tokio::time::sleep(Duration::from_millis(swept_ms)).await,
            Step::Moves => {
                let (epoch, old) = (self.epoch, self.before.primary.clone());
                let has_moved =
                    |set: &ReplicaSet| set.serving && set.epoch > epoch && set.primary != old;
                let waited = bed.wait("a primary of a later epoch", MOVE_LIMIT, has_moved);
                let set = waited.await?;
                self.epoch = set.epoch;
                self.before.primary = set.primary;
                self.go_on().await?;
            }
            Step::Writes => self.go_on().await?,
            Step::NoWrites(time_ms) => {
                tokio::time::sleep(SETTLING).await;
                let (before, end) = (self.writers.count(), in_ms(time_ms));
                tokio::time::sleep_until(end.into()).await;
                let more = self.writers.count() - before;
                ensure!(more == 0, "{more} writes were acknowledged");
            }
            Step::Blocked(words) => {
                let says =
                    |set: &ReplicaSet| set.blocked.as_ref().is_some_and(|it| it.contains(words));
                bed.wait(words, SAID_LIMIT, says).await?;
            }
            Step::Told(kind) => self.wait_until_told(kind).await?,
            Step::Refused => self.stage.refusal()?,
            Step::Repaired(time_ms) => {
                let limit = LOADED_FACTOR * Duration::from_millis(time_ms);
                bed.wait_until_whole(limit).await?;
            }
            step => self.stage.inject(step).await?,
        }
        Ok(())
    }

    async fn go_on(&self) -> anyhow::Result<()> {
        let went_on = self.writers.go_on(WRITES, MOVE_LIMIT).await;
        ensure!(went_on, "writes do not go on");
        Ok(())
    }

    async fn wait_until_told(&self, kind: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + SAID_LIMIT;
        loop {
            let events = self.stage.bed.events_after(self.seen).await;
            let told = |events: &Vec<Event>| events.iter().any(|event| event.kind == kind);
            match events {
                Ok(events) if told(&events) => return Ok(()),
                other if Instant::now() >= deadline => bail!("there is no {kind}: {other:?}"),
                _ => tokio::time::sleep(QUESTION_INTERVAL).await,
            }
        }
    }

    /// Heals, waits until all is well, and looks for everything that was promised.
    async fn end(mut self, bounds: Bounds, outcome: &mut Outcome) -> anyhow::Result<()> {
        outcome.gap = self.writers.longest_gap();
        self.writers.forget_gaps();
        let healed = Instant::now();
        self.stage.clear().await?;
        let after = self.stage.bed.heal().await;
        outcome.whole = healed.elapsed();
        if after.is_err() {
            let events = self.stage.bed.events_after(self.seen).await;
            outcome.events = events.unwrap_or_default();
        }
        after.context("heal the bed")?;
        ensure!(
            self.writers.go_on(WRITES, PATIENCE).await,
            "writes do not go on after everything was healed: {:#?}",
            self.writers.so_far().errors
        );
        outcome.gap_healing = self.writers.longest_gap();
        self.judge(&bounds, outcome).await
    }

    /// Looks for everything that was promised.
    async fn judge(self, bounds: &Bounds, outcome: &mut Outcome) -> anyhow::Result<()> {
        let ledger = self.writers.finish().await;
        // Asked only now: a failover may have been under way while all looked well.
        let mut after = self.stage.bed.wait_until_whole(PATIENCE).await?;
        let read = self.readers.finish().await;
        outcome.acknowledged = ledger.acknowledged.len();
        outcome.unknown = ledger.unknown.len();
        outcome.errors.clone_from(&ledger.errors);
        if let Some(Err(error)) = &self.stage.switchover {
            outcome.errors.push(format!("{error:#}"));
        }
        outcome.events = self.stage.bed.events_after(self.seen).await?;
        // What it began with: `Moves` has counted on in its own.
        let before = ReplicaSet {
            primary: None,
            ..self.before
        };
        let promises = Promises {
            ledger,
            read,
            before,
        };
        // A primary that is about to be stopped serves until somebody can take over, which may be while all this is looked at.
        let wrong = loop {
            let wrong = verdict::check(self.stage.bed, &promises, &after).await?;
            let now = self.stage.bed.wait_until_whole(PATIENCE).await?;
            if now.epoch == after.epoch {
                break wrong;
            }
            after = now;
        };
        outcome.wrong.extend(wrong);
        let epochs = after.epoch - promises.before.epoch;
        let (fewest, most) = bounds.epochs;
        if !(fewest..=most).contains(&epochs) {
            outcome.wrong.push(format!(
                "{epochs} new epochs, where {fewest} to {most} were expected"
            ));
        }
        let moved = outcome.events.iter().find(|event| moves(event));
        if let (0, Some(event)) = (most, moved) {
            let told = format!("{}: {}", event.kind, event.message);
            outcome.wrong.push(format!("a failover was begun: {told}"));
        }
        let mut judge_time = |what: &str, time: Duration, bound_ms: u64| {
            if time > LOADED_FACTOR * Duration::from_millis(bound_ms) {
                let time_ms = time.as_millis();
                let told =
                    format!("{what} {time_ms} ms, more than {LOADED_FACTOR} x {bound_ms} ms");
                outcome.late.push(told);
            }
        };
        judge_time("whole after", outcome.whole, bounds.whole_ms);
        if let Some(bound_ms) = bounds.gap_ms {
            judge_time("no write for", outcome.gap, bound_ms);
        }
        Ok(())
    }
}

fn moves(event: &Event) -> bool {
    event.kind.starts_with("failover.") && event.kind != "failover.restart_in_place"
}

/// Prints what does not hold, with what was decided and what clients were told.
pub fn tell_trouble(outcome: &Outcome) {
    if outcome.is_good() {
        return;
    }
    for wrong in &outcome.wrong {
        println!("  WRONG: {wrong}");
    }
    for late in &outcome.late {
        println!("  LATE: {late}");
    }
    for event in &outcome.events {
        println!("  {} {}: {}", event.time, event.kind, event.message);
    }
    for error in &outcome.errors {
        println!("  client: {error}");
    }
}
