//! What somebody wrote on a tablet that is no primary, and that is not quarantined yet.

use super::{decisions::reveal, *};

/// And then the primary dies.
#[test]
fn what_an_acker_wrote_itself_is_not_taken_for_the_epochs() {
    for (of_other, of_errant) in [("A:1-10", "A:1-10"), ("A:1-10", "A:1-9")] {
        let mut stage = Stage::stable(1);
        let own = stage.report(2).server_uuid.clone().unwrap();
        stage.position(1, of_other, of_other);
        stage.position(2, of_errant, of_errant);
        write_itself(&mut stage, 2, &own);
        stage.everybody_reports();
        stage.exit(0);
        stage.reports(0);
        assert_eq!(stage.set(0).epoch, Epoch(2), "{of_errant}");
        stage.revoke(1);
        stage.revoke(2);
        stage.everybody_reports();
        let set = stage.set(0);
        assert_eq!(set.primary, Some(alias(1)), "{of_errant}");
        assert_eq!(set.start_gtid, gtids("A:1-10"), "{of_errant}");
    }
}

/// The only acker that has the last write wrote something itself: the former primary's own data are better.
#[test]
fn a_primary_is_read_where_only_an_acker_that_wrote_itself_has_the_last_write() {
    let mut stage = Stage::stable(1);
    let own = stage.report(2).server_uuid.clone().unwrap();
    stage.exit(0);
    stage.reports(0);
    stage.position(1, "A:1-9", "A:1-9");
    stage.position(2, "A:1-10", "A:1-10");
    write_itself(&mut stage, 2, &own);
    stage.revoke(1);
    stage.revoke(2);
    stage.report(0).promised = Epoch(2);
    stage.pass(6_000, &[]);
    let restart_after = Incarnation(1);
    assert_eq!(stage.goal(0), Goal::Reveal { restart_after });
    stage.report(0).incarnation = Incarnation(2);
    reveal(&mut stage, 0, "A:1-11");
    stage.reports(0);
    assert_eq!(stage.set(0).primary, Some(alias(0)));
    assert_eq!(stage.set(0).start_gtid, gtids("A:1-11"));
}

fn write_itself(stage: &mut Stage, index: u32, server_uuid: &str) {
    let errant: GtidSet = format!("{server_uuid}:1").parse().unwrap();
    let gtid = stage.report(index).gtid.as_mut().unwrap();
    gtid.executed = gtid.executed.union(&errant);
    gtid.received = gtid.received.union(&errant);
}
