//! What routers are told: when, and that changes taken one after the other come to the whole.

use std::sync::Arc;

use proptest::prelude::*;
use vt_proto::routing::RoutingUpdate;

use super::*;
use crate::health::lag_step;

fn published(stage: &mut Stage) -> Vec<RoutingUpdate> {
    let effects = std::mem::take(&mut stage.effects);
    let updates = effects.into_iter().filter_map(|effect| match effect {
        Effect::PublishRouting(update) => Some(update),
        _ => None,
    });
    updates.collect()
}

fn lead_anew(stage: &mut Stage) {
    stage.step(Event::LeadershipLost);
    stage.step(Event::LeadershipGained);
}

/// The content alone: lags only as steps.
fn content(snapshot: &RoutingSnapshot) -> RoutingSnapshot {
    let mut content = snapshot.clone();
    content.version = Default::default();
    for set in &mut content.replica_sets {
        for replica in &mut Arc::make_mut(set).replicas {
            replica.lag_ms = lag_step(replica.lag_ms).map(|step| step as u64);
        }
    }
    content
}

#[test]
fn routers_hear_of_a_death_at_once_and_of_lag_now_and_then() {
    let mut stage = Stage::stable(1);
    stage.pass(LAG_PAUSE_MS, &[]);
    let before = published(&mut stage);
    let versions: Vec<_> = before
        .iter()
        .map(|update| update.snapshot.version)
        .collect();
    assert!(versions.is_sorted_by(|one, next| one < next));
    let last = &before.last().unwrap().snapshot;
    assert_eq!(last.replica_sets[0].state, ServingState::Serving);
    assert!(
        last.replica_sets[0]
            .replicas
            .iter()
            .all(|replica| replica.healthy)
    );
    for lag_ms in 0..20 {
        stage.replication(1).lag_ms = Some(lag_ms);
        stage.now.monotonic_ms += 10;
        stage.reports(1);
    }
    assert_eq!(published(&mut stage), [], "no step of lag was passed");
    let mut count = 0;
    for turn in 0..20 {
        stage.replication(1).lag_ms = Some(if turn % 2 == 0 { 700 } else { 0 });
        stage.now.monotonic_ms += 20;
        stage.reports(1);
        count += published(&mut stage).len();
    }
    assert!((1..=3).contains(&count), "{count} snapshots in 400 ms");
    stage.replication(2).sql = ThreadState::Off;
    stage.reports(2);
    let news = published(&mut stage);
    assert!(!news[0].snapshot.replica_sets[0].replicas[1].healthy);
    stage.exit(0);
    stage.reports(0);
    let after = published(&mut stage);
    let newest = &after.last().unwrap().snapshot;
    assert_eq!(newest.replica_sets[0].state, ServingState::Moving);
    assert!(newest.version > last.version);
}

/// Longer than what differs in lag alone may wait.
const LAG_PAUSE_MS: u64 = 2 * routing::LAG_INTERVAL_MS;

#[test]
fn a_new_leader_says_first_what_the_one_before_said_of_tablets_it_could_not_hear() {
    let mut stage = Stage::stable(2);
    stage.pass(LAG_PAUSE_MS, &[]);
    let said = published(&mut stage).last().unwrap().snapshot.clone();
    // Another member, which has relayed that.
    let mut other = Stage {
        core: Core::new(stage.core.state().clone()),
        reports: stage.reports.clone(),
        effects: Vec::new(),
        ..stage
    };
    other.step(Event::Relayed {
        snapshot: said.clone(),
    });
    other.step(Event::LeadershipGained);
    let news = published(&mut other);
    assert_eq!(news.len(), 1);
    assert!(news[0].snapshot.version > said.version);
    assert!(news[0].delta.as_ref().unwrap().is_empty());
    assert_eq!(content(&news[0].snapshot), content(&said));
    // Tablet 5 is never heard; after a whole period, and no sooner, that is said.
    other.pass(health::ANSWER_AGE_MS, &[5]);
    assert_eq!(published(&mut other), []);
    other.pass(2 * TICK_MS, &[5]);
    let news = published(&mut other);
    let fit = |number: usize| {
        let newest = &news.last().unwrap().snapshot;
        newest.replica_sets[number]
            .replicas
            .iter()
            .filter(|replica| replica.healthy)
            .count()
    };
    assert_eq!((fit(0), fit(1)), (2, 1));
}

#[test]
fn nothing_is_published_before_the_first_entry_of_the_own_term() {
    let mut stage = Stage::stable(1);
    let numbered = published(&mut stage).last().unwrap().snapshot.version;
    let mut core = Core::new(stage.core.state().clone());
    let mut effects = core.step(stage.now, Event::LeadershipGained);
    for index in 0..3 {
        let report = Box::new(stage.reports[&index].clone());
        effects.extend(core.step(stage.now, Event::Reported { report }));
    }
    let is_news = |effect: &Effect| matches!(effect, Effect::PublishRouting(_));
    assert!(!effects.iter().any(is_news));
    // The proposal was lost; it is made again.
    stage.now.monotonic_ms += PROPOSAL_PATIENCE_MS;
    let again = core.step(stage.now, Event::Tick);
    let command = again.into_iter().find_map(|effect| match effect {
        Effect::Propose(command) => Some(command),
        _ => None,
    });
    let index = stage.index + 1;
    let command = command.unwrap();
    let effects = core.step(stage.now, Event::Committed { index, command });
    let first = effects.into_iter().find_map(|effect| match effect {
        Effect::PublishRouting(update) => Some(update.snapshot.version),
        _ => None,
    });
    assert!(first.unwrap() > numbered);
}

/// Whether routers are told last that the replicas 1 and 2 are fit.
fn fit(stage: &mut Stage) -> Vec<bool> {
    let updates = published(stage);
    let replicas = &updates.last().unwrap().snapshot.replica_sets[0].replicas;
    replicas.iter().map(|replica| replica.healthy).collect()
}

#[test]
fn who_speaks_again_after_an_own_stall_is_fit() {
    let mut stage = Stage::stable(1);
    stage.pass(750, &[1]);
    // The stall is found with the next tick; what is published before is made at the end of tablet 1's time.
    stage.now.monotonic_ms += health::OWN_STALL_MS - 20;
    stage.replication(2).sql = ThreadState::Off;
    stage.reports(2);
    stage.pass(health::ANSWER_AGE_MS, &[]);
    assert_eq!(fit(&mut stage), [true, false]);
}

#[test]
fn who_was_silent_before_an_own_stall_is_not_fit_after_it() {
    let mut stage = Stage::stable(1);
    stage.pass(2 * health::ANSWER_AGE_MS, &[1]);
    assert_eq!(fit(&mut stage), [false, true]);
    stage.now.monotonic_ms += 2 * health::OWN_STALL_MS;
    stage.replication(2).sql = ThreadState::Off;
    stage.reports(2);
    stage.pass(2 * health::ANSWER_AGE_MS, &[1]);
    assert_eq!(fit(&mut stage), [false, false]);
}

/// Anything that may change what routers should know.
fn disturb(stage: &mut Stage, what: u8, index: u32, number: u64) {
    match what {
        0 | 1 => {
            if let Some(replication) = &mut stage.report(index).replication {
                replication.lag_ms = (what == 0).then_some(number * 37);
            }
            stage.reports(index);
        }
        2 | 3 => {
            let state = if what == 2 {
                ThreadState::Off
            } else {
                ThreadState::On
            };
            if let Some(replication) = &mut stage.report(index).replication {
                replication.sql = state;
            }
            stage.reports(index);
        }
        4 => stage.pass(number * 13, &[index, index / 2]),
        5 => stage.now.monotonic_ms += number * 40,
        6 => {
            stage.exit(index);
            stage.reports(index);
        }
        7 => {
            let name = format!("k{}", number % 4).parse().unwrap();
            let state = stage.core.state();
            let id = format!("{number}-{}", stage.index);
            let known = state.keyspaces.contains_key(&name);
            let command = if known {
                intent::delete_keyspace(state, &name, &id, stage.now)
            } else {
                intent::create_keyspace(state, &name, None, &id, stage.now)
            };
            if let Ok(command) = command {
                stage.submit(command).unwrap();
            }
        }
        8 => lead_anew(stage),
        _ => {
            let mut newcomer = fresh_report(100 + index);
            newcomer.tablet.replica_set = set_name(index % 5);
            stage.reports.insert(100 + index, newcomer);
            stage.reports(100 + index);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_taken_one_after_the_other_come_to_the_whole(
        steps in proptest::collection::vec((0_u8..10, 0_u32..9, 0_u64..64), 1..40)
    ) {
        let mut stage = Stage::stable(3);
        for (what, index, number) in steps {
            disturb(&mut stage, what, index, number);
        }
        stage.pass(2 * health::ANSWER_AGE_MS, &[4]);
        let updates = published(&mut stage);
        prop_assert_eq!(updates.iter().filter(|update| update.delta.is_none()).count(), 1);
        for (start, update) in updates.iter().enumerate() {
            let mut known = RoutingSnapshot::clone(&update.snapshot);
            for next in &updates[start + 1..] {
                prop_assert!(next.snapshot.version > known.version);
                known = known.apply(next.delta.as_ref().unwrap()).unwrap();
                prop_assert_eq!(&known, &*next.snapshot);
            }
        }
        let scratch = stage.scratch_routes();
        let last = &updates.last().unwrap().snapshot;
        prop_assert_eq!(content(last), content(&scratch));
    }
}
