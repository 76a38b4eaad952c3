//! Finds the MySQL server's programs and says which version they are. It starts no server.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::version::{Version, VersionError};

/// Printing a version takes milliseconds; a disk that does not answer must not hang the agent's start.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub mysqld: PathBuf,
    pub version: Version,
}

/// Why there is no server to supervise.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    #[error(
        "no mysqld found in {searched}: install MySQL {} or newer, or name its prefix as `prefix` in [mysqld]",
        super::version::OLDEST
    )]
    Absent { searched: String },
    #[error("{}: {source}", path.display())]
    Unfit { path: PathBuf, source: VersionError },
    #[error("{} does not run: {reason}", path.display())]
    Broken { path: PathBuf, reason: String },
}

impl Binaries {
    /// Searches the configured prefix and nothing else; without one VT_MYSQL_PREFIX, the default prefix and PATH, in
    /// this order. The first mysqld that is found must do: passing over it would run a server that nobody expects.
    pub async fn find(prefix: Option<&Path>) -> Result<Self, BinariesError> {
        let places = places(prefix);
        for place in &places {
            if place.is_file() {
                let version = ask_version(place).await?;
                return Ok(Self {
                    mysqld: place.clone(),
                    version,
                });
            }
        }
        let searched: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        Err(BinariesError::Absent {
            searched: searched.join(", "),
        })
    }

    /// A program that is installed beside mysqld, as `mysqlbinlog`.
    pub fn beside(&self, program: &str) -> Option<PathBuf> {
        let directory = self.mysqld.parent()?;
        let places = [
            directory.join(program),
            directory.parent()?.join("bin").join(program),
        ];
        places.into_iter().find(|place| place.is_file())
    }
}

fn places(prefix: Option<&Path>) -> Vec<PathBuf> {
    let under = |prefix: &Path| [prefix.join("bin/mysqld"), prefix.join("sbin/mysqld")];
    if let Some(prefix) = prefix {
        return under(prefix).to_vec();
    }
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(prefix) = set("VT_MYSQL_PREFIX") {
        return under(Path::new(&prefix)).to_vec();
    }
    let cache = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    let mut places = Vec::new();
    if let Some(cache) = cache {
        places.extend(under(&cache.join("vitrail/mysql")));
    }
    let path = set("PATH").unwrap_or_default();
    places.extend(env::split_paths(&path).map(|directory| directory.join("mysqld")));
    // Not on the PATH of people who are not root.
    places.push(PathBuf::from("/usr/sbin/mysqld"));
    places
}

async fn ask_version(mysqld: &Path) -> Result<Version, BinariesError> {
    let broken = |reason: String| BinariesError::Broken {
        path: mysqld.to_owned(),
        reason,
    };
    let asked = Command::new(mysqld)
        .args(["--no-defaults", "--version"])
        // mysqld tells a service manager when it ends, even here; that is for the agent alone to tell.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(VERSION_TIMEOUT, asked)
        .await
        .map_err(|_| broken("its --version did not end in time".to_owned()))?
        .map_err(|error| broken(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or("it says nothing");
        return Err(broken(format!("{}: {line}", output.status)));
    }
    Version::of_server(&String::from_utf8_lossy(&output.stdout)).map_err(|source| {
        BinariesError::Unfit {
            path: mysqld.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    async fn found_in_prefix_with(script: Option<&str>) -> Result<Binaries, BinariesError> {
        let prefix = tempfile::tempdir().unwrap();
        if let Some(script) = script {
            let program = prefix.path().join("sbin/mysqld");
            fs::create_dir(prefix.path().join("sbin")).unwrap();
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Binaries::find(Some(prefix.path())).await
    }

    #[tokio::test]
    async fn the_configured_prefix_is_taken_or_refused() {
        let found = found_in_prefix_with(Some("echo 'mysqld  Ver 8.4.3 for Linux'")).await;
        assert_eq!(found.unwrap().version.to_string(), "8.4.3");

        let cases = [
            (None, "no mysqld found in"),
            (
                Some("echo 'mysqld  Ver 10.11.6-MariaDB'"),
                "this is MariaDB",
            ),
            (Some("echo 'mysqld  Ver 5.7.1'"), "too old"),
            (Some("echo 'no library' >&2; exit 127"), "no library"),
        ];
        for (script, expected) in cases {
            let error = found_in_prefix_with(script).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{script:?}: {error}");
        }
    }
}
