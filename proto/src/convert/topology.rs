//! The records of the topology and the audit: wire <-> domain.

use super::{ConvertError, list, optional, parse, parse_unless_empty, required};
use crate::{
    epoch::{Epoch, Incarnation},
    topology::{
        AuditEvent, Cell, Coordinator, Drain, Durability, Endpoint, FinishedEpoch,
        HISTORY_EPOCHS_MAX, Keyspace, Leaving, Phase, Raising, ReplicaSet, SchemaChange,
        SchemaChangeStatus, Shard, Standing, Tablet, TabletKind, VschemaTable,
    },
    wire,
};

impl From<Endpoint> for wire::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            host: endpoint.host,
            port: u32::from(endpoint.port),
        }
    }
}

impl TryFrom<wire::Endpoint> for Endpoint {
    type Error = ConvertError;

    fn try_from(endpoint: wire::Endpoint) -> Result<Self, ConvertError> {
        if endpoint.host.is_empty() {
            return Err(ConvertError::missing("host"));
        }
        let port = u16::try_from(endpoint.port).ok().filter(|port| *port > 0);
        let port =
            port.ok_or_else(|| ConvertError::new("port", "it must be between 1 and 65535"))?;
        Ok(Self {
            host: endpoint.host,
            port,
        })
    }
}

impl From<Cell> for wire::Cell {
    fn from(cell: Cell) -> Self {
        Self {
            name: cell.name.to_string(),
        }
    }
}

impl TryFrom<wire::Cell> for Cell {
    type Error = ConvertError;

    fn try_from(cell: wire::Cell) -> Result<Self, ConvertError> {
        let name = parse("name", &cell.name)?;
        Ok(Self { name })
    }
}

impl From<Keyspace> for wire::Keyspace {
    fn from(keyspace: Keyspace) -> Self {
        Self {
            name: keyspace.name.to_string(),
        }
    }
}

impl TryFrom<wire::Keyspace> for Keyspace {
    type Error = ConvertError;

    fn try_from(keyspace: wire::Keyspace) -> Result<Self, ConvertError> {
        let name = parse("name", &keyspace.name)?;
        Ok(Self { name })
    }
}

impl From<Shard> for wire::Shard {
    fn from(shard: Shard) -> Self {
        Self {
            keyspace: shard.keyspace.to_string(),
            range: shard.range.to_string(),
            replica_set: shard.replica_set.to_string(),
        }
    }
}

impl TryFrom<wire::Shard> for Shard {
    type Error = ConvertError;

    fn try_from(shard: wire::Shard) -> Result<Self, ConvertError> {
        Ok(Self {
            keyspace: parse("keyspace", &shard.keyspace)?,
            range: parse("range", &shard.range)?,
            replica_set: parse("replica_set", &shard.replica_set)?,
        })
    }
}

impl From<TabletKind> for wire::TabletKind {
    fn from(kind: TabletKind) -> Self {
        match kind {
            TabletKind::Replica => wire::TabletKind::Replica,
            TabletKind::Rdonly => wire::TabletKind::Rdonly,
        }
    }
}

impl TryFrom<wire::TabletKind> for TabletKind {
    type Error = ConvertError;

    fn try_from(kind: wire::TabletKind) -> Result<Self, ConvertError> {
        match kind {
            wire::TabletKind::Replica => Ok(TabletKind::Replica),
            wire::TabletKind::Rdonly => Ok(TabletKind::Rdonly),
            wire::TabletKind::Unspecified => {
                Err(ConvertError::new("kind", "it is missing or not known"))
            }
        }
    }
}

impl From<Tablet> for wire::Tablet {
    fn from(tablet: Tablet) -> Self {
        Self {
            alias: tablet.alias.to_string(),
            kind: wire::TabletKind::from(tablet.kind).into(),
            replica_set: tablet.replica_set.to_string(),
            mysql: Some(tablet.mysql.into()),
            router: tablet.router.map(Into::into),
        }
    }
}

impl TryFrom<wire::Tablet> for Tablet {
    type Error = ConvertError;

    fn try_from(tablet: wire::Tablet) -> Result<Self, ConvertError> {
        Ok(Self {
            alias: parse("alias", &tablet.alias)?,
            kind: tablet.kind().try_into()?,
            replica_set: parse("replica_set", &tablet.replica_set)?,
            mysql: required("mysql", tablet.mysql)?,
            router: super::optional("router", tablet.router)?,
        })
    }
}

impl From<Durability> for wire::Durability {
    fn from(durability: Durability) -> Self {
        let Durability::SemiSync { acks, cross_cell } = durability;
        let semi_sync = wire::SemiSync { acks, cross_cell };
        let policy = wire::durability::Policy::SemiSync(semi_sync);
        Self {
            policy: Some(policy),
        }
    }
}

impl TryFrom<wire::Durability> for Durability {
    type Error = ConvertError;

    fn try_from(durability: wire::Durability) -> Result<Self, ConvertError> {
        match durability.policy {
            None => Err(ConvertError::missing("policy")),
            Some(wire::durability::Policy::SemiSync(wire::SemiSync { acks: 0, .. })) => Err(
                ConvertError::new("policy.semi_sync.acks", "it must be at least 1"),
            ),
            Some(wire::durability::Policy::SemiSync(wire::SemiSync { acks, cross_cell })) => {
                Ok(Durability::SemiSync { acks, cross_cell })
            }
        }
    }
}

impl From<Phase> for wire::Phase {
    fn from(phase: Phase) -> Self {
        use wire::phase::Phase as Wire;
        let phase = match phase {
            Phase::Forming => Wire::Forming(wire::Forming {}),
            Phase::Stable => Wire::Stable(wire::Stable {}),
            Phase::Switching { candidate, holds } => Wire::Switching(wire::Switching {
                candidate: candidate.to_string(),
                holds,
            }),
            Phase::Revoking { previous, reason } => Wire::Revoking(wire::Revoking {
                previous: previous.to_string(),
                reason,
            }),
            Phase::Establishing => Wire::Establishing(wire::Establishing {}),
        };
        Self { phase: Some(phase) }
    }
}

impl TryFrom<wire::Phase> for Phase {
    type Error = ConvertError;

    fn try_from(phase: wire::Phase) -> Result<Self, ConvertError> {
        use wire::phase::Phase as Wire;
        let phase = phase.phase.ok_or_else(|| ConvertError::missing("phase"))?;
        Ok(match phase {
            Wire::Forming(wire::Forming {}) => Phase::Forming,
            Wire::Stable(wire::Stable {}) => Phase::Stable,
            Wire::Switching(wire::Switching { candidate, holds }) => Phase::Switching {
                candidate: parse("switching.candidate", &candidate)?,
                holds,
            },
            Wire::Revoking(wire::Revoking { previous, reason }) => Phase::Revoking {
                previous: parse("revoking.previous", &previous)?,
                reason,
            },
            Wire::Establishing(wire::Establishing {}) => Phase::Establishing,
        })
    }
}

impl From<FinishedEpoch> for wire::FinishedEpoch {
    fn from(finished: FinishedEpoch) -> Self {
        Self {
            epoch: finished.epoch.0,
            primary: finished.primary.to_string(),
            kept: finished.kept.to_string(),
        }
    }
}

impl TryFrom<wire::FinishedEpoch> for FinishedEpoch {
    type Error = ConvertError;

    fn try_from(finished: wire::FinishedEpoch) -> Result<Self, ConvertError> {
        Ok(Self {
            epoch: Epoch(finished.epoch),
            primary: parse("primary", &finished.primary)?,
            kept: parse("kept", &finished.kept)?,
        })
    }
}

impl From<Leaving> for wire::Leaving {
    fn from(Leaving { acker, silent }: Leaving) -> Self {
        Self {
            acker: acker.to_string(),
            silent,
        }
    }
}

impl TryFrom<wire::Leaving> for Leaving {
    type Error = ConvertError;

    fn try_from(leaving: wire::Leaving) -> Result<Self, ConvertError> {
        Ok(Self {
            acker: parse("acker", &leaving.acker)?,
            silent: leaving.silent,
        })
    }
}

impl From<ReplicaSet> for wire::ReplicaSet {
    fn from(set: ReplicaSet) -> Self {
        Self {
            name: set.name.to_string(),
            epoch: set.epoch.0,
            phase: Some(set.phase.into()),
            primary: set.primary.map_or_else(String::new, |p| p.to_string()),
            durability: Some(set.durability.into()),
            ackers: set.ackers.iter().map(ToString::to_string).collect(),
            start_gtid: set.start_gtid.to_string(),
            restart_after: set.restart_after.map(|incarnation| incarnation.0),
            leaving: set.leaving.map(Into::into),
            raising: set.raising.map(|it| wire::Raising {
                acks: it.acks,
                ordered: it.ordered,
            }),
            locked_out: set.locked_out.iter().map(ToString::to_string).collect(),
            history: set.history.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::ReplicaSet> for ReplicaSet {
    type Error = ConvertError;

    fn try_from(set: wire::ReplicaSet) -> Result<Self, ConvertError> {
        if set.history.len() > HISTORY_EPOCHS_MAX {
            let reason = format!("it has more than {HISTORY_EPOCHS_MAX} entries");
            return Err(ConvertError::new("history", reason));
        }
        let ackers = set.ackers.iter().map(|acker| parse("ackers", acker));
        let locked_out = set.locked_out.iter();
        let locked_out = locked_out.map(|alias| parse("locked_out", alias));
        Ok(Self {
            name: parse("name", &set.name)?,
            epoch: Epoch(set.epoch),
            phase: required("phase", set.phase)?,
            primary: parse_unless_empty("primary", &set.primary)?,
            durability: required("durability", set.durability)?,
            ackers: ackers.collect::<Result<_, _>>()?,
            start_gtid: parse("start_gtid", &set.start_gtid)?,
            restart_after: set.restart_after.map(Incarnation),
            leaving: optional("leaving", set.leaving)?,
            raising: set.raising.map(|it| Raising {
                acks: it.acks,
                ordered: it.ordered,
            }),
            locked_out: locked_out.collect::<Result<_, _>>()?,
            history: list("history", set.history)?,
        })
    }
}

impl From<VschemaTable> for wire::VschemaTable {
    fn from(table: VschemaTable) -> Self {
        Self {
            keyspace: table.keyspace.to_string(),
            table: table.table,
            spec_json: table.spec_json,
        }
    }
}

impl TryFrom<wire::VschemaTable> for VschemaTable {
    type Error = ConvertError;

    fn try_from(table: wire::VschemaTable) -> Result<Self, ConvertError> {
        if table.table.is_empty() {
            return Err(ConvertError::missing("table"));
        }
        Ok(Self {
            keyspace: parse("keyspace", &table.keyspace)?,
            table: table.table,
            spec_json: table.spec_json,
        })
    }
}

impl From<SchemaChange> for wire::SchemaChange {
    fn from(change: SchemaChange) -> Self {
        let (status, error) = match change.status {
            SchemaChangeStatus::Pending => (wire::SchemaChangeStatus::Pending, String::new()),
            SchemaChangeStatus::Done => (wire::SchemaChangeStatus::Done, String::new()),
            SchemaChangeStatus::Failed { error } => (wire::SchemaChangeStatus::Failed, error),
        };
        Self {
            id: change.id,
            keyspace: change.keyspace.to_string(),
            statements: change.statements,
            status: status.into(),
            error,
        }
    }
}

impl TryFrom<wire::SchemaChange> for SchemaChange {
    type Error = ConvertError;

    fn try_from(change: wire::SchemaChange) -> Result<Self, ConvertError> {
        let status = match wire::SchemaChangeStatus::try_from(change.status) {
            Ok(wire::SchemaChangeStatus::Pending) => SchemaChangeStatus::Pending,
            Ok(wire::SchemaChangeStatus::Done) => SchemaChangeStatus::Done,
            Ok(wire::SchemaChangeStatus::Failed) => SchemaChangeStatus::Failed {
                error: change.error,
            },
            Ok(wire::SchemaChangeStatus::Unspecified) => {
                return Err(ConvertError::missing("status"));
            }
            Err(_) => {
                let reason = format!("{} is not known", change.status);
                return Err(ConvertError::new("status", reason));
            }
        };
        Ok(Self {
            id: change.id,
            keyspace: parse("keyspace", &change.keyspace)?,
            statements: change.statements,
            status,
        })
    }
}

impl From<Drain> for wire::Drain {
    fn from(drain: Drain) -> Self {
        Self {
            tablet: drain.alias.to_string(),
        }
    }
}

impl TryFrom<wire::Drain> for Drain {
    type Error = ConvertError;

    fn try_from(drain: wire::Drain) -> Result<Self, ConvertError> {
        Ok(Self {
            alias: parse("tablet", &drain.tablet)?,
        })
    }
}

impl From<Coordinator> for wire::Coordinator {
    fn from(coordinator: Coordinator) -> Self {
        let standing = match coordinator.standing {
            Standing::Voter => wire::Standing::Voter,
            Standing::Leaving => wire::Standing::Leaving,
        };
        Self {
            id: coordinator.id,
            address: coordinator.address,
            directory_id: coordinator.directory_id,
            standing: standing.into(),
            formats: coordinator.formats,
        }
    }
}

impl TryFrom<wire::Coordinator> for Coordinator {
    type Error = ConvertError;

    fn try_from(coordinator: wire::Coordinator) -> Result<Self, ConvertError> {
        let standing = match coordinator.standing() {
            wire::Standing::Voter => Standing::Voter,
            wire::Standing::Leaving => Standing::Leaving,
            wire::Standing::Unspecified => {
                return Err(ConvertError::new("standing", "it is missing or not known"));
            }
        };
        Ok(Self {
            id: coordinator.id,
            address: coordinator.address,
            directory_id: coordinator.directory_id,
            standing,
            formats: coordinator.formats,
        })
    }
}

impl From<AuditEvent> for wire::AuditEvent {
    fn from(event: AuditEvent) -> Self {
        let evidence = event.evidence.into_iter();
        Self {
            time_unix_ms: event.time_unix_ms,
            kind: event.kind,
            subject: event.subject,
            message: event.message,
            evidence: evidence
                .map(|(name, value)| wire::Evidence { name, value })
                .collect(),
        }
    }
}

impl From<wire::AuditEvent> for AuditEvent {
    fn from(event: wire::AuditEvent) -> Self {
        let evidence = event.evidence.into_iter();
        Self {
            time_unix_ms: event.time_unix_ms,
            kind: event.kind,
            subject: event.subject,
            message: event.message,
            evidence: evidence.map(|item| (item.name, item.value)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica_set() -> ReplicaSet {
        ReplicaSet {
            name: "main".parse().unwrap(),
            epoch: Epoch(3),
            phase: Phase::Switching {
                candidate: "zone1-101".parse().unwrap(),
                holds: true,
            },
            primary: Some("zone1-100".parse().unwrap()),
            durability: Durability::SemiSync {
                acks: 1,
                cross_cell: false,
            },
            ackers: ["zone1-101".parse().unwrap()].into(),
            start_gtid: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap(),
            restart_after: Some(Incarnation(4)),
            leaving: Some(Leaving {
                acker: "zone1-101".parse().unwrap(),
                silent: true,
            }),
            raising: Some(Raising {
                acks: 2,
                ordered: true,
            }),
            locked_out: ["zone1-102".parse().unwrap()].into(),
            history: vec![FinishedEpoch {
                epoch: Epoch(2),
                primary: "zone1-101".parse().unwrap(),
                kept: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4".parse().unwrap(),
            }],
        }
    }

    #[test]
    fn replica_sets_round_trip_in_every_phase() {
        let alias = || "zone1-100".parse().unwrap();
        for phase in [
            Phase::Forming,
            Phase::Stable,
            Phase::Switching {
                candidate: alias(),
                holds: false,
            },
            Phase::Revoking {
                previous: alias(),
                reason: "exited".to_owned(),
            },
            Phase::Establishing,
        ] {
            let set = ReplicaSet {
                phase,
                ..replica_set()
            };
            let wire: wire::ReplicaSet = set.clone().into();
            assert_eq!(ReplicaSet::try_from(wire), Ok(set));
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        let good: wire::ReplicaSet = replica_set().into();
        type Spoil = fn(&mut wire::ReplicaSet);
        let cases: &[(&str, Spoil)] = &[
            ("name", |set| set.name = "No".to_owned()),
            ("phase", |set| set.phase = None),
            ("phase.phase", |set| {
                set.phase = Some(wire::Phase { phase: None })
            }),
            ("primary", |set| set.primary = "x".to_owned()),
            ("durability", |set| set.durability = None),
            ("ackers", |set| set.ackers.push(String::new())),
            ("locked_out", |set| set.locked_out.push(String::new())),
            ("start_gtid", |set| set.start_gtid = "nonsense".to_owned()),
            ("history[0].kept", |set| {
                set.history[0].kept = "-".to_owned()
            }),
        ];
        for (field, spoil) in cases {
            let mut bad = good.clone();
            spoil(&mut bad);
            let error = ReplicaSet::try_from(bad).unwrap_err();
            assert_eq!(error.field, *field);
        }
    }

    #[test]
    fn enums_and_ports_are_checked() {
        let tablet = |kind| wire::Tablet {
            alias: "zone1-100".to_owned(),
            kind,
            replica_set: "main".to_owned(),
            mysql: Some(wire::Endpoint {
                host: "db".to_owned(),
                port: 3306,
            }),
            router: None,
        };
        assert!(Tablet::try_from(tablet(1)).is_ok());
        assert!(Tablet::try_from(tablet(0)).is_err());
        assert!(Tablet::try_from(tablet(77)).is_err());
        for port in [0, 65_536] {
            let endpoint = wire::Endpoint {
                host: "db".to_owned(),
                port,
            };
            assert!(Endpoint::try_from(endpoint).is_err(), "{port}");
        }
    }
}
