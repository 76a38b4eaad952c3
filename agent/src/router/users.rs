//! Who may connect: names and double hashes, from a users file that only its owner may read.
//!
//! It never sees a password except in [`hash_password`], and never prints a hash.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vt_proto::ids::UserName;
use vt_proto::routing::RoutingSnapshot;
use vt_proto::user::{PasswordHashes, Place, Rights};
use vt_wire::auth::DoubleHashes;

use super::pace::Pace;

/// Permission bits of group and others: none may be set on a users file.
const FORBIDDEN_MODE_BITS: u32 = 0o077;

/// One user: `native_hash` = SHA1(SHA1(password)), `sha2_hash` = SHA256(SHA256(password)).
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub native_hash: [u8; 20],
    pub sha2_hash: [u8; 32],
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "User({})", self.name)
    }
}

#[derive(Debug, Error)]
pub enum UsersError {
    #[error("users file {path}: {source}; create it with mode 0600")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "users file {path}: mode {mode:04o} lets others read the hashes; run: chmod 600 {path}"
    )]
    Mode { path: String, mode: u32 },
    #[error("users file {path}: {source}")]
    Syntax {
        path: String,
        source: toml::de::Error,
    },
    #[error("users file {path}: {}", problems.join("; "))]
    Content { path: String, problems: Vec<String> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    native: String,
    sha2: String,
}

/// Reads a users file: `[[user]]` tables of `name`, `native` and `sha2`, hashes in hexadecimal.
pub fn load(path: &Path) -> Result<Vec<User>, UsersError> {
    let shown = path.display().to_string();
    let read_error = |source| UsersError::Read {
        path: shown.clone(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(read_error)?.mode() & 0o7777;
    if mode & FORBIDDEN_MODE_BITS != 0 {
        return Err(UsersError::Mode { path: shown, mode });
    }
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    parse(&text, &shown)
}

/// Reads the text of a users file; `path` is for the errors. All mistakes are reported at once.
pub fn parse(text: &str, path: &str) -> Result<Vec<User>, UsersError> {
    let file: UsersFile = toml::from_str(text).map_err(|mut source| {
        // The error must not quote the line, which may hold a hash.
        source.set_input(None);
        UsersError::Syntax {
            path: path.to_owned(),
            source,
        }
    })?;
    let mut problems = Vec::new();
    let mut users: Vec<User> = Vec::new();
    for entry in file.user {
        if let Err(error) = entry.name.parse::<UserName>() {
            problems.push(error.to_string());
        }
        if users.iter().any(|user| user.name == entry.name) {
            problems.push(format!("user '{}' stands there twice", entry.name));
        }
        let native_hash = from_hex(&entry.native);
        let sha2_hash = from_hex(&entry.sha2);
        if native_hash.is_none() {
            problems.push(format!(
                "user '{}': native must be 40 hexadecimal digits",
                entry.name
            ));
        }
        if sha2_hash.is_none() {
            problems.push(format!(
                "user '{}': sha2 must be 64 hexadecimal digits",
                entry.name
            ));
        }
        if let (Some(native_hash), Some(sha2_hash)) = (native_hash, sha2_hash) {
            users.push(User {
                name: entry.name,
                native_hash,
                sha2_hash,
            });
        }
    }
    if problems.is_empty() {
        Ok(users)
    } else {
        Err(UsersError::Content {
            path: path.to_owned(),
            problems,
        })
    }
}

/// The user that `password` makes, to be written to a users file.
#[must_use]
pub fn hash_password(name: &str, password: &[u8]) -> User {
    let hashes = DoubleHashes::of_password(password);
    User {
        name: name.to_owned(),
        native_hash: hashes.native,
        sha2_hash: hashes.sha2,
    }
}

/// The text of a users file. Its writer must create the file with mode 0600.
pub fn render(users: &[User]) -> Result<String, toml::ser::Error> {
    let user = users
        .iter()
        .map(|user| UserEntry {
            name: user.name.clone(),
            native: to_hex(&user.native_hash),
            sha2: to_hex(&user.sha2_hash),
        })
        .collect();
    toml::to_string(&UsersFile { user })
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(bytes)
}

/// What a text needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// In each keyspace that is meant.
    pub rights: Rights,
    /// The right of an administrator everywhere, whatever is named.
    pub everywhere: bool,
}

impl Needs {
    pub(crate) const NONE: Self = Self {
        rights: Rights::NONE,
        everywhere: false,
    };
    pub(crate) const EVERYWHERE: Self = Self {
        rights: Rights::NONE,
        everywhere: true,
    };
    pub(crate) const READ: Self = Self::of(true, false, false);
    pub(crate) const WRITE: Self = Self::of(false, true, false);
    pub(crate) const READ_AND_WRITE: Self = Self::of(true, true, false);
    pub(crate) const DDL: Self = Self::of(false, false, true);
    /// Of what is not known.
    pub(crate) const ALL: Self = Self::of(true, true, true);

    const fn of(read: bool, write: bool, ddl: bool) -> Self {
        Self {
            rights: Rights {
                read,
                write,
                ddl,
                admin: false,
            },
            everywhere: false,
        }
    }

    /// What both need.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            rights: self.rights.with(other.rights),
            everywhere: self.everywhere || other.everywhere,
        }
    }
}

/// The users of this router alone, and how many connections each user has. Those that the coordinators keep stand in the snapshot.
#[derive(Debug)]
pub struct Directory {
    own: ArcSwap<BTreeMap<String, Arc<Known>>>,
    seats: Arc<Seats>,
}

/// A user as sessions know it.
pub type Known = vt_proto::user::User;

impl Directory {
    #[must_use]
    pub fn new(users: Vec<User>) -> Self {
        Self {
            own: ArcSwap::from_pointee(by_name(users)),
            seats: Arc::default(),
        }
    }

    /// Puts other users of this router in force, for connections that come from now on.
    pub fn replace(&self, users: Vec<User>) {
        self.own.store(Arc::new(by_name(users)));
    }

    /// Who has this name. The coordinators' word counts more than this router's own: what they take away is taken away.
    #[must_use]
    pub fn find(&self, name: &[u8], snapshot: &RoutingSnapshot) -> Option<Arc<Known>> {
        let name = std::str::from_utf8(name).ok()?;
        let kept = snapshot.user(name).cloned();
        kept.or_else(|| self.own.load().get(name).cloned())
    }

    /// Who a session of this name is, that logged in or was looked up as of `before`. Whom the coordinators dropped does not become the
    /// user of the same name of this router, who may do everything.
    #[must_use]
    pub fn renew(
        &self,
        name: &str,
        before: &RoutingSnapshot,
        now: &RoutingSnapshot,
    ) -> Option<Arc<Known>> {
        match before.user(name) {
            Some(_) => now.user(name).cloned(),
            None => self.find(name.as_bytes(), now),
        }
    }

    /// A seat for one more connection of the user, if its limit allows that.
    #[must_use]
    pub fn take_seat(&self, user: &Known) -> Option<Seat> {
        let mut taken = self.seats.lock();
        let here = taken.entry(user.name.to_string()).or_default();
        if user
            .connections_max
            .is_some_and(|limit| here.count >= limit)
        {
            return None;
        }
        here.count += 1;
        Some(Seat {
            seats: Arc::clone(&self.seats),
            name: user.name.to_string(),
            pace: Arc::clone(&here.pace),
        })
    }
}

/// What is compared with a login.
#[must_use]
pub fn double_hashes(user: &Known) -> DoubleHashes {
    DoubleHashes {
        native: user.password.native,
        sha2: user.password.sha2,
    }
}

/// The hashes of nobody, which take as long to refuse.
pub const NOBODY: DoubleHashes = DoubleHashes {
    native: [0xA5; 20],
    sha2: [0xA5; 32],
};

/// Whoever stands in a router's own file was let in by whoever runs the host: everything is allowed.
fn by_name(users: Vec<User>) -> BTreeMap<String, Arc<Known>> {
    let known = |user: User| {
        let name: UserName = user.name.parse().ok()?;
        let known = Known {
            name,
            password: PasswordHashes {
                native: user.native_hash,
                sha2: user.sha2_hash,
            },
            grants: [(Place::Everywhere, Rights::ALL)].into(),
            connections_max: None,
            statements_per_second_max: None,
        };
        Some((user.name, Arc::new(known)))
    };
    users.into_iter().filter_map(known).collect()
}

/// Connections of each user; as many entries as there are users with one.
#[derive(Debug, Default)]
struct Seats {
    taken: Mutex<BTreeMap<String, Here>>,
}

/// What one user has on this router.
#[derive(Debug, Default)]
struct Here {
    count: u32,
    pace: Arc<Pace>,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Here>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a user, for as long as it lives.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    name: String,
    /// Of all connections of the user.
    pub pace: Arc<Pace>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(here) = taken.get_mut(&self.name) {
            here.count -= 1;
            if here.count == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read() {
        let users = vec![
            hash_password("app", b"secret"),
            hash_password("o'hara", b"x"),
        ];
        assert_eq!(parse(&render(&users).unwrap(), "f").unwrap(), users);
    }

    #[test]
    fn all_mistakes_at_once() {
        let text = "[[user]]\nname = ''\nnative = 'zz'\nsha2 = 'ab'\n";
        let message = parse(text, "users.toml").unwrap_err().to_string();
        for part in [
            "users.toml",
            "it is empty",
            "40 hexadecimal",
            "64 hexadecimal",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn errors_do_not_quote_the_file() {
        for text in [
            "[[user]]\nname = 'app'\nnative = 'c0ffee\n",
            "[[user]]\npassword = 'c0ffee'\n",
        ] {
            let error = parse(text, "f").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!error.to_string().contains("c0ffee"), "{shown}");
        }
    }

    #[test]
    fn a_readable_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        std::fs::write(&path, render(&[hash_password("app", b"secret")]).unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load(&path),
            Err(UsersError::Mode { mode: 0o640, .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load(&path).unwrap().len(), 1);
        assert!(matches!(
            load(&directory.path().join("none")),
            Err(UsersError::Read { .. })
        ));
    }

    fn kept(name: &str, password: &[u8], connections_max: Option<u32>) -> Arc<Known> {
        let hashes = DoubleHashes::of_password(password);
        Arc::new(Known {
            name: name.parse().unwrap(),
            password: PasswordHashes {
                native: hashes.native,
                sha2: hashes.sha2,
            },
            grants: BTreeMap::new(),
            connections_max,
            statements_per_second_max: None,
        })
    }

    fn opens(directory: &Directory, snapshot: &RoutingSnapshot, password: &[u8]) -> bool {
        let known = directory.find(b"app", snapshot);
        known.is_some_and(|user| double_hashes(&user).verify_clear(password))
    }

    #[test]
    fn the_coordinators_word_counts_more_than_the_file() {
        let directory = Directory::new(vec![hash_password("app", b"old")]);
        let mut snapshot = RoutingSnapshot::default();
        assert!(opens(&directory, &snapshot, b"old"));
        snapshot.users = vec![kept("app", b"kept", None)];
        assert!(opens(&directory, &snapshot, b"kept") && !opens(&directory, &snapshot, b"old"));
        directory.replace(vec![hash_password("app", b"new")]);
        snapshot.users.clear();
        assert!(opens(&directory, &snapshot, b"new") && !opens(&directory, &snapshot, b"old"));
        assert!(directory.find(b"other", &snapshot).is_none());
        assert!(directory.find(&[0xFF], &snapshot).is_none());
    }

    #[test]
    fn who_is_dropped_is_nobody() {
        let directory = Directory::new(vec![hash_password("app", b"own")]);
        let nobody = RoutingSnapshot::default();
        let with = RoutingSnapshot {
            users: vec![kept("app", b"kept", Some(7))],
            ..RoutingSnapshot::default()
        };
        let limit = |before: &RoutingSnapshot, now: &RoutingSnapshot| {
            let user = directory.renew("app", before, now);
            user.map(|user| user.connections_max)
        };
        assert_eq!(limit(&with, &with), Some(Some(7)));
        assert_eq!(limit(&with, &nobody), None);
        assert_eq!(limit(&nobody, &nobody), Some(None), "the router's own");
        assert_eq!(limit(&nobody, &with), Some(Some(7)));
    }

    #[test]
    fn seats_are_counted_and_given_back() {
        let directory = Directory::new(Vec::new());
        let user = kept("app", b"x", Some(2));
        let (first, second) = (directory.take_seat(&user), directory.take_seat(&user));
        assert!(first.is_some() && second.is_some() && directory.take_seat(&user).is_none());
        // A limit that was lifted meanwhile.
        assert!(directory.take_seat(&kept("app", b"x", None)).is_some());
        drop(first);
        assert!(directory.take_seat(&user).is_some());
        drop(second);
        assert!(directory.seats.lock().is_empty(), "nothing is left behind");
    }
}
