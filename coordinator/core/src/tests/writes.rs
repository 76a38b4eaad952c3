//! What a primary's own writes lead to: a failover, a hand-over, or no more than an explanation.

use vt_proto::report::{DiskProbe, DiskState, WriteCause, WriteFailure, WriteProbe};

use super::*;

/// What a tablet's probes say.
type Probes = (Option<WriteCause>, DiskState);

fn say(stage: &mut Stage, index: u32, (cause, state): Probes) {
    let report = stage.report(index);
    report.write_probe = Some(WriteProbe {
        success_age_ms: None,
        failure: cause.map(|cause| WriteFailure {
            since_ms: 1_100,
            cause,
            detail: "it does not return".to_owned(),
        }),
    });
    report.disk_probe = Some(DiskProbe {
        state,
        success_age_ms: None,
        detail: "EIO".to_owned(),
    });
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Failover,
    HandOver,
    /// The same, because of what it has to do.
    HandOverForLoad,
    /// Nothing happens, and this is said.
    Alarm(&'static str),
    Nothing,
}

/// The primary's probes say something for a while, the ackers' others; hearts beat all the while.
fn outcome(primary: Probes, ackers: [DiskState; 2], after_ms: u64, expected: Then) {
    let mut stage = Stage::stable(1);
    for (index, state) in [(1, ackers[0]), (2, ackers[1])] {
        say(&mut stage, index, (None, state));
        stage.report(index).write_probe = None;
    }
    stage.pass(12_000, &[]);
    say(&mut stage, 0, primary);
    stage.reports(0);
    stage.pass(after_ms, &[]);
    let case = format!("{primary:?} {ackers:?} after {after_ms} ms");
    match expected {
        Then::Failover => {
            assert!(
                matches!(stage.set(0).phase, Phase::Revoking { .. }),
                "{case}"
            );
            assert_eq!(stage.set(0).epoch, Epoch(2), "{case}");
        }
        Then::HandOver => {
            assert_eq!(stage.set(0).phase, handing_over_to(1), "{case}");
            assert!(stage.kinds().contains(&"switchover.disk".to_owned()));
        }
        Then::HandOverForLoad => {
            assert_eq!(stage.set(0).phase, handing_over_to(1), "{case}");
            assert!(
                stage.kinds().contains(&"switchover.load".to_owned()),
                "{case}"
            );
        }
        Then::Alarm(words) => {
            assert_eq!(stage.set(0).phase, Phase::Stable, "{case}");
            let said = stage.core.blocked(&set_name(0)).unwrap_or_default();
            assert!(said.contains(words), "{case}: {said}");
        }
        Then::Nothing => {
            assert_eq!(stage.set(0).phase, Phase::Stable, "{case}");
            assert_eq!(stage.core.blocked(&set_name(0)), None, "{case}");
        }
    }
}

#[test]
fn what_a_primary_suffers_from_is_told_apart() {
    use DiskState::{Failed, Full, Good, Stalled};
    use Then::{Alarm, Failover, HandOver, HandOverForLoad, Nothing};
    use WriteCause::{Acknowledgements, DiskSpace, Refused, Unknown};
    let well = [Good, Good];
    for (primary, ackers, after_ms, expected) in [
        ((None, Good), well, 20_000, Nothing),
        // Both classes, for half a second after the agent's second.
        ((Some(Unknown), Stalled), well, 400, Alarm("hang")),
        ((Some(Unknown), Stalled), well, 800, Failover),
        ((Some(Unknown), Failed), well, 800, Failover),
        ((Some(DiskSpace), Full), well, 800, Failover),
        // mysqld's own word suffices.
        ((Some(DiskSpace), Good), well, 800, Failover),
        // Each alone proves nothing.
        (
            (Some(Unknown), Good),
            well,
            20_000,
            Alarm("although its disk is well"),
        ),
        ((Some(Unknown), Good), well, 31_000, HandOverForLoad),
        ((Some(Refused), Good), well, 40_000, Alarm("refuses writes")),
        ((None, Stalled), well, 40_000, Alarm("still writes")),
        // The ackers' trouble.
        (
            (Some(Acknowledgements), Stalled),
            well,
            20_000,
            Alarm("acknowledgements"),
        ),
        (
            (Some(Acknowledgements), Good),
            well,
            20_000,
            Alarm("acknowledgements"),
        ),
        ((Some(Refused), Good), well, 20_000, Alarm("refuses writes")),
        // Nothing hangs yet.
        ((None, Full), well, 1_800, Alarm("its disk is full")),
        ((None, Full), well, 2_300, HandOver),
        ((Some(Refused), Full), well, 2_300, HandOver),
        ((None, Failed), well, 2_300, HandOver),
        // Nobody to go to.
        (
            (Some(DiskSpace), Full),
            [Full, Stalled],
            20_000,
            Alarm("no acker with a healthy disk"),
        ),
        ((None, Full), [Full, Full], 20_000, Alarm("make room")),
        // One of two ackers with a healthy disk cannot finish a failover that needs two answers, and is asked for.
        ((None, Full), [Good, Full], 2_300, HandOver),
    ] {
        outcome(primary, ackers, after_ms, expected);
    }
}

#[test]
fn a_failover_that_could_not_be_finished_is_not_begun() {
    let mut stage = Stage::stable(1);
    say(&mut stage, 2, (None, DiskState::Full));
    say(
        &mut stage,
        0,
        (Some(WriteCause::DiskSpace), DiskState::Full),
    );
    stage.pass(5_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    let said = stage.core.blocked(&set_name(0)).unwrap();
    assert!(said.contains("healthy disk"), "{said}");
    say(&mut stage, 2, (None, DiskState::Good));
    stage.pass(400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
}

#[test]
fn what_this_coordinator_slept_through_is_not_counted() {
    let mut stage = Stage::stable(1);
    say(
        &mut stage,
        0,
        (Some(WriteCause::Unknown), DiskState::Stalled),
    );
    stage.reports(0);
    stage.now.monotonic_ms += 5_000;
    stage.everybody_reports();
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.pass(400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
}

#[test]
fn silence_after_a_word_of_hanging_writes_makes_it_no_longer() {
    let mut stage = Stage::stable(1);
    say(
        &mut stage,
        0,
        (Some(WriteCause::DiskSpace), DiskState::Full),
    );
    stage.reports(0);
    stage.pass(900, &[0]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    // Its writes were late because it slept.
    say(&mut stage, 0, (None, DiskState::Good));
    stage.pass(2_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    assert_eq!(stage.core.blocked(&set_name(0)), None);
}

#[test]
fn one_that_cannot_hand_over_is_replaced() {
    let mut stage = Stage::stable(1);
    stage.pass(12_000, &[]);
    say(&mut stage, 0, (None, DiskState::Full));
    stage.pass(2_400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
    // Its agent cannot write down what it is asked for.
    stage.pass(1_400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
    stage.pass(800, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert!(
        event.message.contains("could not hand over"),
        "{}",
        event.message
    );
}

#[test]
fn writes_that_begin_to_hang_during_a_hand_over_end_it() {
    let mut stage = Stage::stable(1);
    stage.pass(12_000, &[]);
    say(&mut stage, 0, (None, DiskState::Full));
    stage.pass(2_400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
    say(
        &mut stage,
        0,
        (Some(WriteCause::DiskSpace), DiskState::Full),
    );
    stage.reports(0);
    stage.pass(1_300, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
}

#[test]
fn a_hand_over_is_not_asked_for_again_at_once() {
    let mut stage = Stage::stable(1);
    stage.pass(12_000, &[]);
    say(&mut stage, 0, (None, DiskState::Full));
    stage.pass(2_400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
    // The candidate falls behind: the old primary keeps what it has.
    stage.replication(1).lag_ms = Some(60_000);
    stage.replication(2).lag_ms = Some(60_000);
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.replication(1).lag_ms = Some(0);
    stage.pass(8_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.pass(3_000, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
}

/// Commits of the primary wait; what its ackers hear of it.
fn cut_off(hear: [Option<ThreadState>; 2], for_ms: u64) -> Stage {
    let mut stage = Stage::stable(1);
    let waits = Some(WriteCause::Acknowledgements);
    say(&mut stage, 0, (waits, DiskState::Good));
    for (acker, io) in [(1, hear[0]), (2, hear[1])] {
        match io {
            Some(ThreadState::On) => stage.replication(acker).heartbeat_age_ms = Some(1_500),
            Some(io) => stage.replication(acker).io = io,
            None => {
                stage.report(acker).mysqld = MysqldState::Exited {
                    how: "killed".into(),
                }
            }
        }
    }
    stage.pass(for_ms, &[]);
    stage
}

#[test]
fn a_primary_that_its_ackers_have_lost_while_commits_wait_is_replaced() {
    use ThreadState::{Connecting, On};
    for hear in [[On, On], [Connecting, Connecting], [On, Connecting]] {
        let hear = hear.map(Some);
        assert_eq!(cut_off(hear, 900).set(0).phase, Phase::Stable, "{hear:?}");
        let stage = cut_off(hear, 1_500);
        assert!(
            matches!(stage.set(0).phase, Phase::Revoking { .. }),
            "{hear:?}"
        );
        let Phase::Revoking { reason, .. } = &stage.set(0).phase else {
            unreachable!();
        };
        assert!(reason.contains("have lost it"), "{reason}");
    }
    // Ackers that do not run could acknowledge nobody's writes.
    for hear in [[None, None], [None, Some(On)]] {
        assert_eq!(
            cut_off(hear, 20_000).set(0).phase,
            Phase::Stable,
            "{hear:?}"
        );
    }
}

#[test]
fn ackers_that_come_back_are_given_time_to_find_the_primary() {
    let mut stage = cut_off([None, None], 5_000);
    for acker in [1, 2] {
        stage.report(acker).mysqld = MysqldState::Running;
        stage.replication(acker).io = ThreadState::Connecting;
    }
    stage.pass(900, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    // One of two hears it again.
    stage.replication(1).io = ThreadState::On;
    stage.pass(5_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
}
