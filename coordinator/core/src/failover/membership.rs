//! Who belongs to a replica set: tablets register by reporting, and become ackers when they have caught up.

use vt_proto::{
    epoch::{Epoch, Revision},
    gtid::GtidSet,
    ids::{ReplicaSetName, TabletAlias},
    report::{Report, ThreadState},
    topology::{AuditEvent, Cell, Durability, Phase, ReplicaSet, TABLETS_OF_A_SET_MAX, Tablet},
};

use super::{Situation, Verdict, candidate::position, raising, table::Trigger};
use crate::{
    command::{Change, RecordValue},
    durability::ACKS_DEFAULT,
    event::Now,
    health::Health,
    state::State,
};

/// A tablet that applies later than this is not level with its primary.
pub const ACKER_LAG_MS: u64 = 1_000;
/// An alias that another host holds is free when that host was not heard for so long.
pub const ALIAS_HELD_MS: u64 = 3_000;

/// What a report means for the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The records say what the report says.
    Known,
    /// The records should say what the report says.
    Propose {
        changes: Vec<Change>,
        event: AuditEvent,
    },
    /// The report cannot be true of this cluster; it is not listened to.
    Refused(String),
}

/// Compares a report with the records.
pub fn register(state: &State, health: &Health, now: Now, report: &Report) -> Registration {
    let tablet = &report.tablet;
    let Some(known) = state.tablets.get(&tablet.alias) else {
        return first_contact(state, now, tablet);
    };
    if known.value == *tablet {
        return Registration::Known;
    }
    if known.value.replica_set != tablet.replica_set {
        return Registration::Refused(format!(
            "{} belongs to replica set {} and its configuration says {}: a tablet does not change its replica set by itself; correct the configuration or use another alias",
            tablet.alias, known.value.replica_set, tablet.replica_set
        ));
    }
    if known.value.mysql != tablet.mysql && is_held(health, now, &known.value) {
        return Registration::Refused(format!(
            "{} is alive at {}:{} and somebody at {}:{} uses the same alias: give one of them another",
            tablet.alias,
            known.value.mysql.host,
            known.value.mysql.port,
            tablet.mysql.host,
            tablet.mysql.port
        ));
    }
    if known.value.kind != tablet.kind && has_part(state, &tablet.alias, &tablet.replica_set) {
        return Registration::Refused(format!(
            "{} is primary or acker, its kind cannot change now: switch over or add another acker first",
            tablet.alias
        ));
    }
    let mut changes = vec![Change::put(
        known.revision,
        RecordValue::Tablet(tablet.clone()),
    )];
    // Touching the replica set makes a decision that takes the tablet for what it was conflict with this change.
    if known.value.kind != tablet.kind
        && let Some(set) = state.replica_sets.get(&tablet.replica_set)
    {
        let value = RecordValue::ReplicaSet(set.value.clone());
        changes.push(Change::put(set.revision, value));
    }
    Registration::Propose {
        changes,
        event: event(
            now,
            &tablet.alias,
            "tablet.changed",
            format!(
                "{} is now at {}:{}",
                tablet.alias, tablet.mysql.host, tablet.mysql.port
            ),
        ),
    }
}

/// An entry for the audit about a tablet.
pub fn event(now: Now, alias: &TabletAlias, kind: &str, message: String) -> AuditEvent {
    AuditEvent {
        time_unix_ms: now.unix_ms,
        kind: kind.to_owned(),
        subject: format!("tablet/{alias}"),
        message,
        evidence: Vec::new(),
    }
}

fn first_contact(state: &State, now: Now, tablet: &Tablet) -> Registration {
    let known = state.tablets.values();
    let known = known.filter(|it| it.value.replica_set == tablet.replica_set);
    if known.count() >= TABLETS_OF_A_SET_MAX {
        return Registration::Refused(format!(
            "replica set {} has {TABLETS_OF_A_SET_MAX} tablets, the most that one may have: delete one, or give {} another replica set",
            tablet.replica_set, tablet.alias
        ));
    }
    // With one id for two, a source takes the second connection for the first one, and ends that.
    let namesake = state
        .tablets
        .keys()
        .find(|other| other.server_id() == tablet.alias.server_id());
    if let Some(other) = namesake {
        return Registration::Refused(format!(
            "the aliases {} and {other} give mysqld the same server id, {}: give this tablet another alias",
            tablet.alias,
            tablet.alias.server_id()
        ));
    }
    let mut changes = Vec::new();
    if !state.cells.contains_key(tablet.alias.cell()) {
        let cell = Cell {
            name: tablet.alias.cell().clone(),
        };
        changes.push(Change::put(Revision::ZERO, RecordValue::Cell(cell)));
    }
    if !state.replica_sets.contains_key(&tablet.replica_set) {
        let set = forming_set(tablet.replica_set.clone());
        changes.push(Change::put(Revision::ZERO, RecordValue::ReplicaSet(set)));
    }
    changes.push(Change::put(
        Revision::ZERO,
        RecordValue::Tablet(tablet.clone()),
    ));
    Registration::Propose {
        changes,
        event: event(
            now,
            &tablet.alias,
            "tablet.registered",
            format!(
                "{} joins replica set {} from {}:{}",
                tablet.alias, tablet.replica_set, tablet.mysql.host, tablet.mysql.port
            ),
        ),
    }
}

/// A replica set before its first primary.
pub fn forming_set(name: ReplicaSetName) -> ReplicaSet {
    ReplicaSet {
        name,
        epoch: Epoch::ZERO,
        phase: Phase::Forming,
        primary: None,
        durability: Durability::SemiSync {
            acks: ACKS_DEFAULT,
            cross_cell: false,
        },
        ackers: Default::default(),
        start_gtid: GtidSet::new(),
        restart_after: None,
        leaving: None,
        raising: None,
        locked_out: Default::default(),
        history: Vec::new(),
    }
}

/// Whether the host that is registered under the alias was heard a moment ago.
fn is_held(health: &Health, now: Now, known: &Tablet) -> bool {
    let recently = health
        .age_ms(&known.alias, now)
        .is_some_and(|age| age < ALIAS_HELD_MS);
    recently
        && health
            .get(&known.alias)
            .is_some_and(|tablet| !tablet.stream_ended && tablet.report.tablet.mysql == known.mysql)
}

fn has_part(state: &State, alias: &TabletAlias, set: &ReplicaSetName) -> bool {
    state.replica_sets.get(set).is_some_and(|set| {
        set.value.ackers.contains(alias) || set.value.primary.as_ref() == Some(alias)
    })
}

/// Records one more acker when a replica is level with the primary and one is wanted.
///
/// The record comes first and the tablet acknowledges only when it knows the record: E always names everybody who can.
pub fn add_acker(situation: &Situation<'_>, primary: &TabletAlias) -> Verdict {
    let record = situation.record();
    let allowed = |acker: &TabletAlias| record.durability.allows(primary, acker);
    let count = record.ackers.iter().filter(|acker| allowed(acker)).count();
    if count >= raising::ackers_wanted(record) {
        return Verdict::Wait;
    }
    let Some(source) = situation.answer(primary) else {
        return Verdict::Wait;
    };
    let ready = situation
        .promotable()
        .filter(|tablet| tablet.alias != *primary && !record.ackers.contains(&tablet.alias))
        .filter(|tablet| allowed(&tablet.alias))
        .filter(|tablet| !record.locked_out.contains(&tablet.alias))
        .find(|tablet| {
            situation
                .answer(&tablet.alias)
                .is_some_and(|report| is_level(situation, primary, source, report))
        });
    let Some(tablet) = ready else {
        return Verdict::Wait;
    };
    let mut ackers = record.ackers.clone();
    ackers.insert(tablet.alias.clone());
    let event = situation.event(
        "acker.added",
        format!("{} may acknowledge writes of {primary}", tablet.alias),
        vec![("ackers".to_owned(), ackers.len().to_string())],
    );
    let record = ReplicaSet {
        ackers,
        ..record.clone()
    };
    Verdict::commit(situation, Trigger::ReplicaCaughtUp, record, event)
}

/// Whether a replica has what the primary last said it had, and nothing that is not the primary's.
fn is_level(
    situation: &Situation<'_>,
    primary: &TabletAlias,
    source: &Report,
    report: &Report,
) -> bool {
    let endpoint = situation
        .state
        .tablets
        .get(primary)
        .map(|tablet| &tablet.value.mysql);
    let replicates = report.replication.as_ref().is_some_and(|replication| {
        Some(&replication.source) == endpoint
            && replication.io == ThreadState::On
            && replication.sql == ThreadState::On
            // Each start of its applier looks for a moment as if it went on.
            && !replication.stuck
            && replication.error.is_none()
            && replication.lag_ms.is_none_or(|lag| lag <= ACKER_LAG_MS)
    });
    let (Some(theirs), Some(own), Some(uuid)) =
        (position(source), position(report), &source.server_uuid)
    else {
        return false;
    };
    let ahead = own.received.subtract(&theirs.executed);
    replicates
        && report.promised == situation.record().epoch
        && own.received.contains(&theirs.executed)
        && ahead == ahead.of_server(uuid)
}
