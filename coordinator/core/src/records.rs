//! The kinds of records: one file each under `records/`, and one line each in [`kinds`]. Keys, values, the state's tables and their
//! stored form follow from that list. Nothing here reads or changes a state.
//!
//! A new kind: its type in `vt_proto::topology`, its message in `records.proto` (`RecordKey`, `RecordValue`), a file here with its
//! [`Record`], and its line, at the end: the order is that of keys and of stored states.

use std::{fmt, str::FromStr};

use vt_proto::{
    convert::ConvertError,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias, UserName},
    keyrange::KeyRange,
    topology::{
        Cell, Coordinator, Drain, Keyspace, ReplicaSet, SchemaChange, Shard, Tablet, VschemaTable,
    },
    user::User,
    wire,
};

mod cell;
pub(crate) mod coordinator;
mod drain;
mod keyspace;
mod replica_set;
mod schema_change;
mod shard;
mod tablet;
mod user;
mod vschema_table;

/// The list. A line names the type, the fields that make its key, its table in the state, its word in keys and, where its ids are
/// handed out by the state and never again, the state's counter.
macro_rules! kinds {
    ($then:ident) => {
        $then! {
            Cell(name: CellName), cells, "cell";
            Keyspace(name: KeyspaceName), keyspaces, "keyspace";
            Shard(keyspace: KeyspaceName, range: KeyRange), shards, "shard";
            ReplicaSet(name: ReplicaSetName), replica_sets, "replica-set";
            Tablet(alias: TabletAlias), tablets, "tablet";
            VschemaTable(keyspace: KeyspaceName, table: String), vschema_tables, "vschema";
            SchemaChange(id: u64), schema_changes, "schema-change", next_schema_change;
            Coordinator(id: u64), coordinators, "coordinator", next_coordinator;
            Drain(alias: TabletAlias), drains, "drain";
            User(name: UserName), users, "user";
        }
    };
}
pub(crate) use kinds;

/// What differs from kind to kind.
pub trait Record: Clone + Into<Self::Wire> + TryFrom<Self::Wire, Error = ConvertError> {
    /// By what it is found in its table: the fields of its line in [`kinds`].
    type Key;
    /// Its message.
    type Wire;
    /// Its key's message.
    type WireKey;
    /// What people call it.
    const NOUN: &'static str;
    /// Whether there are records that hold it: only then is it worth to look for them when it is deleted.
    const IS_HELD: bool = false;
    /// What to do where it is named and does not exist.
    const WHEN_MISSING: &'static str = "create it first";

    /// The command that writes it; None where operators write the record itself.
    const WRITTEN_BY: Option<&'static str> = None;

    /// The key as it travels.
    fn key_to_wire(key: Self::Key) -> Self::WireKey;

    /// The key that travelled.
    fn key_from_wire(key: Self::WireKey) -> Result<Self::Key, ConvertError>;

    /// Whether the record may be so, and may become so from what it is.
    fn validate(_old: Option<&Self>, _new: &Self) -> Result<(), String> {
        Ok(())
    }

    /// The records that must exist when it is written, in a group of this format.
    fn needs(&self, _created: bool, _format: u32) -> Vec<RecordKey> {
        Vec::new()
    }

    /// The records that cannot be deleted while it is there, in a group of this format.
    fn holds(&self, _format: u32) -> Vec<RecordKey> {
        Vec::new()
    }

    /// Why the one called `name` cannot be deleted yet.
    fn held(name: &str, by: &RecordKey) -> String {
        format!(
            "{} {name} still has {by}: delete that in the same step",
            Self::NOUN
        )
    }
}

macro_rules! define_records {
    ($($kind:ident($($part:ident: $type:ty),+), $table:ident, $word:literal $(, $counter:ident)?;)+) => {
        /// The kinds by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RecordKind {
            $($kind,)+
        }

        impl RecordKind {
            /// All kinds, in the order of their keys.
            pub const ALL: &'static [RecordKind] = &[$(RecordKind::$kind,)+];

            /// The word in front of its keys, as in `replica-set`.
            pub fn word(self) -> &'static str {
                match self {
                    $(RecordKind::$kind => $word,)+
                }
            }

            /// What people call it, as in `replica set`.
            pub fn noun(self) -> &'static str {
                match self {
                    $(RecordKind::$kind => <$kind as Record>::NOUN,)+
                }
            }

            /// The command that writes such records; None where operators write the records themselves.
            pub fn written_by(self) -> Option<&'static str> {
                match self {
                    $(RecordKind::$kind => <$kind as Record>::WRITTEN_BY,)+
                }
            }

            pub(crate) fn is_held(self) -> bool {
                match self {
                    $(RecordKind::$kind => <$kind as Record>::IS_HELD,)+
                }
            }

            pub(crate) fn when_missing(self) -> &'static str {
                match self {
                    $(RecordKind::$kind => <$kind as Record>::WHEN_MISSING,)+
                }
            }
        }

        /// Names one record.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RecordKey {
            $($kind($($type),+),)+
        }

        impl RecordKey {
            /// The kind of the record.
            pub fn kind(&self) -> RecordKind {
                match self {
                    $(RecordKey::$kind(..) => RecordKind::$kind,)+
                }
            }

            /// Its name within its kind, as in `shop/-80`.
            pub fn name(&self) -> String {
                match self {
                    $(RecordKey::$kind($($part),+) => [$($part.to_string()),+].join("/"),)+
                }
            }

            /// As it travels and is stored.
            pub fn to_wire(&self) -> wire::RecordKey {
                use wire::record_key::Key;
                let key = match self {
                    $(RecordKey::$kind($($part),+) => {
                        Key::$kind(<$kind as Record>::key_to_wire(($($part.clone()),+)))
                    })+
                };
                wire::RecordKey { key: Some(key) }
            }

            /// The key that travelled or was stored.
            #[expect(unused_parens, reason = "a key of one field is not a tuple")]
            pub fn from_wire(key: Option<wire::RecordKey>) -> Result<Self, ConvertError> {
                use wire::record_key::Key;
                let key = key.and_then(|key| key.key);
                Ok(match key.ok_or_else(|| ConvertError::missing("key"))? {
                    $(Key::$kind(key) => {
                        let ($($part),+) = <$kind as Record>::key_from_wire(key)?;
                        RecordKey::$kind($($part),+)
                    })+
                })
            }

            /// Why it cannot be deleted yet.
            pub(crate) fn held(&self, by: &RecordKey) -> String {
                match self {
                    $(RecordKey::$kind(..) => <$kind as Record>::held(&self.name(), by),)+
                }
            }
        }

        /// The content of one record.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum RecordValue {
            $($kind($kind),)+
        }

        impl RecordValue {
            /// The key under which it is kept.
            pub fn key(&self) -> RecordKey {
                match self {
                    $(RecordValue::$kind(value) => RecordKey::$kind($(value.$part.clone()),+),)+
                }
            }

            /// As it travels and is stored.
            pub fn into_wire(self) -> wire::RecordValue {
                use wire::record_value::Value;
                let value = match self {
                    $(RecordValue::$kind(value) => Value::$kind(value.into()),)+
                };
                wire::RecordValue { value: Some(value) }
            }

            /// The value that travelled or was stored.
            pub fn from_wire(value: wire::RecordValue) -> Result<Self, ConvertError> {
                use wire::record_value::Value;
                let value = value.value.ok_or_else(|| ConvertError::missing("value"))?;
                let value = match value {
                    $(Value::$kind(value) => value.try_into().map(RecordValue::$kind),)+
                };
                value.map_err(|error| error.within("value"))
            }

            /// Whether the record may be so, and may become so from `old`.
            pub fn validate(&self, old: Option<&RecordValue>) -> Result<(), String> {
                match self {
                    $(RecordValue::$kind(new) => {
                        let old = match old {
                            Some(RecordValue::$kind(old)) => Some(old),
                            _ => None,
                        };
                        <$kind as Record>::validate(old, new)
                    })+
                }
            }

            /// The records that must exist when it is written.
            pub fn needs(&self, created: bool, format: u32) -> Vec<RecordKey> {
                match self {
                    $(RecordValue::$kind(value) => value.needs(created, format),)+
                }
            }

            /// The records that cannot be deleted while it is there.
            pub fn holds(&self, format: u32) -> Vec<RecordKey> {
                match self {
                    $(RecordValue::$kind(value) => value.holds(format),)+
                }
            }
        }
    };
}
kinds!(define_records);

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind().word(), self.name())
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is no kind of record; there is: {}", words())]
pub struct KindError {
    pub given: String,
}

fn words() -> String {
    let words: Vec<&str> = RecordKind::ALL.iter().map(|kind| kind.word()).collect();
    words.join(", ")
}

impl FromStr for RecordKind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        let mut all = RecordKind::ALL.iter();
        let found = all.find(|kind| kind.word() == text);
        found.copied().ok_or_else(|| KindError {
            given: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
