//! Users of applications: who they are, and what they may do in which keyspace. Never a password, and no hash in any text.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::ids::{KeyspaceName, NameError, UserName};

/// What a server keeps of a password. Whoever has it and hears a login can log in himself: as secret as the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHashes {
    /// `SHA1(SHA1(password))`, as `mysql_native_password` has it.
    pub native: [u8; 20],
    /// `SHA256(SHA256(password))`, as the fast way of `caching_sha2_password` has it.
    pub sha2: [u8; 32],
}

impl PasswordHashes {
    /// What tools are shown: nobody's.
    pub const HIDDEN: Self = Self {
        native: [0; 20],
        sha2: [0; 32],
    };
}

impl fmt::Debug for PasswordHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHashes")
    }
}

/// What may be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub read: bool,
    pub write: bool,
    pub ddl: bool,
    /// Everything else there, and all of the above; everywhere also to see and end what others run.
    pub admin: bool,
}

/// The words, in the order in which they are shown.
const WORDS: [(&str, Rights); 4] = [
    (
        "read",
        Rights {
            read: true,
            ..Rights::NONE
        },
    ),
    (
        "write",
        Rights {
            write: true,
            ..Rights::NONE
        },
    ),
    (
        "ddl",
        Rights {
            ddl: true,
            ..Rights::NONE
        },
    ),
    (
        "admin",
        Rights {
            admin: true,
            ..Rights::NONE
        },
    ),
];

impl Rights {
    pub const NONE: Self = Self {
        read: false,
        write: false,
        ddl: false,
        admin: false,
    };
    pub const ALL: Self = Self {
        read: true,
        write: true,
        ddl: true,
        admin: true,
    };

    /// These and those.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            ddl: self.ddl || other.ddl,
            admin: self.admin || other.admin,
        }
    }

    /// These without those.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            read: self.read && !other.read,
            write: self.write && !other.write,
            ddl: self.ddl && !other.ddl,
            admin: self.admin && !other.admin,
        }
    }

    /// Whether they suffice for what needs `needed`.
    #[must_use]
    pub fn allow(self, needed: Self) -> bool {
        self.admin || needed.without(self) == Self::NONE
    }
}

/// As in `read,write`; nothing of nothing.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |right: Rights| right.without(*self) == Self::NONE;
        let words: Vec<&str> = WORDS
            .iter()
            .filter(|(_, right)| has(*right))
            .map(|(word, _)| *word)
            .collect();
        f.pad(&words.join(","))
    }
}

impl FromStr for Rights {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut rights = Self::NONE;
        for word in text.split(',').map(str::trim) {
            let found = WORDS.iter().find(|(name, _)| *name == word);
            let (_, right) = found.ok_or_else(|| NameError {
                kind: "right",
                given: word.to_owned(),
                reason: "there is read, write, ddl and admin; several with commas between them",
            })?;
            rights = rights.with(*right);
        }
        Ok(rights)
    }
}

/// Where rights hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In every keyspace, also in those that come later.
    Everywhere,
    Keyspace(KeyspaceName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.pad("*"),
            Self::Keyspace(name) => name.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "*" => Ok(Self::Everywhere),
            name => Ok(Self::Keyspace(name.parse()?)),
        }
    }
}

/// Someone who may log in to routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: UserName,
    pub password: PasswordHashes,
    /// Without places where there is no right.
    pub grants: BTreeMap<Place, Rights>,
    /// Connections to one router at a time.
    pub connections_max: Option<u32>,
    /// Statements through one router in a second.
    pub statements_per_second_max: Option<u32>,
}

impl User {
    /// What it may do in a keyspace.
    #[must_use]
    pub fn rights_in(&self, keyspace: &str) -> Rights {
        let is_here = |place: &Place| match place {
            Place::Everywhere => true,
            Place::Keyspace(name) => name.as_str() == keyspace,
        };
        let here = self.grants.iter().filter(|(place, _)| is_here(place));
        here.fold(Rights::NONE, |all, (_, rights)| all.with(*rights))
    }

    /// What it may do in all keyspaces.
    #[must_use]
    pub fn rights_everywhere(&self) -> Rights {
        let everywhere = self.grants.get(&Place::Everywhere);
        everywhere.copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_words() {
        for text in ["read", "write", "read,write", "read,write,ddl,admin"] {
            assert_eq!(text.parse::<Rights>().unwrap().to_string(), text);
        }
        assert_eq!(
            "ddl, read".parse::<Rights>().unwrap().to_string(),
            "read,ddl"
        );
        assert_eq!(Rights::NONE.to_string(), "");
        assert_eq!(Rights::ALL.to_string(), "read,write,ddl,admin");
        let error = "read,all".parse::<Rights>().unwrap_err().to_string();
        assert!(
            error.contains("'all'") && error.contains("admin"),
            "{error}"
        );
    }

    #[test]
    fn rights_suffice_or_do_not() {
        let rights = |text: &str| text.parse::<Rights>().unwrap();
        for (held, needed, suffice) in [
            ("read", "read", true),
            ("read", "write", false),
            ("write", "read", false),
            ("read,write", "read,write", true),
            ("read,ddl", "read,write", false),
            ("admin", "read,write,ddl", true),
            ("read,write,ddl", "admin", false),
        ] {
            assert_eq!(
                rights(held).allow(rights(needed)),
                suffice,
                "{held} for {needed}"
            );
        }
        assert!(Rights::NONE.allow(Rights::NONE));
    }

    #[test]
    fn places_add_up() {
        let user = User {
            name: "app".parse().unwrap(),
            password: PasswordHashes::HIDDEN,
            grants: BTreeMap::from([
                ("*".parse().unwrap(), "read".parse().unwrap()),
                ("shop".parse().unwrap(), "write".parse().unwrap()),
            ]),
            connections_max: None,
            statements_per_second_max: None,
        };
        assert_eq!(user.rights_in("shop").to_string(), "read,write");
        assert_eq!(user.rights_in("other").to_string(), "read");
    }

    #[test]
    fn hashes_are_in_no_text() {
        let hashes = PasswordHashes {
            native: [0xAB; 20],
            sha2: [0xCD; 32],
        };
        let shown = format!("{hashes:?}").to_lowercase();
        assert!(!shown.contains("ab,") && !shown.contains("171") && !shown.contains("205"));
    }
}
