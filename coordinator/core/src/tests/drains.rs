//! Hosts that are to be maintained: who hands over, when, to whom, and who stays.

use super::*;
use crate::failover::planned::SWITCHOVER_MS;

fn drain(stage: &mut Stage, indexes: &[u32], drained: bool) -> Result<Revision, Refusal> {
    let aliases: Vec<TabletAlias> = indexes.iter().map(|index| alias(*index)).collect();
    let id = format!("drain-{}", stage.index);
    let command = intent::set_drained(stage.core.state(), &aliases, drained, &id, stage.now)?;
    stage.submit(command)
}

fn blocked(stage: &Stage) -> String {
    stage.core.blocked(&set_name(0)).unwrap_or_default()
}

/// What becomes of a drained primary.
enum Then {
    HandsOverTo(u32),
    Stays(&'static str),
    Nothing,
}

#[test]
fn a_drained_primary_hands_over_where_another_is_fit() {
    use Then::{HandsOverTo, Nothing, Stays};
    type Spoil = fn(&mut Stage);
    let nothing: Spoil = |_| {};
    let cases: [(&str, &[u32], Spoil, Then); 6] = [
        ("all well", &[0], nothing, HandsOverTo(1)),
        ("another host", &[1], nothing, Nothing),
        ("two hosts", &[0, 1], nothing, HandsOverTo(2)),
        (
            "all hosts",
            &[0, 1, 2],
            nothing,
            Stays("its host is drained"),
        ),
        (
            "the first lags",
            &[0],
            |stage| stage.replication(1).lag_ms = Some(60_000),
            HandsOverTo(2),
        ),
        (
            "nobody replicates",
            &[0],
            |stage| {
                for acker in [1, 2] {
                    stage.replication(acker).sql = ThreadState::Off;
                }
            },
            Stays("its replication threads do not run"),
        ),
    ];
    for (case, indexes, spoil, then) in cases {
        let mut stage = Stage::stable_in(format::DRAINS);
        spoil(&mut stage);
        stage.everybody_reports();
        drain(&mut stage, indexes, true).unwrap();
        stage.pass(1_000, &[]);
        match then {
            HandsOverTo(index) => {
                assert_eq!(stage.set(0).phase, handing_over_to(index), "{case}");
                assert!(stage.kinds().contains(&"switchover.drain".to_owned()));
            }
            Stays(words) => {
                assert_eq!(stage.set(0).phase, Phase::Stable, "{case}");
                let why = blocked(&stage);
                assert!(
                    why.contains("zone1-100 is drained and stays") && why.contains(words),
                    "{case}: {why}"
                );
            }
            Nothing => assert_eq!(
                (&stage.set(0).phase, blocked(&stage)),
                (&Phase::Stable, String::new()),
                "{case}"
            ),
        }
    }
}

#[test]
fn what_was_taken_back_is_not_tried_at_once_and_the_order_can_be_taken_back() {
    let mut stage = Stage::stable_in(format::DRAINS);
    drain(&mut stage, &[0], true).unwrap();
    stage.pass(500, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
    // It does not become read-only in time.
    stage.pass(3_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    assert!(
        blocked(&stage).contains("hands over soon"),
        "{}",
        blocked(&stage)
    );
    stage.pass(5_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.pass(5_000, &[]);
    assert!(
        matches!(stage.set(0).phase, Phase::Switching { .. }),
        "now again"
    );
    stage.pass(3_000, &[]);
    drain(&mut stage, &[0], false).unwrap();
    stage.pass(20_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    assert_eq!(blocked(&stage), "");
}

#[test]
fn a_failover_takes_a_drained_tablet_last() {
    for (drained, then) in [(1, 2), (2, 1)] {
        let mut stage = Stage::stable_in(format::DRAINS);
        drain(&mut stage, &[drained], true).unwrap();
        stage.exit(0);
        stage.reports(0);
        for acker in [1, 2] {
            stage.position(acker, "A:1-9", "A:1-9");
            stage.revoke(acker);
            stage.reports(acker);
        }
        assert_eq!(stage.set(0).primary, Some(alias(then)));
    }
}

#[test]
fn orders_are_idempotent_and_name_what_is_wrong() {
    let mut stage = Stage::stable_in(format::DRAINS);
    for drained in [true, true, false, false] {
        drain(&mut stage, &[1], drained).unwrap();
        let known = stage.core.state().drains.contains_key(&alias(1));
        assert_eq!(known, drained);
    }
    let kinds = stage.kinds();
    let count = |kind: &str| kinds.iter().filter(|it| *it == kind).count();
    assert_eq!((count("tablet.drained"), count("tablet.undrained")), (1, 1));
    for (indexes, words) in [(&[9][..], "there is no tablet"), (&[][..], "at least one")] {
        let refusal = drain(&mut stage, indexes, true).unwrap_err();
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    let mut old = Stage::stable(1);
    let refusal = drain(&mut old, &[1], true).unwrap_err();
    assert!(refusal.to_string().contains("upgrade"), "{refusal}");
}

#[test]
fn a_primary_that_is_about_to_be_stopped_hands_over() {
    let mut stage = Stage::stable_in(format::NEWEST);
    // A replica that stops has nothing to hand over, and gets nothing.
    stage.report(1).stop_asked = true;
    stage.everybody_reports();
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);

    stage.report(0).stop_asked = true;
    stage.everybody_reports();
    stage.pass(SWITCHOVER_MS, &[]);
    assert_eq!(stage.set(0).phase, handing_over_to(2));
    assert!(stage.kinds().contains(&"switchover.drain".to_owned()));
}

#[test]
fn one_that_nobody_can_follow_says_so_before_it_is_stopped() {
    let mut stage = Stage::stable_in(format::NEWEST);
    for index in [0, 1, 2] {
        stage.report(index).stop_asked = true;
    }
    stage.everybody_reports();
    stage.pass(SWITCHOVER_MS, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    let why = blocked(&stage);
    assert!(
        why.contains("zone1-100 is about to be stopped and stays primary")
            && why.contains("its mysqld is about to be stopped"),
        "{why}"
    );
}
