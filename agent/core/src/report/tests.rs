//! What is said of schema changes and of mysqld's state.

use std::collections::BTreeSet;

use vt_proto::{
    epoch::{Epoch, Generation},
    gtid::GtidSet,
    topology::Endpoint,
};

use super::*;

fn task(id: u64, schema: &str) -> SchemaTask {
    SchemaTask {
        id,
        schema: schema.into(),
        statements: Vec::new(),
    }
}

fn server(states: &[(u64, &str, SchemaChangeState)]) -> Server {
    let changes = states
        .iter()
        .map(|(id, schema, state)| ((*id, (*schema).to_owned()), state.clone()));
    Server {
        server_uuid: String::new(),
        read_only: false,
        super_read_only: false,
        offline_mode: false,
        source_semi_sync: true,
        wait_for_replica_count: 1,
        wait_sessions: 0,
        newest_acker: None,
        replica_semi_sync: false,
        replica_acknowledges: false,
        channel: None,
        executed: GtidSet::new(),
        received: GtidSet::new(),
        app_transactions: 0,
        schemas: BTreeSet::new(),
        schema_changes: changes.collect(),
    }
}

/// Else a tablet that its source refuses would look well again with each try, and never count as lost.
#[test]
fn a_thread_that_the_source_refuses_does_not_run() {
    use ThreadState::{Connecting, Off, On};
    for (io, refused, told) in [
        (On, false, On),
        (On, true, Connecting),
        (Connecting, true, Connecting),
        // It has stopped: a failover relies on that.
        (Off, true, Off),
    ] {
        let channel = Channel {
            io,
            source: Endpoint {
                host: "h".into(),
                port: 2,
            },
            own_account: true,
            source_uuid: None,
            sql: On,
            io_error: None,
            sql_error: None,
            caught_up: true,
            heartbeat_age_ms: None,
            lag_ms: None,
        };
        let memory = Memory {
            io_fatal_since_ms: refused.then_some(1),
            ..Memory::default()
        };
        assert_eq!(replication(&channel, &memory).io, told);
    }
}

#[test]
fn a_schema_change_has_ended_when_it_has_in_every_schema() {
    use SchemaChangeState::{Done, Failed, Started};
    let desired = Desired {
        alias: "zone1-100".parse().unwrap(),
        replica_set: "main".parse().unwrap(),
        generation: Generation(1),
        epoch: Epoch(1),
        replicas: Vec::new(),
        goal: Goal::Primary {
            start_gtid: GtidSet::new(),
            acks: 1,
            restart_after: None,
            schemas: Vec::new(),
            schema_tasks: vec![task(1, "a"), task(1, "b")],
            confirm: false,
            locked_out: Vec::new(),
        },
    };
    let failed = Failed { error: "no".into() };
    for (states, expected) in [
        (vec![], None),
        (vec![(1, "a", Done)], None),
        (vec![(1, "a", Done), (1, "b", Done)], Some(None)),
        (
            vec![(1, "a", Done), (1, "b", failed.clone())],
            Some(Some("b: no")),
        ),
        (
            vec![(1, "a", Done), (1, "b", Started)],
            Some(Some("unknown")),
        ),
        (vec![(2, "a", Done), (2, "b", Done)], None),
    ] {
        let server = server(&states);
        let results = schema_results(Some(&server), &Memory::default(), Some(&desired));
        let found = results.first().map(|result| result.error.clone());
        match expected {
            Some(Some(text)) => {
                let error = found.flatten().unwrap_or_default();
                assert!(error.contains(text), "{states:?}: {error}");
            }
            other => assert_eq!(found, other.map(|_: Option<&str>| None), "{states:?}"),
        }
    }
    let memory = Memory {
        work: Some(Work::SchemaChange(task(1, "b"))),
        ..Memory::default()
    };
    let running = server(&[(1, "a", Done), (1, "b", Started)]);
    assert!(schema_results(Some(&running), &memory, Some(&desired)).is_empty());
}
