//! Who is primary: a state machine recorded in the log, one phase per replica set.
//!
//! [`decide`] looks at the records and at what was heard and returns at most one next commit; it never acts. The rows of
//! [`table`] are the only phase changes there are. What follows from a phase on the hosts stands in `desired`.

pub mod candidate;
pub mod classes;
pub mod drain;
pub mod emergency;
pub mod evidence;
pub mod forming;
pub mod leaving;
pub mod membership;
pub mod planned;
pub mod raising;
pub mod restored;
pub mod schema_change;
pub mod table;
pub mod timeline;
pub mod writes;

use vt_proto::{
    epoch::Generation,
    ids::{ReplicaSetName, TabletAlias},
    report::Report,
    topology::{AuditEvent, Phase, ReplicaSet, Tablet, TabletKind},
};

use crate::{
    event::Now,
    health::Health,
    members::Members,
    state::{State, Versioned},
};

use table::{PhaseName, Trigger};

/// Everything that a decision about one replica set may look at.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    pub state: &'a State,
    pub members: &'a Members,
    pub health: &'a Health,
    pub now: Now,
    pub set: &'a Versioned<ReplicaSet>,
    /// Since when this leader has seen the record as it is.
    pub since_ms: u64,
    /// Since when it has known every acknowledged write of a revoked epoch.
    pub found_ms: Option<u64>,
    /// Too many replica sets are suspect at once: silence is likelier ours than theirs.
    pub mass_failure: bool,
}

impl<'a> Situation<'a> {
    /// The replica set's record.
    pub fn record(&self) -> &'a ReplicaSet {
        &self.set.value
    }

    /// How long the record has been as it is, as far as this leader knows.
    pub fn phase_age_ms(&self) -> u64 {
        self.now.monotonic_ms.saturating_sub(self.since_ms)
    }

    /// What was told of this set within so long, newest first. By the clock of the wall: it only tells what to think.
    pub fn recent_events(&self, within_ms: u64) -> impl Iterator<Item = &'a AuditEvent> {
        let subject = format!("replica-set/{}", self.set.value.name);
        let now_ms = self.now.unix_ms;
        let events = self.state.events.iter().rev().map(|(_, event)| event);
        events
            .take_while(move |event| now_ms.saturating_sub(event.time_unix_ms) <= within_ms)
            .filter(move |event| event.subject == subject)
    }

    /// The tablets of the set, in order of their aliases.
    pub fn tablets(&self) -> impl Iterator<Item = &'a Tablet> + use<'a> {
        let state = self.state;
        self.members
            .of_set(&self.set.value.name)
            .filter_map(move |alias| state.tablets.get(alias))
            .map(|tablet| &tablet.value)
    }

    /// The tablets that may be promoted.
    pub fn promotable(&self) -> impl Iterator<Item = &'a Tablet> + use<'a> {
        self.tablets()
            .filter(|tablet| tablet.kind == TabletKind::Replica)
    }

    /// Whether this tablet may be promoted.
    pub fn is_promotable(&self, alias: &TabletAlias) -> bool {
        self.state.tablets.get(alias).is_some_and(|tablet| {
            tablet.value.kind == TabletKind::Replica
                && tablet.value.replica_set == self.set.value.name
        })
    }

    /// The report of a tablet that answers now.
    pub fn answer(&self, alias: &TabletAlias) -> Option<&'a Report> {
        self.health.answer(alias, self.now)
    }

    /// The last report of a tablet, however old.
    pub fn last_report(&self, alias: &TabletAlias) -> Option<&'a Report> {
        self.health.get(alias).map(|tablet| &tablet.report)
    }

    /// An entry for the audit about this replica set.
    pub fn event(
        &self,
        kind: &str,
        message: String,
        evidence: Vec<(String, String)>,
    ) -> AuditEvent {
        AuditEvent {
            time_unix_ms: self.now.unix_ms,
            kind: kind.to_owned(),
            subject: format!("replica-set/{}", self.set.value.name),
            message,
            evidence,
        }
    }
}

/// What should happen to a replica set now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: all is well, or what was asked for is under way.
    Wait,
    /// Something should happen and cannot: why, and who would unblock it.
    Blocked(String),
    /// Commit this record in place of the one that was looked at.
    Commit {
        trigger: Trigger,
        record: Box<ReplicaSet>,
        events: Vec<AuditEvent>,
    },
}

impl Verdict {
    /// A commit, if the table has a row for it; a pair that the table does not know is a mistake in this crate.
    fn commit(
        situation: &Situation<'_>,
        trigger: Trigger,
        record: ReplicaSet,
        mut event: AuditEvent,
    ) -> Verdict {
        let (from, to) = (
            PhaseName::of(&situation.record().phase),
            PhaseName::of(&record.phase),
        );
        assert_eq!(
            table::next(from, trigger),
            Some(to),
            "the table of phases does not lead from {from} by {trigger:?} to {to}"
        );
        event
            .evidence
            .extend(timeline::evidence(situation, trigger, &record));
        Verdict::Commit {
            trigger,
            record: Box::new(record),
            events: vec![event],
        }
    }
}

/// The next commit for one replica set, if it is time for one.
pub fn decide(situation: &Situation<'_>) -> Verdict {
    if !restored::is_unknown(situation.record())
        && let Some(verdict) = restored::ahead(situation)
    {
        return verdict;
    }
    match &situation.record().phase {
        Phase::Forming => forming::forming(situation),
        Phase::Stable => emergency::stable(situation),
        Phase::Switching { candidate, holds } => planned::switching(situation, candidate, *holds),
        Phase::Revoking { previous, reason } => emergency::revoking(situation, previous, reason),
        Phase::Establishing => emergency::establishing(situation),
    }
}

/// The number of the desired states of a replica set's agents: the highest revision among the records they are made of.
///
/// It only grows: `apply` touches the replica set when it loses a shard or a tablet, and whoever changes a schema change puts
/// the shards of its keyspace again (see `failover/schema_change`). Being made of records, it is the same on all coordinators.
pub fn generation(state: &State, members: &Members, set: &ReplicaSetName) -> Generation {
    let record = state.replica_sets.get(set).map(|record| record.revision);
    let tablets = members
        .of_set(set)
        .filter_map(|alias| state.tablets.get(alias))
        .map(|tablet| tablet.revision);
    let shards = members.shards_of(state, set).map(|shard| shard.revision);
    let newest = record.into_iter().chain(tablets).chain(shards).max();
    Generation(newest.unwrap_or_default().0)
}
