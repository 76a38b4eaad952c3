//! What the router counts. One struct, made by whoever starts the router; clones share the counters.
//!
//! It never reads a clock and never labels by anything a client chooses.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds of the latency histogram, in seconds: from a cached point read to a slow report.
const LATENCY_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// Kinds of statements that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum QueryKind {
    read,
    write,
    transaction,
    prepare,
    execute,
    local,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueryLabels {
    pub kind: QueryKind,
}

/// Who made an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum ErrorClass {
    /// The server answered it; it was passed on.
    server,
    /// Wrong password, unknown user or database, malformed packet, refused statement.
    client,
    /// No primary, no connection, no room: the cluster's fault.
    unavailable,
    /// The outcome of a statement or the transaction was lost.
    lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    pub class: ErrorClass,
}

/// What became of a read on a replica by a session that had written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum ReadOutcome {
    /// The replica was asked and had what the session wrote.
    awaited,
    /// It had not in time: the primary answered instead.
    behind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReadLabels {
    pub outcome: ReadOutcome,
}

/// State of pooled connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum PoolState {
    open,
    idle,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    pub state: PoolState,
}

/// All counters of the router.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub client_connections: Gauge,
    pub client_connections_accepted: Counter,
    pub queries: Family<QueryLabels, Counter>,
    pub errors: Family<ErrorLabels, Counter>,
    pub reads_of_own_writes: Family<ReadLabels, Counter>,
    pub pool: Family<PoolLabels, Gauge>,
    pub held: Gauge,
    pub held_seconds: Counter<f64, AtomicU64>,
    pub latency: Histogram,
    /// One counter for each kind, looked up once: the hot path takes no lock.
    by_kind: [Counter; 6],
}

impl Default for Metrics {
    fn default() -> Self {
        let queries = Family::<QueryLabels, Counter>::default();
        let kinds = [
            QueryKind::read,
            QueryKind::write,
            QueryKind::transaction,
            QueryKind::prepare,
            QueryKind::execute,
            QueryKind::local,
        ];
        let by_kind = kinds.map(|kind| queries.get_or_create(&QueryLabels { kind }).clone());
        Self {
            client_connections: Gauge::default(),
            client_connections_accepted: Counter::default(),
            queries,
            errors: Family::default(),
            reads_of_own_writes: Family::default(),
            pool: Family::default(),
            held: Gauge::default(),
            held_seconds: Counter::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            by_kind,
        }
    }
}

impl Metrics {
    /// Adds all of them to `registry`; the caller prefixes it (`vitrail_router`).
    pub fn register(&self, registry: &mut Registry) {
        let client = self.client_connections.clone();
        registry.register(
            "client_connections",
            "Connections of applications that are open",
            client,
        );
        registry.register(
            "client_connections_accepted",
            "Connections of applications that were accepted",
            self.client_connections_accepted.clone(),
        );
        registry.register("queries", "Statements by kind", self.queries.clone());
        registry.register(
            "errors",
            "Errors sent to applications by class",
            self.errors.clone(),
        );
        registry.register(
            "reads_of_own_writes",
            "Reads that waited for a replica to have what their session wrote, by outcome",
            self.reads_of_own_writes.clone(),
        );
        registry.register(
            "pool_connections",
            "Connections to servers by state",
            self.pool.clone(),
        );
        registry.register(
            "held_statements",
            "Statements that wait for a primary",
            self.held.clone(),
        );
        registry.register_with_unit(
            "held",
            "Time that statements waited for a primary",
            Unit::Seconds,
            self.held_seconds.clone(),
        );
        registry.register_with_unit(
            "query_latency",
            "Time from a statement's arrival to the end of its answer",
            Unit::Seconds,
            self.latency.clone(),
        );
    }

    pub fn count_query(&self, kind: QueryKind) {
        self.by_kind[kind as usize].inc();
    }

    pub fn count_error(&self, class: ErrorClass) {
        self.errors.get_or_create(&ErrorLabels { class }).inc();
    }

    pub fn count_read(&self, outcome: ReadOutcome) {
        let labels = ReadLabels { outcome };
        self.reads_of_own_writes.get_or_create(&labels).inc();
    }

    #[must_use]
    pub fn pool_gauge(&self, state: PoolState) -> Gauge {
        self.pool.get_or_create(&PoolLabels { state }).clone()
    }
}
