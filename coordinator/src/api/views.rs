//! State and health as the admin API shows them. Pure functions of what the core knows.

use vt_coordinator_core::{
    Core,
    event::Now,
    state::{State, Versioned},
};
use vt_proto::{
    ids::{KeyspaceName, ReplicaSetName, TabletAlias},
    topology::{ReplicaSet, Tablet, TabletKind},
    wire,
};

use crate::node::NodeStatus;

/// Events in one answer if nothing else is asked for.
const EVENTS_DEFAULT: usize = 100;

/// The coordinators and what they agree on.
pub fn cluster(core: &Core, status: &NodeStatus) -> wire::ClusterView {
    let coordinators = status.members.iter().map(|member| wire::CoordinatorView {
        id: member.id,
        address: member.address.clone(),
        leader: status.leader_id == Some(member.id),
        last_seen_ms: member.last_heard_ms,
        matched_index: member.matched,
    });
    let state = core.state();
    wire::ClusterView {
        cluster_id: status.cluster_id.clone(),
        revision: state.applied,
        term: status.term,
        leader_id: status.leader_id.unwrap_or(0),
        coordinators: coordinators.collect(),
        cells: state.cells.keys().map(ToString::to_string).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Every keyspace with its shards.
pub fn keyspaces(state: &State) -> Vec<wire::KeyspaceView> {
    let view = |(name, keyspace): (&KeyspaceName, &Versioned<_>)| wire::KeyspaceView {
        keyspace: Some(vt_proto::topology::Keyspace::clone(&keyspace.value).into()),
        revision: keyspace.revision.0,
        shards: state
            .shards_in(name)
            .map(|shard| shard.value.clone().into())
            .collect(),
    };
    state.keyspaces.iter().map(view).collect()
}

/// The named replica set, or all.
pub fn replica_sets(
    core: &Core,
    now: Now,
    name: Option<&ReplicaSetName>,
) -> Vec<wire::ReplicaSetView> {
    let sets = core.state().replica_sets.values();
    sets.filter(|set| name.is_none_or(|name| set.value.name == *name))
        .map(|set| replica_set(core, now, set))
        .collect()
}

fn replica_set(core: &Core, now: Now, set: &Versioned<ReplicaSet>) -> wire::ReplicaSetView {
    let record = &set.value;
    let serves = |primary: &TabletAlias| {
        let report = core.health().answer(primary, now);
        report.is_some_and(|report| report.serving == Some(record.epoch))
    };
    let tablets = core.state().tablets_of(&record.name);
    wire::ReplicaSetView {
        replica_set: Some(record.clone().into()),
        revision: set.revision.0,
        serving: record.primary.as_ref().is_some_and(serves),
        blocked: core.blocked(&record.name).unwrap_or_default(),
        tablets: tablets.map(|it| tablet(core, now, it)).collect(),
    }
}

/// The named tablet, or all.
pub fn tablets(core: &Core, now: Now, alias: Option<&TabletAlias>) -> Vec<wire::TabletView> {
    let tablets = core.state().tablets.values();
    tablets
        .filter(|it| alias.is_none_or(|alias| it.value.alias == *alias))
        .map(|it| tablet(core, now, it))
        .collect()
}

fn tablet(core: &Core, now: Now, tablet: &Versioned<Tablet>) -> wire::TabletView {
    let alias = &tablet.value.alias;
    let set = core.state().replica_sets.get(&tablet.value.replica_set);
    let set = set.map(|set| &set.value);
    let heard = core.health().get(alias);
    let is_primary = set.is_some_and(|set| set.primary.as_ref() == Some(alias));
    let role = match (is_primary, tablet.value.kind) {
        (true, _) => "primary",
        (false, TabletKind::Replica) => "replica",
        (false, TabletKind::Rdonly) => "rdonly",
    };
    wire::TabletView {
        tablet: Some(tablet.value.clone().into()),
        revision: tablet.revision.0,
        role: role.to_owned(),
        acker: set.is_some_and(|set| set.ackers.contains(alias)),
        report: heard.map(|heard| heard.report.clone().into()),
        report_age_ms: core.health().age_ms(alias, now),
        connected: heard.is_some_and(|heard| !heard.stream_ended),
        desired: core.desired(alias).map(Into::into),
        drained: core.state().drains.contains_key(alias),
    }
}

/// The newest events that were asked for, oldest first.
pub fn events(state: &State, request: &wire::ListEventsRequest) -> wire::ListEventsResponse {
    let limit = match request.limit {
        0 => EVENTS_DEFAULT,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let wanted = |(sequence, event): &&(u64, vt_proto::topology::AuditEvent)| {
        *sequence > request.after
            && (request.subject.is_empty() || event.subject == request.subject)
    };
    let newest = state.events.iter().rev().filter(wanted).take(limit);
    let mut events: Vec<_> = newest
        .map(|(sequence, event)| wire::EventView {
            sequence: *sequence,
            event: Some(event.clone().into()),
        })
        .collect();
    events.reverse();
    let oldest = state.events.front().map_or(0, |(sequence, _)| *sequence);
    wire::ListEventsResponse { events, oldest }
}

/// The vschema of a keyspace.
pub fn vschema(state: &State, keyspace: &KeyspaceName) -> wire::Vschema {
    let tables = state
        .vschema_tables
        .iter()
        .filter(|((of, _), _)| of == keyspace);
    let view = tables.map(|(_, table)| wire::VschemaTableView {
        table: Some(table.value.clone().into()),
        revision: table.revision.0,
    });
    wire::Vschema {
        tables: view.collect(),
    }
}
