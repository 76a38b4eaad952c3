//! All metrics of the coordinator, by name. A registry of its own, so that several nodes fit into one process.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use vt_tls::metrics::TlsMetrics;

mod failover;

pub use failover::FailoverMetrics;

/// What Prometheus must be told about the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted or measured.
pub struct Metrics {
    registry: Registry,
    pub leader: Gauge,
    pub term: Gauge,
    pub applied_index: Gauge,
    pub commit_index: Gauge,
    pub snapshot_index: Gauge,
    pub tablets: Gauge,
    pub log_entries: Gauge,
    pub proposals: Counter,
    pub commands_refused: Counter,
    pub reads: Counter,
    pub reports: Counter,
    pub raft_sent: Counter,
    pub raft_received: Counter,
    pub raft_lost: Counter,
    pub raft_refused: Counter,
    pub disk: DiskMetrics,
    pub tick_late_seconds: Gauge<f64, AtomicU64>,
    pub failover: FailoverMetrics,
    pub tls: TlsMetrics,
}

/// What the thread that writes says.
pub struct DiskMetrics {
    pub persist_seconds: Histogram,
    pub batches_per_flush: Histogram,
    pub free_bytes: Gauge,
    pub full: Gauge,
    pub stalled: Gauge,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self {
            persist_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batches_per_flush: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            free_bytes: Gauge::default(),
            full: Gauge::default(),
            stalled: Gauge::default(),
        }
    }
}

impl DiskMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "persist_seconds",
            "Time to write and flush a batch",
            self.persist_seconds.clone(),
        );
        registry.register(
            "batches_per_flush",
            "Batches that shared one flush",
            self.batches_per_flush.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Free space for the data directory",
            self.free_bytes.clone(),
        );
        registry.register(
            "disk_full",
            "1 if the disk is almost full and no proposals are taken, 2 if writes wait for space",
            self.full.clone(),
        );
        registry.register(
            "disk_stalled",
            "1 while the disk has owed an answer for more than 1.5 s",
            self.stalled.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vt_coordinator");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let proposals = counter("proposals", "Commands proposed to raft by this member");
        let commands_refused = counter("commands_refused", "Committed commands without effect");
        let reads = counter("reads", "Reads answered");
        let reports = counter("reports", "Reports of agents taken in");
        let raft_sent = counter("raft_messages_sent", "Raft messages handed to a connection");
        let raft_received = counter("raft_messages_received", "Raft messages received");
        let raft_lost = counter("raft_messages_lost", "Raft messages dropped, queue full");
        let raft_refused = counter("raft_messages_refused", "Raft messages that made no sense");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let leader = gauge("leader", "1 if this member leads");
        let term = gauge("raft_term", "The raft term");
        let applied_index = gauge("applied_index", "The log index applied last");
        let commit_index = gauge("commit_index", "The log index known to be committed");
        let snapshot_index = gauge("snapshot_index", "The log index of the newest snapshot");
        let tablets = gauge("tablets", "Tablets in the topology");
        let log_entries = gauge("log_entries", "Entries in the log");
        let tick_late_seconds = Gauge::default();
        registry.register(
            "tick_late_seconds",
            "How late the newest tick of the node's loop was",
            tick_late_seconds.clone(),
        );
        let disk = DiskMetrics::default();
        disk.register(&mut registry);
        let failover = FailoverMetrics::default();
        failover.register(&mut registry);
        let tls = TlsMetrics::default();
        tls.register(&mut registry);
        Self {
            registry,
            leader,
            term,
            applied_index,
            commit_index,
            snapshot_index,
            tablets,
            log_entries,
            proposals,
            commands_refused,
            reads,
            reports,
            raft_sent,
            raft_received,
            raft_lost,
            raft_refused,
            disk,
            tick_late_seconds,
            failover,
            tls,
        }
    }
}

impl Metrics {
    /// All of them as Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; an empty page would show it.
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
