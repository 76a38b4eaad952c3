//! Semi-sync that somebody switches off on an open primary.

use super::*;

fn told(stage: &Stage) -> Vec<Vec<(String, String)>> {
    let events = stage.core.state().events.iter();
    let events = events.filter(|(_, event)| event.kind == "primary.unprotected");
    events.map(|(_, event)| event.evidence.clone()).collect()
}

/// The primary is open, and its agent has said so.
fn open() -> Stage {
    let mut stage = Stage::stable(1);
    let report = stage.report(0);
    report.super_read_only = Some(false);
    report.semi_sync_source = Some(true);
    stage.position(0, "A:1-5", "A:1-5");
    stage.pass(1_000, &[]);
    stage
}

/// As a real one does: for a while its mysqld does not answer.
fn switch_off(stage: &mut Stage) {
    let report = stage.report(0);
    let before = report.clone();
    report.mysqld = MysqldState::Unresponsive { since_ms: 300 };
    report.serving = None;
    report.super_read_only = None;
    report.semi_sync_source = None;
    report.gtid = None;
    stage.reports(0);
    let report = stage.report(0);
    *report = before;
    report.serving = None;
    report.semi_sync_source = Some(false);
    stage.position(0, "A:1-9", "A:1-9");
}

#[test]
fn from_where_writes_were_unprotected_is_told_each_time_and_once() {
    let mut stage = open();
    for times in 1..=2 {
        switch_off(&mut stage);
        stage.reports(0);
        let report = stage.report(0);
        report.semi_sync_source = Some(true);
        report.serving = Some(Epoch(1));
        stage.pass(1_000, &[]);
        assert_eq!(told(&stage).len(), times);
    }
    let evidence = &told(&stage)[0];
    let of = |name: &str| {
        let mut said = evidence.iter();
        said.find(|(it, _)| it == name).unwrap().1.clone()
    };
    assert_eq!(of("executed_with_semi_sync"), gtids("A:1-5").to_string());
    assert_eq!(of("executed_when_noticed"), gtids("A:1-9").to_string());
    assert_eq!(of("tablet"), alias(0).to_string());
}

#[test]
fn it_is_told_although_the_primary_stays_so_or_says_no_more() {
    let mut stage = open();
    switch_off(&mut stage);
    stage.reports(0);
    stage.pass(2_000, &[]);
    assert_eq!(told(&stage).len(), 1);
}

#[test]
fn what_is_closed_or_no_primary_or_another_life_is_no_matter() {
    for what in 0..4 {
        let mut stage = open();
        switch_off(&mut stage);
        let report = stage.report(0);
        match what {
            0 => report.super_read_only = Some(true),
            1 => report.incarnation = Incarnation(2),
            2 => report.semi_sync_source = Some(true),
            // A replica has none.
            _ => {
                let replica = stage.report(1);
                replica.semi_sync_source = Some(false);
                stage.reports(1);
                stage.report(0).super_read_only = Some(true);
            }
        }
        stage.reports(0);
        assert_eq!(told(&stage).len(), 0, "{what}");
    }
}
