//! The file of a topology's backup: magic, version, header, state, and a SHA-256 over all of it, so that every damaged byte is found.
//! It does not know what a state means: that is the coordinators' business.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::wire;

/// With the line end that transfers as text destroy.
const MAGIC: &[u8; 8] = b"VTTOPO\r\n";
/// The layout of the file.
const VERSION: u32 = 1;
const SUM_BYTES: usize = 32;
/// Magic, version and the header's length.
const PREFIX_BYTES: usize = 16;
/// Far above the largest topology: what is larger is no backup of one.
pub const BACKUP_BYTES_MAX: usize = 256 << 20;

/// A copy of the topology at one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub cluster_id: String,
    /// The log index of the state.
    pub index: u64,
    pub time_unix_ms: u64,
    /// The version of the coordinator that made it.
    pub written_by: String,
    /// In the stored form of coordinators.
    pub state: Vec<u8>,
}

/// Why bytes are not used as a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error(
        "this is no backup of a topology: name a file that `vtctl coordinator backup` has made"
    )]
    Foreign,
    #[error("the backup is damaged or not whole (its checksum is wrong): take another copy of it")]
    Damaged,
    #[error(
        "the backup has format {found} and this version reads format {VERSION}: use the version that made it, or a newer one"
    )]
    Version { found: u32 },
}

impl Backup {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = wire::BackupHeader {
            cluster_id: self.cluster_id.clone(),
            index: self.index,
            time_unix_ms: self.time_unix_ms,
            written_by: self.written_by.clone(),
            state_bytes: self.state.len() as u64,
        };
        let header = header.encode_to_vec();
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let mut bytes =
            Vec::with_capacity(PREFIX_BYTES + header.len() + self.state.len() + SUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&self.state);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// What the bytes of a file say, if all of them are as they were written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BackupError> {
        if !bytes.starts_with(MAGIC) {
            return Err(BackupError::Foreign);
        }
        let whole = bytes.split_last_chunk::<SUM_BYTES>();
        let (content, sum) = whole.ok_or(BackupError::Damaged)?;
        if Sha256::digest(content).as_slice() != sum {
            return Err(BackupError::Damaged);
        }
        let (version, rest) = number(&content[MAGIC.len()..])?;
        if version != VERSION {
            return Err(BackupError::Version { found: version });
        }
        let (length, rest) = number(rest)?;
        let header = rest.split_at_checked(length as usize);
        let (header, state) = header.ok_or(BackupError::Damaged)?;
        let header = wire::BackupHeader::decode(header).map_err(|_| BackupError::Damaged)?;
        if header.state_bytes != state.len() as u64 {
            return Err(BackupError::Damaged);
        }
        Ok(Self {
            cluster_id: header.cluster_id,
            index: header.index,
            time_unix_ms: header.time_unix_ms,
            written_by: header.written_by,
            state: state.to_vec(),
        })
    }
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), BackupError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(BackupError::Damaged)?;
    Ok((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        Backup {
            cluster_id: "demo-1".to_owned(),
            index: 77,
            time_unix_ms: 1_700_000_000_000,
            written_by: "0.1.0".to_owned(),
            state: (0..=255).collect(),
        }
    }

    #[test]
    fn a_backup_is_read_as_it_was_written() {
        assert_eq!(Backup::from_bytes(&backup().to_bytes()), Ok(backup()));
    }

    #[test]
    fn every_damaged_byte_and_every_missing_one_is_found() {
        let good = backup().to_bytes();
        for position in 0..good.len() {
            for mask in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[position] ^= mask;
                assert!(Backup::from_bytes(&bad).is_err(), "byte {position}");
            }
            assert!(
                Backup::from_bytes(&good[..position]).is_err(),
                "{position} bytes"
            );
        }
        let longer = [good.as_slice(), b"x"].concat();
        assert_eq!(Backup::from_bytes(&longer), Err(BackupError::Damaged));
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = backup().to_bytes();
        bytes[11] = 9;
        let content = bytes.len() - SUM_BYTES;
        let sum = Sha256::digest(&bytes[..content]);
        bytes[content..].copy_from_slice(&sum);
        assert_eq!(
            Backup::from_bytes(&bytes),
            Err(BackupError::Version { found: 9 })
        );
        assert_eq!(Backup::from_bytes(b"{}"), Err(BackupError::Foreign));
    }
}
