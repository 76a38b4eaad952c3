//! Who may connect: names and double hashes, from a users file that only its owner may read.
//!
//! It never sees a password except in [`hash_password`], and never prints a hash.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vt_wire::auth::DoubleHashes;

/// Permission bits of group and others: none may be set on a users file.
const FORBIDDEN_MODE_BITS: u32 = 0o077;
/// Longest user name of MySQL, in characters.
const NAME_LENGTH_MAX: usize = 32;

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
        if entry.name.is_empty()
            || entry.name.chars().count() > NAME_LENGTH_MAX
            || entry.name.contains('\0')
        {
            problems.push(format!(
                "user '{}': a name has 1 to {NAME_LENGTH_MAX} characters",
                entry.name.escape_debug()
            ));
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

/// The users in force. Swapped whole; a change holds for the next connection.
#[derive(Debug)]
pub struct Directory {
    users: ArcSwap<BTreeMap<Vec<u8>, DoubleHashes>>,
}

impl Directory {
    #[must_use]
    pub fn new(users: Vec<User>) -> Self {
        Self {
            users: ArcSwap::from_pointee(by_name(users)),
        }
    }

    pub fn replace(&self, users: Vec<User>) {
        self.users.store(std::sync::Arc::new(by_name(users)));
    }

    /// The hashes of `name`. For an unknown name the hashes of nobody, which take as long to refuse.
    #[must_use]
    pub fn hashes(&self, name: &[u8]) -> (DoubleHashes, bool) {
        const NOBODY: DoubleHashes = DoubleHashes {
            native: [0xA5; 20],
            sha2: [0xA5; 32],
        };
        self.users
            .load()
            .get(name)
            .map_or((NOBODY, false), |hashes| (*hashes, true))
    }
}

fn by_name(users: Vec<User>) -> BTreeMap<Vec<u8>, DoubleHashes> {
    users
        .into_iter()
        .map(|user| {
            (
                user.name.into_bytes(),
                DoubleHashes {
                    native: user.native_hash,
                    sha2: user.sha2_hash,
                },
            )
        })
        .collect()
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
            "a name has 1 to 32",
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

    #[test]
    fn changes_hold_at_once() {
        let directory = Directory::new(vec![hash_password("app", b"old")]);
        assert!(directory.hashes(b"app").0.verify_clear(b"old"));
        directory.replace(vec![hash_password("app", b"new")]);
        assert!(!directory.hashes(b"app").0.verify_clear(b"old"));
        assert!(!directory.hashes(b"other").1);
    }
}
