//! What Prometheus, load balancers and people with a browser ask. Reads only, without scripts, from this member's own knowledge.

use std::sync::Arc;

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use tokio_util::sync::CancellationToken;
use vt_coordinator_core::Core;
use vt_proto::topology::Phase;
use vt_tls::listen::Incoming;

use crate::{
    config::Config,
    metrics::{self, Metrics},
    node::{Handle, NodeStatus},
    storage::Space,
};

/// Records of one kind on the status page; `vtctl` shows all of them.
const ROWS_MAX: usize = 500;
/// Audit events on the status page.
const EVENTS_SHOWN: usize = 50;

/// What the pages are made of.
#[derive(Clone)]
pub struct Page {
    config: Arc<Config>,
    handle: Handle,
    metrics: Arc<Metrics>,
}

impl Page {
    pub fn new(config: Config, handle: Handle, metrics: Arc<Metrics>) -> Self {
        Self {
            config: Arc::new(config),
            handle,
            metrics,
        }
    }
}

/// Serves until `stop`.
pub async fn serve(listener: Incoming, page: Page, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/", get(status_page))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(page);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the HTTP server has failed")
}

async fn metrics_text(State(page): State<Page>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (content_type, page.metrics.text())
}

/// Alive: the node's loop answers. A full disk is said and is no reason to end the process.
async fn health(State(page): State<Page>) -> impl IntoResponse {
    let space = *page.handle.space().borrow();
    match page.handle.read(false, |_, _| ()).await {
        Ok(()) if space.is_enough() => (StatusCode::OK, "ok\n".to_owned()),
        Ok(()) => (StatusCode::OK, format!("alive; {space}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Ready: knows a leader, has applied what it knows to be committed, and its disk takes more.
async fn readiness(State(page): State<Page>) -> impl IntoResponse {
    let status = page.handle.status().borrow().clone();
    let refuse = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    if status.leader_id.is_none() {
        return refuse("no leader is known: is a majority of the members running?\n".to_owned());
    }
    if status.applied < status.commit {
        let (applied, commit) = (status.applied, status.commit);
        return refuse(format!("catching up: applied {applied} of {commit}\n"));
    }
    let space = *page.handle.space().borrow();
    if !space.is_enough() {
        return refuse(format!("{space}\n"));
    }
    (StatusCode::OK, "ok\n".to_owned())
}

async fn status_page(State(page): State<Page>) -> impl IntoResponse {
    let config = page.config.clone();
    let space = *page.handle.space().borrow();
    let render = move |core: &Core, status: &NodeStatus| render(&config, core, status, space);
    match page.handle.read(false, render).await {
        Ok(html) => (StatusCode::OK, Html(html)),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Html(escape(&error.to_string())),
        ),
    }
}

fn render(config: &Config, core: &Core, status: &NodeStatus, space: Space) -> String {
    let mut html = String::from(concat!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Vitrail coordinator</title><style>",
        "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}",
        "table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.25rem .8rem;border-bottom:1px solid #ddd}",
        "th{font-weight:600;background:#f4f4f4}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem}",
        "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th{background:#262626}th,td{border-color:#383838}}",
        "</style></head><body>"
    ));
    let leader = status
        .leader_id
        .map_or("nobody".to_owned(), |id| id.to_string());
    let summary = [
        ("Cluster", status.cluster_id.clone()),
        ("This member", status.id.to_string()),
        ("Leader", leader),
        ("Term", status.term.to_string()),
        (
            "Applied",
            format!("{} of {}", status.applied, status.commit),
        ),
        ("Data", config.data_dir.display().to_string()),
        ("Disk", space.to_string()),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    push(&mut html, "<h1>Vitrail coordinator</h1>");
    let rows = summary.map(|(name, value)| vec![name.to_owned(), value]);
    table(&mut html, "", &[], rows.into_iter());
    table(
        &mut html,
        "Members",
        &["id", "address", "heard"],
        members(status),
    );
    table(
        &mut html,
        "Replica sets",
        &["name", "epoch", "phase", "primary", "ackers", "blocked"],
        replica_sets(core),
    );
    table(
        &mut html,
        "Tablets",
        &["alias", "replica set", "kind", "mysql", "router"],
        tablets(core),
    );
    table(
        &mut html,
        "Shards",
        &["keyspace", "range", "replica set"],
        shards(core),
    );
    table(
        &mut html,
        "Newest events",
        &["number", "kind", "subject", "what"],
        events(core),
    );
    push(&mut html, "</body></html>");
    html
}

fn members(status: &NodeStatus) -> impl Iterator<Item = Vec<String>> {
    status.members.iter().map(|member| {
        let heard = match member.last_heard_ms {
            _ if member.id == status.id => "this one".to_owned(),
            Some(ms) => format!("{ms} ms ago"),
            // Followers talk to their leader only.
            None => "-".to_owned(),
        };
        vec![member.id.to_string(), member.address.clone(), heard]
    })
}

fn replica_sets(core: &Core) -> impl Iterator<Item = Vec<String>> {
    core.state().replica_sets.values().map(|set| {
        let set = &set.value;
        let phase = match &set.phase {
            Phase::Forming => "forming".to_owned(),
            Phase::Stable => "stable".to_owned(),
            Phase::Switching { candidate, .. } => format!("switching to {candidate}"),
            Phase::Revoking { previous, reason } => format!("revoking {previous}: {reason}"),
            Phase::Establishing => "establishing".to_owned(),
        };
        let ackers: Vec<_> = set.ackers.iter().map(ToString::to_string).collect();
        vec![
            set.name.to_string(),
            set.epoch.to_string(),
            phase,
            set.primary
                .as_ref()
                .map_or(String::new(), ToString::to_string),
            ackers.join(" "),
            core.blocked(&set.name).unwrap_or_default(),
        ]
    })
}

fn tablets(core: &Core) -> impl Iterator<Item = Vec<String>> {
    core.state().tablets.values().map(|tablet| {
        let tablet = &tablet.value;
        let router = tablet.router.as_ref();
        vec![
            tablet.alias.to_string(),
            tablet.replica_set.to_string(),
            format!("{:?}", tablet.kind).to_lowercase(),
            format!("{}:{}", tablet.mysql.host, tablet.mysql.port),
            router.map_or(String::new(), |at| format!("{}:{}", at.host, at.port)),
        ]
    })
}

fn shards(core: &Core) -> impl Iterator<Item = Vec<String>> {
    core.state().shards.values().map(|shard| {
        let shard = &shard.value;
        vec![
            shard.keyspace.to_string(),
            shard.range.to_string(),
            shard.replica_set.to_string(),
        ]
    })
}

fn events(core: &Core) -> impl Iterator<Item = Vec<String>> {
    let newest = core.state().events.iter().rev().take(EVENTS_SHOWN);
    newest.map(|(sequence, event)| {
        vec![
            sequence.to_string(),
            event.kind.clone(),
            event.subject.clone(),
            event.message.clone(),
        ]
    })
}

fn table(
    html: &mut String,
    title: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut rows = rows.peekable();
    if !title.is_empty() {
        push(html, &format!("<h2>{title}</h2>"));
    }
    if rows.peek().is_none() {
        push(html, "<p>none</p>");
        return;
    }
    push(html, "<table>");
    if !columns.is_empty() {
        let cells: String = columns.iter().map(|c| format!("<th>{c}</th>")).collect();
        push(html, &format!("<tr>{cells}</tr>"));
    }
    for row in rows.by_ref().take(ROWS_MAX) {
        let cells: String = row
            .iter()
            .map(|c| format!("<td>{}</td>", escape(c)))
            .collect();
        push(html, &format!("<tr>{cells}</tr>"));
    }
    push(html, "</table>");
    let more = rows.count();
    if more > 0 {
        push(html, &format!("<p>and {more} more: ask vtctl</p>"));
    }
}

fn push(html: &mut String, text: &str) {
    html.push_str(text);
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markup() {
        assert_eq!(
            escape("<b a=\"1\">&\n"),
            "&lt;b a=&quot;1&quot;&gt;&amp;\\n"
        );
    }
}
