//! All metrics of the agent's own part, by name. The router registers its own in the same registry.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use vt_agent_core::Action;
use vt_proto::report::{MysqldState, Report, ThreadState};

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
    }

    /// Takes over what a report says.
    pub fn observe(&self, report: &Report) {
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
        self.disk_free_bytes
            .set(number(report.disk_free_bytes.unwrap_or(0)));
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
