//! Going on from a kept desired state: what is done, and above all what is not.

use vt_proto::topology::{Tablet, TabletKind};

use super::{
    super::alone::{PATIENCE_MS, alone},
    *,
};
use crate::accept::{OutOfDate, recall};

type Case = (
    &'static str,
    fn() -> Host,
    fn(&mut Host),
    Option<Action>,
    &'static str,
);

fn step(host: &Host) -> Step {
    alone(
        &host.observed,
        &host.persisted,
        &host.memory,
        &host.desired,
        host.now_ms,
    )
}

/// `why` is part of the text; empty where nothing is awaited.
fn check_all(cases: Vec<Case>) {
    for (name, start, change, action, why) in cases {
        let mut host = start();
        change(&mut host);
        host.now_ms += PATIENCE_MS;
        let step = step(&host);
        assert_eq!(step.action, action, "{name}");
        match why {
            "" => assert_eq!(step.blocked, None, "{name}"),
            _ => {
                let said = step.blocked.unwrap_or_default();
                assert!(said.contains(why), "{name}: '{said}' lacks '{why}'");
            }
        }
    }
}

#[test]
fn a_replica_goes_on_towards_its_source() {
    check_all(vec![
        ("all is well", Host::replica, |_| {}, None, ""),
        (
            "its mysqld was killed",
            Host::replica,
            Host::down,
            Some(Action::StartMysqld),
            "",
        ),
        (
            "just started: acknowledging before connecting",
            Host::replica,
            |h| {
                h.channel().io = ThreadState::Off;
                h.server().replica_semi_sync = false;
                h.server().replica_acknowledges = false;
            },
            Some(Action::SetReplicaSemiSync { enabled: true }),
            "",
        ),
        (
            "receiving",
            Host::replica,
            |h| h.channel().io = ThreadState::Off,
            Some(Action::StartIoThread),
            "",
        ),
        (
            "applying",
            Host::replica,
            |h| h.channel().sql = ThreadState::Off,
            Some(Action::StartSqlThread),
            "",
        ),
        (
            "a crash loop pauses",
            Host::replica,
            |h| {
                h.down();
                h.memory.mysqld_started = Some((h.now_ms + PATIENCE_MS - 1_500, 2));
            },
            None,
            "2 times in a row",
        ),
    ]);
}

#[test]
fn a_replica_is_not_unfenced_or_moved() {
    check_all(vec![
        (
            "fenced and down",
            Host::replica,
            |h| {
                h.down();
                h.observed.fence_marker = Some(Epoch(4));
            },
            None,
            "remove-fence-marker waits",
        ),
        (
            "fenced and up",
            Host::replica,
            |h| h.observed.fence_marker = Some(Epoch(4)),
            None,
            "remove-fence-marker waits",
        ),
        (
            "follows another source",
            Host::replica,
            |h| h.channel().source = endpoint(9),
            None,
            "is set to h:9",
        ),
        (
            "follows another source, stopped",
            Host::replica,
            |h| {
                h.channel().source = endpoint(9);
                h.channel().io = ThreadState::Off;
                h.channel().sql = ThreadState::Off;
            },
            None,
            "is set to h:9",
        ),
        (
            "no channel",
            Host::replica,
            |h| h.server().channel = None,
            None,
            "configure-channel waits",
        ),
    ]);
}

#[test]
fn a_replica_is_not_made_anew() {
    check_all(vec![
        (
            "its data directory is gone",
            Host::replica,
            |h| {
                h.down();
                h.observed.process = Process::Absent;
            },
            None,
            "data directory is gone",
        ),
        (
            "written here",
            Host::replica,
            |h| {
                stuck::no_acker(h);
                h.server().executed = set("A:1-11,B:1-5");
                h.channel().io = ThreadState::Off;
            },
            None,
            "persist waits",
        ),
        (
            "refused by its source for good",
            Host::replica,
            |h| {
                stuck::no_acker(h);
                h.channel().io = ThreadState::Off;
                h.channel().io_error = Some((1236, "purged".into()));
                h.memory.io_fatal_since_ms = Some(0);
            },
            None,
            "persist waits",
        ),
        (
            "was primary once",
            Host::replica,
            |h| {
                h.down();
                h.persisted.primaryship = Host::primary().persisted.primaryship;
            },
            None,
            "was primary",
        ),
    ]);
}

#[test]
fn nothing_that_runs_well_is_stopped() {
    check_all(vec![
        (
            "it acknowledges, the kept order does not ask for it",
            Host::replica,
            |h| {
                if let Goal::Replica { acker, .. } = &mut h.desired.goal {
                    *acker = false;
                }
            },
            None,
            "waits",
        ),
        (
            "receiving without acknowledging",
            Host::replica,
            |h| h.server().replica_acknowledges = false,
            None,
            "stop-io-thread waits",
        ),
        (
            "open for writing",
            Host::replica,
            |h| {
                h.server().super_read_only = false;
                h.server().read_only = false;
            },
            None,
            "close-server waits",
        ),
        (
            "hung",
            Host::replica,
            |h| {
                h.observed.server = None;
                h.observed.unresponsive_ms = Some(60_000);
            },
            None,
            "does not answer",
        ),
        (
            "caught up after a restart of the host: only counted with a coordinator",
            Host::replica,
            |h| h.observed.boot_id = "later".into(),
            None,
            "persist waits",
        ),
    ]);
}

#[test]
fn a_primary_goes_on_and_never_opens() {
    check_all(vec![
        ("open since before", Host::primary, |_| {}, None, ""),
        (
            "its mysqld has ended",
            Host::primary,
            Host::down,
            None,
            "start the coordinators",
        ),
        (
            "even if it was once allowed to start again after this life",
            Host::primary,
            |h| {
                h.down();
                if let Goal::Primary { restart_after, .. } = &mut h.desired.goal {
                    *restart_after = Some(Incarnation(7));
                }
            },
            None,
            "start the coordinators",
        ),
        (
            "another life of mysqld",
            Host::primary,
            |h| h.observed.incarnation = Incarnation(8),
            None,
            "does not serve",
        ),
        (
            "closed",
            Host::primary,
            |h| {
                h.server().read_only = true;
                h.server().super_read_only = true;
            },
            None,
            "does not serve",
        ),
        (
            "without semi-sync",
            Host::primary,
            |h| h.server().source_semi_sync = false,
            None,
            "does not serve",
        ),
        (
            "a schema is missing",
            Host::primary,
            |h| h.server().schemas.clear(),
            None,
            "",
        ),
        (
            "silent",
            Host::primary,
            |h| {
                h.observed.server = None;
                h.observed.unresponsive_ms = Some(60_000);
            },
            None,
            "does not answer",
        ),
    ]);
}

#[test]
fn a_step_on_the_way_is_not_continued() {
    for goal in [
        Goal::Standby,
        Goal::Demote { grace_ms: 0 },
        Goal::Revoke,
        Goal::Fence,
        Goal::Reveal {
            restart_after: Incarnation(7),
        },
    ] {
        for start in [Host::primary, Host::replica] {
            for is_down in [false, true] {
                let mut host = start();
                host.order(5, goal.clone());
                if is_down {
                    host.down();
                }
                host.now_ms += PATIENCE_MS;
                let step = step(&host);
                assert_eq!(step.action, None, "{goal:?}");
                assert!(step.blocked.is_some(), "{goal:?}");
            }
        }
    }
}

#[test]
fn a_coordinator_has_the_first_word() {
    let mut host = Host::replica();
    host.down();
    host.memory.goal_since = Some((Generation(20), host.now_ms));
    assert_eq!(step(&host), Step::rest());
    host.now_ms += PATIENCE_MS;
    assert_eq!(step(&host).action, Some(Action::StartMysqld));
}

#[test]
fn a_killed_replica_is_back_without_a_coordinator() {
    let mut host = Host::replica();
    host.down();
    host.now_ms += PATIENCE_MS;
    let mut names = Vec::new();
    while let Some(action) = step(&host).action {
        names.push(action.name());
        host.carry_out(&action);
        if action == Action::StartMysqld {
            // The channel stands in mysqld's own tables.
            let mut stopped = channel(2);
            stopped.io = ThreadState::Off;
            stopped.sql = ThreadState::Off;
            host.server().channel = Some(stopped);
            host.server().replica_semi_sync = false;
        }
        assert!(names.len() < 10, "no end: {names:?}");
    }
    let wanted = [
        "start-mysqld",
        "set-replica-semi-sync",
        "start-io-thread",
        "start-sql-thread",
    ];
    assert_eq!(names, wanted);
    assert!(host.server().replica_acknowledges);
}

#[test]
fn only_what_was_followed_last_is_recalled() {
    let host = Host::replica();
    let tablet = Tablet {
        alias: "zone1-100".parse().unwrap(),
        kind: TabletKind::Replica,
        replica_set: "main".parse().unwrap(),
        mysql: endpoint(1),
        router: None,
    };
    let verdict = |change: fn(&mut Host, &mut Tablet)| {
        let (mut host, mut tablet) = (
            Host {
                persisted: host.persisted.clone(),
                ..Host::replica()
            },
            tablet.clone(),
        );
        change(&mut host, &mut tablet);
        recall(&host.persisted, &tablet, "c", &host.desired)
    };
    assert_eq!(verdict(|_, _| {}), Ok(()));
    let epochs = |kept, promised| {
        Err(OutOfDate::Epoch {
            kept: Epoch(kept),
            promised: Epoch(promised),
        })
    };
    let generations = |kept, known| {
        Err(OutOfDate::Generation {
            kept: Generation(kept),
            known: Generation(known),
        })
    };
    let newer_promise = verdict(|h, _| h.persisted.promised = Epoch(5));
    assert_eq!(newer_promise, epochs(4, 5), "a failover happened since");
    let lost_promise = verdict(|h, _| h.persisted.promised = Epoch(3));
    assert_eq!(lost_promise, epochs(4, 3));
    let acted_on = verdict(|h, _| h.persisted.generation = Generation(21));
    assert_eq!(acted_on, generations(20, 21), "a demotion was under way");
    let lost = verdict(|h, _| h.persisted.generation = Generation(19));
    assert_eq!(lost, generations(20, 19));
    for (name, verdict) in [
        (
            "another cluster",
            verdict(|h, _| h.persisted.cluster_id = Some("d".into())),
        ),
        (
            "never joined",
            verdict(|h, _| h.persisted.cluster_id = None),
        ),
        (
            "another tablet",
            verdict(|_, t| t.alias = "zone1-101".parse().unwrap()),
        ),
        (
            "moved to another replica set",
            verdict(|_, t| t.replica_set = "other".parse().unwrap()),
        ),
    ] {
        assert!(verdict.is_err(), "{name}");
    }
}

#[test]
fn an_order_is_kept_once_nothing_is_to_do() {
    let keep = Some(Action::KeepOrder {
        generation: Generation(20),
    });
    let mut host = Host::replica();
    host.memory.kept = None;
    assert_eq!(host.step().action, keep);
    host.persisted.generation = Generation(19);
    let number = host.step().action;
    assert!(
        matches!(number, Some(Action::Persist(Record::Promise { .. }))),
        "the number comes first: {number:?}"
    );
    host.persisted.generation = Generation(20);
    host.channel().io = ThreadState::Off;
    assert_eq!(host.step().action, Some(Action::StartIoThread));
    host.channel().io = ThreadState::On;
    host.memory.goal_since = Some((Generation(20), host.now_ms));
    assert_eq!(host.step().action, None, "somebody may wait");
}
