//! `vtctl replica-set`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;
use vt_proto::wire::{ListReplicaSetsRequest, SetDurabilityRequest, SwitchoverRequest};

use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output::{self, duration_text},
    progress::Progress,
    views::replica_set::{ReplicaSet, summary},
};

/// A switchover waits for transactions, catches up, opens: seconds; a refused one is taken back sooner than this.
const SWITCHOVER_TIMEOUT: Duration = Duration::from_secs(120);
/// Replicas that are to acknowledge have to be level first.
const DURABILITY_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(25);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the replica sets
    List,
    /// Show one: epoch, phase, primary, and each tablet's state
    Show { name: String },
    /// Move the primary, planned: no write is lost, statements wait a moment
    ///
    /// Waits for the outcome. What cannot be done is taken back: the old primary opens again.
    #[command(after_help = "Example:\n  vtctl replica-set switchover main --to zone1-101")]
    Switchover {
        name: String,
        /// The new primary [default: the best replica]
        #[arg(long, value_name = "ALIAS")]
        to: Option<String>,
        /// Return once the coordinators know of it
        #[arg(long)]
        no_wait: bool,
    },
    /// Change what stands behind each OK: how many acknowledgements, and from where
    ///
    /// Fewer acknowledgements count at once. More count as soon as a row has them; waits for that.
    #[command(
        after_help = "Examples:\n  vtctl replica-set durability main --acks 2\n  vtctl replica-set durability main --cross-cell"
    )]
    Durability {
        name: String,
        /// Replicas that have received each write before its OK
        #[arg(long, value_name = "N", required_unless_present_any = ["cross_cell", "any_cell"])]
        acks: Option<u32>,
        /// Only replicas outside the primary's cell acknowledge
        #[arg(long, conflicts_with = "any_cell")]
        cross_cell: bool,
        /// Replicas of every cell acknowledge
        #[arg(long)]
        any_cell: bool,
        /// Return once the coordinators know of it
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Serialize)]
struct Durability {
    replica_set: String,
    durability: String,
    acks: u32,
}

#[derive(Serialize)]
struct Switched {
    replica_set: String,
    from: Option<String>,
    to: Option<String>,
    epoch: u64,
    duration_ms: u64,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::List => {
            let sets = fetch(&mut client, "").await?;
            output::print(global.output, &sets, |sets| summary(sets))
        }
        Command::Show { name } => {
            let set = fetch_one(&mut client, &name).await?;
            output::print(global.output, &set, ReplicaSet::text)
        }
        Command::Switchover { name, to, no_wait } => {
            switchover(&mut client, global, name, to, no_wait).await
        }
        Command::Durability {
            name,
            acks,
            cross_cell,
            any_cell,
            no_wait,
        } => {
            let request = SetDurabilityRequest {
                replica_set: name,
                acks,
                cross_cell: (cross_cell || any_cell).then_some(cross_cell),
                request_id: request_id(),
            };
            durability(&mut client, global, request, no_wait).await
        }
    }
}

/// The replica sets of that name, or all.
pub async fn fetch(client: &mut Client, name: &str) -> Result<Vec<ReplicaSet>, Failure> {
    let request = ListReplicaSetsRequest {
        stale: false,
        name: name.to_owned(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.list_replica_sets(request).await
        })
        .await?;
    Ok(answer
        .replica_sets
        .into_iter()
        .map(ReplicaSet::from)
        .collect())
}

/// The replica set of that name.
pub async fn fetch_one(client: &mut Client, name: &str) -> Result<ReplicaSet, Failure> {
    let sets = fetch(client, name).await?;
    sets.into_iter()
        .find(|set| set.name == name)
        .ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no replica set {name}"))
                .next("`vtctl replica-set list` shows those there are")
        })
}

async fn switchover(
    client: &mut Client,
    global: &Global,
    name: String,
    to: Option<String>,
    no_wait: bool,
) -> anyhow::Result<()> {
    let before = fetch_one(client, &name).await?;
    let request = SwitchoverRequest {
        replica_set: name.clone(),
        candidate: to.unwrap_or_default(),
        request_id: request_id(),
    };
    let began = Instant::now();
    let written = client
        .call(request, |mut admin, request| async move {
            admin.switchover(request).await
        })
        .await?;
    if no_wait {
        let written = super::Written {
            revision: written.revision,
        };
        return output::print(global.output, &written, |_| {
            format!("the switchover of {name} has begun")
        });
    }
    let deadline = began + global.timeout_or(SWITCHOVER_TIMEOUT);
    let mut progress = Progress::quietly();
    let after = loop {
        let set = fetch_one(client, &name).await?;
        match outcome(&before, &set, written.revision) {
            Outcome::Done => break set,
            Outcome::Waiting(text) => progress.step(&text),
            Outcome::TakenBack(why) => {
                return Err(Failure::new(Kind::Refused, why)
                    .next(format!(
                        "`vtctl events --subject replica-set/{name}` says why"
                    ))
                    .into());
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(
                Kind::Failed,
                format!("the switchover of {name} goes on; it is not over in time"),
            )
            .next(format!(
                "`vtctl replica-set show {name}` says what holds it up"
            ))
            .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    drop(progress);
    let switched = Switched {
        replica_set: name,
        from: before.primary,
        to: after.primary,
        epoch: after.epoch,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    output::print(global.output, &switched, |it| {
        let to = output::or_dash(it.to.as_ref());
        format!(
            "primary of {} is {to}, epoch {}, after {}",
            it.replica_set,
            it.epoch,
            duration_text(it.duration_ms)
        )
    })
}

/// What is asked for, and what came of it; a stricter policy that could not be kept is given up by the coordinators.
async fn durability(
    client: &mut Client,
    global: &Global,
    request: SetDurabilityRequest,
    no_wait: bool,
) -> anyhow::Result<()> {
    let name = request.replica_set.clone();
    let wanted = request.acks;
    let began = Instant::now();
    client
        .call(request, |mut admin, request| async move {
            admin.set_durability(request).await
        })
        .await?;
    let deadline = began + global.timeout_or(DURABILITY_TIMEOUT);
    let mut progress = Progress::quietly();
    let set = loop {
        let set = fetch_one(client, &name).await?;
        if no_wait || set.raising.is_none() {
            break set;
        }
        let next = format!("`vtctl replica-set show {name}` says what holds it up");
        if Instant::now() >= deadline {
            let what = format!(
                "the policy of {name} is not kept in time: {}",
                set.durability
            );
            return Err(Failure::new(Kind::Failed, what).next(next).into());
        }
        progress.step(set.blocked.as_deref().unwrap_or(&set.durability));
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    drop(progress);
    if wanted.is_some_and(|wanted| wanted != set.acks) && !no_wait {
        let what = format!("the policy of {name} was not changed: {}", set.durability);
        let next = format!("`vtctl events --subject replica-set/{name}` says why");
        return Err(Failure::new(Kind::Refused, what).next(next).into());
    }
    let kept = Durability {
        replica_set: name,
        durability: set.durability,
        acks: set.acks,
    };
    output::print(global.output, &kept, |it| {
        format!("durability of {} is {}", it.replica_set, it.durability)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Waiting(String),
    TakenBack(String),
}

fn outcome(before: &ReplicaSet, now: &ReplicaSet, written_at: u64) -> Outcome {
    let primary = output::or_dash(now.primary.as_ref());
    let stable = now.phase == "stable";
    if now.epoch > before.epoch && stable && now.serving {
        return Outcome::Done;
    }
    if now.epoch == before.epoch && stable && now.revision > written_at {
        return Outcome::TakenBack(format!(
            "the switchover of {} was taken back; {primary} stays primary",
            now.name
        ));
    }
    let why = now
        .blocked
        .as_ref()
        .map_or_else(String::new, |why| format!(": {why}"));
    Outcome::Waiting(format!(
        "epoch {}, {}, primary {primary}{why}",
        now.epoch, now.phase
    ))
}

#[cfg(test)]
mod tests {
    use vt_proto::wire;

    use super::*;

    fn set(epoch: u64, phase: wire::phase::Phase, serving: bool, revision: u64) -> ReplicaSet {
        ReplicaSet::from(wire::ReplicaSetView {
            replica_set: Some(wire::ReplicaSet {
                name: "main".to_owned(),
                epoch,
                phase: Some(wire::Phase { phase: Some(phase) }),
                ..wire::ReplicaSet::default()
            }),
            revision,
            serving,
            ..wire::ReplicaSetView::default()
        })
    }

    #[test]
    fn outcomes_follow_the_record() {
        use wire::phase::Phase;
        let stable = || Phase::Stable(wire::Stable {});
        let switching = Phase::Switching(wire::Switching {
            candidate: "zone1-1".to_owned(),
            holds: true,
        });
        let establishing = Phase::Establishing(wire::Establishing {});
        let before = set(3, stable(), true, 10);
        let verdict = |now: ReplicaSet| match outcome(&before, &now, 11) {
            Outcome::Done => "done",
            Outcome::Waiting(_) => "waiting",
            Outcome::TakenBack(_) => "taken back",
        };
        assert_eq!(verdict(set(3, switching, true, 11)), "waiting");
        assert_eq!(verdict(set(4, establishing, false, 12)), "waiting");
        assert_eq!(verdict(set(4, stable(), false, 13)), "waiting");
        assert_eq!(verdict(set(4, stable(), true, 13)), "done");
        assert_eq!(verdict(set(3, stable(), true, 12)), "taken back");
    }
}
