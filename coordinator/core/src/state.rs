//! The replicated topology: typed records with revisions, the audit, and which requests were applied. Ordered maps only.

use std::collections::BTreeMap;

use vt_proto::{
    epoch::Revision,
    ids::{KeyspaceName, ReplicaSetName},
    keyrange::KeyRange,
    topology::{
        Cell, Coordinator, Drain, Keyspace, ReplicaSet, SchemaChange, Shard, Tablet, VschemaTable,
    },
    user::User,
    wire,
};

use crate::{
    audit::Audit,
    format,
    records::{Record, RecordKey, RecordKind, RecordValue, kinds},
    requests::Requests,
};

/// Audit events that are kept; older ones are dropped.
pub const EVENTS_MAX: usize = 10_000;

/// A record and the revision that last changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    pub revision: Revision,
    pub value: T,
}

impl Versioned<RecordValue> {
    /// As tools are shown it.
    pub fn into_public_wire(self) -> wire::Record {
        let value = self.value.without_secrets();
        Versioned { value, ..self }.into_wire()
    }

    /// As it travels among members and is stored.
    pub fn into_wire(self) -> wire::Record {
        wire::Record {
            key: Some(self.value.key().to_wire()),
            revision: self.revision.0,
            value: Some(self.value.into_wire()),
        }
    }
}

macro_rules! define_state {
    ($($kind:ident($($part:ident: $type:ty),+), $table:ident, $word:literal $(, $counter:ident)?;)+) => {
        /// Everything that the coordinators replicate, at one log index. A table for every kind of record, and the next id of
        /// every kind whose ids are handed out: they grow for ever.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct State {
            pub cluster_id: String,
            /// The log index that was applied last.
            pub applied: u64,
            /// What all members understand: see [`crate::format`].
            pub format: u32,
            /// The sequence number of the next audit event; grows for ever.
            pub next_event: u64,
            $($(pub $counter: u64,)?)+
            $(pub $table: BTreeMap<<$kind as Record>::Key, Versioned<$kind>>,)+
            /// At most [`EVENTS_MAX`].
            pub events: Audit,
            /// At most [`format::requests_max`].
            pub requests: Requests,
        }

        impl State {
            /// The state before the first command. Sequence numbers and ids start at 1, so that 0 can mean "from the start".
            pub fn new(cluster_id: String) -> Self {
                Self {
                    cluster_id,
                    format: format::FIRST,
                    next_event: 1,
                    $($($counter: 1,)?)+
                    ..Self::default()
                }
            }

            /// The revision of a record; zero if it does not exist.
            pub fn revision_of(&self, key: &RecordKey) -> Revision {
                match key {
                    $(RecordKey::$kind($($part),+) => {
                        let record = self.$table.get(&($($part.clone()),+));
                        record.map_or(Revision::ZERO, |record| record.revision)
                    })+
                }
            }

            /// A copy of a record.
            pub fn value_of(&self, key: &RecordKey) -> Option<RecordValue> {
                match key {
                    $(RecordKey::$kind($($part),+) => {
                        let record = self.$table.get(&($($part.clone()),+))?;
                        Some(RecordValue::$kind(record.value.clone()))
                    })+
                }
            }

            /// Copies of the records of one kind, in order of their keys.
            pub fn records_of(
                &self,
                kind: RecordKind,
            ) -> Box<dyn Iterator<Item = Versioned<RecordValue>> + '_> {
                match kind {
                    $(RecordKind::$kind => Box::new(self.$table.values().map(|record| Versioned {
                        revision: record.revision,
                        value: RecordValue::$kind(record.value.clone()),
                    })),)+
                }
            }

            /// Copies of all records, in order of their keys.
            pub fn records(&self) -> impl Iterator<Item = Versioned<RecordValue>> + '_ {
                RecordKind::ALL.iter().flat_map(|kind| self.records_of(*kind))
            }

            /// For each record that names others which cannot go before it: its key and theirs, in order of their keys.
            pub(crate) fn each_hold(&self, mut visit: impl FnMut(RecordKey, Vec<RecordKey>)) {
                $(for record in self.$table.values() {
                    let holds = record.value.holds(self.format);
                    if !holds.is_empty() {
                        visit(RecordKey::$kind($(record.value.$part.clone()),+), holds);
                    }
                })+
            }

            /// The id of a record and the next id to be handed out, for kinds that are numbered.
            pub(crate) fn numbering(&self, key: &RecordKey) -> Option<(u64, u64)> {
                match key {
                    $($(RecordKey::$kind(id) => Some((*id, self.$counter)),)?)+
                    _ => None,
                }
            }

            /// Creates or replaces a record. Nothing is checked here: see [`crate::apply`].
            pub(crate) fn put(&mut self, revision: Revision, value: RecordValue) {
                match value {
                    $(RecordValue::$kind(value) => {
                        $(self.$counter = self.$counter.max(value.id.saturating_add(1));)?
                        let key = ($(value.$part.clone()),+);
                        self.$table.insert(key, Versioned { revision, value });
                    })+
                }
            }

            /// Deletes a record if it is there. Nothing is checked here: see [`crate::apply`].
            pub(crate) fn remove(&mut self, key: &RecordKey) {
                match key {
                    $(RecordKey::$kind($($part),+) => {
                        drop(self.$table.remove(&($($part.clone()),+)));
                    })+
                }
            }
        }
    };
}
kinds!(define_state);

impl State {
    /// What a new group of these coordinators begins with, at `index`.
    pub fn first(cluster_id: String, index: u64, coordinators: Vec<Coordinator>) -> Self {
        let mut state = Self::new(cluster_id);
        state.applied = index;
        for coordinator in coordinators {
            state.next_coordinator = state.next_coordinator.max(coordinator.id + 1);
            state.put(Revision(index), RecordValue::Coordinator(coordinator));
        }
        state.raise_format();
        state
    }

    /// The group's format follows the records of its members.
    pub(crate) fn raise_format(&mut self) {
        let understood = self.coordinators.values().map(|it| it.value.formats);
        self.format = self.format.max(understood.min().unwrap_or(0));
    }

    /// The tablets of a replica set, in order of their aliases.
    pub fn tablets_of<'a>(
        &'a self,
        set: &'a ReplicaSetName,
    ) -> impl Iterator<Item = &'a Versioned<Tablet>> {
        self.tablets
            .values()
            .filter(move |tablet| tablet.value.replica_set == *set)
    }

    /// The shards that a replica set holds.
    pub fn shards_of<'a>(
        &'a self,
        set: &'a ReplicaSetName,
    ) -> impl Iterator<Item = &'a Versioned<Shard>> {
        self.shards
            .values()
            .filter(move |shard| shard.value.replica_set == *set)
    }

    /// The shards of a keyspace, in order of their ranges.
    pub fn shards_in<'a>(
        &'a self,
        keyspace: &'a KeyspaceName,
    ) -> impl Iterator<Item = &'a Versioned<Shard>> {
        self.shards
            .range((keyspace.clone(), KeyRange::full())..)
            .map(|(_, shard)| shard)
            .take_while(move |shard| shard.value.keyspace == *keyspace)
    }
}
