//! The rows of the fault matrix by what fails, and those that cannot be played here. Numbers are those of the list of scenarios.

use super::row::Row;

mod control;
mod crashes;
mod disks;
mod load;
mod networks;
mod replication;

/// Scenarios are numbered up to here; what follows them is the soak.
pub const SCENARIOS: u32 = 73;

/// Everything that is played.
pub const ALL: &[&[Row]] = &[
    crashes::ROWS,
    networks::ROWS,
    control::ROWS,
    replication::ROWS,
    disks::ROWS,
    load::ROWS,
];

/// Scenarios that are not played, and why.
pub const OUT: &[(&str, &str)] = &[
    (
        "18",
        "the kernel here cannot delay packets (no netem), and a forwarder in user space would be what is measured",
    ),
    ("27", "durability `none` (k = 0) is refused by this version"),
    (
        "28",
        "the lost and restored group is played with real processes by tests/scripts/operations-test",
    ),
    (
        "39",
        "a foreign replica needs the password of the replication account; one that has it is not watched for",
    ),
    (
        "57",
        "a copy that runs while its donor dies is row 63; there are no backups yet",
    ),
    (
        "58",
        "the machine's wall clock belongs to all, and no program here gives a process another one",
    ),
    (
        "59",
        "a coordinator that was suspended is row 30: no running process can be moved to another boot time",
    ),
    ("67", "a second version of MySQL cannot be had here"),
    (
        "73",
        "the lock that logins wait for is held in row 71, a storm of logins is row 52",
    ),
];

/// Rows that are known to fail, and why. They are played and counted, and do not make a run fail.
pub const KNOWN: &[(&str, &str)] = &[];
