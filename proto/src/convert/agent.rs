//! Reports and desired states between their domain forms and the wire.

use super::{ConvertError, list, optional, parse, required};
use crate::{
    desired::{Candidacy, Desired, Goal, SchemaTask},
    epoch::{Epoch, Generation, Incarnation},
    ids::TabletAlias,
    report::{
        DiskProbe, DiskState, GtidPosition, Lost, LostTransactions, MysqldState, Replication,
        Report, SchemaResult, ThreadState, WriteCause, WriteFailure, WriteProbe,
    },
    wire,
};

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        Self {
            tablet: Some(report.tablet.into()),
            boot_id: report.boot_id,
            promised: report.promised.0,
            generation: report.generation.0,
            mysqld: Some(report.mysqld.into()),
            incarnation: report.incarnation.0,
            server_uuid: report.server_uuid,
            gtid: report.gtid.map(Into::into),
            replication: report.replication.map(Into::into),
            super_read_only: report.super_read_only,
            semi_sync_source: report.semi_sync_source,
            semi_sync_replica: report.semi_sync_replica,
            revoked: report.revoked.map(|epoch| epoch.0),
            fenced: report.fenced.map(|epoch| epoch.0),
            demoted: report.demoted.map(|generation| generation.0),
            prepared: report.prepared.map(|generation| generation.0),
            serving: report.serving.map(|epoch| epoch.0),
            amnesiac: report.amnesiac,
            schema_results: report.schema_results.into_iter().map(Into::into).collect(),
            blocked: report.blocked,
            disk_free_bytes: report.disk_free_bytes,
            silent: report.silent.map(|generation| generation.0),
            confirmed: report.confirmed.map(|generation| generation.0),
            locked_out: report.locked_out.map(|generation| generation.0),
            write_probe: report.write_probe.map(Into::into),
            disk_probe: report.disk_probe.map(Into::into),
            lost: report.lost.kept.into_iter().map(Into::into).collect(),
            lost_left_out: report.lost.left_out,
            stop_asked: report.stop_asked,
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = ConvertError;

    fn try_from(report: wire::Report) -> Result<Self, ConvertError> {
        Ok(Self {
            tablet: required("tablet", report.tablet)?,
            boot_id: report.boot_id,
            promised: Epoch(report.promised),
            generation: Generation(report.generation),
            mysqld: required("mysqld", report.mysqld)?,
            incarnation: Incarnation(report.incarnation),
            server_uuid: report.server_uuid,
            gtid: optional("gtid", report.gtid)?,
            replication: optional("replication", report.replication)?,
            super_read_only: report.super_read_only,
            semi_sync_source: report.semi_sync_source,
            semi_sync_replica: report.semi_sync_replica,
            revoked: report.revoked.map(Epoch),
            fenced: report.fenced.map(Epoch),
            demoted: report.demoted.map(Generation),
            prepared: report.prepared.map(Generation),
            serving: report.serving.map(Epoch),
            amnesiac: report.amnesiac,
            schema_results: report.schema_results.into_iter().map(Into::into).collect(),
            blocked: report.blocked,
            disk_free_bytes: report.disk_free_bytes,
            silent: report.silent.map(Generation),
            confirmed: report.confirmed.map(Generation),
            locked_out: report.locked_out.map(Generation),
            write_probe: report.write_probe.map(Into::into),
            disk_probe: optional("disk_probe", report.disk_probe)?,
            lost: Lost {
                kept: list("lost", report.lost)?,
                left_out: report.lost_left_out,
            },
            stop_asked: report.stop_asked,
        })
    }
}

impl From<LostTransactions> for wire::LostTransactions {
    fn from(lost: LostTransactions) -> Self {
        Self {
            epoch: lost.epoch.0,
            gtids: lost.gtids.to_string(),
            transactions: lost.transactions,
            bytes: lost.bytes,
            cut_at: lost.cut_at,
            directory: lost.directory,
            readable: lost.readable,
        }
    }
}

impl TryFrom<wire::LostTransactions> for LostTransactions {
    type Error = ConvertError;

    fn try_from(lost: wire::LostTransactions) -> Result<Self, ConvertError> {
        Ok(Self {
            epoch: Epoch(lost.epoch),
            gtids: parse("gtids", &lost.gtids)?,
            transactions: lost.transactions,
            bytes: lost.bytes,
            cut_at: lost.cut_at,
            directory: lost.directory,
            readable: lost.readable,
        })
    }
}

impl From<MysqldState> for wire::MysqldState {
    fn from(state: MysqldState) -> Self {
        use wire::mysqld_state::State;
        let state = match state {
            MysqldState::Starting => State::Starting(wire::Starting {}),
            MysqldState::Running => State::Running(wire::Running {}),
            MysqldState::Unresponsive { since_ms } => {
                State::Unresponsive(wire::Unresponsive { since_ms })
            }
            MysqldState::Exited { how } => State::Exited(wire::Exited { how }),
            MysqldState::Held { why } => State::Held(wire::Held { why }),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<wire::MysqldState> for MysqldState {
    type Error = ConvertError;

    fn try_from(state: wire::MysqldState) -> Result<Self, ConvertError> {
        use wire::mysqld_state::State;
        Ok(
            match state.state.ok_or_else(|| ConvertError::missing("state"))? {
                State::Starting(_) => Self::Starting,
                State::Running(_) => Self::Running,
                State::Unresponsive(wire::Unresponsive { since_ms }) => {
                    Self::Unresponsive { since_ms }
                }
                State::Exited(wire::Exited { how }) => Self::Exited { how },
                State::Held(wire::Held { why }) => Self::Held { why },
            },
        )
    }
}

impl From<ThreadState> for wire::ThreadState {
    fn from(state: ThreadState) -> Self {
        match state {
            ThreadState::Off => Self::Off,
            ThreadState::Connecting => Self::Connecting,
            ThreadState::On => Self::On,
        }
    }
}

/// A thread whose state is not known must never count as stopped, so an unset one is a mistake.
fn thread_state(field: &str, state: wire::ThreadState) -> Result<ThreadState, ConvertError> {
    match state {
        wire::ThreadState::Off => Ok(ThreadState::Off),
        wire::ThreadState::Connecting => Ok(ThreadState::Connecting),
        wire::ThreadState::On => Ok(ThreadState::On),
        wire::ThreadState::Unspecified => Err(ConvertError::missing(field)),
    }
}

impl From<Replication> for wire::Replication {
    fn from(replication: Replication) -> Self {
        Self {
            source: Some(replication.source.into()),
            io: wire::ThreadState::from(replication.io).into(),
            sql: wire::ThreadState::from(replication.sql).into(),
            heartbeat_age_ms: replication.heartbeat_age_ms,
            lag_ms: replication.lag_ms,
            error: replication.error,
            source_uuid: replication.source_uuid,
            stuck: replication.stuck,
            applier_error: replication.applier_error,
        }
    }
}

impl TryFrom<wire::Replication> for Replication {
    type Error = ConvertError;

    fn try_from(replication: wire::Replication) -> Result<Self, ConvertError> {
        Ok(Self {
            io: thread_state("io", replication.io())?,
            sql: thread_state("sql", replication.sql())?,
            source: required("source", replication.source)?,
            heartbeat_age_ms: replication.heartbeat_age_ms,
            lag_ms: replication.lag_ms,
            error: replication.error,
            source_uuid: replication.source_uuid,
            stuck: replication.stuck,
            applier_error: replication.applier_error,
        })
    }
}

impl From<GtidPosition> for wire::GtidPosition {
    fn from(position: GtidPosition) -> Self {
        Self {
            executed: position.executed.to_string(),
            received: position.received.to_string(),
        }
    }
}

impl TryFrom<wire::GtidPosition> for GtidPosition {
    type Error = ConvertError;

    fn try_from(position: wire::GtidPosition) -> Result<Self, ConvertError> {
        Ok(Self {
            executed: parse("executed", &position.executed)?,
            received: parse("received", &position.received)?,
        })
    }
}

impl From<SchemaResult> for wire::SchemaResult {
    fn from(SchemaResult { id, error }: SchemaResult) -> Self {
        Self { id, error }
    }
}

impl From<wire::SchemaResult> for SchemaResult {
    fn from(wire::SchemaResult { id, error }: wire::SchemaResult) -> Self {
        Self { id, error }
    }
}

impl From<WriteProbe> for wire::WriteProbe {
    fn from(probe: WriteProbe) -> Self {
        let cause = |cause| match cause {
            WriteCause::Unknown => wire::WriteCause::Unspecified,
            WriteCause::Acknowledgements => wire::WriteCause::Acknowledgements,
            WriteCause::DiskSpace => wire::WriteCause::DiskSpace,
            WriteCause::Refused => wire::WriteCause::Refused,
        };
        Self {
            success_age_ms: probe.success_age_ms,
            failure: probe.failure.map(|failure| wire::WriteFailure {
                since_ms: failure.since_ms,
                cause: cause(failure.cause).into(),
                detail: failure.detail,
            }),
        }
    }
}

impl From<wire::WriteProbe> for WriteProbe {
    fn from(probe: wire::WriteProbe) -> Self {
        // A cause that a later agent may know is unknown here.
        let cause = |cause| match cause {
            wire::WriteCause::Unspecified => WriteCause::Unknown,
            wire::WriteCause::Acknowledgements => WriteCause::Acknowledgements,
            wire::WriteCause::DiskSpace => WriteCause::DiskSpace,
            wire::WriteCause::Refused => WriteCause::Refused,
        };
        Self {
            success_age_ms: probe.success_age_ms,
            failure: probe.failure.map(|failure| WriteFailure {
                since_ms: failure.since_ms,
                cause: cause(failure.cause()),
                detail: failure.detail,
            }),
        }
    }
}

impl From<DiskProbe> for wire::DiskProbe {
    fn from(probe: DiskProbe) -> Self {
        let state = match probe.state {
            DiskState::Good => wire::DiskState::Good,
            DiskState::Stalled => wire::DiskState::Stalled,
            DiskState::Full => wire::DiskState::Full,
            DiskState::Failed => wire::DiskState::Failed,
        };
        Self {
            state: state.into(),
            success_age_ms: probe.success_age_ms,
            detail: probe.detail,
        }
    }
}

impl TryFrom<wire::DiskProbe> for DiskProbe {
    type Error = ConvertError;

    fn try_from(probe: wire::DiskProbe) -> Result<Self, ConvertError> {
        let state = match probe.state() {
            wire::DiskState::Good => DiskState::Good,
            wire::DiskState::Stalled => DiskState::Stalled,
            wire::DiskState::Full => DiskState::Full,
            wire::DiskState::Failed => DiskState::Failed,
            wire::DiskState::Unspecified => return Err(ConvertError::missing("state")),
        };
        Ok(Self {
            state,
            success_age_ms: probe.success_age_ms,
            detail: probe.detail,
        })
    }
}

impl From<Desired> for wire::Desired {
    fn from(desired: Desired) -> Self {
        Self {
            alias: desired.alias.to_string(),
            replica_set: desired.replica_set.to_string(),
            generation: desired.generation.0,
            epoch: desired.epoch.0,
            replicas: desired.replicas.iter().map(ToString::to_string).collect(),
            goal: Some(desired.goal.into()),
        }
    }
}

impl TryFrom<wire::Desired> for Desired {
    type Error = ConvertError;

    fn try_from(desired: wire::Desired) -> Result<Self, ConvertError> {
        Ok(Self {
            alias: parse("alias", &desired.alias)?,
            replica_set: parse("replica_set", &desired.replica_set)?,
            generation: Generation(desired.generation),
            epoch: Epoch(desired.epoch),
            replicas: aliases("replicas", &desired.replicas)?,
            goal: required("goal", desired.goal)?,
        })
    }
}

fn aliases(field: &str, texts: &[String]) -> Result<Vec<TabletAlias>, ConvertError> {
    texts.iter().map(|text| parse(field, text)).collect()
}

impl From<Goal> for wire::desired::Goal {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Standby => Self::Standby(wire::Standby {}),
            Goal::Primary {
                start_gtid,
                acks,
                restart_after,
                schemas,
                schema_tasks,
                confirm,
                locked_out,
            } => Self::Primary(wire::Primary {
                start_gtid: start_gtid.to_string(),
                acks,
                restart_after: restart_after.map(|incarnation| incarnation.0),
                schemas,
                schema_tasks: schema_tasks.into_iter().map(Into::into).collect(),
                confirm,
                locked_out: locked_out.iter().map(ToString::to_string).collect(),
            }),
            Goal::Demote { grace_ms } => Self::Demote(wire::Demote { grace_ms }),
            Goal::Revoke => Self::Revoke(wire::Revoke {}),
            Goal::Fence => Self::Fence(wire::Fence {}),
            Goal::Reveal { restart_after } => Self::Reveal(wire::Reveal {
                restart_after: restart_after.0,
            }),
            Goal::Replica {
                source,
                source_alias,
                acker,
                history,
                candidacy,
            } => Self::Replica(wire::Replica {
                source: Some(source.into()),
                source_alias: source_alias.to_string(),
                acker,
                history: history.into_iter().map(Into::into).collect(),
                candidacy: wire::Candidacy::from(candidacy).into(),
            }),
        }
    }
}

impl TryFrom<wire::desired::Goal> for Goal {
    type Error = ConvertError;

    fn try_from(goal: wire::desired::Goal) -> Result<Self, ConvertError> {
        use wire::desired::Goal as Wire;
        Ok(match goal {
            Wire::Standby(_) => Self::Standby,
            Wire::Primary(primary) => Self::Primary {
                start_gtid: parse("start_gtid", &primary.start_gtid)?,
                acks: primary.acks,
                restart_after: primary.restart_after.map(Incarnation),
                schemas: primary.schemas,
                schema_tasks: primary.schema_tasks.into_iter().map(Into::into).collect(),
                confirm: primary.confirm,
                locked_out: aliases("locked_out", &primary.locked_out)?,
            },
            Wire::Demote(wire::Demote { grace_ms }) => Self::Demote { grace_ms },
            Wire::Revoke(_) => Self::Revoke,
            Wire::Fence(_) => Self::Fence,
            Wire::Reveal(wire::Reveal { restart_after }) => Self::Reveal {
                restart_after: Incarnation(restart_after),
            },
            Wire::Replica(replica) => Self::Replica {
                candidacy: replica.candidacy().into(),
                source: required("source", replica.source)?,
                source_alias: parse("source_alias", &replica.source_alias)?,
                acker: replica.acker,
                history: list("history", replica.history)?,
            },
        })
    }
}

impl From<Candidacy> for wire::Candidacy {
    fn from(candidacy: Candidacy) -> Self {
        match candidacy {
            Candidacy::None => Self::None,
            Candidacy::Prepares => Self::Prepares,
            Candidacy::Awaited => Self::Awaited,
        }
    }
}

impl From<wire::Candidacy> for Candidacy {
    fn from(candidacy: wire::Candidacy) -> Self {
        match candidacy {
            wire::Candidacy::None => Self::None,
            wire::Candidacy::Prepares => Self::Prepares,
            wire::Candidacy::Awaited => Self::Awaited,
        }
    }
}

impl From<SchemaTask> for wire::SchemaTask {
    fn from(task: SchemaTask) -> Self {
        Self {
            id: task.id,
            schema: task.schema,
            statements: task.statements,
        }
    }
}

impl From<wire::SchemaTask> for SchemaTask {
    fn from(task: wire::SchemaTask) -> Self {
        Self {
            id: task.id,
            schema: task.schema,
            statements: task.statements,
        }
    }
}

#[cfg(test)]
mod tests;
