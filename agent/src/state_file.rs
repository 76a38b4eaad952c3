//! What must survive the agent, in one small file: written whole, fsynced with its directory before anybody acts on it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vt_agent_core::{Acking, Persisted, Primaryship, Record};
use vt_proto::epoch::{Epoch, Generation, Incarnation};

use crate::{disk_writes::DiskWrites, guard::write_durably};

/// The file's name in the agent's data directory.
pub const STATE_FILE: &str = "agent-state.json";
/// The version of the file's layout.
const VERSION: u32 = 1;

/// Why there is no usable state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: is damaged ({reason}); without its promise this tablet could acknowledge in a revoked epoch: empty the tablet's data directories and let it join anew",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPrimaryship {
    epoch: u64,
    server_uuid: String,
    opened: Option<u64>,
    tail_cut: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAcking {
    boot_id: String,
    server_uuid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    cluster_id: Option<String>,
    promised: u64,
    generation: u64,
    primaryship: Option<StoredPrimaryship>,
    acking: Option<StoredAcking>,
    replaced: bool,
    clone_reason: Option<String>,
}

impl From<&Persisted> for Stored {
    fn from(state: &Persisted) -> Self {
        Self {
            version: VERSION,
            cluster_id: state.cluster_id.clone(),
            promised: state.promised.0,
            generation: state.generation.0,
            primaryship: state
                .primaryship
                .as_ref()
                .map(|primaryship| StoredPrimaryship {
                    epoch: primaryship.epoch.0,
                    server_uuid: primaryship.server_uuid.clone(),
                    opened: primaryship.opened.map(|incarnation| incarnation.0),
                    tail_cut: primaryship.tail_cut,
                }),
            acking: state.acking.as_ref().map(|acking| StoredAcking {
                boot_id: acking.boot_id.clone(),
                server_uuid: acking.server_uuid.clone(),
            }),
            replaced: state.replaced,
            clone_reason: state.clone_reason.clone(),
        }
    }
}

impl From<Stored> for Persisted {
    fn from(stored: Stored) -> Self {
        Self {
            cluster_id: stored.cluster_id,
            promised: Epoch(stored.promised),
            generation: Generation(stored.generation),
            primaryship: stored.primaryship.map(|primaryship| Primaryship {
                epoch: Epoch(primaryship.epoch),
                server_uuid: primaryship.server_uuid,
                opened: primaryship.opened.map(Incarnation),
                tail_cut: primaryship.tail_cut,
            }),
            acking: stored.acking.map(|acking| Acking {
                boot_id: acking.boot_id,
                server_uuid: acking.server_uuid,
            }),
            replaced: stored.replaced,
            clone_reason: stored.clone_reason,
        }
    }
}

/// The state and where it lies.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: Persisted,
    writes: DiskWrites,
}

impl StateFile {
    /// Reads it; a tablet that never had one begins with nothing promised.
    pub fn open(data_dir: &Path) -> Result<Self, StateError> {
        let path = data_dir.join(STATE_FILE);
        let damaged = |reason: String| StateError::Damaged {
            path: path.clone(),
            reason,
        };
        let state = match fs::read(&path) {
            Ok(bytes) => {
                let stored: Stored =
                    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
                if stored.version != VERSION {
                    return Err(damaged(format!("layout {} is not known", stored.version)));
                }
                stored.into()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Persisted::default(),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        Ok(Self {
            path,
            state,
            writes: DiskWrites::default(),
        })
    }

    /// What stands in it.
    pub fn state(&self) -> &Persisted {
        &self.state
    }

    /// Changes it; on disk when this returns. Where it fails, nothing has changed as far as anybody acts on it: a late write may
    /// still put on disk what was never told as promised, until the next one.
    pub async fn persist(&mut self, record: &Record) -> Result<(), StateError> {
        let mut next = self.state.clone();
        next.apply(record);
        let stored = Stored::from(&next);
        let path = self.path.clone();
        let writing = self.writes.run(move || {
            let bytes = serde_json::to_vec_pretty(&stored)?;
            write_durably(&path, &bytes)
        });
        writing.await.map_err(|source| StateError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.state = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_is_persisted_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(directory.path()).unwrap();
        assert_eq!(*file.state(), Persisted::default());
        for record in [
            Record::Joined {
                cluster_id: "c".into(),
            },
            Record::Promise {
                epoch: Epoch(3),
                generation: Generation(8),
            },
            Record::PrimaryshipBegins {
                epoch: Epoch(3),
                server_uuid: "u".into(),
            },
            Record::Opened {
                incarnation: Incarnation(2),
            },
            Record::Acks {
                boot_id: "b".into(),
                server_uuid: "u".into(),
            },
            Record::CloneNeeded { reason: "r".into() },
        ] {
            file.persist(&record).await.unwrap();
        }
        let again = StateFile::open(directory.path()).unwrap();
        assert_eq!(again.state(), file.state());
        let path = directory.path().join(STATE_FILE);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, b"{}").unwrap();
        let error = StateFile::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
