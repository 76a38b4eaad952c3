//! What listeners and certificates count. Registered by the program that has them, under its own prefix.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Labels = Vec<(&'static str, &'static str)>;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    connections: Family<Labels, Gauge>,
    refused: Family<Labels, Counter>,
    pub certificate_expires_timestamp_seconds: Gauge,
    pub certificate_reloads: Counter,
    pub certificate_reload_failed: Gauge,
}

impl TlsMetrics {
    /// Shows them from now on.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Open connections by listener",
            self.connections.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused by listener and reason",
            self.refused.clone(),
        );
        registry.register(
            "certificate_expires_timestamp_seconds",
            "When the certificate in use expires (unix time); zero without TLS",
            self.certificate_expires_timestamp_seconds.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Times that changed certificate files were taken into use",
            self.certificate_reloads.clone(),
        );
        registry.register(
            "certificate_reload_failed",
            "1 while the certificate files cannot be used and what was read before is in use",
            self.certificate_reload_failed.clone(),
        );
    }

    /// Open connections of a listener.
    pub fn connections(&self, listener: &'static str) -> Gauge {
        self.connections
            .get_or_create(&vec![("listener", listener)])
            .clone()
    }

    /// Counts a connection that was not let in.
    pub fn refused(&self, listener: &'static str, reason: &'static str) {
        let labels = vec![("listener", listener), ("reason", reason)];
        self.refused.get_or_create(&labels).inc();
    }
}
