//! What operators ask for, as commands: checked against the records they were made from. Nothing here proposes.

use vt_proto::{
    epoch::Revision,
    ids::{KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::KeyRange,
    topology::{
        AuditEvent, Durability, Keyspace, Phase, Raising, ReplicaSet, SchemaChange,
        SchemaChangeStatus, Shard, TabletKind, VschemaTable,
    },
};

use crate::{
    apply::CHANGES_MAX,
    codec,
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    failover::{
        Situation,
        planned::{approaching, fit},
        schema_change::touch_shards,
        table::Trigger,
        timeline,
    },
    format,
    health::Health,
    members::Members,
    peer::PROPOSAL_BYTES_MAX,
    refusal::Refusal,
    state::{State, Versioned},
};

mod attempt;
pub mod coordinators;
mod drains;
pub mod join;
mod lost;
mod records;
mod users;

pub use attempt::{Attempt, Plan, plan};
pub use drains::set_drained;
pub use lost::forget_lost;
pub use records::write_records;
pub use users::{Alteration, alter_user, create_user, drop_user};

/// Statements of one schema change.
pub const STATEMENTS_MAX: usize = 256;
/// Bytes of one schema change or of one table's vschema: one log entry must stay small.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// More than is added to the audit of an intent to say who asked for it.
const CALLER_BYTES_MAX: usize = 1_024;
/// Schema changes that may wait at the same time.
pub const PENDING_MAX: usize = 100;

fn refuse<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal::Invalid { reason })
}

fn missing<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal::Missing { reason })
}

fn command(request_id: &str, changes: Vec<Change>, event: AuditEvent) -> Command {
    Command::new(request_id.to_owned(), changes, vec![event])
}

/// What follows from many records may be more than one entry of the log holds: refused here, where all refusals are.
fn whole(command: Command) -> Result<Command, Refusal> {
    let (count, bytes) = (command.changes.len(), codec::encode_command(&command).len());
    if count > CHANGES_MAX || bytes + CALLER_BYTES_MAX > PROPOSAL_BYTES_MAX {
        return refuse(format!(
            "{count} records of {bytes} bytes would change, and at most {CHANGES_MAX} of {PROPOSAL_BYTES_MAX} do at a time: \
             remove tables from the vschema in parts first"
        ));
    }
    Ok(command)
}

/// A refusal as a command, to be told when it is applied: then it stands under the request's id, and an earlier attempt of the same
/// request that is still on its way cannot take effect after its caller was told that it did not. None as long as there is a member
/// that does not understand it.
pub(crate) fn refused(state: &State, request_id: &str, refusal: &Refusal) -> Option<Command> {
    let understood = state.format >= format::REFUSALS;
    understood.then(|| Command::refusal(request_id.to_owned(), refusal.clone()))
}

/// The keyspace, or that there is none.
pub fn known_keyspace<'a>(
    state: &'a State,
    name: &KeyspaceName,
) -> Result<&'a Versioned<Keyspace>, Refusal> {
    match state.keyspaces.get(name) {
        Some(keyspace) => Ok(keyspace),
        None => missing(format!(
            "there is no keyspace {name}; there is: {}",
            list(state.keyspaces.keys())
        )),
    }
}

fn list(names: impl Iterator<Item: ToString>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    names.join(", ")
}

fn event(now: Now, kind: &str, key: &RecordKey, message: String) -> AuditEvent {
    AuditEvent {
        time_unix_ms: now.unix_ms,
        kind: kind.to_owned(),
        subject: key.to_string(),
        message,
        evidence: Vec::new(),
    }
}

/// A new unsharded keyspace on a replica set; on the only one if none is named.
pub fn create_keyspace(
    state: &State,
    name: &KeyspaceName,
    replica_set: Option<&ReplicaSetName>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    if state.keyspaces.contains_key(name) {
        return Err(Refusal::Exists {
            reason: format!("keyspace {name} exists already"),
        });
    }
    let set = the_set(state, replica_set)?;
    let key = RecordKey::Keyspace(name.clone());
    let event = event(
        now,
        "keyspace.created",
        &key,
        format!("keyspace {name} lives on replica set {}", set.value.name),
    );
    let shard = Shard {
        keyspace: name.clone(),
        range: KeyRange::full(),
        replica_set: set.value.name.clone(),
    };
    let keyspace = Keyspace { name: name.clone() };
    let changes = vec![
        Change::put(Revision::ZERO, RecordValue::Keyspace(keyspace)),
        Change::put(Revision::ZERO, RecordValue::Shard(shard)),
    ];
    Ok(command(request_id, changes, event))
}

fn the_set<'a>(
    state: &'a State,
    name: Option<&ReplicaSetName>,
) -> Result<&'a Versioned<ReplicaSet>, Refusal> {
    let names = || list(state.replica_sets.keys());
    match name {
        Some(name) => match state.replica_sets.get(name) {
            Some(set) => Ok(set),
            None => missing(format!(
                "there is no replica set {name}; there is: {}",
                names()
            )),
        },
        None => match (state.replica_sets.values().next(), state.replica_sets.len()) {
            (Some(set), 1) => Ok(set),
            (None, _) => refuse("there is no replica set yet: start agents first".to_owned()),
            (Some(_), _) => refuse(format!("name one of the replica sets: {}", names())),
        },
    }
}

/// A keyspace goes from the records, with its shards, vschema and schema changes. Its rows stay in MySQL.
pub fn delete_keyspace(
    state: &State,
    name: &KeyspaceName,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let keyspace = known_keyspace(state, name)?;
    let key = RecordKey::Keyspace(name.clone());
    let mut changes = vec![Change::delete(keyspace.revision, key.clone())];
    for shard in state.shards_in(name) {
        let key = RecordKey::Shard(name.clone(), shard.value.range.clone());
        changes.push(Change::delete(shard.revision, key));
    }
    for ((keyspace, table), record) in &state.vschema_tables {
        if keyspace == name {
            let key = RecordKey::VschemaTable(keyspace.clone(), table.clone());
            changes.push(Change::delete(record.revision, key));
        }
    }
    for (id, change) in &state.schema_changes {
        if change.value.keyspace == *name {
            let key = RecordKey::SchemaChange(*id);
            changes.push(Change::delete(change.revision, key));
        }
    }
    let message = format!(
        "keyspace {name} is no longer served; its schemas stay in MySQL until they are dropped"
    );
    let event = event(now, "keyspace.deleted", &key, message);
    whole(command(request_id, changes, event))
}

/// Refuses to delete a keyspace that somebody else changed since `expected` (zero: whatever it is), or, unless forced, one
/// whose tables are in use by a vschema.
pub fn check_deletion(
    state: &State,
    name: &KeyspaceName,
    force: bool,
    expected: Revision,
) -> Result<(), Refusal> {
    let found = known_keyspace(state, name)?.revision;
    if expected != Revision::ZERO && expected != found {
        return Err(Refusal::Conflict {
            key: RecordKey::Keyspace(name.clone()),
            expected,
            found,
        });
    }
    let tables = state
        .vschema_tables
        .keys()
        .filter(|(keyspace, _)| keyspace == name)
        .count();
    if tables > 0 && !force {
        return refuse(format!(
            "the vschema of keyspace {name} has {tables} tables: remove them, or delete it by force"
        ));
    }
    Ok(())
}

/// Why none of the ackers can take over.
fn nobody_fit(situation: &Situation<'_>, primary: &TabletAlias) -> String {
    let ackers = &situation.record().ackers;
    let reasons: Vec<String> = ackers
        .iter()
        .filter_map(|acker| fit(situation, primary, acker).err())
        .collect();
    format!("no acker can take over now: {}", reasons.join("; "))
}

/// A planned change of the primary; to the best acker if nobody is named.
pub fn switchover(
    state: &State,
    health: &Health,
    set: &ReplicaSetName,
    candidate: Option<&TabletAlias>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let record = the_set(state, Some(set))?;
    let (Phase::Stable, Some(primary)) = (&record.value.phase, &record.value.primary) else {
        return refuse(format!(
            "replica set {set} is in phase {:?}: wait until it is stable",
            record.value.phase
        ));
    };
    let members = Members::of(state);
    let situation = Situation {
        state,
        members: &members,
        health,
        now,
        set: record,
        since_ms: now.monotonic_ms,
        found_ms: None,
        mass_failure: false,
    };
    let candidate = match candidate {
        Some(candidate) => {
            if !state.tablets.contains_key(candidate) {
                return missing(format!("there is no tablet {candidate}"));
            }
            fit(&situation, primary, candidate).map_err(|reason| Refusal::Invalid { reason })?;
            candidate
        }
        None => {
            let fit = record
                .value
                .ackers
                .iter()
                .find(|acker| fit(&situation, primary, acker).is_ok());
            match fit {
                Some(acker) => acker,
                None => {
                    return refuse(nobody_fit(&situation, primary));
                }
            }
        }
    };
    let key = RecordKey::ReplicaSet(set.clone());
    let message = format!("{primary} is to hand over to {candidate}");
    let mut event = event(now, "switchover.asked", &key, message);
    let switching = ReplicaSet {
        phase: approaching(candidate),
        ..record.value.without_steps()
    };
    event.evidence = timeline::evidence(&situation, Trigger::SwitchoverAsked, &switching);
    let changes = vec![Change::put(
        record.revision,
        RecordValue::ReplicaSet(switching),
    )];
    Ok(command(request_id, changes, event))
}

/// Another policy for a replica set. Fewer acknowledgements count at once, more when a row has them.
pub fn set_durability(
    state: &State,
    set: &ReplicaSetName,
    acks: Option<u32>,
    cross_cell: Option<bool>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let record = the_set(state, Some(set))?;
    let old = &record.value;
    if state.format < format::RAISING {
        return refuse("some coordinators are of an older version that cannot change policies: upgrade them first".to_owned());
    }
    if old.phase != Phase::Stable {
        return refuse(format!(
            "replica set {set} is in phase {:?}: wait until it is stable",
            old.phase
        ));
    }
    let Durability::SemiSync {
        acks: before,
        cross_cell: was_cross_cell,
    } = old.durability;
    let acks = acks.unwrap_or(old.raising.map_or(before, |raising| raising.acks));
    let cross_cell = cross_cell.unwrap_or(was_cross_cell);
    if acks == 0 {
        return refuse(
            "no acknowledgement behind a write would lose acknowledged writes with the first failover: at least 1 is kept".to_owned(),
        );
    }
    let wanted = |acks| Durability::SemiSync { acks, cross_cell };
    enough_tablets(state, set, wanted(acks))?;
    let durability = wanted(acks.min(before));
    let raising = (acks > durability.acks()).then_some(Raising {
        acks,
        ordered: false,
    });
    let new = ReplicaSet {
        durability,
        raising,
        ..old.without_steps()
    };
    let key = RecordKey::ReplicaSet(set.clone());
    let cells = if cross_cell { " from other cells" } else { "" };
    let message = format!("{acks} acknowledgements{cells} are to stand behind each write");
    let event = event(now, "durability.asked", &key, message);
    let changes = vec![Change::put(record.revision, RecordValue::ReplicaSet(new))];
    Ok(command(request_id, changes, event))
}

/// Refuses a policy under which some tablet could not be primary: a failover might need just that one.
fn enough_tablets(state: &State, set: &ReplicaSetName, policy: Durability) -> Result<(), Refusal> {
    let members = Members::of(state);
    let promotable = || {
        members
            .of_set(set)
            .filter_map(|alias| state.tablets.get(alias))
            .filter(|tablet| tablet.value.kind == TabletKind::Replica)
            .map(|tablet| &tablet.value.alias)
    };
    for primary in promotable() {
        let ackers = promotable().filter(|it| *it != primary && policy.allows(primary, it));
        let count = ackers.count();
        if count < policy.acks() as usize {
            return refuse(format!(
                "with {primary} as primary {count} replicas could acknowledge under that policy and {} are asked for: add replicas first",
                policy.acks()
            ));
        }
    }
    Ok(())
}

/// DDL for a keyspace, carried out by the primaries of its shards.
pub fn apply_schema(
    state: &State,
    keyspace: &KeyspaceName,
    statements: Vec<String>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    known_keyspace(state, keyspace)?;
    let bytes: usize = statements.iter().map(String::len).sum();
    if statements.is_empty() || statements.len() > STATEMENTS_MAX || bytes > TEXT_BYTES_MAX {
        return refuse(format!(
            "a schema change has 1 to {STATEMENTS_MAX} statements and at most {TEXT_BYTES_MAX} bytes"
        ));
    }
    let pending = state
        .schema_changes
        .values()
        .filter(|change| change.value.status == SchemaChangeStatus::Pending)
        .count();
    if pending >= PENDING_MAX {
        return refuse(format!(
            "{pending} schema changes are waiting: let them finish first"
        ));
    }
    let change = SchemaChange {
        id: state.next_schema_change,
        keyspace: keyspace.clone(),
        statements,
        status: SchemaChangeStatus::Pending,
    };
    let key = RecordKey::SchemaChange(change.id);
    let event = event(
        now,
        "schema.asked",
        &key,
        format!(
            "{} statements for keyspace {keyspace}",
            change.statements.len()
        ),
    );
    let mut changes: Vec<Change> = touch_shards(state, &change).collect();
    changes.push(Change::put(
        Revision::ZERO,
        RecordValue::SchemaChange(change),
    ));
    Ok(command(request_id, changes, event))
}

/// Sets the vschema of the named tables of a keyspace; others stay as they are.
pub fn apply_vschema(
    state: &State,
    keyspace: &KeyspaceName,
    tables: Vec<(String, String)>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    known_keyspace(state, keyspace)?;
    let bytes: usize = tables
        .iter()
        .map(|(name, spec)| name.len() + spec.len())
        .sum();
    if tables.is_empty() || bytes > TEXT_BYTES_MAX {
        return refuse(format!(
            "a vschema has at least one table and at most {TEXT_BYTES_MAX} bytes"
        ));
    }
    let key = RecordKey::Keyspace(keyspace.clone());
    let message = format!("vschema of {} tables", tables.len());
    let event = event(now, "vschema.applied", &key, message);
    let changes = tables
        .into_iter()
        .map(|(table, spec_json)| {
            let known = state.vschema_tables.get(&(keyspace.clone(), table.clone()));
            let revision = known.map_or(Revision::ZERO, |known| known.revision);
            Change::put(
                revision,
                RecordValue::VschemaTable(VschemaTable {
                    keyspace: keyspace.clone(),
                    table,
                    spec_json,
                }),
            )
        })
        .collect();
    Ok(command(request_id, changes, event))
}

/// Sets the vschema of the named tables of a keyspace and drops that of all others.
pub fn replace_vschema(
    state: &State,
    keyspace: &KeyspaceName,
    tables: Vec<(String, String)>,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let kept: Vec<String> = tables.iter().map(|(table, _)| table.clone()).collect();
    let mut command = apply_vschema(state, keyspace, tables, request_id, now)?;
    let others = state
        .vschema_tables
        .iter()
        .filter(|((of, table), _)| of == keyspace && !kept.contains(table));
    command.changes.extend(others.map(|((of, table), record)| {
        let key = RecordKey::VschemaTable(of.clone(), table.clone());
        Change::delete(record.revision, key)
    }));
    whole(command)
}
