//! Who is dead, who is revoked, who becomes primary, and when nothing may happen.

use std::collections::BTreeSet;

use super::*;

/// The dead primary is fenced and its data are readable.
pub(super) fn reveal(stage: &mut Stage, index: u32, sets: &str) {
    let epoch = stage.set(0).epoch;
    let report = stage.report(index);
    report.mysqld = MysqldState::Running;
    report.promised = epoch;
    report.fenced = Some(epoch);
    stage.position(index, sets, sets);
}

/// What the newest event of a kind says under a name.
fn said(stage: &Stage, kind: &str, name: &str) -> String {
    let mut newest = stage.core.state().events.iter().rev();
    let (_, event) = newest.find(|(_, event)| event.kind == kind).unwrap();
    let said = event.evidence.iter().find(|(said, _)| said == name);
    said.unwrap_or_else(|| panic!("{event:?} does not say {name}"))
        .1
        .clone()
}

#[test]
fn the_first_primary_is_formed_and_opens() {
    let stage = Stage::stable(1);
    let set = stage.set(0);
    assert_eq!(set.epoch, Epoch(1));
    assert_eq!(set.primary, Some(alias(0)));
    assert_eq!(set.ackers, [alias(1), alias(2)].into());
    assert!(matches!(stage.goal(0), Goal::Primary { acks: 1, .. }));
    assert!(matches!(stage.goal(1), Goal::Replica { acker: true, .. }));
    assert!(stage.kinds().contains(&"failover.form".to_owned()));
}

#[test]
fn an_exit_leads_to_the_replica_that_received_most() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    assert_eq!(stage.set(0).epoch, Epoch(2));
    assert_eq!(stage.goal(0), Goal::Fence);
    assert_eq!(stage.goal(1), Goal::Revoke);
    stage.position(1, "A:1-9", "A:1-9");
    stage.position(2, "A:1-5", "A:1-10");
    stage.revoke(1);
    stage.reports(1);
    stage.revoke(2);
    stage.reports(2);
    // Tablet 2 has everything and must apply it first.
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    assert!(
        stage
            .core
            .blocked(&set_name(0))
            .unwrap()
            .contains("still applies 5")
    );
    stage.pass(200, &[]);
    stage.position(2, "A:1-10", "A:1-10");
    stage.reports(2);
    let drained = said(&stage, "failover.establish", "drain_ms");
    assert!(drained.parse::<u64>().unwrap() >= 200, "{drained}");
    said(&stage, "failover.establish", "promise_ms");
    let set = stage.set(0).clone();
    assert_eq!(set.phase, Phase::Establishing);
    assert_eq!(set.primary, Some(alias(2)));
    assert_eq!(set.ackers, [alias(1)].into());
    assert_eq!(set.start_gtid, gtids("A:1-10"));
    assert_eq!(set.history.last().unwrap().epoch, Epoch(1));
    assert_eq!(set.history.last().unwrap().kept, gtids("A:1-10"));
    stage.serve(2);
    stage.reports(2);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    // The old primary returns, follows, is level, and acknowledges.
    stage.come_back(0, 2, "A:1-10");
    stage.reports(0);
    assert_eq!(stage.set(0).ackers, [alias(0), alias(1)].into());
}

#[test]
fn what_an_earlier_epoch_did_not_keep_is_not_taken_for_this_one() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    for index in [1, 2] {
        stage.position(index, "A:1-10", "A:1-10");
        stage.revoke(index);
        stage.reports(index);
    }
    stage.serve(1);
    stage.position(1, "A:1-10,B:1-4", "A:1-10,B:1-4");
    stage.reports(1);
    // One of them was away at the end of the epoch before, and has more of it than was kept.
    for (index, sets) in [(0, "A:1-10,B:1-4"), (2, "A:1-12,B:1-3")] {
        stage.come_back(index, 1, sets);
        stage.reports(index);
    }
    assert_eq!(stage.set(0).ackers, [alias(0), alias(2)].into());
    stage.exit(1);
    stage.reports(1);
    for index in [0, 2] {
        stage.revoke(index);
        stage.reports(index);
    }
    let set = stage.set(0);
    assert_eq!(set.primary, Some(alias(0)));
    assert_eq!(set.start_gtid, gtids("A:1-10,B:1-4"));
}

/// It is among the ackers of the new epoch, has more of the old one than was kept, and the new primary dies before it is reached.
#[test]
fn what_an_earlier_epoch_did_not_keep_is_known_before_the_next_primary_is_reached() {
    let kept = "A:1-10,B:1-2";
    for (why, reached, primary) in [
        ("moved to the new source", None, alias(0)),
        ("not moved yet", Some(0), alias(1)),
    ] {
        let mut stage = Stage::stable(1);
        stage.exit(0);
        stage.reports(0);
        for index in [1, 2] {
            stage.position(index, "A:1-10", "A:1-10");
            stage.revoke(index);
            stage.reports(index);
        }
        stage.serve(1);
        stage.position(1, kept, kept);
        stage.reports(1);
        stage.come_back(0, 1, kept);
        stage.reports(0);
        assert_eq!(stage.set(0).ackers, [alias(0), alias(2)].into());
        stage.come_back(2, 1, "A:1-12");
        stage.replication(2).io = ThreadState::Connecting;
        let uuid = reached.and_then(|index| stage.report(index).server_uuid.clone());
        stage.replication(2).source_uuid = uuid;
        stage.reports(2);
        stage.exit(1);
        stage.reports(1);
        stage.revoke(0);
        stage.revoke(2);
        stage.everybody_reports();
        let set = stage.set(0);
        assert_eq!(set.primary, Some(primary), "{why}");
        if reached.is_none() {
            assert_eq!(set.start_gtid, gtids(kept));
        }
    }
}

/// The only tablet that has the last write has also what nobody kept. The dead primary has what it wrote, and perhaps a little more.
#[test]
fn a_primary_is_read_where_only_a_tablet_that_needs_a_copy_has_the_last_write() {
    for own in ["A:1-10,B:1-4", "A:1-10,B:1-5"] {
        let mut stage = Stage::stable(1);
        stage.exit(0);
        stage.reports(0);
        for index in [1, 2] {
            stage.position(index, "A:1-10", "A:1-10");
            stage.revoke(index);
            stage.reports(index);
        }
        stage.serve(1);
        stage.position(1, "A:1-10,B:1-3", "A:1-10,B:1-3");
        stage.reports(1);
        for (index, sets) in [(0, "A:1-10,B:1-3"), (2, "A:1-12,B:1-3")] {
            stage.come_back(index, 1, sets);
            stage.reports(index);
        }
        stage.exit(1);
        stage.reports(1);
        stage.position(2, "A:1-12,B:1-4", "A:1-12,B:1-4");
        stage.revoke(0);
        stage.revoke(2);
        stage.report(1).promised = Epoch(3);
        stage.pass(6_000, &[]);
        let restart_after = Incarnation(1);
        assert_eq!(stage.goal(1), Goal::Reveal { restart_after }, "{own}");
        stage.report(1).incarnation = Incarnation(2);
        reveal(&mut stage, 1, own);
        stage.reports(1);
        let set = stage.set(0);
        assert_eq!(set.primary, Some(alias(1)), "{own}");
        assert_eq!(set.start_gtid, gtids(own));
    }
}

/// A primary that never opened, for its ackers never got the start of its epoch, has its own first row beyond that.
#[test]
fn a_fenced_primary_with_the_start_and_a_little_more_goes_on() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-10", "A:1-10");
    stage.position(2, "A:1-9", "A:1-9");
    stage.revoke(1);
    stage.revoke(2);
    stage.everybody_reports();
    // The acker has the start while its primary is silent, and has lost it when it is asked.
    stage.come_back(2, 1, "A:1-10");
    stage.replication(2).heartbeat_age_ms = Some(5_000);
    stage.pass(2_000, &[1]);
    assert_eq!(stage.set(0).epoch, Epoch(3));
    stage.position(2, "A:1-9", "A:1-9");
    stage.revoke(2);
    stage.reports(2);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    reveal(&mut stage, 1, "A:1-10,B:1");
    stage.reports(1);
    assert_eq!(stage.set(0).primary, Some(alias(1)));
    assert_eq!(stage.set(0).start_gtid, gtids("A:1-10,B:1"));
}

#[test]
fn one_answer_of_two_is_not_enough() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-9", "A:1-9");
    stage.revoke(1);
    stage.pass(4_000, &[2]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    assert!(
        stage
            .core
            .blocked(&set_name(0))
            .unwrap()
            .contains("zone1-102")
    );
    // Amnesia counts for revocation and not for discovery: the old primary's own data are read.
    stage.revoke(2);
    stage.report(2).amnesiac = true;
    stage.report(0).promised = Epoch(2);
    stage.pass(6_000, &[]);
    assert_eq!(
        stage.goal(0),
        Goal::Reveal {
            restart_after: Incarnation(1)
        }
    );
    stage.report(0).incarnation = Incarnation(2);
    reveal(&mut stage, 0, "A:1-12");
    stage.reports(0);
    assert_eq!(stage.set(0).primary, Some(alias(0)));
    assert_eq!(stage.set(0).start_gtid, gtids("A:1-12"));
}

#[test]
fn without_ackers_the_primary_restarts_in_place() {
    let mut stage = Stage::stable(1);
    stage.pass(2_000, &[1, 2]);
    stage.exit(0);
    stage.pass(200, &[1, 2]);
    assert_eq!(stage.set(0).epoch, Epoch(1));
    assert_eq!(stage.set(0).restart_after, Some(Incarnation(1)));
    stage.report(0).mysqld = MysqldState::Held {
        why: "crash loop".to_owned(),
    };
    stage.pass(6_000, &[1, 2]);
    assert_eq!(stage.set(0).epoch, Epoch(1));
    assert!(
        stage
            .core
            .blocked(&set_name(0))
            .unwrap()
            .contains("bring back")
    );
}

#[test]
fn silence_needs_two_witnesses() {
    let mut stage = Stage::stable(1);
    // Only its agent is gone: its ackers hear it.
    stage.pass(5_000, &[0]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    assert!(
        stage
            .core
            .blocked(&set_name(0))
            .unwrap()
            .contains("start the agent")
    );
    // One of two ackers is not more than half.
    stage.replication(1).heartbeat_age_ms = Some(1_500);
    stage.pass(400, &[0]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.replication(2).io = ThreadState::Connecting;
    stage.pass(400, &[0]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    let (_, event) = stage.core.state().events.back().unwrap();
    assert_eq!(event.kind, "failover.revoke");
    assert!(
        event
            .evidence
            .iter()
            .any(|(who, _)| who == "acker zone1-102")
    );
    for (name, value) in [
        ("step", "Stable -> Revoking"),
        ("trigger", "primary dead"),
        ("epoch", "2"),
        ("primary_before", "zone1-100"),
    ] {
        assert_eq!(said(&stage, "failover.revoke", name), value);
    }
    let detected = said(&stage, "failover.revoke", "detect_ms");
    assert!(
        detected.parse::<u64>().unwrap() >= 5_000,
        "it is silent since the start: {detected}"
    );
}

#[test]
fn ackers_alone_prove_nothing_and_a_hung_mysqld_takes_longer() {
    let mut stage = Stage::stable(1);
    for acker in [1, 2] {
        stage.replication(acker).heartbeat_age_ms = Some(1_500);
    }
    stage.pass(5_000, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.report(0).mysqld = MysqldState::Unresponsive { since_ms: 100 };
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    stage.pass(400, &[]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
}

#[test]
fn own_stalls_and_new_leadership_grant_everybody_a_full_period() {
    let mut stage = Stage::stable(1);
    for acker in [1, 2] {
        stage.replication(acker).heartbeat_age_ms = Some(1_500);
    }
    stage.now.monotonic_ms += 5_000;
    for acker in [1, 2] {
        stage.reports(acker);
    }
    stage.pass(900, &[0]);
    assert_eq!(
        stage.set(0).phase,
        Phase::Stable,
        "this coordinator stood still"
    );
    stage.step(Event::LeadershipLost);
    stage.step(Event::LeadershipGained);
    stage.pass(900, &[0]);
    assert_eq!(stage.set(0).phase, Phase::Stable, "it leads for 900 ms");
    stage.pass(400, &[0]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
}

#[test]
fn many_silences_at_once_are_taken_for_our_own_for_a_while() {
    let mut stage = Stage::stable(4);
    for index in [1, 2, 4, 5] {
        stage.replication(index).heartbeat_age_ms = Some(1_500);
    }
    stage.pass(5_000, &[0, 3]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    // What a guard saw is believed at once.
    stage.exit(6);
    stage.reports(6);
    assert!(matches!(stage.set(2).phase, Phase::Revoking { .. }));
    stage.pass(8_000, &[0, 3]);
    assert!(matches!(stage.set(0).phase, Phase::Revoking { .. }));
    assert!(matches!(stage.set(1).phase, Phase::Revoking { .. }));
}

#[test]
fn an_establishing_primary_that_dies_is_followed_by_one_that_has_the_start() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-10", "A:1-10");
    stage.position(2, "A:1-9", "A:1-9");
    stage.revoke(1);
    stage.revoke(2);
    stage.everybody_reports();
    assert_eq!(stage.set(0).primary, Some(alias(1)));
    // It dies before its only acker got the start: that acker must not become primary.
    stage.exit(1);
    stage.reports(1);
    assert_eq!(stage.set(0).epoch, Epoch(2));
    assert_eq!(stage.set(0).restart_after, Some(Incarnation(1)));
}

/// Its host restarted and took the end of its relay log with it, after it was chosen.
#[test]
fn an_establishing_primary_that_lost_the_start_is_followed_by_one_that_has_it() {
    for (acker, promised, epoch) in [
        ("A:1-10", Epoch(2), Epoch(3)),
        ("A:1-10", Epoch(1), Epoch(2)),
        ("A:1-9", Epoch(2), Epoch(2)),
    ] {
        let mut stage = Stage::stable(1);
        stage.exit(0);
        stage.reports(0);
        stage.position(1, "A:1-10", "A:1-10");
        stage.position(2, acker, acker);
        stage.revoke(1);
        stage.revoke(2);
        stage.everybody_reports();
        assert_eq!(stage.set(0).primary, Some(alias(1)));
        stage.position(1, "A:1-9", "A:1-9");
        // What it said before it followed this order says nothing of now.
        stage.report(1).promised = promised;
        stage.reports(1);
        assert_eq!(stage.set(0).epoch, epoch, "{acker} {promised}");
        if acker == "A:1-9" {
            let blocked = stage.core.blocked(&set_name(0)).unwrap();
            assert!(blocked.contains("it has lost"), "{blocked}");
            assert!(blocked.contains("bring back the primary"), "{blocked}");
        }
    }
}

/// A switchover cannot know before that the candidate will not apply what the old primary wrote last.
#[test]
fn an_establishing_primary_that_cannot_apply_the_start_is_followed_by_one_that_has_it() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    for index in [1, 2] {
        stage.position(index, "A:1-10", "A:1-10");
        stage.revoke(index);
    }
    stage.everybody_reports();
    assert_eq!(stage.set(0).primary, Some(alias(1)));
    stage.position(1, "A:1-9", "A:1-10");
    stage.replication(1).applier_error = Some("the row to change is not here".to_owned());
    stage.reports(1);
    assert_eq!(stage.set(0).epoch, Epoch(3));
    let mut events = stage.core.state().events.iter().rev();
    let (_, event) = events
        .find(|(_, event)| event.kind == "failover.revoke")
        .unwrap();
    assert!(event.message.contains("cannot apply"), "{}", event.message);
}

/// What some have of an epoch that nobody kept does not matter where the former primary itself can be read.
#[test]
fn a_former_primary_that_can_be_read_decides_between_data_that_differ() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-10,C:1", "A:1-10,C:1");
    stage.position(2, "A:1-11", "A:1-11");
    for index in [1, 2] {
        stage.revoke(index);
    }
    stage.everybody_reports();
    let blocked = stage.core.blocked(&set_name(0)).unwrap();
    assert!(blocked.contains("diverged"), "{blocked}");
    reveal(&mut stage, 0, "A:1-12");
    stage.reports(0);
    assert_eq!(
        stage.set(0).primary,
        Some(alias(0)),
        "{:?}",
        stage.core.blocked(&set_name(0))
    );
    assert_eq!(stage.set(0).start_gtid, gtids("A:1-12"));
}

/// As above, in a switchover: the ackers lag, and the former primary, which acknowledges nothing, has all that there is.
#[test]
fn the_start_of_an_epoch_that_no_acker_has_is_taken_from_another_tablet() {
    for (third, primary) in [("A:1-9", None), ("A:1-10", Some(alias(0)))] {
        let mut stage = Stage::stable(1);
        stage.exit(0);
        stage.reports(0);
        stage.position(1, "A:1-10", "A:1-10");
        stage.position(2, "A:1-9", "A:1-9");
        stage.revoke(1);
        stage.revoke(2);
        stage.everybody_reports();
        assert_eq!(stage.set(0).ackers, [alias(2)].into());
        stage.position(1, "A:1-9", "A:1-9");
        stage.reports(1);
        stage.come_back(0, 1, third);
        stage.replication(0).source_uuid = None;
        stage.pass(400, &[]);
        let is_over = stage.set(0).epoch > Epoch(2);
        assert_eq!(is_over, primary.is_some(), "{third}");
        for index in [0, 2] {
            stage.revoke(index);
            stage.reports(index);
        }
        if let Some(primary) = primary {
            let set = stage.set(0);
            assert_eq!(set.primary, Some(primary), "{third}");
            assert_eq!(set.start_gtid, gtids("A:1-10"));
        }
    }
}

#[test]
fn an_acker_that_missed_the_end_of_an_epoch_counts_if_its_primary_goes_on() {
    let mut stage = Stage::stable(1);
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-9", "A:1-9");
    stage.revoke(1);
    reveal(&mut stage, 0, "A:1-10");
    stage.pass(400, &[2]);
    assert_eq!(stage.set(0).primary, Some(alias(0)));
    assert_eq!(stage.set(0).ackers, [alias(1), alias(2)].into());
}

/// Tablet 0 is primary, then 1, then 0 again. What tablet 2 says of itself meanwhile decides who counts as acker at last.
fn ackers_when_the_first_is_primary_again(says: impl Fn(&mut Report)) -> BTreeSet<TabletAlias> {
    let mut stage = Stage::stable(1);
    let mut fourth = fresh_report(3);
    fourth.tablet.replica_set = set_name(0);
    stage.reports.insert(3, fourth);
    stage.reports(3);
    let all = "A:1-10";
    let stop = |stage: &mut Stage, index| {
        let epoch = stage.set(0).epoch;
        let report = stage.report(index);
        report.promised = epoch;
        report.revoked = Some(epoch);
        stage.position(index, all, all);
    };
    stage.exit(0);
    stage.reports(0);
    stop(&mut stage, 1);
    stop(&mut stage, 3);
    stage.reports(1);
    stage.reports(3);
    reveal(&mut stage, 0, all);
    stage.reports(0);
    assert_eq!(stage.set(0).primary, Some(alias(1)));
    assert_eq!(stage.set(0).ackers, [alias(3)].into());
    says(stage.report(2));
    stage.serve(1);
    stage.come_back(0, 1, all);
    stage.pass(400, &[]);
    assert_eq!(stage.set(0).ackers, [alias(0), alias(3)].into());
    stage.exit(1);
    stage.reports(1);
    stop(&mut stage, 0);
    stop(&mut stage, 3);
    stage.pass(400, &[2]);
    assert_eq!(stage.set(0).primary, Some(alias(0)));
    stage.set(0).ackers.clone()
}

#[test]
fn an_acker_that_missed_an_epoch_counts_when_its_primary_is_primary_again() {
    let with_it: BTreeSet<_> = [alias(2), alias(3)].into();
    let without: BTreeSet<_> = [alias(3)].into();
    // It has heard nothing: it may acknowledge what tablet 0 writes.
    assert_eq!(ackers_when_the_first_is_primary_again(|_| ()), with_it);
    // Its agent has heard, and could not move a mysqld that hangs.
    let hangs = |report: &mut Report| {
        report.promised = Epoch(2);
        report.mysqld = MysqldState::Unresponsive { since_ms: 100 };
    };
    assert_eq!(ackers_when_the_first_is_primary_again(hangs), with_it);
    let follows = |report: &mut Report| {
        report.promised = Epoch(2);
        if let Some(replication) = &mut report.replication {
            replication.source = endpoint(1);
        }
    };
    assert_eq!(ackers_when_the_first_is_primary_again(follows), without);
}
