//! A tablet: who it is, what it reports, what is desired of it.

use serde::Serialize;
use vt_proto::{gtid::GtidSet, wire};

use super::{endpoint, unless_empty};
use crate::output::{duration_text, or_dash};

/// GTID sets in tables are cut to this many characters; JSON has them whole.
const GTID_CHARACTERS_MAX: usize = 34;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tablet {
    pub alias: String,
    pub replica_set: String,
    pub kind: &'static str,
    pub role: String,
    pub acker: bool,
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
    pub boot_id: String,
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
            boot_id: report.boot_id,
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

    /// Why it does not get on: its own words, or what its mysqld suffers from.
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
        report.blocked.clone().or(error).or(mysqld)
    }

    /// One row of a table of tablets.
    pub fn row(&self) -> [String; 9] {
        let report = self.report.as_ref();
        let replication = report.and_then(|report| report.replication.as_ref());
        let acker = if self.acker { " (acker)" } else { "" };
        [
            self.alias.clone(),
            format!("{}{acker}", self.role),
            or_dash(report.map(|report| report.mysqld)),
            or_dash(replication.map(|it| format!("{}/{}", it.io, it.sql))),
            or_dash(replication.and_then(|it| it.lag_ms).map(duration_text)),
            report.map_or_else(|| "-".to_owned(), semi_sync),
            or_dash(
                report
                    .and_then(|report| report.gtid_executed.as_deref())
                    .map(short_gtid),
            ),
            or_dash(self.report_age_ms.map(duration_text)),
            or_dash(self.trouble()),
        ]
    }

    /// The headers of [`Tablet::row`].
    pub const HEADERS: [&'static str; 9] = [
        "TABLET",
        "ROLE",
        "MYSQLD",
        "IO/SQL",
        "LAG",
        "SEMI-SYNC",
        "GTID EXECUTED",
        "REPORTED",
        "BLOCKED",
    ];
}

fn semi_sync(report: &Report) -> String {
    let on = |side: Option<bool>, name| (side == Some(true)).then_some(name);
    let sides = [
        on(report.semi_sync_source, "source"),
        on(report.semi_sync_replica, "replica"),
    ];
    let sides: Vec<_> = sides.into_iter().flatten().collect();
    match (sides.is_empty(), report.semi_sync_source.is_some()) {
        (false, _) => sides.join("+"),
        (true, true) => "off".to_owned(),
        (true, false) => "-".to_owned(),
    }
}

/// A GTID set for a table: each uuid by its first part, the count when it is still too long.
pub fn short_gtid(text: &str) -> String {
    let Ok(set) = text.parse::<GtidSet>() else {
        return "?".to_owned();
    };
    if set.is_empty() {
        return "empty".to_owned();
    }
    let printed = set.to_string();
    let part = |group: &str| match group.split_once('-') {
        Some((first, rest)) => format!("{first}..{}", rest.find(':').map_or("", |at| &rest[at..])),
        None => group.to_owned(),
    };
    let short: Vec<_> = printed.split(',').map(part).collect();
    let short = short.join(",");
    if short.len() <= GTID_CHARACTERS_MAX {
        return short;
    }
    format!(
        "{} transactions of {} sources",
        set.count(),
        set.sources().count()
    )
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
        }
    }

    #[test]
    fn rows_say_what_matters() {
        let tablet = Tablet::from(replica("zone1-100"));
        let expected = [
            "zone1-100",
            "replica (acker)",
            "running",
            "on/on",
            "3 ms",
            "replica",
            "aaaaaaaa..:1-7",
            "120 ms",
            "-",
        ];
        assert_eq!(tablet.row(), expected);
        assert!(tablet.replicates());
        let silent = Tablet::from(wire::TabletView {
            report: None,
            report_age_ms: None,
            ..replica("zone1-1")
        });
        assert_eq!(silent.row()[2..], ["-"; 7]);
        assert!(!silent.replicates());
    }

    #[test]
    fn gtid_sets_are_shortened() {
        let a = "aaaaaaaa-1111-2222-3333-444444444444";
        let b = "bbbbbbbb-1111-2222-3333-444444444444";
        for (given, printed) in [
            (String::new(), "empty"),
            ("?".to_owned(), "?"),
            (format!("{a}:1-7"), "aaaaaaaa..:1-7"),
            (format!("{a}:1-7,{b}:1"), "aaaaaaaa..:1-7,bbbbbbbb..:1"),
            (
                format!("{a}:1-7:9-20000,{b}:1-3000000"),
                "3019999 transactions of 2 sources",
            ),
        ] {
            assert_eq!(short_gtid(&given), printed);
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
