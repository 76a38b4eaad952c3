//! /metrics, /healthz, /readyz and a page for people. It shows; it changes nothing.

use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use vt_proto::{
    report::{MysqldState, Report},
    routing::RoutingSnapshot,
};
use vt_tls::listen::{Incoming, Limits};

use crate::{metrics, uplink::report::Outgoing};

/// Prometheus, a load balancer and some people; handshakes as in other listeners.
pub const LIMITS: Limits = Limits {
    connections: 256,
    connections_per_address: 256,
    handshakes: 64,
    handshakes_per_address: 32,
    handshake_time: Duration::from_secs(5),
};

/// What the pages are made of.
pub struct Pages {
    pub registry: Registry,
    /// None for a router alone.
    pub reports: Option<watch::Receiver<Option<Arc<Outgoing>>>>,
    /// Whether a leading coordinator listens.
    pub coordinator: watch::Receiver<bool>,
    /// The routing snapshot in use; nothing without a router.
    pub routing: Box<dyn Fn() -> Option<Arc<RoutingSnapshot>> + Send + Sync>,
    /// Set once everything has been started.
    pub started: watch::Receiver<bool>,
}

/// Takes the port; refused ports are told at once.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        anyhow::anyhow!("http_listen: {listen} cannot be taken: {error}; name another address")
    })
}

/// Answers until cancelled.
pub async fn serve(listener: Incoming, pages: Pages, cancel: CancellationToken) {
    let app = Router::new()
        .route("/", get(status_page))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Arc::new(pages));
    let serving =
        axum::serve(listener, app).with_graceful_shutdown(async move { cancel.cancelled().await });
    if let Err(error) = serving.await {
        tracing::error!(%error, "the status pages ended");
    }
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        metrics::text(&pages.registry),
    )
}

/// Ready: everything has been started, and what this host is for can be done.
async fn ready(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    let report = newest(&pages);
    let started = *pages.started.borrow();
    let mysqld = report
        .as_ref()
        .is_none_or(|report| report.mysqld == MysqldState::Running);
    match (started, mysqld) {
        (true, true) => (StatusCode::OK, "ready\n".to_owned()),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        (_, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "mysqld does not answer\n".to_owned(),
        ),
    }
}

fn newest(pages: &Pages) -> Option<Report> {
    let reports = pages.reports.as_ref()?;
    let newest = reports.borrow().clone()?;
    Some(newest.report.clone())
}

async fn status_page(State(pages): State<Arc<Pages>>) -> Html<String> {
    let mut rows = Vec::new();
    let coordinator = match *pages.coordinator.borrow() {
        true => "connected",
        false => "none answers; everything goes on as it was",
    };
    rows.push(("coordinator", coordinator.to_owned()));
    if let Some(report) = newest(&pages) {
        rows.extend(report_rows(&report));
    }
    let snapshot = (pages.routing)();
    let mut page = String::from(
        "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\"><title>vt-agent</title>\
         <style>body{font:14px sans-serif;margin:2em}td,th{padding:2px 12px 2px 0;text-align:left;vertical-align:top}</style>\
         <h1>vt-agent</h1><table>",
    );
    for (name, value) in rows {
        // Writing to a string does not fail.
        let _ = write!(page, "<tr><th>{name}<td>{}", escaped(&value));
    }
    page.push_str("</table>");
    if let Some(snapshot) = snapshot {
        page.push_str(&routing_table(&snapshot));
    }
    page.push_str("<p><a href=\"/metrics\">metrics</a>\n");
    Html(page)
}

fn report_rows(report: &Report) -> Vec<(&'static str, String)> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![
        ("tablet", report.tablet.alias.to_string()),
        ("replica set", report.tablet.replica_set.to_string()),
        (
            "mysqld",
            format!("{:?}, life {}", report.mysqld, report.incarnation),
        ),
        (
            "serving as primary in epoch",
            or_none(report.serving.map(|epoch| epoch.to_string())),
        ),
        ("promised epoch", report.promised.to_string()),
        ("generation", report.generation.to_string()),
        ("waiting", or_none(report.blocked.clone())),
        (
            "executed",
            or_none(report.gtid.as_ref().map(|gtid| gtid.executed.to_string())),
        ),
    ];
    if let Some(channel) = &report.replication {
        rows.push((
            "replicates from",
            format!(
                "{}:{}, IO {:?}, SQL {:?}, lag {} ms{}",
                channel.source.host,
                channel.source.port,
                channel.io,
                channel.sql,
                or_none(channel.lag_ms.map(|lag_ms| lag_ms.to_string())),
                channel
                    .error
                    .as_ref()
                    .map_or(String::new(), |error| format!(", {error}"))
            ),
        ));
    }
    rows
}

fn routing_table(snapshot: &RoutingSnapshot) -> String {
    let mut text = format!(
        "<h2>Routing</h2><p>revision {}<table><tr><th>replica set<th>epoch<th>state<th>primary<th>replicas",
        snapshot.version.revision
    );
    for set in &snapshot.replica_sets {
        let primary = set
            .primary
            .as_ref()
            .map_or("-".to_owned(), |(alias, place)| {
                format!("{alias} ({}:{})", place.host, place.port)
            });
        let replicas: Vec<String> = set
            .replicas
            .iter()
            .map(|replica| {
                format!(
                    "{}{}",
                    replica.alias,
                    if replica.healthy {
                        ""
                    } else {
                        " (not healthy)"
                    }
                )
            })
            .collect();
        let _ = write!(
            text,
            "<tr><td>{}<td>{}<td>{:?}<td>{}<td>{}",
            escaped(set.name.as_str()),
            set.epoch,
            set.state,
            escaped(&primary),
            escaped(&replicas.join(", "))
        );
    }
    text.push_str("</table><table><tr><th>keyspace<th>shards");
    for keyspace in &snapshot.keyspaces {
        let shards: Vec<String> = keyspace
            .shards
            .iter()
            .map(|shard| format!("{} on {}", shard.range, shard.replica_set))
            .collect();
        let _ = write!(
            text,
            "<tr><td>{}<td>{}",
            escaped(keyspace.name.as_str()),
            escaped(&shards.join(", "))
        );
    }
    text.push_str("</table>");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
