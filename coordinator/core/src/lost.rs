//! Transactions that a returning primary had to give up: agents report what they keep, and the audit tells of each once.

use std::collections::BTreeSet;

use vt_proto::{
    ids::TabletAlias,
    report::{LostTransactions, Report},
    topology::AuditEvent,
};

use crate::{event::Now, state::State};

/// The kind of the event.
const KIND: &str = "lost.kept";
/// Evidence by which an event is found again.
const TABLET: &str = "tablet";
const DIRECTORY: &str = "directory";

/// What the audit has told, as far as this member has looked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldLost {
    told: BTreeSet<(TabletAlias, String)>,
}

impl ToldLost {
    /// The event about something that is kept and that the audit does not tell of. Once that is committed it is found there; what the
    /// audit has forgotten, another leader tells again.
    pub fn untold(&mut self, state: &State, now: Now, report: &Report) -> Option<AuditEvent> {
        let alias = &report.tablet.alias;
        let is_told = |lost: &LostTransactions| {
            let mut newest = state.events.iter().rev();
            newest.any(|(_, event)| tells(event, alias, &lost.directory))
        };
        for lost in &report.lost.kept {
            let key = (alias.clone(), lost.directory.clone());
            if self.told.contains(&key) {
                continue;
            }
            if !is_told(lost) {
                return Some(event(now, report, lost));
            }
            self.told.insert(key);
        }
        let kept = |directory: &String| {
            let mut all = report.lost.kept.iter();
            all.any(|lost| lost.directory == *directory)
        };
        // What was removed on its host need not be remembered.
        self.told
            .retain(|(of, directory)| of != alias || kept(directory));
        None
    }
}

fn tells(event: &AuditEvent, alias: &TabletAlias, directory: &str) -> bool {
    let says = |name: &str, value: &str| {
        let mut evidence = event.evidence.iter();
        evidence.any(|(said, words)| said == name && words == value)
    };
    event.kind == KIND && says(TABLET, &alias.to_string()) && says(DIRECTORY, directory)
}

fn event(now: Now, report: &Report, lost: &LostTransactions) -> AuditEvent {
    let tablet = &report.tablet;
    let evidence = [
        (TABLET, tablet.alias.to_string()),
        ("lost_in_epoch", lost.epoch.to_string()),
        ("gtids", lost.gtids.to_string()),
        ("transactions", lost.transactions.to_string()),
        ("bytes", lost.bytes.to_string()),
        ("cut_at", lost.cut_at.clone()),
        (DIRECTORY, lost.directory.clone()),
    ];
    AuditEvent {
        time_unix_ms: now.unix_ms,
        kind: KIND.to_owned(),
        subject: format!("replica-set/{}", tablet.replica_set),
        message: format!(
            "{} transactions ({} bytes) that nobody acknowledged were cut off {} and are kept on its host in {}",
            lost.transactions, lost.bytes, tablet.alias, lost.directory
        ),
        evidence: evidence
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}
