//! Writes that nobody else need have: an open primary whose semi-sync somebody has switched off acknowledges alone until its agent
//! has switched it on again, and the audit tells from where to where that was.

use std::collections::BTreeMap;

use vt_proto::{
    epoch::{Epoch, Incarnation},
    gtid::GtidSet,
    ids::TabletAlias,
    report::Report,
    topology::{AuditEvent, Phase},
};

use crate::{event::Now, state::State};

/// The kind of the event.
const KIND: &str = "primary.unprotected";

/// An open primary as it was when it was last heard of with semi-sync.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    epoch: Epoch,
    incarnation: Incarnation,
    executed: Option<GtidSet>,
}

/// What is known of primaries, and what was noticed and does not stand in the audit yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unprotected {
    open: BTreeMap<TabletAlias, Open>,
    untold: BTreeMap<TabletAlias, AuditEvent>,
}

impl Unprotected {
    /// What the audit does not tell of this tablet.
    pub fn untold(&mut self, state: &State, now: Now, report: &Report) -> Option<AuditEvent> {
        let alias = &report.tablet.alias;
        self.look(state, now, report);
        let untold = self.untold.get(alias)?;
        let mut newest = state.events.iter().rev();
        if newest.any(|(_, event)| event == untold) {
            self.untold.remove(alias);
            return None;
        }
        Some(untold.clone())
    }

    /// In between it may not have been heard of, or have said that its mysqld does not answer: to switch it off takes mysqld a while.
    fn look(&mut self, state: &State, now: Now, report: &Report) {
        let alias = &report.tablet.alias;
        let Some(epoch) = epoch_as_primary(state, report) else {
            self.open.remove(alias);
            return;
        };
        let open = Open {
            epoch,
            incarnation: report.incarnation,
            executed: report.gtid.as_ref().map(|it| it.executed.clone()),
        };
        let with_semi_sync = report.semi_sync_source == Some(true);
        let without = report.semi_sync_source == Some(false);
        if with_semi_sync && report.serving == Some(epoch) {
            self.open.insert(alias.clone(), open);
        } else if without
            && report.super_read_only == Some(false)
            && let Some(before) = self.open.remove(alias)
            && (before.epoch, before.incarnation) == (epoch, report.incarnation)
        {
            let event = event(now, before.executed.as_ref(), report);
            self.untold.insert(alias.clone(), event);
        }
    }
}

/// The present epoch, if this is its primary and knows it.
fn epoch_as_primary(state: &State, report: &Report) -> Option<Epoch> {
    let set = &state.replica_sets.get(&report.tablet.replica_set)?.value;
    let holds = matches!(set.phase, Phase::Stable | Phase::Switching { .. });
    let is = holds && set.primary.as_ref() == Some(&report.tablet.alias);
    (is && report.promised == set.epoch).then_some(set.epoch)
}

fn event(now: Now, before: Option<&GtidSet>, report: &Report) -> AuditEvent {
    let alias = &report.tablet.alias;
    let text =
        |set: Option<&GtidSet>| set.map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let noticed = report.gtid.as_ref().map(|it| &it.executed);
    let evidence = [
        ("tablet", alias.to_string()),
        ("epoch", report.promised.to_string()),
        ("executed_with_semi_sync", text(before)),
        ("executed_when_noticed", text(noticed)),
    ];
    AuditEvent {
        time_unix_ms: now.unix_ms,
        kind: KIND.to_owned(),
        subject: format!("replica-set/{}", report.tablet.replica_set),
        message: format!(
            "somebody has switched semi-sync off on the open primary {alias}, and its agent switches it on again: writes after \
             executed_with_semi_sync were confirmed without an acknowledgement until then, and would be lost with {alias} if no replica \
             has received them"
        ),
        evidence: evidence
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}
