//! Runs simulated coordinator groups: seeds that once failed first, then many others; and worlds that are broken on purpose.
//!
//! `VT_GROUP_SEEDS=1000` runs more seeds, `VT_GROUP_FIRST=5000` starts elsewhere, `VT_GROUP_SEED=17` replays one with its trace.

use std::{
    fs, panic,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use vt_tests::group::{Focus, Outcome, Plan, Sabotage, run};

/// Seeds of an ordinary run.
const SEEDS_DEFAULT: u64 = 500;
/// Seeds within which each sabotage must be noticed: the rarest, a forgotten vote, shows in 18 of a thousand.
const SABOTAGE_SEEDS_MAX: u64 = 1_000;
/// Seeds in which the disk of the leader hangs.
const HANGING_SEEDS: u64 = 100;
/// Failing seeds after which a run ends.
const FAILING_ENOUGH: usize = 20;
/// Lines of the shortest trace that are shown.
const TRACE_LINES_SHOWN: usize = 120;
/// Runs that looking for a shorter story may take.
const SHRINK_RUNS_MAX: u64 = 150;
/// Seeds between two lines about how far a run is.
const PROGRESS_EVERY: u64 = 1_000;

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
            ..Outcome::default()
        }
    })
}

/// Tells the stories of many seeds on both processors; returns the failing ones, lowest first.
fn failing(
    seeds: &[u64],
    plan: impl Fn(u64) -> Plan + Sync,
    wanted: impl Fn(&str) -> bool + Sync,
    enough: usize,
) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let done = found.lock().expect("no thread has panicked").len() >= enough;
                    let Some(seed) = seeds.get(index as usize).filter(|_| !done) else {
                        return;
                    };
                    if index > 0 && index.is_multiple_of(PROGRESS_EVERY) {
                        let seconds = started.elapsed().as_secs();
                        println!("{index} of {} seeds in {seconds} s", seeds.len());
                    }
                    if let Some(violation) = tell(&plan(*seed)).violation
                        && wanted(&violation)
                    {
                        println!("seed {seed}: {violation}");
                        let mut found = found.lock().expect("no thread has panicked");
                        found.push((*seed, violation));
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
        "seed {seed}: {violation}\nshortest story: {}\n{}\nreplay: VT_GROUP_SEED={seed} cargo test -p vt-tests --test group_sim groups_are -- --nocapture\n",
        outcome.violation.unwrap_or_default(),
        outcome.trace[from..].join("\n"),
    )
}

fn demand_none(failing: &[(u64, String)]) {
    if let Some((seed, violation)) = failing.first() {
        let seeds: Vec<String> = failing
            .iter()
            .map(|(seed, why)| format!("{seed} ({})", why.lines().next().unwrap_or_default()))
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/group.txt");
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
    demand_none(&failing(&seeds, Plan::of, |_| true, 1));
}

#[test]
fn groups_are_safe_under_faults_and_whole_after_them() {
    if let Some(seed) = number("VT_GROUP_SEED") {
        let outcome = tell(&Plan {
            trace: true,
            ..Plan::of(seed)
        });
        for line in &outcome.trace {
            println!("{line}");
        }
        println!(
            "seed {seed}: {} operations, {} terms, {} crashes, whole {:?} ms after healing",
            outcome.operations, outcome.terms, outcome.crashes, outcome.healed_in_ms
        );
        assert_eq!(outcome.violation, None);
        return;
    }
    let first = number("VT_GROUP_FIRST").unwrap_or(1);
    let count = number("VT_GROUP_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let seeds: Vec<u64> = (first..first + count).collect();
    demand_none(&failing(&seeds, Plan::of, |_| true, FAILING_ENOUGH));
}

/// A leader that cannot write decides nothing: another one must, soon, whatever the weather is.
#[test]
fn another_leads_when_the_disk_of_the_leader_hangs() {
    let seeds: Vec<u64> = (1..=HANGING_SEEDS).collect();
    let plan = |seed| Plan {
        focus: Focus::DiskOfLeader,
        ..Plan::of(seed)
    };
    let found = failing(&seeds, plan, |_| true, FAILING_ENOUGH);
    if let Some((seed, _)) = found.first() {
        let story = tell(&Plan {
            trace: true,
            ..plan(*seed)
        });
        let from = story.trace.len().saturating_sub(TRACE_LINES_SHOWN);
        panic!("{}\n{found:#?}", story.trace[from..].join("\n"));
    }
}

/// Each of these breaks one rule on which the members rely; a checker must notice, or it would not notice a real mistake either.
#[test]
fn sabotage_is_noticed() {
    let seeds: Vec<u64> = (1..=SABOTAGE_SEEDS_MAX).collect();
    // That nothing goes on any more would be noticed without a checker.
    let unsafe_only = |violation: &str| !violation.contains("after the faults ended");
    for sabotage in Sabotage::ALL {
        let focus = match sabotage {
            Sabotage::ReplyBeforeFsync | Sabotage::Amnesia | Sabotage::ForgetVote => {
                Focus::Elections
            }
            _ => Focus::All,
        };
        let plan = |seed| Plan {
            sabotage: Some(sabotage),
            focus,
            ..Plan::of(seed)
        };
        let found = failing(&seeds, plan, unsafe_only, 1);
        assert!(
            !found.is_empty(),
            "{sabotage:?} was not noticed in {SABOTAGE_SEEDS_MAX} seeds"
        );
        println!("{sabotage:?}: seed {}: {}", found[0].0, found[0].1);
    }
}

/// A seed is a story: told twice, it is the same one.
#[test]
fn a_seed_replays() {
    let story = |seed| {
        tell(&Plan {
            trace: true,
            ..Plan::of(seed)
        })
    };
    for seed in [1, 2, 3] {
        assert!(story(seed) == story(seed), "seed {seed} told two stories");
    }
}
