//! All metrics of the agent's own part, by name. The router registers its own in the same registry.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use vt_agent_core::Action;
use vt_proto::report::{DiskState, MysqldState, Report, ThreadState, WriteCause};

/// What Prometheus must be told about the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An action and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActionLabels {
    action: String,
    outcome: String,
}

/// What the supervisor sees and does.
#[derive(Clone, Default)]
pub struct SupervisorMetrics {
    actions: Family<ActionLabels, Counter>,
    mysqld_up: Gauge,
    serving: Gauge,
    epoch: Gauge,
    generation: Gauge,
    incarnation: Gauge,
    super_read_only: Gauge,
    blocked: Gauge,
    replica_io_running: Gauge,
    replica_sql_running: Gauge,
    replica_lag_ms: Gauge,
    disk_free_bytes: Gauge,
    disk_bad: Gauge,
    disk_write_age_ms: Gauge,
    row_write_age_ms: Gauge,
    row_write_failing_ms: Gauge,
    row_write_waits_for_acks: Gauge,
    replica_heartbeat_age_ms: Gauge,
    semi_sync_wait_sessions: Gauge,
    lost_transactions: Gauge,
}

impl SupervisorMetrics {
    /// Names them in the registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("vt_agent");
        registry.register(
            "actions",
            "Actions carried out, by name and outcome",
            self.actions.clone(),
        );
        for (name, help, gauge) in [
            ("mysqld_up", "1 if mysqld answers", &self.mysqld_up),
            (
                "serving",
                "1 if this tablet is open as primary",
                &self.serving,
            ),
            ("epoch", "The highest epoch promised", &self.epoch),
            ("generation", "The generation acted on", &self.generation),
            (
                "mysqld_incarnation",
                "How often mysqld was started",
                &self.incarnation,
            ),
            (
                "super_read_only",
                "1 if mysqld takes no writes",
                &self.super_read_only,
            ),
            (
                "blocked",
                "1 if the desired state is not reached and waits",
                &self.blocked,
            ),
            (
                "replica_io_running",
                "1 if the IO thread is connected",
                &self.replica_io_running,
            ),
            (
                "replica_sql_running",
                "1 if the applier runs",
                &self.replica_sql_running,
            ),
            (
                "replica_lag_ms",
                "How far applying is behind",
                &self.replica_lag_ms,
            ),
            (
                "disk_free_bytes",
                "Free space of the data directory",
                &self.disk_free_bytes,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        self.register_probes(registry);
    }

    fn register_probes(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "disk_bad",
                "1 if mysqld's disk is stalled, 2 if full, 3 if writes to it fail",
                &self.disk_bad,
            ),
            (
                "disk_write_age_ms",
                "Age of the last block written through to mysqld's disk",
                &self.disk_write_age_ms,
            ),
            (
                "row_write_age_ms",
                "Age of the last own row committed, on an open primary",
                &self.row_write_age_ms,
            ),
            (
                "row_write_failing_ms",
                "For how long no own row was committed on an open primary, if that is too long",
                &self.row_write_failing_ms,
            ),
            (
                "row_write_waits_for_acks",
                "1 if the own row waits for acknowledgements",
                &self.row_write_waits_for_acks,
            ),
            (
                "replica_heartbeat_age_ms",
                "Time since the source was last heard",
                &self.replica_heartbeat_age_ms,
            ),
            (
                "semi_sync_wait_sessions",
                "Sessions whose commit waits for an acknowledgement",
                &self.semi_sync_wait_sessions,
            ),
            (
                "lost_transactions",
                "Unacknowledged transactions that were cut off and are kept on this host",
                &self.lost_transactions,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// Takes over what a report says, and how many commits wait for acknowledgements.
    pub fn observe(&self, report: &Report, wait_sessions: u32) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let flag = i64::from;
        self.mysqld_up
            .set(flag(report.mysqld == MysqldState::Running));
        self.serving.set(flag(report.serving.is_some()));
        self.epoch.set(number(report.promised.0));
        self.generation.set(number(report.generation.0));
        self.incarnation.set(number(report.incarnation.0));
        self.super_read_only
            .set(flag(report.super_read_only.unwrap_or(false)));
        self.blocked.set(flag(report.blocked.is_some()));
        let replication = report.replication.as_ref();
        self.replica_io_running.set(flag(
            replication.is_some_and(|channel| channel.io == ThreadState::On),
        ));
        self.replica_sql_running.set(flag(
            replication.is_some_and(|channel| channel.sql == ThreadState::On),
        ));
        let lag_ms = replication.and_then(|channel| channel.lag_ms);
        self.replica_lag_ms.set(number(lag_ms.unwrap_or(0)));
        let heartbeat_age_ms = replication.and_then(|channel| channel.heartbeat_age_ms);
        self.replica_heartbeat_age_ms
            .set(number(heartbeat_age_ms.unwrap_or(0)));
        self.semi_sync_wait_sessions.set(i64::from(wait_sessions));
        let lost = report.lost.kept.iter();
        self.lost_transactions
            .set(number(lost.map(|lost| lost.transactions).sum()));
        self.disk_free_bytes
            .set(number(report.disk_free_bytes.unwrap_or(0)));
        self.observe_probes(report);
    }

    fn observe_probes(&self, report: &Report) {
        let age = |age_ms: Option<u64>| i64::try_from(age_ms.unwrap_or(0)).unwrap_or(i64::MAX);
        let disk = report.disk_probe.as_ref();
        self.disk_bad.set(match disk.map(|probe| probe.state) {
            None | Some(DiskState::Good) => 0,
            Some(DiskState::Stalled) => 1,
            Some(DiskState::Full) => 2,
            Some(DiskState::Failed) => 3,
        });
        self.disk_write_age_ms
            .set(age(disk.and_then(|probe| probe.success_age_ms)));
        let row = report.write_probe.as_ref();
        self.row_write_age_ms
            .set(age(row.and_then(|probe| probe.success_age_ms)));
        let failure = row.and_then(|probe| probe.failure.as_ref());
        self.row_write_failing_ms
            .set(age(failure.map(|failure| failure.since_ms)));
        self.row_write_waits_for_acks.set(i64::from(
            failure.is_some_and(|failure| failure.cause == WriteCause::Acknowledgements),
        ));
    }

    /// Counts an action.
    pub fn acted(&self, action: &Action, well: bool) {
        let labels = ActionLabels {
            action: action.name().to_owned(),
            outcome: if well { "done" } else { "failed" }.to_owned(),
        };
        self.actions.get_or_create(&labels).inc();
    }
}

/// All of a registry as Prometheus reads it.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail; an empty page would show it.
    let _ = encode(&mut text, registry);
    text
}
