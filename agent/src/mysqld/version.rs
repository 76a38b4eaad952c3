//! Versions of MySQL, and everything that differs between them. No other file asks for a version number.

use std::{fmt, str::FromStr};

/// The oldest server that knows the current names of replication and semi-sync.
pub const OLDEST: Version = Version {
    major: 8,
    minor: 0,
    patch: 26,
};

/// The version of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// A text that names no version of MySQL that we can supervise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error("this is MariaDB, whose replication is another: Vitrail needs MySQL {OLDEST} or newer")]
    MariaDb,
    #[error("MySQL {0} is too old: Vitrail needs {OLDEST} or newer")]
    TooOld(Version),
    #[error("'{0}' does not name a version of MySQL")]
    Unreadable(String),
}

impl Version {
    const fn at_least(self, major: u16, minor: u16, patch: u16) -> bool {
        let (mine, other) = ([self.major, self.minor, self.patch], [major, minor, patch]);
        let mut part = 0;
        while part < 3 {
            if mine[part] != other[part] {
                return mine[part] > other[part];
            }
            part += 1;
        }
        true
    }

    /// Reads what `mysqld --version` prints, and refuses what cannot be supervised.
    pub fn of_server(output: &str) -> Result<Self, VersionError> {
        if output.to_ascii_lowercase().contains("mariadb") {
            return Err(VersionError::MariaDb);
        }
        let word = output
            .split_once("Ver ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .ok_or_else(|| VersionError::unreadable(output))?;
        let version: Self = word.parse()?;
        if version < OLDEST {
            return Err(VersionError::TooOld(version));
        }
        Ok(version)
    }

    /// The binary log's position and GTID set of this server.
    pub fn show_binary_log_status(self) -> &'static str {
        if self.at_least(8, 2, 0) {
            "SHOW BINARY LOG STATUS"
        } else {
            "SHOW MASTER STATUS"
        }
    }

    /// Forgets all transactions of this server.
    pub fn reset_binary_logs(self) -> &'static str {
        if self.at_least(8, 2, 0) {
            "RESET BINARY LOGS AND GTIDS"
        } else {
            "RESET MASTER"
        }
    }

    /// Write sets order parallel applying; newer servers know nothing else and lost the setting.
    pub fn has_dependency_tracking_setting(self) -> bool {
        !self.at_least(8, 4, 0)
    }

    /// The redo log has one size instead of a number of files.
    pub fn has_redo_log_capacity(self) -> bool {
        self.at_least(8, 0, 30)
    }

    /// Whether CLONE copies a donor of that version: the same release before 8.0.37, the same series since.
    pub fn clones_from(self, donor: Self) -> bool {
        let same_series = (self.major, self.minor) == (donor.major, donor.minor);
        let relaxed = |version: Self| version.at_least(8, 0, 37);
        self == donor || (same_series && relaxed(self) && relaxed(donor))
    }
}

impl VersionError {
    fn unreadable(text: &str) -> Self {
        Self::Unreadable(text.trim().chars().take(80).collect())
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Takes `8.0.36`, `8.4.2-log` and the like.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let unreadable = || VersionError::unreadable(text);
        let numbers = text
            .split(|c: char| c != '.' && !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        let mut parts = numbers.split('.').map(str::parse::<u16>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(unreadable);
        Ok(Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart() {
        let version = |major, minor, patch| Version {
            major,
            minor,
            patch,
        };
        let cases = [
            (
                "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))",
                Ok(version(9, 7, 4)),
            ),
            (
                "mysqld  Ver 8.0.26 for Linux on x86_64 (MySQL Community Server - GPL)",
                Ok(version(8, 0, 26)),
            ),
            (
                "mysqld  Ver 8.0.25 for Linux on x86_64",
                Err(VersionError::TooOld(version(8, 0, 25))),
            ),
            (
                "mysqld  Ver 5.7.44-log for Linux on x86_64",
                Err(VersionError::TooOld(version(5, 7, 44))),
            ),
            (
                "mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu",
                Err(VersionError::MariaDb),
            ),
            ("hello", Err(VersionError::Unreadable("hello".to_owned()))),
            (
                "mysqld Ver x.y",
                Err(VersionError::Unreadable("x.y".to_owned())),
            ),
        ];
        for (output, expected) in cases {
            assert_eq!(Version::of_server(output), expected, "{output}");
        }
    }

    #[test]
    fn clone_wants_the_same_release_or_a_relaxed_series() {
        let clones = |recipient: &str, donor: &str| {
            let parse = |text: &str| text.parse::<Version>().unwrap();
            parse(recipient).clones_from(parse(donor))
        };
        let cases = [
            ("8.0.36", "8.0.36", true),
            ("8.0.36", "8.0.35", false),
            ("8.0.37", "8.0.40", true),
            ("8.0.40", "8.0.36", false),
            ("8.4.0", "8.4.3", true),
            ("8.4.3", "9.7.4", false),
        ];
        for (recipient, donor, expected) in cases {
            assert_eq!(
                clones(recipient, donor),
                expected,
                "{recipient} from {donor}"
            );
        }
    }
}
