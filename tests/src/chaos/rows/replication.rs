//! Replication that somebody has changed by hand, or that breaks by itself.

use crate::chaos::{
    host::Program::{Agent, Guard, Mysqld},
    row::{Row, row},
    step::{
        Step::{
            Begin, BeginAsRoot, CutData, HealNetwork, Hold, Isolate, Moves, Pause, Repaired,
            Signal, Sql, Start, Swept, SwitchoverWhenFit, Told, Writes,
        },
        Who::{First, Primary, Replicas, Second},
    },
};
use nix::sys::signal::Signal::SIGKILL;

/// A transaction of a server that is no primary. One that another fault has made primary by then writes nothing: it may.
const ERRANT: &[&str] = &[
    "SET GLOBAL super_read_only = 0",
    "INSERT INTO commerce.acknowledged_write SELECT 1152921504606846976, 'errant' \
     FROM performance_schema.replication_connection_status WHERE channel_name = '' AND service_state <> 'OFF'",
];

pub const ROWS: &[Row] = &[
    row(
        "37",
        "semi-sync-off-by-hand",
        "switched on again, and told",
        &[
            Sql(Primary, &["SET GLOBAL rpl_semi_sync_source_enabled = 0"]),
            Told("primary.unprotected"),
            Repaired(2_000),
            Writes,
        ],
    )
    .gap(1_500),
    row(
        "40",
        "errant-write",
        "the tablet is rebuilt",
        &[Sql(First, ERRANT), Pause(15_000), Writes],
    ),
    row(
        "41a",
        "replica-made-writable",
        "closed again within 2 s",
        &[
            Sql(
                First,
                &["SET GLOBAL super_read_only = 0, GLOBAL read_only = 0"],
            ),
            Repaired(2_000),
            Writes,
        ],
    ),
    row(
        "41b",
        "primary-made-read-only",
        "open again within 2 s",
        &[
            Sql(Primary, &["SET GLOBAL super_read_only = 1"]),
            Pause(100),
            Repaired(2_000),
            Writes,
        ],
    )
    .epochs(0, 1)
    .gap(2_000),
    row(
        "42",
        "row-missing-on-replica-then-primary-killed",
        "the other replica serves, this one is rebuilt",
        &[
            Sql(
                First,
                &[
                    "SET GLOBAL super_read_only = 0",
                    "SET SESSION sql_log_bin = 0",
                    "DELETE FROM commerce.acknowledged_write WHERE id = 1",
                ],
            ),
            Sql(
                Primary,
                &["UPDATE commerce.acknowledged_write SET payload = 'changed' WHERE id = 1"],
            ),
            Pause(500),
            Signal(Primary, &[Mysqld], SIGKILL),
            Moves,
        ],
    )
    .moves(2_000)
    // Nobody can know of the row that is missing until a write meets it: a fault that keeps that write from the replica
    // leaves it different for good. The copy that heals it is made once in ten minutes.
    .alone()
    .once(),
    row(
        "43",
        "receiver-stopped-by-hand",
        "started again, nothing is lost",
        &[
            Sql(First, &["STOP REPLICA IO_THREAD"]),
            Repaired(5_000),
            Writes,
        ],
    ),
    row(
        "55",
        "alter-table-during-failover",
        "all tablets are equal",
        &[
            Begin(
                Primary,
                &["ALTER TABLE commerce.acknowledged_write ENGINE = InnoDB, ALGORITHM = COPY"],
            ),
            Pause(20),
            Signal(Primary, &[Mysqld], SIGKILL),
            Moves,
        ],
    )
    .moves(2_000),
    row(
        "56",
        "candidate-locked",
        "another serves",
        &[
            Hold(First, &["FLUSH TABLES WITH READ LOCK"]),
            Pause(300),
            Signal(Primary, &[Mysqld], SIGKILL),
            Moves,
        ],
    )
    .leader(Second)
    .moves(3_000),
    row(
        "35",
        "receiver-repaired-with-unapplied-relay-log",
        "nothing it received is lost",
        &[
            Hold(First, &["FLUSH TABLES WITH READ LOCK"]),
            Pause(500),
            Sql(First, &["STOP REPLICA IO_THREAD"]),
            Pause(500),
            Signal(First, &[Agent], SIGKILL),
            Start(First),
            Pause(5_000),
            Writes,
        ],
    )
    .leader(Second)
    .gap(1_000),
    row(
        "38",
        "one-server-id-for-two",
        "writes go on",
        &[
            Sql(
                Replicas,
                &["SET GLOBAL server_id = 7", "STOP REPLICA IO_THREAD"],
            ),
            Pause(10_000),
            Writes,
        ],
    )
    .gap(3_000)
    .weight(0)
    .spoils_bed(),
    row(
        "61",
        "numbers-of-a-cut-tail-used-again",
        "all tablets are equal",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Pause(500),
            Isolate(Primary),
            Moves,
            HealNetwork,
            Repaired(30_000),
            SwitchoverWhenFit(Primary),
            Writes,
        ],
    )
    .epochs(2, 2)
    .any_gap(),
    row(
        "62",
        "cut-of-a-tail-interrupted",
        "all tablets are equal",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Pause(500),
            Isolate(Primary),
            Moves,
            HealNetwork,
            Swept,
            Signal(Primary, &[Agent, Guard], SIGKILL),
            Start(Primary),
        ],
    )
    .swept(&[0, 200, 500, 1_000, 2_000])
    .moves(0)
    .any_gap(),
    row(
        "63",
        "donor-of-a-copy-dies",
        "another serves, the copy begins anew",
        &[
            Sql(Second, ERRANT),
            Swept,
            Signal(Primary, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .swept(&[1_000, 3_000, 6_000])
    .epochs(0, 2)
    .any_gap(),
    row(
        "66",
        "replica-needs-purged-logs",
        "it is rebuilt",
        &[
            Signal(First, &[Agent, Guard, Mysqld], SIGKILL),
            Pause(1_000),
            Sql(Primary, &["FLUSH BINARY LOGS"]),
            Pause(1_500),
            Sql(Primary, &["PURGE BINARY LOGS BEFORE NOW()"]),
            Start(First),
            Repaired(60_000),
            Writes,
        ],
    )
    .leader(Second)
    .gap(1_000),
    row(
        "71",
        "account-statement-waits-for-acks",
        "writes go on, nothing acknowledged is lost",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Pause(300),
            BeginAsRoot(Primary, "GRANT SELECT ON commerce.* TO 'vt_app'@'%'"),
            Pause(1_000),
            HealNetwork,
            Writes,
        ],
    )
    .epochs(0, 1)
    .gap(6_000),
    row(
        "72a",
        "tail-cut-create-table",
        "all tablets are equal",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Begin(
                Primary,
                &["CREATE TABLE IF NOT EXISTS commerce.tail (id INT PRIMARY KEY)"],
            ),
            Pause(500),
            Isolate(Primary),
            Moves,
        ],
    )
    .moves(0)
    .any_gap(),
    row(
        "72b",
        "tail-cut-alter-table",
        "all tablets are equal",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Begin(
                Primary,
                &["ALTER TABLE commerce.acknowledged_write ADD COLUMN tail INT"],
            ),
            Pause(500),
            Isolate(Primary),
            Moves,
        ],
    )
    .moves(0)
    .any_gap(),
    row(
        "72c",
        "tail-cut-xa-prepare",
        "all tablets are equal",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Begin(
                Primary,
                &[
                    "XA START 'tail'",
                    "INSERT INTO commerce.acknowledged_write VALUES (1152921504606846977, 'tail')",
                    "XA END 'tail'",
                    "XA PREPARE 'tail'",
                ],
            ),
            Pause(500),
            Isolate(Primary),
            Moves,
        ],
    )
    .moves(0)
    .any_gap(),
    row(
        "72d",
        "tail-cut-truncate-table",
        "all tablets are equal",
        &[
            Sql(
                Primary,
                &[
                    "CREATE TABLE IF NOT EXISTS commerce.emptied (id INT PRIMARY KEY)",
                    "INSERT IGNORE INTO commerce.emptied VALUES (1), (2)",
                ],
            ),
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            // Among other faults it may be acknowledged after all: not of the table with the clients' writes.
            Begin(Primary, &["TRUNCATE TABLE commerce.emptied"]),
            Pause(500),
            Isolate(Primary),
            Moves,
        ],
    )
    .moves(0)
    .any_gap(),
];
