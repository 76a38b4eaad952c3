//! The report that an agent sends, made of what is observed and what may be claimed.

use std::collections::BTreeMap;

use vt_proto::{
    desired::{Desired, Goal, SchemaTask},
    epoch::Incarnation,
    report::{GtidPosition, MysqldState, Replication, Report, SchemaResult, ThreadState},
    topology::Tablet,
};

use crate::{
    action::Work,
    claims::claims,
    converge::Step,
    memory::Memory,
    observed::{Channel, Observed, Process, SchemaChangeState, Server},
    persisted::Persisted,
};

/// The report of this moment. `step` is what [`crate::converge()`] answered for the same arguments.
pub fn report(
    tablet: &Tablet,
    observed: &Observed,
    persisted: &Persisted,
    memory: &Memory,
    desired: Option<&Desired>,
    step: &Step,
) -> Report {
    let server = observed.server.as_ref();
    let claims = claims(observed, persisted, memory, desired);
    let uuid = server.map(|server| server.server_uuid.clone());
    Report {
        tablet: tablet.clone(),
        boot_id: observed.boot_id.clone(),
        promised: persisted.promised,
        generation: memory.heard(persisted),
        mysqld: mysqld_state(observed),
        incarnation: observed.incarnation,
        gtid: server.map(|server| GtidPosition {
            executed: server.executed.clone(),
            received: server.received.clone(),
        }),
        replication: observed
            .channel()
            .map(|channel| replication(channel, memory)),
        super_read_only: server.map(|server| server.super_read_only),
        semi_sync_source: server.map(|server| server.source_semi_sync),
        semi_sync_replica: server.map(|server| server.replica_acknowledges),
        revoked: claims.revoked,
        fenced: claims.fenced,
        demoted: claims.demoted,
        prepared: claims.prepared,
        serving: claims.serving,
        silent: claims.silent,
        confirmed: claims.confirmed,
        locked_out: claims.locked_out,
        amnesiac: persisted.is_amnesiac(&observed.boot_id, uuid.as_deref()),
        server_uuid: uuid,
        schema_results: schema_results(server, memory, desired),
        blocked: step.blocked.clone(),
        disk_free_bytes: observed.disk_free_bytes,
        write_probe: observed.write_probe.clone(),
        disk_probe: observed.disk_probe.clone(),
        lost: observed.lost.clone(),
        stop_asked: observed.stop_asked,
    }
}

fn mysqld_state(observed: &Observed) -> MysqldState {
    match &observed.process {
        Process::Absent => MysqldState::Starting,
        Process::Down { how: Some(how) } => MysqldState::Exited { how: how.clone() },
        Process::Down { how: None } if observed.incarnation == Incarnation::ZERO => {
            MysqldState::Starting
        }
        Process::Down { how: None } => MysqldState::Exited {
            how: "it has not run since its guard started".to_owned(),
        },
        Process::Held { why } => MysqldState::Held { why: why.clone() },
        Process::Up => match (observed.unresponsive_ms, &observed.server) {
            (Some(since_ms), _) => MysqldState::Unresponsive { since_ms },
            (None, Some(_)) => MysqldState::Running,
            (None, None) => MysqldState::Starting,
        },
    }
}

fn replication(channel: &Channel, memory: &Memory) -> Replication {
    let text = |error: &(u32, String)| format!("{} (error {})", error.1, error.0);
    Replication {
        source: channel.source.clone(),
        io: match channel.io {
            // The source refuses it: each start lets the thread run for a moment, and nothing is received.
            ThreadState::On if memory.io_fatal_since_ms.is_some() => ThreadState::Connecting,
            io => io,
        },
        sql: channel.sql,
        heartbeat_age_ms: channel.heartbeat_age_ms,
        lag_ms: channel.lag_ms,
        error: channel
            .sql_error
            .as_ref()
            .or(channel.io_error.as_ref())
            .map(text),
        source_uuid: channel.source_uuid.clone(),
        stuck: memory.is_stuck(),
        applier_error: channel.sql_error.as_ref().map(text),
    }
}

/// The outcome of each schema change that is asked for and has ended in all its schemas here.
fn schema_results(
    server: Option<&Server>,
    memory: &Memory,
    desired: Option<&Desired>,
) -> Vec<SchemaResult> {
    let (Some(server), Some(Goal::Primary { schema_tasks, .. })) =
        (server, desired.map(|desired| &desired.goal))
    else {
        return Vec::new();
    };
    let mut results: BTreeMap<u64, Option<SchemaResult>> = BTreeMap::new();
    for task in schema_tasks {
        let outcome = outcome(server, memory, task);
        let all = results.entry(task.id).or_insert(Some(SchemaResult {
            id: task.id,
            error: None,
        }));
        *all = match (all.take(), outcome) {
            (Some(before), Some(error)) => Some(SchemaResult {
                id: task.id,
                error: before.error.or(error),
            }),
            _ => None,
        };
    }
    results.into_values().flatten().collect()
}

/// How one task ended: nothing yet, well, or with an error.
fn outcome(server: &Server, memory: &Memory, task: &SchemaTask) -> Option<Option<String>> {
    let key = (task.id, task.schema.clone());
    let running = memory.work == Some(Work::SchemaChange(task.clone()));
    match server.schema_changes.get(&key)? {
        SchemaChangeState::Done => Some(None),
        SchemaChangeState::Failed { error } => Some(Some(format!("{}: {error}", task.schema))),
        SchemaChangeState::Started if running => None,
        SchemaChangeState::Started => Some(Some(format!(
            "{}: the outcome is unknown, because mysqld or its agent ended while the statements ran; look at the tables, then apply what is missing",
            task.schema
        ))),
    }
}

#[cfg(test)]
mod tests;
