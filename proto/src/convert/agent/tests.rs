//! Every kind of report and goal survives the wire, and mistakes name their field.

use prost::Message;

use super::*;
use crate::topology::{Endpoint, FinishedEpoch, Tablet, TabletKind};

const EXECUTED: &str = "aaaaaaaa-1111-2222-3333-444444444444:1-7";
const RECEIVED: &str = "aaaaaaaa-1111-2222-3333-444444444444:1-9";

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "db1".to_owned(),
        port,
    }
}

fn bare_report() -> Report {
    Report {
        tablet: Tablet {
            alias: "zone1-100".parse().unwrap(),
            kind: TabletKind::Rdonly,
            replica_set: "rs-1".parse().unwrap(),
            mysql: endpoint(3306),
            router: None,
        },
        boot_id: String::new(),
        promised: Epoch::ZERO,
        generation: Generation::ZERO,
        mysqld: MysqldState::Starting,
        incarnation: Incarnation::ZERO,
        server_uuid: None,
        gtid: None,
        replication: None,
        super_read_only: None,
        semi_sync_source: None,
        semi_sync_replica: None,
        revoked: None,
        fenced: None,
        demoted: None,
        serving: None,
        amnesiac: false,
        schema_results: Vec::new(),
        blocked: None,
        disk_free_bytes: None,
        silent: None,
        confirmed: None,
        locked_out: None,
        prepared: None,
        write_probe: None,
        disk_probe: None,
        lost: Default::default(),
        stop_asked: false,
    }
}

fn failed_write() -> WriteProbe {
    WriteProbe {
        success_age_ms: Some(11),
        failure: Some(WriteFailure {
            since_ms: 12,
            cause: WriteCause::DiskSpace,
            detail: "waits".to_owned(),
        }),
    }
}

fn full_report() -> Report {
    Report {
        tablet: Tablet {
            router: Some(endpoint(15306)),
            kind: TabletKind::Replica,
            ..bare_report().tablet
        },
        boot_id: "boot".to_owned(),
        promised: Epoch(1),
        generation: Generation(2),
        mysqld: MysqldState::Running,
        incarnation: Incarnation(3),
        server_uuid: Some("uuid".to_owned()),
        gtid: Some(GtidPosition {
            executed: EXECUTED.parse().unwrap(),
            received: RECEIVED.parse().unwrap(),
        }),
        replication: Some(Replication {
            source: endpoint(3307),
            io: ThreadState::Connecting,
            sql: ThreadState::Off,
            heartbeat_age_ms: Some(4),
            lag_ms: Some(5),
            error: Some("no".to_owned()),
            source_uuid: Some("source".to_owned()),
            stuck: true,
            applier_error: Some("1032".to_owned()),
        }),
        super_read_only: Some(false),
        semi_sync_source: Some(true),
        semi_sync_replica: Some(false),
        revoked: Some(Epoch(6)),
        fenced: Some(Epoch(7)),
        demoted: Some(Generation(8)),
        serving: Some(Epoch(9)),
        amnesiac: true,
        schema_results: vec![
            SchemaResult { id: 1, error: None },
            SchemaResult {
                id: 2,
                error: Some("1050".to_owned()),
            },
        ],
        blocked: Some("disk".to_owned()),
        disk_free_bytes: Some(10),
        silent: Some(Generation(8)),
        confirmed: Some(Generation(9)),
        locked_out: Some(Generation(10)),
        prepared: Some(Generation(11)),
        write_probe: Some(failed_write()),
        disk_probe: Some(failed_disk()),
        lost: Lost {
            kept: vec![LostTransactions {
                epoch: Epoch(14),
                gtids: EXECUTED.parse().unwrap(),
                transactions: 15,
                bytes: 16,
                cut_at: "then".to_owned(),
                directory: "/lost/14".to_owned(),
                readable: true,
            }],
            left_out: 17,
        },
        stop_asked: true,
    }
}

fn failed_disk() -> DiskProbe {
    DiskProbe {
        state: DiskState::Failed,
        success_age_ms: Some(13),
        detail: "EIO".to_owned(),
    }
}

fn desired(goal: Goal) -> Desired {
    Desired {
        alias: "zone1-100".parse().unwrap(),
        replica_set: "rs-1".parse().unwrap(),
        generation: Generation(5),
        epoch: Epoch(6),
        replicas: vec!["zone1-101".parse().unwrap()],
        goal,
    }
}

fn primary() -> Goal {
    Goal::Primary {
        start_gtid: EXECUTED.parse().unwrap(),
        acks: 1,
        restart_after: Some(Incarnation(2)),
        schemas: vec!["commerce".to_owned()],
        schema_tasks: vec![SchemaTask {
            id: 4,
            schema: "commerce".to_owned(),
            statements: vec!["CREATE TABLE a (b INT)".to_owned()],
        }],
        confirm: true,
        locked_out: vec!["zone1-102".parse().unwrap()],
    }
}

fn replica() -> Goal {
    Goal::Replica {
        source: endpoint(3306),
        source_alias: "zone1-101".parse().unwrap(),
        acker: true,
        history: vec![FinishedEpoch {
            epoch: Epoch(5),
            primary: "zone1-102".parse().unwrap(),
            kept: EXECUTED.parse().unwrap(),
        }],
        candidacy: Candidacy::Prepares,
    }
}

fn every_probe() -> ([WriteCause; 4], [DiskState; 4]) {
    let causes = [
        WriteCause::Unknown,
        WriteCause::Acknowledgements,
        WriteCause::DiskSpace,
        WriteCause::Refused,
    ];
    let disks = [
        DiskState::Good,
        DiskState::Stalled,
        DiskState::Full,
        DiskState::Failed,
    ];
    (causes, disks)
}

#[test]
fn reports_survive_the_wire() {
    let states = [
        MysqldState::Starting,
        MysqldState::Running,
        MysqldState::Unresponsive { since_ms: 3 },
        MysqldState::Exited {
            how: "signal 9".to_owned(),
        },
        MysqldState::Held {
            why: "crash loop".to_owned(),
        },
    ];
    let mut reports = vec![bare_report(), full_report()];
    reports.extend(states.map(|mysqld| Report {
        mysqld,
        ..bare_report()
    }));
    let (causes, disks) = every_probe();
    reports.extend(causes.map(|cause| Report {
        write_probe: Some(WriteProbe {
            success_age_ms: None,
            failure: Some(WriteFailure {
                since_ms: 1,
                cause,
                detail: String::new(),
            }),
        }),
        ..bare_report()
    }));
    reports.extend(disks.map(|state| Report {
        disk_probe: Some(DiskProbe {
            state,
            success_age_ms: None,
            detail: String::new(),
        }),
        ..bare_report()
    }));
    for report in reports {
        let bytes = wire::Report::from(report.clone()).encode_to_vec();
        let wire = wire::Report::decode(bytes.as_slice()).unwrap();
        assert_eq!(Report::try_from(wire).unwrap(), report);
    }
}

#[test]
fn desired_states_survive_the_wire() {
    let goals = [
        Goal::Standby,
        primary(),
        Goal::Demote { grace_ms: 30 },
        Goal::Revoke,
        Goal::Fence,
        Goal::Reveal {
            restart_after: Incarnation(4),
        },
        replica(),
    ];
    for goal in goals {
        let desired = desired(goal);
        let bytes = wire::Desired::from(desired.clone()).encode_to_vec();
        let wire = wire::Desired::decode(bytes.as_slice()).unwrap();
        assert_eq!(Desired::try_from(wire).unwrap(), desired);
    }
}

#[test]
fn mistakes_in_reports_name_their_field() {
    type Break = fn(&mut wire::Report);
    let cases: [(&str, Break); 8] = [
        ("tablet", |r| r.tablet = None),
        ("tablet.alias", |r| {
            r.tablet.as_mut().unwrap().alias = "zone1".to_owned();
        }),
        ("mysqld", |r| r.mysqld = None),
        ("mysqld.state", |r| r.mysqld.as_mut().unwrap().state = None),
        ("lost[0].gtids", |r| {
            r.lost[0].gtids = "x:1".to_owned();
        }),
        ("gtid.received", |r| {
            r.gtid.as_mut().unwrap().received = "x:1".to_owned();
        }),
        ("replication.io", |r| {
            r.replication.as_mut().unwrap().io = 77;
        }),
        ("replication.source", |r| {
            r.replication.as_mut().unwrap().source = None;
        }),
    ];
    for (field, spoil) in cases {
        let mut wire = wire::Report::from(full_report());
        spoil(&mut wire);
        assert_eq!(Report::try_from(wire).unwrap_err().field, field);
    }
}

#[test]
fn mistakes_in_desired_states_name_their_field() {
    let mut no_goal = wire::Desired::from(desired(Goal::Fence));
    no_goal.goal = None;
    let mut bad_set = wire::Desired::from(desired(Goal::Fence));
    bad_set.replica_set = "?".to_owned();
    let mut bad_history = wire::Desired::from(desired(replica()));
    if let Some(wire::desired::Goal::Replica(replica)) = &mut bad_history.goal {
        replica.history[0].kept = "?".to_owned();
    }
    for (field, wire) in [
        ("goal", no_goal),
        ("replica_set", bad_set),
        ("goal.history[0].kept", bad_history),
    ] {
        assert_eq!(Desired::try_from(wire).unwrap_err().field, field);
    }
}
