//! Durability policies that change in an open epoch.

use vt_proto::topology::{Durability, Raising};

use super::*;
use crate::{
    failover::{leaving::LOST_MS, leaving::STEP_MS},
    format, intent,
};

fn ask(stage: &mut Stage, acks: Option<u32>, cross_cell: Option<bool>) -> Result<(), String> {
    stage.index += 1;
    let (index, now) = (stage.index, stage.now);
    let (state, id) = (stage.core.state(), format!("ask-{index}"));
    let command = intent::set_durability(state, &set_name(0), acks, cross_cell, &id, now)
        .map_err(|refusal| refusal.to_string())?;
    stage.step(Event::Committed { index, command });
    Ok(())
}

fn semi_sync(acks: u32) -> Durability {
    Durability::SemiSync {
        acks,
        cross_cell: false,
    }
}

fn ordered_acks(stage: &Stage) -> u32 {
    match stage.goal(0) {
        Goal::Primary { acks, .. } => acks,
        goal => panic!("{goal:?}"),
    }
}

#[test]
fn more_acknowledgements_count_when_a_row_has_them() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).ackers.len(), 2);
    ask(&mut stage, Some(2), None).unwrap();
    stage.pass(200, &[]);
    let ordered = Raising {
        acks: 2,
        ordered: true,
    };
    let set = stage.set(0);
    assert_eq!((set.durability, set.raising), (semi_sync(1), Some(ordered)));
    assert_eq!(ordered_acks(&stage), 2);
    assert!(matches!(stage.goal(0), Goal::Primary { confirm: true, .. }));
    // What was confirmed before says nothing of it.
    stage.report(0).confirmed = Some(Generation(1));
    stage.pass(1_000, &[]);
    assert_eq!(stage.set(0).durability, semi_sync(1));
    let asked = stage.core.desired(&alias(0)).unwrap().generation;
    stage.report(0).confirmed = Some(asked);
    stage.pass(200, &[]);
    assert_eq!(
        (stage.set(0).durability, stage.set(0).raising),
        (semi_sync(2), None)
    );
    assert_eq!(ordered_acks(&stage), 2);
    // Fewer are recorded first and at once.
    ask(&mut stage, Some(1), None).unwrap();
    assert_eq!(
        (stage.set(0).durability, ordered_acks(&stage)),
        (semi_sync(1), 1)
    );
}

#[test]
fn a_raise_waits_for_ackers_and_is_given_up_when_no_row_has_them() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.pass(1_000, &[]);
    ask(&mut stage, Some(2), None).unwrap();
    // One is silent before the primary is told.
    stage.pass(5_000, &[2]);
    assert_eq!(ordered_acks(&stage), 2, "both answered a moment ago");
    stage.pass(STEP_MS + 500, &[]);
    let set = stage.set(0);
    assert_eq!((set.durability, set.raising), (semi_sync(1), None));
    assert!(stage.kinds().contains(&"durability.kept".to_owned()));
    stage.pass(2_000, &[2]);
    ask(&mut stage, Some(2), None).unwrap();
    stage.pass(2_000, &[2]);
    assert_eq!(ordered_acks(&stage), 1);
    let said = stage.core.blocked(&set_name(0)).unwrap();
    assert!(said.contains("start another replica"), "{said}");
}

#[test]
fn a_failover_in_the_middle_counts_by_the_weaker_policy_and_the_raise_goes_on_after_it() {
    let mut stage = Stage::stable_in(format::NEWEST);
    stage.pass(1_000, &[]);
    ask(&mut stage, Some(2), None).unwrap();
    stage.pass(200, &[]);
    stage.exit(0);
    stage.reports(0);
    let set = stage.set(0);
    assert!(matches!(set.phase, Phase::Revoking { .. }));
    let waiting = Raising {
        acks: 2,
        ordered: false,
    };
    assert_eq!((set.durability, set.raising), (semi_sync(1), Some(waiting)));
}

#[test]
fn a_policy_that_nobody_could_keep_is_refused() {
    let mut stage = Stage::stable_in(format::NEWEST);
    let mut refusal = |acks, cells| ask(&mut stage, acks, cells).unwrap_err();
    assert!(refusal(Some(3), None).contains("add replicas first"));
    assert!(refusal(Some(0), None).contains("lose acknowledged writes"));
    assert!(refusal(None, Some(true)).contains("add replicas first"));
    let mut old = Stage::stable_in(format::FIRST);
    assert!(
        ask(&mut old, Some(2), None)
            .unwrap_err()
            .contains("upgrade")
    );
}

#[test]
fn ackers_that_are_not_needed_any_more_leave() {
    let mut stage = Stage::stable_in(format::NEWEST);
    for index in [3, 4] {
        let fresh = fresh_report(index);
        let mut like = stage.reports[&2].clone();
        like.tablet = Tablet {
            replica_set: set_name(0),
            ..fresh.tablet
        };
        like.server_uuid = fresh.server_uuid;
        stage.reports.insert(index, like);
    }
    stage.everybody_reports();
    ask(&mut stage, Some(2), None).unwrap();
    stage.pass(2_000, &[]);
    let asked = stage.core.desired(&alias(0)).unwrap().generation;
    stage.report(0).confirmed = Some(asked);
    stage.pass(500, &[]);
    assert_eq!(stage.set(0).ackers.len(), 4);
    ask(&mut stage, Some(1), None).unwrap();
    stage.pass(LOST_MS + 500, &[]);
    let leaving = stage.set(0).leaving.as_ref().map(|it| it.acker.clone());
    assert_eq!(leaving, Some(alias(4)));
}
