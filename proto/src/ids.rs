//! Names: what they may contain, and types that keep them apart.

use std::{fmt, str::FromStr};

/// Longest name: a schema name made of it must fit MySQL's 64 characters (`keyspace$from_to` with 16 hex digits each).
pub const NAME_LENGTH_MAX: usize = 24;

/// A name that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} '{given}' is not valid: {reason}")]
pub struct NameError {
    /// What was being named, as in `keyspace`.
    pub kind: &'static str,
    /// The text as it was given.
    pub given: String,
    /// What is wrong with it and what would be right.
    pub reason: &'static str,
}

fn check_name(kind: &'static str, text: &str, extra: &str) -> Result<(), NameError> {
    let refuse = |reason| {
        Err(NameError {
            kind,
            given: text.to_owned(),
            reason,
        })
    };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > NAME_LENGTH_MAX {
        return refuse("it is longer than 24 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it must start with a letter a-z");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c))
    {
        return refuse("use letters a-z, digits and _ (cells and replica sets also -)");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name($kind, text, $extra)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// A failure zone.
    CellName, "cell", "_"
}
name! {
    /// A logical database as applications see it.
    KeyspaceName, "keyspace", "_"
}
name! {
    /// The tablets that replicate from one primary.
    ReplicaSetName, "replica set", "_-"
}

/// Longest name of a user: MySQL's.
pub const USER_NAME_LENGTH_MAX: usize = 32;

/// By what a user logs in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.chars().count() > USER_NAME_LENGTH_MAX {
            "it is longer than 32 characters"
        } else if text.chars().any(char::is_control) {
            "it has control characters"
        } else if text.trim() != text {
            "it begins or ends with a blank"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(NameError {
            kind: "user",
            given: text.escape_debug().to_string(),
            reason,
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One mysqld under one agent: `cell-uid`, as in `zone1-100`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TabletAlias {
    cell: CellName,
    uid: u32,
}

impl TabletAlias {
    /// The alias of tablet `uid` in `cell`.
    pub fn new(cell: CellName, uid: u32) -> Self {
        Self { cell, uid }
    }

    /// The failure zone it lives in.
    pub fn cell(&self) -> &CellName {
        &self.cell
    }

    /// The number within the cell.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// mysqld's server id, from the whole alias, since two cells may count their tablets alike. Two aliases have the same one once in four
    /// thousand million pairs; the coordinator lets only one of them register.
    pub fn server_id(&self) -> u32 {
        crc32fast::hash(self.to_string().as_bytes()).max(1)
    }
}

impl FromStr for TabletAlias {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| NameError {
            kind: "tablet alias",
            given: text.to_owned(),
            reason,
        };
        let (cell, uid) = text
            .rsplit_once('-')
            .ok_or_else(|| refuse("write cell-uid, as in zone1-100"))?;
        let uid = uid.parse().ok().filter(|uid| *uid > 0);
        let uid = uid.ok_or_else(|| {
            refuse("what follows the last - must be a number from 1 to 4294967295")
        })?;
        Ok(Self {
            cell: cell.parse()?,
            uid,
        })
    }
}

impl fmt::Display for TabletAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.cell, self.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (text, good) in [
            ("commerce", true),
            ("a_1", true),
            ("", false),
            ("Commerce", false),
            ("1a", false),
            ("a-b", false),
        ] {
            assert_eq!(text.parse::<KeyspaceName>().is_ok(), good, "{text}");
        }
        assert!("rs-1".parse::<ReplicaSetName>().is_ok());
        assert!("x".repeat(NAME_LENGTH_MAX + 1).parse::<CellName>().is_err());
    }

    #[test]
    fn user_names_are_those_of_mysql() {
        for (text, good) in [
            ("app", true),
            ("O'Hara-2", true),
            ("grün", true),
            ("", false),
            (" app", false),
            ("a\nb", false),
            ("a\0", false),
        ] {
            assert_eq!(text.parse::<UserName>().is_ok(), good, "{text:?}");
        }
        assert!("x".repeat(32).parse::<UserName>().is_ok());
        assert!("x".repeat(33).parse::<UserName>().is_err());
    }

    #[test]
    fn aliases_round_trip() {
        let alias: TabletAlias = "zone1-100".parse().unwrap();
        assert_eq!((alias.cell().as_str(), alias.uid()), ("zone1", 100));
        assert_eq!(alias.to_string(), "zone1-100");
        for bad in ["zone1", "zone1-", "zone1-0", "-5", "zone1-x"] {
            assert!(bad.parse::<TabletAlias>().is_err(), "{bad}");
        }
    }
}
