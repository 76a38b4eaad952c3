//! Registration, switchover, schema changes, generations and routing, as the records and the routers see them.

use super::*;
use crate::intent;

#[test]
fn two_tablets_have_no_server_id_in_common() {
    let mut stage = Stage::stable(1);
    // Their checksums are equal.
    for (alias, is_refused) in [("lyon-1045693422", false), ("lyon-445900758", true)] {
        let mut report = fresh_report(1);
        report.tablet.alias = alias.parse().unwrap();
        report.tablet.mysql = endpoint(99);
        stage.step(Event::Reported {
            report: Box::new(report.clone()),
        });
        let refused = stage.core.refused(&report.tablet.alias);
        let why = refused.unwrap_or_default();
        assert_eq!(why.contains("the same server id"), is_refused, "{why}");
        let is_known = stage
            .core
            .state()
            .tablets
            .contains_key(&report.tablet.alias);
        assert_eq!(is_known, !is_refused, "{alias}");
    }
}

#[test]
fn an_alias_belongs_to_one_host_and_one_replica_set() {
    let mut stage = Stage::stable(1);
    let mut elsewhere = fresh_report(1);
    elsewhere.tablet.mysql = endpoint(99);
    let report = Box::new(elsewhere.clone());
    stage.step(Event::Reported { report });
    assert!(
        stage
            .core
            .refused(&alias(1))
            .unwrap()
            .contains("uses the same alias")
    );
    assert_eq!(
        stage.core.state().tablets[&alias(1)].value.mysql,
        endpoint(1)
    );
    // The host that held it is gone for good.
    stage.pass(3_200, &[1]);
    let report = Box::new(elsewhere);
    stage.step(Event::Reported { report });
    assert_eq!(
        stage.core.state().tablets[&alias(1)].value.mysql,
        endpoint(99)
    );
    let mut moved = fresh_report(2);
    moved.tablet.replica_set = set_name(7);
    let report = Box::new(moved);
    stage.step(Event::Reported { report });
    assert!(stage.core.refused(&alias(2)).unwrap().contains("rs-7"));
    let refused = stage
        .kinds()
        .iter()
        .filter(|kind| *kind == "tablet.refused")
        .count();
    assert_eq!(refused, 2, "each is said once");
}

#[test]
fn a_switchover_hands_over_or_is_taken_back() {
    let mut stage = Stage::stable(1);
    let ask = |stage: &Stage, id: &str| {
        intent::switchover(
            stage.core.state(),
            stage.core.health(),
            &set_name(0),
            Some(&alias(2)),
            id,
            stage.now,
        )
    };
    let command = ask(&stage, "first").unwrap();
    stage.submit(command).unwrap();
    assert!(matches!(stage.goal(0), Goal::Demote { .. }));
    assert!(ask(&stage, "again").is_err(), "one at a time");
    stage.pass(2_200, &[]);
    assert_eq!(stage.set(0).phase, Phase::Stable);
    assert_eq!(stage.set(0).epoch, Epoch(1));
    assert!(stage.kinds().contains(&"switchover.taken_back".to_owned()));

    let command = ask(&stage, "second").unwrap();
    stage.submit(command).unwrap();
    let asked = stage.core.desired(&alias(0)).unwrap().generation;
    stage.position(0, "A:1-4", "A:1-4");
    stage.report(0).demoted = Some(asked);
    stage.report(0).serving = None;
    stage.reports(0);
    assert!(
        matches!(stage.set(0).phase, Phase::Switching { .. }),
        "the candidate lacks A:4"
    );
    stage.position(2, "A:1-3", "A:1-4");
    stage.reports(2);
    let set = stage.set(0);
    assert_eq!((set.epoch, set.primary.clone()), (Epoch(2), Some(alias(2))));
    assert_eq!(set.start_gtid, gtids("A:1-4"));
    assert_eq!(set.ackers, [alias(1)].into());
}

#[test]
fn writes_are_slowed_until_the_candidate_is_near_and_then_held() {
    // What it has to apply, for how long, and whether writes are held then.
    let table: &[(&str, u64, bool)] = &[
        ("A:1-50", 0, true),
        ("A:1-46", 0, true),
        ("A:1-45", 0, false),
        ("A:1-10", 900, false),
        ("A:1-10", 1_200, true),
    ];
    for (executed, after_ms, held) in table {
        let mut stage = Stage::stable(1);
        stage.position(1, executed, "A:1-50");
        stage.reports(1);
        let command = ask_for(&stage, 1);
        stage.submit(command).unwrap();
        stage.pass(*after_ms, &[]);
        let case = format!("{executed} after {after_ms} ms");
        let Phase::Switching { holds, .. } = stage.set(0).phase else {
            panic!("{case}: {:?}", stage.set(0).phase);
        };
        assert_eq!(holds, *held, "{case}");
        let goal = stage.core.desired(&alias(0)).unwrap().goal;
        assert_eq!(matches!(goal, Goal::Demote { .. }), *held, "{case}");
        let candidacy = |index| match stage.goal(index) {
            Goal::Replica { candidacy, .. } => candidacy,
            other => panic!("{case}: {other:?}"),
        };
        let expected = match held {
            true => Candidacy::Awaited,
            false => Candidacy::Prepares,
        };
        assert_eq!(
            (candidacy(1), candidacy(2)),
            (expected, Candidacy::None),
            "{case}"
        );
        let shown = match held {
            true => ServingState::Moving,
            false => ServingState::Slowed,
        };
        let routes = stage.scratch_routes();
        assert_eq!(routes.replica_sets[0].state, shown, "{case}");
        let said = stage.kinds().contains(&"switchover.hold".to_owned());
        assert_eq!(said, *held, "{case}");
    }
    // As soon as it has done beforehand what it can.
    let mut stage = Stage::stable(1);
    stage.report(1).prepared = None;
    stage.reports(1);
    let command = ask_for(&stage, 1);
    stage.submit(command).unwrap();
    let holds = |stage: &Stage| matches!(stage.set(0).phase, Phase::Switching { holds: true, .. });
    stage.reports(1);
    assert!(!holds(&stage), "it has not prepared");
    let asked = stage.core.desired(&alias(1)).unwrap().generation;
    stage.report(1).prepared = Some(Generation(asked.0 - 1));
    stage.reports(1);
    assert!(!holds(&stage), "for an earlier switchover");
    stage.report(1).prepared = Some(asked);
    stage.reports(1);
    assert!(holds(&stage));
    // As soon as it has caught up.
    let mut stage = Stage::stable(1);
    stage.position(1, "A:1-10", "A:1-50");
    stage.reports(1);
    let command = ask_for(&stage, 1);
    stage.submit(command).unwrap();
    stage.position(1, "A:1-51", "A:1-52");
    stage.reports(1);
    assert!(matches!(
        stage.set(0).phase,
        Phase::Switching { holds: true, .. }
    ));
}

fn ask_for(stage: &Stage, candidate: u32) -> Command {
    let (state, health) = (stage.core.state(), stage.core.health());
    let candidate = Some(alias(candidate));
    intent::switchover(
        state,
        health,
        &set_name(0),
        candidate.as_ref(),
        "asked",
        stage.now,
    )
    .unwrap()
}

#[test]
fn a_demotion_of_an_earlier_switchover_does_not_count() {
    let mut stage = Stage::stable(1);
    stage.report(0).demoted = Some(stage.core.desired(&alias(0)).unwrap().generation);
    stage.reports(0);
    let command = intent::switchover(
        stage.core.state(),
        stage.core.health(),
        &set_name(0),
        None,
        "x",
        stage.now,
    );
    stage.submit(command.unwrap()).unwrap();
    stage.everybody_reports();
    assert!(matches!(stage.set(0).phase, Phase::Switching { .. }));
}

#[test]
fn generations_grow_whatever_is_deleted_and_schema_changes_finish() {
    let mut stage = Stage::stable(1);
    let keyspace: vt_proto::ids::KeyspaceName = "commerce".parse().unwrap();
    let generation = |stage: &Stage| stage.core.desired(&alias(0)).unwrap().generation;
    let mut last = generation(&stage);
    let mut grows = |stage: &Stage, what: &str| {
        let now = generation(stage);
        assert!(now > last, "{what}");
        last = now;
    };
    let state = stage.core.state();
    let command = intent::create_keyspace(state, &keyspace, None, "k", stage.now).unwrap();
    stage.submit(command).unwrap();
    grows(&stage, "a schema more");
    let statements = vec!["CREATE TABLE t (id INT PRIMARY KEY)".to_owned()];
    let state = stage.core.state();
    let command = intent::apply_schema(state, &keyspace, statements, "s", stage.now).unwrap();
    stage.submit(command).unwrap();
    grows(&stage, "a task more");
    let Goal::Primary { schema_tasks, .. } = stage.goal(0) else {
        panic!("tablet 0 is primary");
    };
    assert_eq!(schema_tasks.len(), 1);
    stage.report(0).schema_results = vec![SchemaResult {
        id: schema_tasks[0].id,
        error: None,
    }];
    stage.reports(0);
    let change = &stage.core.state().schema_changes[&schema_tasks[0].id];
    assert_eq!(change.value.status, SchemaChangeStatus::Done);
    grows(&stage, "a task less");
    let state = stage.core.state();
    let command = intent::delete_keyspace(state, &keyspace, "d", stage.now).unwrap();
    stage.submit(command).unwrap();
    grows(&stage, "a schema less");
    assert!(stage.core.state().schema_changes.is_empty());
}

/// What the log would not take is refused where the refusal can be remembered, for it follows from the records.
#[test]
fn what_changes_too_many_records_at_a_time_is_refused_as_an_intent() {
    for (tables, name_length, fits) in [
        (1_022, 5, true),
        (1_024, 5, false),
        (120, 1_000, true),
        (130, 1_000, false),
    ] {
        let mut stage = Stage::stable(1);
        let keyspace: vt_proto::ids::KeyspaceName = "commerce".parse().unwrap();
        let state = stage.core.state();
        let create = intent::create_keyspace(state, &keyspace, None, "k", stage.now).unwrap();
        stage.submit(create).unwrap();
        for number in 0..tables {
            let table = vec![(format!("{number:0name_length$}"), "{}".to_owned())];
            let (state, id) = (stage.core.state(), number.to_string());
            let apply = intent::apply_vschema(state, &keyspace, table, &id, stage.now).unwrap();
            stage.submit(apply).unwrap();
        }
        let state = stage.core.state();
        let one = vec![("x".to_owned(), "{}".to_owned())];
        let replace = intent::replace_vschema(state, &keyspace, one, "r", stage.now);
        let delete = intent::delete_keyspace(state, &keyspace, "d", stage.now);
        // Both are one change for each table, and one or two more.
        for made in [replace, delete.clone()] {
            assert_eq!(made.is_ok(), fits, "{tables} tables: {made:?}");
        }
        let Ok(delete) = delete else { continue };
        assert!(crate::codec::encode_command(&delete).len() <= crate::peer::PROPOSAL_BYTES_MAX);
        stage.submit(delete).unwrap();
        assert!(stage.core.state().vschema_tables.is_empty());
    }
}
