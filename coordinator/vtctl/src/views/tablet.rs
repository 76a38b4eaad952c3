//! A tablet: who it is, what it reports, what is desired of it.

use serde::Serialize;
use vt_proto::wire;

use super::{endpoint, lost::LostTransactions, unless_empty};
use crate::output::{duration_text, or_dash};

mod table;

pub use table::{short_gtid, table, table_across_sets};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tablet {
    pub alias: String,
    pub replica_set: String,
    pub kind: &'static str,
    pub role: String,
    pub acker: bool,
    /// Its host is to be maintained.
    pub drained: bool,
    pub mysql: Option<String>,
    pub router: Option<String>,
    pub revision: u64,
    pub connected: bool,
    pub report_age_ms: Option<u64>,
    pub report: Option<Report>,
    pub desired: Option<Desired>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub mysqld: &'static str,
    /// How it exited, why it is held, or for how long it does not answer.
    pub mysqld_detail: Option<String>,
    pub incarnation: u64,
    pub server_uuid: Option<String>,
    pub gtid_executed: Option<String>,
    pub gtid_received: Option<String>,
    pub replication: Option<Replication>,
    pub super_read_only: Option<bool>,
    pub semi_sync_source: Option<bool>,
    pub semi_sync_replica: Option<bool>,
    pub promised_epoch: u64,
    pub generation: u64,
    pub serving_epoch: Option<u64>,
    pub revoked_epoch: Option<u64>,
    pub fenced_epoch: Option<u64>,
    pub demoted_generation: Option<u64>,
    pub amnesiac: bool,
    pub blocked: Option<String>,
    pub disk_free_bytes: Option<u64>,
    /// Set for an open primary.
    pub write_probe: Option<WriteProbe>,
    pub disk_probe: Option<DiskProbe>,
    /// What was cut off here; `vtctl lost list` shows it with its place.
    pub lost: Vec<LostTransactions>,
    /// How much more there is.
    pub lost_left_out: u32,
    pub boot_id: String,
}

/// What the agent's own writes to mysqld find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriteProbe {
    pub success_age_ms: Option<u64>,
    pub failing_ms: Option<u64>,
    /// What the write that fails waits for.
    pub waits_for: Option<&'static str>,
    pub detail: Option<String>,
}

/// What the agent's own writes to mysqld's disk find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskProbe {
    pub state: &'static str,
    pub success_age_ms: Option<u64>,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replication {
    pub source: Option<String>,
    pub io: &'static str,
    pub sql: &'static str,
    pub heartbeat_age_ms: Option<u64>,
    pub lag_ms: Option<u64>,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Desired {
    pub goal: &'static str,
    pub epoch: u64,
    pub generation: u64,
    /// Set for a replica.
    pub source: Option<String>,
    /// Set for a primary: the schemas that must exist.
    pub schemas: Vec<String>,
    /// Set for a primary: ids of the schema changes to carry out.
    pub schema_changes: Vec<u64>,
}

impl From<wire::TabletView> for Tablet {
    fn from(view: wire::TabletView) -> Self {
        let tablet = view.tablet.unwrap_or_default();
        Self {
            kind: match tablet.kind() {
                wire::TabletKind::Replica => "replica",
                wire::TabletKind::Rdonly => "rdonly",
                wire::TabletKind::Unspecified => "unknown",
            },
            alias: tablet.alias,
            replica_set: tablet.replica_set,
            role: view.role,
            acker: view.acker,
            drained: view.drained,
            mysql: endpoint(tablet.mysql),
            router: endpoint(tablet.router),
            revision: view.revision,
            connected: view.connected,
            report_age_ms: view.report_age_ms,
            report: view.report.map(Into::into),
            desired: view.desired.map(Into::into),
        }
    }
}

impl From<wire::Report> for Report {
    fn from(report: wire::Report) -> Self {
        let (mysqld, mysqld_detail) = mysqld(report.mysqld);
        let (executed, received) = report
            .gtid
            .map(|gtid| (gtid.executed, gtid.received))
            .unzip();
        Self {
            mysqld,
            mysqld_detail,
            incarnation: report.incarnation,
            server_uuid: report.server_uuid,
            gtid_executed: executed,
            gtid_received: received,
            replication: report.replication.map(Into::into),
            super_read_only: report.super_read_only,
            semi_sync_source: report.semi_sync_source,
            semi_sync_replica: report.semi_sync_replica,
            promised_epoch: report.promised,
            generation: report.generation,
            serving_epoch: report.serving,
            revoked_epoch: report.revoked,
            fenced_epoch: report.fenced,
            demoted_generation: report.demoted,
            amnesiac: report.amnesiac,
            blocked: report.blocked.and_then(unless_empty),
            disk_free_bytes: report.disk_free_bytes,
            write_probe: report.write_probe.map(Into::into),
            disk_probe: report.disk_probe.map(Into::into),
            lost: report.lost.into_iter().map(Into::into).collect(),
            lost_left_out: report.lost_left_out,
            boot_id: report.boot_id,
        }
    }
}

impl From<wire::WriteProbe> for WriteProbe {
    fn from(probe: wire::WriteProbe) -> Self {
        let failure = probe.failure.as_ref();
        Self {
            success_age_ms: probe.success_age_ms,
            failing_ms: failure.map(|failure| failure.since_ms),
            waits_for: failure.map(|failure| match failure.cause() {
                wire::WriteCause::Acknowledgements => "acknowledgements",
                wire::WriteCause::DiskSpace => "disk space",
                wire::WriteCause::Refused => "nothing",
                wire::WriteCause::Unspecified => "unknown",
            }),
            detail: probe.failure.map(|failure| failure.detail),
        }
    }
}

impl From<wire::DiskProbe> for DiskProbe {
    fn from(probe: wire::DiskProbe) -> Self {
        Self {
            state: match probe.state() {
                wire::DiskState::Good => "good",
                wire::DiskState::Stalled => "stalled",
                wire::DiskState::Full => "full",
                wire::DiskState::Failed => "failed",
                wire::DiskState::Unspecified => "unknown",
            },
            success_age_ms: probe.success_age_ms,
            detail: unless_empty(probe.detail),
        }
    }
}

fn mysqld(state: Option<wire::MysqldState>) -> (&'static str, Option<String>) {
    use wire::mysqld_state::State;
    match state.and_then(|state| state.state) {
        Some(State::Starting(_)) => ("starting", None),
        Some(State::Running(_)) => ("running", None),
        Some(State::Unresponsive(state)) => (
            "unresponsive",
            Some(format!("for {}", duration_text(state.since_ms))),
        ),
        Some(State::Exited(state)) => ("exited", Some(state.how)),
        Some(State::Held(state)) => ("held", Some(state.why)),
        None => ("unknown", None),
    }
}

impl From<wire::Replication> for Replication {
    fn from(replication: wire::Replication) -> Self {
        Self {
            io: thread(replication.io()),
            sql: thread(replication.sql()),
            source: endpoint(replication.source),
            heartbeat_age_ms: replication.heartbeat_age_ms,
            lag_ms: replication.lag_ms,
            error: replication.error.and_then(unless_empty),
        }
    }
}

fn thread(state: wire::ThreadState) -> &'static str {
    match state {
        wire::ThreadState::Off => "off",
        wire::ThreadState::Connecting => "connecting",
        wire::ThreadState::On => "on",
        wire::ThreadState::Unspecified => "unknown",
    }
}

impl From<wire::Desired> for Desired {
    fn from(desired: wire::Desired) -> Self {
        use wire::desired::Goal;
        let mut view = Self {
            goal: "unknown",
            epoch: desired.epoch,
            generation: desired.generation,
            source: None,
            schemas: Vec::new(),
            schema_changes: Vec::new(),
        };
        view.goal = match desired.goal {
            Some(Goal::Standby(_)) => "standby",
            Some(Goal::Primary(primary)) => {
                view.schemas = primary.schemas;
                view.schema_changes = primary.schema_tasks.iter().map(|task| task.id).collect();
                "primary"
            }
            Some(Goal::Demote(_)) => "demote",
            Some(Goal::Revoke(_)) => "revoke",
            Some(Goal::Fence(_)) => "fence",
            Some(Goal::Reveal(_)) => "reveal",
            Some(Goal::Replica(replica)) => {
                view.source = Some(replica.source_alias);
                "replica"
            }
            None => "unknown",
        };
        view
    }
}

impl Tablet {
    /// Whether it is a replica whose both threads run.
    pub fn replicates(&self) -> bool {
        let replication = self
            .report
            .as_ref()
            .and_then(|report| report.replication.as_ref());
        replication.is_some_and(|replication| (replication.io, replication.sql) == ("on", "on"))
    }

    /// What its disk suffers from.
    fn disk_trouble(&self) -> Option<String> {
        let disk = self.report.as_ref()?.disk_probe.as_ref()?;
        let since = disk.success_age_ms.map_or_else(String::new, |age| {
            format!(", the last good write was {} ago", duration_text(age))
        });
        match (disk.state, &disk.detail) {
            ("good" | "unknown", _) => None,
            (state, Some(why)) => Some(format!("its disk has {state}: {why}{since}")),
            (state, None) => Some(format!("its disk is {state}{since}")),
        }
    }

    /// What its writes suffer from, if it is an open primary.
    fn write_trouble(&self) -> Option<String> {
        let probe = self.report.as_ref()?.write_probe.as_ref()?;
        Some(format!(
            "writes fail for {}: {}",
            duration_text(probe.failing_ms?),
            or_dash(probe.detail.as_ref())
        ))
    }

    /// Why it does not get on: its own words, or what its mysqld or its disk suffers from.
    pub fn trouble(&self) -> Option<String> {
        let report = self.report.as_ref()?;
        let error = report
            .replication
            .as_ref()
            .and_then(|replication| replication.error.clone());
        let mysqld = report
            .mysqld_detail
            .as_ref()
            .map(|why| format!("mysqld {}: {why}", report.mysqld));
        let first = report.blocked.clone().or(error).or(mysqld);
        let all = [first, self.write_trouble(), self.disk_trouble()];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A replica as the API shows it.
    pub fn replica(alias: &str) -> wire::TabletView {
        wire::TabletView {
            tablet: Some(wire::Tablet {
                alias: alias.to_owned(),
                kind: wire::TabletKind::Replica.into(),
                replica_set: "main".to_owned(),
                mysql: Some(wire::Endpoint {
                    host: "h".to_owned(),
                    port: 3306,
                }),
                router: None,
            }),
            revision: 4,
            role: "replica".to_owned(),
            acker: true,
            report: Some(wire::Report {
                mysqld: Some(wire::MysqldState {
                    state: Some(wire::mysqld_state::State::Running(wire::Running {})),
                }),
                gtid: Some(wire::GtidPosition {
                    executed: "aaaaaaaa-1111-2222-3333-444444444444:1-7".to_owned(),
                    received: String::new(),
                }),
                replication: Some(wire::Replication {
                    io: wire::ThreadState::On.into(),
                    sql: wire::ThreadState::On.into(),
                    lag_ms: Some(3),
                    ..wire::Replication::default()
                }),
                semi_sync_source: Some(false),
                semi_sync_replica: Some(true),
                ..wire::Report::default()
            }),
            report_age_ms: Some(120),
            connected: true,
            desired: None,
            drained: false,
        }
    }

    #[test]
    fn what_it_suffers_from_is_said() {
        type Break = fn(&mut wire::Report);
        let cases: [(Option<&str>, Break); 6] = [
            (None, |_| {}),
            (Some("disk full"), |report| {
                report.blocked = Some("disk full".to_owned())
            }),
            (Some("no route"), |report| {
                report.replication.as_mut().unwrap().error = Some("no route".to_owned());
            }),
            (
                Some("its disk is full, the last good write was 3.0 s ago"),
                |report| {
                    report.disk_probe = Some(wire::DiskProbe {
                        state: wire::DiskState::Full.into(),
                        success_age_ms: Some(3_000),
                        detail: String::new(),
                    });
                },
            ),
            (
                Some("writes fail for 2.0 s: it does not return; its disk has failed: EIO"),
                |report| {
                    report.write_probe = Some(wire::WriteProbe {
                        success_age_ms: None,
                        failure: Some(wire::WriteFailure {
                            since_ms: 2_000,
                            cause: wire::WriteCause::Unspecified.into(),
                            detail: "it does not return".to_owned(),
                        }),
                    });
                    report.disk_probe = Some(wire::DiskProbe {
                        state: wire::DiskState::Failed.into(),
                        success_age_ms: None,
                        detail: "EIO".to_owned(),
                    });
                },
            ),
            (Some("mysqld exited: signal 9"), |report| {
                let exited = wire::Exited {
                    how: "signal 9".to_owned(),
                };
                report.mysqld.as_mut().unwrap().state =
                    Some(wire::mysqld_state::State::Exited(exited));
            }),
        ];
        for (trouble, spoil) in cases {
            let mut view = replica("zone1-100");
            spoil(view.report.as_mut().unwrap());
            assert_eq!(Tablet::from(view).trouble().as_deref(), trouble);
        }
    }

    #[test]
    fn keys_are_stable() {
        let json = serde_json::to_value(Tablet::from(replica("zone1-100"))).unwrap();
        assert_eq!(
            json["report"]["gtid_executed"],
            "aaaaaaaa-1111-2222-3333-444444444444:1-7"
        );
        assert_eq!(json["report"]["replication"]["io"], "on");
        assert_eq!(json["report_age_ms"], 120);
    }
}
