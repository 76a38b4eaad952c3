//! Runs simulated clusters: seeds that once failed first, then many others; and worlds that are broken on purpose.
//!
//! `VT_SIM_SEEDS=1000` runs more seeds, `VT_SIM_FIRST=5000` starts elsewhere, `VT_SIM_SEED=17` replays one with its trace.

use std::{
    fs, panic,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use vt_tests::sim::{Focus, Outcome, Plan, Sabotage, run};

/// Seeds of an ordinary run.
const SEEDS_DEFAULT: u64 = 200;
/// Seeds within which each sabotage must be noticed.
const SABOTAGE_SEEDS_MAX: u64 = 400;
/// Seeds of each focus that must be well where nothing is sabotaged.
const FOCUS_SEEDS: u64 = 25;
/// Lines of the shortest trace that are shown.
const TRACE_LINES_SHOWN: usize = 120;
/// Runs that looking for a shorter story may take.
const SHRINK_RUNS_MAX: u64 = 150;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs a story; a panic of the code under test is a violation like any other.
fn tell(plan: &Plan) -> Outcome {
    let plan_again = plan.clone();
    panic::catch_unwind(move || run(&plan_again)).unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            violation: Some(format!("panic: {}", text.unwrap_or_default())),
            trace: Vec::new(),
            faults: 0,
            acknowledged: 0,
            epochs: 0,
            moved: 0,
            locked_out: 0,
            healed_in_ms: None,
        }
    })
}

/// Tells the stories of many seeds on both processors; returns the failing ones, lowest first.
fn failing(
    seeds: impl Iterator<Item = u64>,
    kind: impl Fn(u64) -> Plan + Sync,
    wanted: impl Fn(&str) -> bool + Sync,
    enough: usize,
) -> Vec<(u64, String)> {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let done = found.lock().expect("no thread has panicked").len() >= enough;
                    let Some(seed) = seeds.get(index).filter(|_| !done) else {
                        return;
                    };
                    if let Some(violation) = tell(&kind(*seed)).violation
                        && wanted(&violation)
                    {
                        found
                            .lock()
                            .expect("no thread has panicked")
                            .push((*seed, violation));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no thread has panicked");
    found.sort();
    found
}

/// The fewest faults that still break the story, found by leaving out ever smaller parts.
fn shortest(seed: u64) -> Outcome {
    let count = tell(&Plan::of(seed)).faults;
    let mut kept: Vec<usize> = (0..count).collect();
    let mut part = kept.len().div_ceil(2);
    let mut runs = 0;
    while part >= 1 && runs < SHRINK_RUNS_MAX {
        let mut start = 0;
        while start < kept.len() && runs < SHRINK_RUNS_MAX {
            let mut fewer = kept.clone();
            fewer.drain(start..(start + part).min(kept.len()));
            let plan = Plan {
                only_faults: Some(fewer.clone()),
                ..Plan::of(seed)
            };
            runs += 1;
            if tell(&plan).violation.is_some() {
                kept = fewer;
            } else {
                start += part;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    println!("seed {seed} needs the faults {kept:?}");
    tell(&Plan {
        only_faults: Some(kept),
        trace: true,
        ..Plan::of(seed)
    })
}

fn explain(seed: u64, violation: &str) -> String {
    let outcome = shortest(seed);
    let from = outcome.trace.len().saturating_sub(TRACE_LINES_SHOWN);
    format!(
        "seed {seed}: {violation}\nshortest story: {}\n{}\nreplay: VT_SIM_SEED={seed} cargo test -p vt-tests --test sim -- --nocapture\n",
        outcome.violation.unwrap_or_default(),
        outcome.trace[from..].join("\n"),
    )
}

fn demand_none(failing: &[(u64, String)]) {
    if let Some((seed, violation)) = failing.first() {
        let seeds: Vec<String> = failing
            .iter()
            .map(|(seed, why)| format!("{seed} ({why})"))
            .collect();
        panic!(
            "{}\nall failing seeds: {}",
            explain(*seed, violation),
            seeds.join("; ")
        );
    }
}

#[test]
fn seeds_that_once_failed_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/failover.txt");
    let text = fs::read_to_string(&path).expect("the file of regressions");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seeds: Vec<u64> = lines
        .map(|line| {
            let word = line.split_whitespace().next();
            let seed = word.and_then(|word| word.parse().ok());
            seed.unwrap_or_else(|| panic!("{}: '{line}' starts with no seed", path.display()))
        })
        .collect();
    demand_none(&failing(seeds.into_iter(), Plan::of, |_| true, 1));
}

/// Tells one story with all that happens in it.
fn replay(plan: &Plan) {
    let outcome = tell(&Plan {
        trace: true,
        ..plan.clone()
    });
    for line in &outcome.trace {
        println!("{line}");
    }
    println!(
        "seed {}: {} acknowledged, epoch {}, whole {:?} ms after healing",
        plan.seed, outcome.acknowledged, outcome.epochs, outcome.healed_in_ms
    );
    assert_eq!(outcome.violation, None);
}

#[test]
fn clusters_are_safe_under_faults_and_whole_after_them() {
    if let Some(seed) = number("VT_SIM_SEED") {
        return replay(&Plan::of(seed));
    }
    let first = number("VT_SIM_FIRST").unwrap_or(1);
    let count = number("VT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    demand_none(&failing(first..first + count, Plan::of, |_| true, 10));
}

/// Tells the stories of `count` seeds; the first that fails is shown whole.
fn hold_with(first: u64, count: u64, plan: impl Fn(u64) -> Plan + Sync) {
    let failing = failing(first..first + count, &plan, |_| true, 10);
    if let Some((seed, violation)) = failing.first() {
        let trace = tell(&Plan {
            trace: true,
            ..plan(*seed)
        })
        .trace;
        let from = trace.len().saturating_sub(TRACE_LINES_SHOWN);
        panic!(
            "seed {seed}: {violation}\n{}\nall: {failing:?}",
            trace[from..].join("\n")
        );
    }
}

/// Half as many stories as an ordinary run has, with these faults; `VT_SIM_SEED` replays one.
fn half_hold_with(focus: Focus) {
    let plan = |seed| Plan {
        focus,
        ..Plan::of(seed)
    };
    if let Some(seed) = number("VT_SIM_SEED") {
        return replay(&plan(seed));
    }
    let first = number("VT_SIM_FIRST").unwrap_or(1);
    let count = number("VT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT) / 2;
    hold_with(first, count, plan);
}

/// Policies change while primaries die. What was acknowledged under one is kept under the next.
#[test]
fn policies_change_safely() {
    half_hold_with(Focus::Policy);
}

/// Each of these breaks one rule; a checker must notice, or it would not notice a real mistake either.
#[test]
fn sabotage_is_noticed() {
    let unsafe_only = |violation: &str| !violation.contains("after the faults ended");
    let stuck = |violation: &str| violation.contains("still applies");
    for (sabotage, focus, wanted) in [
        (Sabotage::SkipRevokeWait, Focus::Disconnection, None),
        (Sabotage::ExecutedForReceived, Focus::Backlog, None),
        (Sabotage::OpenBeforeDrain, Focus::Backlog, None),
        (Sabotage::SemiSyncBeforeDrain, Focus::Backlog, Some(stuck)),
        (Sabotage::CleanShutdown, Focus::Disconnection, None),
        (Sabotage::IgnoreEpoch, Focus::Leadership, None),
        (Sabotage::IgnoreOwnStall, Focus::Sleep, None),
        (Sabotage::MoveUndrained, Focus::Backlog, None),
        (Sabotage::SilentTooEarly, Focus::Loss, None),
        (Sabotage::LockWithoutKill, Focus::HostLoss, None),
        (Sabotage::KillWithoutLock, Focus::HostLoss, None),
    ] {
        let plan = |seed| Plan {
            sabotage: Some(sabotage),
            focus,
            ..Plan::of(seed)
        };
        let wanted = |violation: &str| wanted.map_or(unsafe_only(violation), |it| it(violation));
        let found = failing(1..SABOTAGE_SEEDS_MAX, plan, wanted, 1);
        assert!(
            !found.is_empty(),
            "{sabotage:?} was not noticed in {SABOTAGE_SEEDS_MAX} seeds"
        );
        println!("{sabotage:?}: seed {}: {}", found[0].0, found[0].1);
    }
}

/// The same worlds without the sabotage.
#[test]
fn every_focus_is_well_without_sabotage() {
    for focus in [
        Focus::Disconnection,
        Focus::Backlog,
        Focus::Leadership,
        Focus::Sleep,
        Focus::Loss,
    ] {
        let plan = |seed| Plan {
            focus,
            ..Plan::of(seed)
        };
        let found = failing(1..=FOCUS_SEEDS, plan, |_| true, 1);
        assert_eq!(found, [], "{focus:?}");
    }
}

/// A primary that cannot write for its disk's sake is replaced in time; the checkers of every story hold too.
#[test]
fn a_bad_disk_does_not_keep_writes_from_going_on() {
    let plan = |seed| Plan {
        focus: Focus::Disks,
        ..Plan::of(seed)
    };
    hold_with(1, number("VT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT), plan);
    let moved: usize = (1..=20).map(|seed| tell(&plan(seed)).moved).sum();
    assert!(
        moved >= 10,
        "writes were looked for elsewhere {moved} times"
    );
}

/// A lost host is taken out of the ackers whether its mysqld is alive or not; the checkers of every story hold too.
#[test]
fn a_lost_host_is_locked_out() {
    let plan = |seed| Plan {
        focus: Focus::HostLoss,
        ..Plan::of(seed)
    };
    let first = number("VT_SIM_FIRST").unwrap_or(1);
    hold_with(first, number("VT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT), plan);
    let locked_out: usize = (1..=20).map(|seed| tell(&plan(seed)).locked_out).sum();
    assert!(locked_out >= 5, "{locked_out} ackers were locked out");
}

/// A replica that cannot apply what it received leaves the ackers and gets other data, whoever dies meanwhile.
#[test]
fn a_replica_that_cannot_apply_is_copied() {
    half_hold_with(Focus::Broken);
}

/// What somebody wrote on a replica never becomes the primary's, whoever dies before that replica has left the ackers.
#[test]
fn what_a_stranger_wrote_is_not_promoted() {
    half_hold_with(Focus::Strangers);
}

/// Saturation is an alarm: nobody is deposed for it.
#[test]
fn too_much_to_do_is_no_death() {
    for seed in 1..=50 {
        let outcome = tell(&Plan {
            focus: Focus::Saturation,
            ..Plan::of(seed)
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(outcome.faults > 0, "seed {seed} saturates nobody");
        assert_eq!(
            outcome.epochs, 1,
            "seed {seed}: somebody else became primary"
        );
    }
}

/// A seed is a story: told twice, it is the same one.
#[test]
fn a_seed_replays() {
    let tell = |seed| {
        let outcome = tell(&Plan {
            trace: true,
            ..Plan::of(seed)
        });
        (outcome.trace, outcome.acknowledged, outcome.healed_in_ms)
    };
    for seed in [1, 2, 3] {
        assert!(tell(seed) == tell(seed), "seed {seed} told two stories");
    }
}
