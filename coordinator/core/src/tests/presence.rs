//! Who is there: by the leader's own clock, which may stand still, and under a leader who has just begun.

use vt_proto::report::LostTransactions;

use super::*;
use crate::mass_failure::MASS_FAILURE_HOLD_MS;

/// Epochs of all sets, added up: it grows with every needless failover.
fn epochs(stage: &Stage) -> u64 {
    let sets = stage.core.state().replica_sets.values();
    sets.map(|set| set.value.epoch.0).sum()
}

/// The primary's agent falls silent for good; its ackers say how long they have not heard it either.
fn lose(stage: &mut Stage, primary: u32) {
    for acker in [primary + 1, primary + 2] {
        stage.replication(acker).heartbeat_age_ms = Some(60_000);
        stage.replication(acker).io = ThreadState::Connecting;
    }
}

#[test]
fn what_a_leader_slept_through_is_nobodys_silence() {
    // How long the leader stood still, and how many reports of each tablet had come in time to wait for it.
    for (stall_ms, queued) in [(400, 0), (1_500, 0), (1_500, 3), (20_000, 0), (600_000, 50)] {
        let mut stage = Stage::stable(5);
        stage.pass(1_000, &[]);
        let before = epochs(&stage);
        // Everything but the primary's host looks as if it were gone.
        lose(&mut stage, 0);
        stage.now.monotonic_ms += stall_ms;
        for _ in 0..queued {
            for index in 1..15 {
                stage.reports(index);
            }
        }
        stage.step(Event::Tick);
        for index in 1..15 {
            stage.reports(index);
        }
        stage.pass(SILENCE_MS - 2 * TICK_MS, &[0]);
        assert_eq!(
            epochs(&stage),
            before,
            "{stall_ms} ms, {queued} reports waited"
        );
        // A silence that it did not sleep through counts in full.
        stage.pass(200 + 2 * TICK_MS, &[0]);
        assert_eq!(stage.set(0).epoch, Epoch(2), "{stall_ms} ms");
        assert_eq!(epochs(&stage), before + 1);
    }
}

#[test]
fn a_new_leader_grants_everybody_a_whole_period() {
    // When, after it begins, the primary's agent is heard first; None: never.
    for (first_ms, fails) in [(Some(200), false), (Some(800), false), (None, true)] {
        let mut stage = Stage::stable(5);
        stage.pass(1_000, &[]);
        lose(&mut stage, 0);
        let mut stage = Stage {
            core: Core::new(stage.core.state().clone()),
            ..stage
        };
        // It knew nothing of anybody for as long as it followed.
        stage.now.monotonic_ms += 3_600_000;
        stage.step(Event::LeadershipGained);
        let before = epochs(&stage);
        stage.pass(first_ms.unwrap_or(SILENCE_MS), &[0]);
        assert_eq!(
            epochs(&stage),
            before,
            "{first_ms:?}: not before a whole period"
        );
        let silent: &[u32] = if fails { &[0] } else { &[] };
        stage.pass(3_000, silent);
        assert_eq!(epochs(&stage) > before, fails, "{first_ms:?}");
    }
}

#[test]
fn the_wall_clock_may_jump_as_it_likes() {
    for jumps in [[1_u64, 86_400_000_000, 0], [u64::MAX, 0, u64::MAX]] {
        let mut stage = Stage::stable(5);
        let before = epochs(&stage);
        for unix_ms in jumps {
            stage.now.unix_ms = unix_ms;
            stage.pass(3_000, &[]);
            assert_eq!(epochs(&stage), before, "{unix_ms}");
        }
        lose(&mut stage, 0);
        stage.now.unix_ms = 0;
        stage.pass(SILENCE_MS + 200, &[0]);
        assert_eq!(epochs(&stage), before + 1);
    }
}

#[test]
fn a_death_is_found_in_time_among_many_sets() {
    let sets = 400;
    let mut stage = Stage::stable(sets);
    for (turn, set) in [0, 1, 199, 398, 399].into_iter().enumerate() {
        let primary = 3 * set;
        lose(&mut stage, primary);
        stage.pass(SILENCE_MS + 200 + TICK_MS, &[primary]);
        assert_eq!(stage.set(set).epoch, Epoch(2), "set {set}");
        assert_eq!(epochs(&stage), u64::from(sets) + turn as u64 + 1);
        // It is heard again: it has nothing to do with the next case.
        stage.reports(primary);
    }
}

#[test]
fn many_silences_at_once_are_taken_for_ours_and_all_are_judged_later() {
    let sets = 40;
    let mut stage = Stage::stable(sets);
    stage.pass(500, &[]);
    let primaries: Vec<u32> = (0..sets).map(|set| 3 * set).collect();
    for primary in &primaries {
        lose(&mut stage, *primary);
    }
    let before = epochs(&stage);
    stage.pass(MASS_FAILURE_HOLD_MS, &primaries);
    assert_eq!(epochs(&stage), before);
    stage.pass(SILENCE_MS + 500, &primaries);
    assert_eq!(epochs(&stage), before + u64::from(sets));
}

#[test]
fn what_is_kept_of_lost_transactions_is_told_once() {
    let mut stage = Stage::stable(1);
    let lost = |epoch: u64| LostTransactions {
        epoch: Epoch(epoch),
        gtids: gtids("A:5-6"),
        transactions: 2,
        bytes: 300,
        cut_at: "2026-01-01T00:00:00Z".to_owned(),
        directory: format!("/lost/{epoch}"),
        readable: true,
    };
    let told = |stage: &Stage| {
        let kinds = stage.kinds();
        kinds.iter().filter(|kind| *kind == "lost.kept").count()
    };
    stage.report(1).lost.kept = vec![lost(1)];
    stage.pass(1_000, &[]);
    assert_eq!(told(&stage), 1);
    let (_, event) = stage.core.state().events.back().unwrap();
    assert_eq!(event.subject, format!("replica-set/{}", set_name(0)));
    assert!(
        event.message.contains("2 transactions (300 bytes)"),
        "{event:?}"
    );
    assert!(
        event
            .message
            .ends_with("zone1-101 and are kept on its host in /lost/1"),
        "{event:?}"
    );
    stage.step(Event::LeadershipLost);
    stage.step(Event::LeadershipGained);
    stage.pass(1_000, &[]);
    assert_eq!(told(&stage), 1, "another leader finds it in the audit");
    stage.report(1).lost.kept.push(lost(2));
    stage.report(2).lost.kept = vec![lost(2)];
    stage.pass(1_000, &[]);
    assert_eq!(told(&stage), 3, "each on each host");
}
