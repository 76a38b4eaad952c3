//! One trial: writers at work, something happens, writes go on, all is healed, and what was promised is looked for.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{
    FRONT, KEYSPACE,
    bed::{Bed, Event, PATIENCE, primary},
    fault::Fault,
};
use crate::cluster::{data, view::ReplicaSet, writer::Writers};

/// Writers, all through the router of the application's host.
const WRITERS: usize = 8;
/// Writes that must be seen before something happens, and after it.
const WRITES_BETWEEN: usize = 100;
/// For how long something that must not disturb anybody is watched.
const UNDISTURBED: Duration = Duration::from_secs(3);
/// Longer than any failover that works takes on a busy machine: then the trial is healed and told as one in which nothing came.
const FAILOVER_LIMIT: Duration = Duration::from_secs(15);

/// What came of a trial in which nothing was lost.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The longest time between two successful writes; None if writes went on only after it was healed.
    pub gap: Option<Duration>,
    /// From the fault until the cluster was whole, where it heals itself; else from the healing on.
    pub whole: Duration,
    pub acknowledged: usize,
    pub unknown: usize,
    pub refused: u64,
    /// What the coordinators decided meanwhile.
    pub events: Vec<Event>,
    pub errors: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gap {
            Some(gap) => write!(f, "gap {} ms", gap.as_millis())?,
            None => write!(f, "no writes within {} s", FAILOVER_LIMIT.as_secs())?,
        }
        write!(
            f,
            ", whole after {} ms, {} acknowledged, {} unknown, {} refused",
            self.whole.as_millis(),
            self.acknowledged,
            self.unknown,
            self.refused
        )
    }
}

/// Lets it happen once, to a cluster that is whole. An error if something is lost or does not come back.
pub async fn play(bed: &mut Bed, fault: Fault) -> anyhow::Result<Outcome> {
    let before = bed.wait_until_whole(PATIENCE).await?;
    let host = primary(&before)?;
    bed.lead(fault.leader(host)).await?;
    let seen = bed.events_after(0).await?;
    let seen = seen.iter().map(|event| event.sequence).max().unwrap_or(0);
    let writers = Writers::start_anew(&[bed.files.router(FRONT)], KEYSPACE, WRITERS).await?;
    let went_on = writers.go_on(WRITES_BETWEEN, PATIENCE).await;
    ensure!(
        went_on,
        "nothing is written: {:#?}",
        writers.so_far().errors
    );

    let began = Instant::now();
    fault.inject(bed, host).await?;
    let served = if fault.moves_primary() {
        let serves = |set: &ReplicaSet| set.epoch > before.epoch && set.serving;
        let waited = bed.wait("a primary of a later epoch", FAILOVER_LIMIT, serves);
        waited.await.is_ok()
    } else {
        tokio::time::sleep(UNDISTURBED).await;
        true
    };
    let resumed = served && writers.go_on(WRITES_BETWEEN, FAILOVER_LIMIT).await;
    let gap = resumed.then(|| writers.longest_gap());
    let healed = if fault.heals_itself() {
        began
    } else {
        Instant::now()
    };
    bed.heal().await?;
    let whole = healed.elapsed();
    ensure!(
        writers.go_on(WRITES_BETWEEN, PATIENCE).await,
        "writes do not go on: {:#?}",
        writers.so_far().errors
    );
    let ledger = writers.finish().await;
    data::check_tablets(&bed.tablets(), KEYSPACE, &ledger).await?;
    Ok(Outcome {
        gap,
        whole,
        acknowledged: ledger.acknowledged.len(),
        unknown: ledger.unknown.len(),
        refused: ledger.refused,
        events: bed.events_after(seen).await?,
        errors: ledger.errors,
    })
}
