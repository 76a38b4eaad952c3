//! The last desired state that was followed, kept on disk for a start without any coordinator.
//!
//! The file helps and never decides: one that is missing, damaged or of another version is as if there were none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use vt_proto::{convert::ConvertError, desired::Desired, wire};

use super::desired::{Arrival, read};
use crate::{disk_writes::DiskWrites, guard::write_durably};

/// The file's name in the agent's data directory.
pub const ORDER_FILE: &str = "last-order";
/// What the file begins with, then the layout's version, the checksum of what follows, and that: a message of a coordinator.
const MAGIC: &[u8; 8] = b"vt-order";
const VERSION: u32 = 1;
/// No longer message arrives from a coordinator, so that a longer file is not one of ours.
const LENGTH_MAX: usize = 4 << 20;

/// Why a file that is there is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it has {0} bytes, which is more than any order")]
    TooLong(u64),
    #[error("it is not a kept order, or cut short")]
    Foreign,
    #[error("layout {0} is not known to this version")]
    Version(u32),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is not understood: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("it is not understood: {0}")]
    Convert(#[from] ConvertError),
    #[error("it holds no order")]
    Empty,
}

/// Where it lies.
#[derive(Clone, Debug)]
pub struct KeptOrder {
    path: PathBuf,
    writes: DiskWrites,
}

impl KeptOrder {
    /// The file in this data directory; nothing is read yet.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(ORDER_FILE),
            writes: DiskWrites::default(),
        }
    }

    /// What an earlier life kept. A file that cannot be used is said so and counts as none.
    pub fn load(&self) -> Option<Arrival> {
        match self.try_load() {
            Ok(found) => found,
            Err(reason) => {
                tracing::error!(path = %self.path.display(), %reason, "the kept order is refused: until a coordinator answers, mysqld is left as it is");
                None
            }
        }
    }

    fn try_load(&self) -> Result<Option<Arrival>, Unusable> {
        let length = match fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if length > LENGTH_MAX as u64 {
            return Err(Unusable::TooLong(length));
        }
        let bytes = fs::read(&self.path)?;
        let rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Foreign)?;
        let (version, rest) = split_number(rest)?;
        if version != VERSION {
            return Err(Unusable::Version(version));
        }
        let (sum, body) = split_number(rest)?;
        if crc32fast::hash(body) != sum {
            return Err(Unusable::Checksum);
        }
        let message = wire::CoordinatorMessage::decode(body)?;
        read(message)?.map(Some).ok_or(Unusable::Empty)
    }

    /// Keeps it; on disk when this returns.
    pub async fn keep(&self, cluster_id: String, desired: Desired) -> io::Result<()> {
        let path = self.path.clone();
        let writing = self
            .writes
            .run(move || write_durably(&path, &encode(cluster_id, desired)?));
        writing.await
    }
}

fn encode(cluster_id: String, desired: Desired) -> io::Result<Vec<u8>> {
    let message = wire::CoordinatorMessage {
        cluster_id,
        leader_term: 0,
        desired: Some(desired.into()),
        lost_request: None,
    };
    let body = message.encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    if bytes.len() > LENGTH_MAX {
        return Err(io::Error::other(format!(
            "an order of {} bytes is too long to be kept",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn split_number(bytes: &[u8]) -> Result<(u32, &[u8]), Unusable> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Unusable::Foreign)?;
    Ok((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use vt_proto::{
        desired::{Candidacy, Goal},
        epoch::{Epoch, Generation},
        topology::{Endpoint, FinishedEpoch},
    };

    use super::*;

    fn order() -> Desired {
        Desired {
            alias: "zone1-100".parse().unwrap(),
            replica_set: "main".parse().unwrap(),
            generation: Generation(20),
            epoch: Epoch(4),
            replicas: vec!["zone1-101".parse().unwrap()],
            goal: Goal::Replica {
                source: Endpoint {
                    host: "h".into(),
                    port: 2,
                },
                source_alias: "zone1-101".parse().unwrap(),
                acker: true,
                history: vec![FinishedEpoch {
                    epoch: Epoch(3),
                    primary: "zone1-100".parse().unwrap(),
                    kept: "aaaaaaaa-0000-0000-0000-000000000000:1-10".parse().unwrap(),
                }],
                candidacy: Candidacy::None,
            },
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptOrder::new(directory.path());
        assert!(kept.try_load().unwrap().is_none(), "there is none at first");
        kept.keep("c".into(), order()).await.unwrap();
        let found = kept.load().unwrap();
        assert_eq!((found.cluster_id.as_str(), found.desired), ("c", order()));
        let mode = fs::metadata(&kept.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut newer = order();
        newer.goal = Goal::Standby;
        kept.keep("c".into(), newer.clone()).await.unwrap();
        assert_eq!(kept.load().unwrap().desired, newer);
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn no_damage_becomes_an_order() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptOrder::new(directory.path());
        let whole = encode("c".into(), order()).unwrap();
        let refused = |bytes: &[u8], what: String| {
            fs::write(&kept.path, bytes).unwrap();
            assert!(kept.try_load().is_err(), "{what}");
            assert!(kept.load().is_none(), "{what}");
        };
        for byte in 0..whole.len() {
            refused(&whole[..byte], format!("cut short to {byte} bytes"));
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[byte] ^= 1 << bit;
                refused(&flipped, format!("bit {bit} of byte {byte} flipped"));
            }
        }
        refused(&[whole.as_slice(), b"x"].concat(), "longer".into());
        refused(&vec![0; whole.len()], "zeros".into());
        refused(&vec![0; LENGTH_MAX + 1], "too long".into());
        fs::remove_file(&kept.path).unwrap();
        fs::create_dir(&kept.path).unwrap();
        assert!(kept.try_load().is_err(), "a directory in its place");
    }

    #[test]
    fn other_versions_and_empty_messages_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptOrder::new(directory.path());
        let mut later = encode("c".into(), order()).unwrap();
        later[MAGIC.len()] = 2;
        fs::write(&kept.path, &later).unwrap();
        let error = kept.try_load().unwrap_err().to_string();
        assert!(error.contains("layout 2"), "{error}");
        let mut empty = MAGIC.to_vec();
        empty.extend_from_slice(&VERSION.to_le_bytes());
        empty.extend_from_slice(&crc32fast::hash(b"").to_le_bytes());
        fs::write(&kept.path, &empty).unwrap();
        let error = kept.try_load().unwrap_err().to_string();
        assert!(error.contains("no order"), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_too_long_leaves_the_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptOrder::new(directory.path());
        kept.keep("c".into(), order()).await.unwrap();
        let error = kept.keep("c".repeat(LENGTH_MAX), order()).await;
        assert!(error.unwrap_err().to_string().contains("too long"));
        assert_eq!(kept.load().unwrap().desired, order());
    }
}
