//! How much space there is for the data, and when it is time to say so.

use std::{fmt, path::Path, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use nix::sys::statvfs::statvfs;

/// Below this no new proposals are taken: what is left is for raft's own needs, a snapshot and the segment that is written.
pub const RESERVE_BYTES: u64 = 64 << 20;
/// On a small file system this share of it is enough.
const RESERVE_SHARE: u64 = 8;

/// What the file system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Free {
    pub(super) fn of(path: &Path) -> nix::Result<Self> {
        let found = statvfs(path)?;
        Ok(Self {
            free_bytes: found.blocks_available() * found.fragment_size(),
            total_bytes: found.blocks() * found.fragment_size(),
        })
    }

    /// What must stay free.
    pub fn reserve_bytes(self) -> u64 {
        RESERVE_BYTES.min(self.total_bytes / RESERVE_SHARE)
    }
}

/// Whether new data find a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    #[default]
    Enough,
    /// Raft goes on, and nothing new is taken.
    AlmostFull { free_bytes: u64, reserve_bytes: u64 },
    /// What was to be written waits since then.
    Full { since: SystemTime },
}

impl Space {
    /// What follows from what the file system says. It must be a quarter more than the reserve before all is well again.
    pub fn next(self, free: Free) -> Self {
        let reserve_bytes = free.reserve_bytes();
        let enough = match self {
            Self::Enough => reserve_bytes,
            Self::AlmostFull { .. } | Self::Full { .. } => reserve_bytes + reserve_bytes / 4,
        };
        if free.free_bytes >= enough {
            Self::Enough
        } else {
            Self::AlmostFull {
                free_bytes: free.free_bytes,
                reserve_bytes,
            }
        }
    }

    pub fn is_enough(self) -> bool {
        self == Self::Enough
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough => write!(f, "disk has space"),
            Self::AlmostFull {
                free_bytes,
                reserve_bytes,
            } => write!(
                f,
                "disk almost full: {} MiB are free and {} MiB must be: free space in the data directory's file system",
                free_bytes >> 20,
                reserve_bytes >> 20
            ),
            Self::Full { since } => {
                let since: DateTime<Utc> = (*since).into();
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(
                    f,
                    "disk full since {since}: free space in the data directory's file system"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_before_it_is_gone_and_does_not_flap() {
        let total_bytes = 100 << 30;
        let free = |mib: u64| Free {
            free_bytes: mib << 20,
            total_bytes,
        };
        let mut space = Space::Enough;
        for (mib, enough) in [
            (100, true),
            (64, true),
            (63, false),
            (70, false),
            (80, true),
        ] {
            space = space.next(free(mib));
            assert_eq!(space.is_enough(), enough, "{mib} MiB");
        }
        let small = Free {
            free_bytes: 3 << 20,
            total_bytes: 16 << 20,
        };
        assert!(Space::Enough.next(small).is_enough());
        let text = Space::Enough.next(free(7)).to_string();
        assert!(text.contains("7 MiB are free and 64 MiB must be"), "{text}");
        let since = SystemTime::UNIX_EPOCH;
        let text = Space::Full { since }.to_string();
        assert!(
            text.contains("disk full since 1970-01-01T00:00:00Z"),
            "{text}"
        );
    }
}
