//! A lost acker leaves: the record follows the truth, one proof after the other, and takes it back when the others are too few.

use vt_proto::topology::Leaving;

use super::*;
use crate::failover::leaving::{LOST_MS, STEP_MS, still_locked_out};

/// A stable set in the newest format whose tablet 2 has lost its source and whose others are well.
fn losing() -> Stage {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.replication(2).io = ThreadState::Connecting;
    stage
}

/// The orders that follow from the record as it is.
fn generation(stage: &Stage) -> Generation {
    stage.core.desired(&alias(0)).unwrap().generation
}

fn leaving(silent: bool) -> Option<Leaving> {
    Some(Leaving {
        acker: alias(2),
        silent,
    })
}

fn confirm(stage: &Stage) -> bool {
    matches!(stage.goal(0), Goal::Primary { confirm: true, .. })
}

#[test]
fn an_acker_leaves_when_it_is_silent_and_others_have_what_it_had() {
    let mut stage = losing();
    stage.pass(LOST_MS - 400, &[]);
    assert_eq!(stage.set(0).leaving, None, "a moment is no loss");
    stage.pass(800, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    assert_eq!((stage.goal(2), confirm(&stage)), (Goal::Revoke, false));
    // A claim under older orders, or for the epoch, says nothing of now.
    let asked = generation(&stage);
    stage.report(2).revoked = Some(Epoch(1));
    stage.report(2).silent = Some(Generation(asked.0 - 1));
    stage.report(0).confirmed = Some(asked);
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));

    stage.report(2).silent = Some(asked);
    stage.reports(2);
    assert_eq!(stage.set(0).leaving, leaving(true));
    assert_eq!((stage.goal(2), confirm(&stage)), (Goal::Revoke, true));
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).ackers.len(), 2, "the primary's row was older");
    // Another leader goes on from the record.
    stage.step(Event::LeadershipLost);
    stage.step(Event::LeadershipGained);
    stage.everybody_reports();
    stage.report(0).confirmed = Some(generation(&stage));
    stage.reports(0);
    let set = stage.set(0);
    assert_eq!((&set.ackers, &set.leaving), (&[alias(1)].into(), &None));
    assert!(matches!(stage.goal(2), Goal::Replica { acker: false, .. }));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert_eq!(event.kind, "acker.removed");
    let who: Vec<&str> = event.evidence.iter().map(|(who, _)| who.as_str()).collect();
    assert_eq!(
        who,
        ["acker zone1-101", "leaving zone1-102", "primary zone1-100"]
    );

    // So the next loss is survivable; and who returns acknowledges again.
    stage.replicate(2, 0);
    stage.reports(2);
    assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
}

#[test]
fn an_acker_that_needs_a_copy_leaves_first() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.exit(0);
    stage.reports(0);
    for index in [1, 2] {
        stage.position(index, "A:1-10", "A:1-10");
        stage.revoke(index);
        stage.reports(index);
    }
    stage.serve(1);
    let writer = stage.report(1).server_uuid.clone();
    for (index, sets) in [(0, "A:1-10,B:1-4"), (2, "A:1-12,B:1-4")] {
        stage.come_back(index, 1, sets);
        stage.replication(index).source_uuid = writer.clone();
    }
    stage.position(1, "A:1-10,B:1-4", "A:1-10,B:1-4");
    stage.everybody_reports();
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).ackers, [alias(0), alias(2)].into());
    stage.pass(LOST_MS, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert!(event.message.contains("needs a copy"), "{}", event.message);
}

#[test]
fn an_acker_that_wrote_something_itself_leaves_first() {
    let mut stage = Stage::stable_in(format::NEWEST);
    let own = stage.report(2).server_uuid.clone().unwrap();
    let before = stage.report(2).gtid.clone().unwrap();
    stage.pass(3 * LOST_MS, &[]);
    assert_eq!(stage.set(0).leaving, None);
    let errant: GtidSet = format!("{own}:1").parse().unwrap();
    stage.report(2).gtid = Some(GtidPosition {
        executed: before.executed.union(&errant),
        received: before.received.union(&errant),
    });
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert!(
        event.message.contains(&format!("{own}:1")),
        "{}",
        event.message
    );
}

#[test]
fn an_acker_that_cannot_apply_leaves_first() {
    let mut stage = Stage::stable_in(format::NEWEST);
    let replication = stage.replication(2);
    replication.sql = ThreadState::Off;
    replication.applier_error = Some("the row to change is not here".to_owned());
    stage.pass(3 * LOST_MS, &[]);
    // Its agent starts it again; until that is known not to help, it stays.
    assert_eq!(stage.set(0).leaving, None);
    stage.replication(2).stuck = true;
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert!(event.message.contains("is not here"), "{}", event.message);
}

/// Each start of its applier looks for a moment as if it replicated.
#[test]
fn one_that_cannot_apply_does_not_acknowledge_again_before_its_copy() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.replication(2).stuck = true;
    stage.pass(LOST_MS, &[]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    stage.report(2).silent = Some(generation(&stage));
    stage.reports(2);
    stage.report(0).confirmed = Some(generation(&stage));
    stage.reports(0);
    assert_eq!(stage.set(0).ackers, [alias(1)].into());
    stage.replicate(2, 0);
    stage.replication(2).stuck = true;
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).ackers, [alias(1)].into());
    stage.replication(2).stuck = false;
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
}

#[test]
fn one_that_cannot_apply_is_no_successor() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.position(2, "A:1-10", "A:1-12");
    let replication = stage.replication(2);
    replication.sql = ThreadState::Off;
    replication.applier_error = Some("the row to change is not here".to_owned());
    stage.everybody_reports();
    stage.exit(0);
    stage.reports(0);
    let set = stage.set(0);
    assert!(set.restart_after.is_some(), "{set:?}");
    let (_, event) = stage.core.state().events.back().unwrap();
    let (_, why) = event.evidence.last().unwrap();
    assert!(why.contains("zone1-102 cannot apply it"), "{why}");
}

/// A statement that kills mysqld is sent again to the next one.
#[test]
fn primaries_that_end_one_after_the_other_are_told_as_such() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.position(2, "A:1-10", "A:1-12");
    let replication = stage.replication(2);
    replication.sql = ThreadState::Off;
    replication.applier_error = Some("the row to change is not here".to_owned());
    stage.everybody_reports();
    for death in 1..=3 {
        stage.exit(0);
        stage.reports(0);
        let (_, event) = stage.core.state().events.back().unwrap();
        assert_eq!(event.kind, "failover.restart_in_place", "death {death}");
        let is_suspected = event.message.contains("3 primaries have ended");
        assert_eq!(is_suspected, death == 3, "{}", event.message);
        stage.serve(0);
        stage.report(0).mysqld = MysqldState::Running;
        stage.report(0).incarnation = Incarnation(10 + death);
        stage.reports(0);
        stage.now.unix_ms += 60_000;
    }
    // Much later it is an accident again.
    stage.now.unix_ms += 600_000;
    stage.exit(0);
    stage.reports(0);
    let (_, event) = stage.core.state().events.back().unwrap();
    assert!(!event.message.contains("primaries"), "{}", event.message);
}

#[test]
fn a_primary_that_dies_after_an_acker_left_has_a_successor() {
    let mut stage = losing();
    stage.pass(LOST_MS + 400, &[]);
    stage.report(2).silent = Some(generation(&stage));
    stage.reports(2);
    stage.report(0).confirmed = Some(generation(&stage));
    stage.reports(0);
    assert_eq!(stage.set(0).ackers, [alias(1)].into());
    stage.exit(0);
    stage.pass(200, &[2]);
    assert_eq!(stage.set(0).epoch, Epoch(2));
}

/// Until the last commit it counts: a failover in between waits for it.
#[test]
fn a_primary_that_dies_while_an_acker_leaves_waits_for_it() {
    let mut stage = losing();
    stage.pass(LOST_MS + 400, &[]);
    stage.report(2).silent = Some(generation(&stage));
    stage.reports(2);
    stage.exit(0);
    stage.reports(0);
    let set = stage.set(0);
    assert_eq!((set.epoch, &set.leaving), (Epoch(2), &None));
    assert_eq!(set.ackers, [alias(1), alias(2)].into());
    stage.revoke(1);
    stage.pass(1_000, &[]);
    let blocked = stage.core.blocked(&set_name(0)).unwrap();
    assert!(blocked.contains("zone1-102"), "{blocked}");
}

#[test]
fn an_acker_that_is_needed_after_all_acknowledges_again() {
    type Spoil = fn(&mut Stage);
    let cases: [(&str, Spoil); 2] = [
        ("missing: zone1-101", |stage| {
            stage.replication(1).io = ThreadState::Connecting;
            stage.reports(1);
        }),
        ("has not done its part", |stage| {
            stage.pass(STEP_MS + 400, &[])
        }),
    ];
    for (why, spoil) in cases {
        for silent in [false, true] {
            let mut stage = losing();
            stage.pass(LOST_MS + 400, &[]);
            if silent {
                stage.report(2).silent = Some(generation(&stage));
                stage.reports(2);
            }
            assert_eq!(stage.set(0).leaving, leaving(silent));
            spoil(&mut stage);
            let kept = stage.core.state().events.iter();
            let kept: Vec<&str> = kept
                .filter(|(_, event)| event.kind == "acker.kept")
                .map(|(_, event)| event.message.as_str())
                .collect();
            assert!(kept.len() == 1 && kept[0].contains(why), "{kept:?}");
            assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
            stage.replicate(1, 0);
            stage.reports(1);
            stage.pass(LOST_MS / 2, &[]);
            assert_eq!(stage.set(0).leaving, None, "not again at once");
            stage.pass(LOST_MS, &[]);
            assert_eq!(stage.set(0).leaving, leaving(false));
        }
    }
}

/// Its agent does not answer and its mysqld may be alive: the proof is the primary's, and holds until the lost one has stopped.
#[test]
fn an_acker_whose_host_is_silent_is_locked_out() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.pass(LOST_MS - 400, &[2]);
    assert_eq!(stage.set(0).leaving, None, "a moment is no loss");
    stage.pass(800, &[2]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    assert_eq!(refused(&stage), [alias(2)]);
    assert_eq!(stage.goal(2), Goal::Revoke, "if it hears it");
    // A claim under older orders says nothing of it.
    let asked = generation(&stage);
    stage.report(0).locked_out = Some(Generation(asked.0 - 1));
    stage.pass(1_000, &[2]);
    assert_eq!(stage.set(0).leaving, leaving(false));
    stage.report(0).locked_out = Some(asked);
    stage.reports(0);
    assert_eq!(stage.set(0).leaving, leaving(true));
    // Another leader goes on, though it has never heard the lost one.
    stage.step(Event::LeadershipLost);
    stage.step(Event::LeadershipGained);
    stage.report(0).confirmed = Some(generation(&stage));
    for index in [0, 1] {
        stage.reports(index);
    }
    let set = stage.set(0);
    assert_eq!((&set.ackers, &set.leaving), (&[alias(1)].into(), &None));
    assert_eq!(refused(&stage), [alias(2)], "it would acknowledge");

    // It is back: it stops under an order of now, may connect, and acknowledges when it is level and recorded.
    let asked = generation(&stage);
    stage.replication(2).io = ThreadState::Connecting;
    stage.report(2).silent = Some(Generation(asked.0 - 1));
    stage.reports(2);
    assert_eq!(
        (stage.goal(2), refused(&stage)),
        (Goal::Revoke, vec![alias(2)])
    );
    assert_eq!(stage.set(0).ackers, [alias(1)].into());
    stage.report(2).silent = Some(asked);
    stage.reports(2);
    assert_eq!(refused(&stage), []);
    assert!(matches!(stage.goal(2), Goal::Replica { acker: false, .. }));
    stage.replicate(2, 0);
    stage.reports(2);
    assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
}

fn refused(stage: &Stage) -> Vec<TabletAlias> {
    match stage.goal(0) {
        Goal::Primary { locked_out, .. } => locked_out,
        other => panic!("{other:?}"),
    }
}

/// Needed after all, it may connect and acknowledge: it counted all the time.
#[test]
fn one_that_is_needed_is_not_kept_locked_out() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.pass(LOST_MS + 400, &[2]);
    assert_eq!(refused(&stage), [alias(2)]);
    stage.replication(1).io = ThreadState::Connecting;
    stage.reports(1);
    assert_eq!((&stage.set(0).leaving, refused(&stage)), (&None, vec![]));
    assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
}

/// One that was told to stop and falls silent before it has is locked out.
#[test]
fn a_leaving_acker_that_falls_silent_is_locked_out() {
    let mut stage = losing();
    stage.pass(LOST_MS + 400, &[]);
    assert_eq!(
        (&stage.set(0).leaving, refused(&stage)),
        (&leaving(false), vec![])
    );
    stage.pass(LOST_MS + 400, &[2]);
    assert_eq!(
        (&stage.set(0).leaving, refused(&stage)),
        (&leaving(false), vec![alias(2)])
    );
}

/// Locks hold where they were made: in the next epoch of the same server, and for nobody else's.
#[test]
fn locks_stay_with_the_server_that_holds_them() {
    let old = {
        let mut stage = Stage::stable_in(format::NEWEST);
        let mut old = stage.set(0).clone();
        old.locked_out = [alias(1), alias(2)].into();
        stage.reports(0);
        old
    };
    let stay = |candidate: u32, ackers: &[u32]| {
        let ackers = ackers.iter().map(|index| alias(*index)).collect();
        still_locked_out(&old, &alias(candidate), &alias(0), &ackers)
    };
    assert_eq!(stay(0, &[1]), [alias(2)].into());
    assert_eq!(stay(1, &[2]), [].into());
}

/// With a member that does not understand it, nothing is written that would stop that one.
#[test]
fn an_older_coordinator_in_the_group_forbids_it() {
    let mut stage = Stage::stable_in(format::COORDINATORS);
    stage.replication(2).io = ThreadState::Connecting;
    stage.pass(LOST_MS + 2_000, &[]);
    assert_eq!(stage.set(0).leaving, None);
}
