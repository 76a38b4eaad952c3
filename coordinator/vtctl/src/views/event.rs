//! Entries of the audit: what was decided, about whom, on what evidence.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use vt_proto::wire;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    pub sequence: u64,
    /// UTC, RFC 3339.
    pub time: String,
    pub kind: String,
    pub subject: String,
    pub message: String,
    pub evidence: Vec<Evidence>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    pub name: String,
    pub value: String,
}

impl From<wire::EventView> for Event {
    fn from(view: wire::EventView) -> Self {
        let event = view.event.unwrap_or_default();
        let evidence = |it: wire::Evidence| Evidence {
            name: it.name,
            value: it.value,
        };
        let milliseconds = i64::try_from(event.time_unix_ms).unwrap_or(i64::MAX);
        let time = DateTime::<Utc>::from_timestamp_millis(milliseconds);
        Self {
            sequence: view.sequence,
            time: time.map_or_else(
                || "?".to_owned(),
                |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
            ),
            kind: event.kind,
            subject: event.subject,
            message: event.message,
            evidence: event.evidence.into_iter().map(evidence).collect(),
        }
    }
}

impl Event {
    /// A line, and the evidence below it. Events are read from top to bottom, so they are no table.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}  {}  {}  {}",
            self.time, self.subject, self.kind, self.message
        );
        for Evidence { name, value } in &self.evidence {
            text.push_str(&format!("\n    {name}: {value}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_shows_its_evidence() {
        let view = wire::EventView {
            sequence: 3,
            event: Some(wire::AuditEvent {
                time_unix_ms: 1_700_000_000_123,
                kind: "failover.revoke".to_owned(),
                subject: "replica-set/main".to_owned(),
                message: "mysqld exited".to_owned(),
                evidence: vec![wire::Evidence {
                    name: "exit".to_owned(),
                    value: "signal 9".to_owned(),
                }],
            }),
        };
        assert_eq!(
            Event::from(view).text(),
            "2023-11-14T22:13:20.123Z  replica-set/main  failover.revoke  mysqld exited\n    exit: signal 9"
        );
    }
}
