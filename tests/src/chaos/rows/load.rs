//! Too much to do.

use nix::sys::signal::Signal::SIGKILL;

use crate::chaos::{
    host::Program::Mysqld,
    row::{Row, row},
    step::{
        Load::{Processors, Sessions},
        Step::{Begin, Hold, Load, Moves, Pause, Signal, Sql, Told, Writes},
        Who::Primary,
    },
};

pub const ROWS: &[Row] = &[
    row(
        "52",
        "connections-exhausted",
        "nothing moves",
        &[Load(Primary, Sessions(400)), Pause(15_000), Writes],
    )
    .gap(2_000),
    row(
        "53a",
        "processors-exhausted",
        "nothing moves, or a switchover",
        &[Load(Primary, Processors(100)), Pause(20_000)],
    )
    .epochs(0, 1)
    .any_gap(),
    row(
        "53b",
        "primary-locked-for-long",
        "a switchover after half a minute",
        &[
            Hold(Primary, &["FLUSH TABLES WITH READ LOCK"]),
            Pause(25_000),
            Moves,
            Told("switchover.load"),
        ],
    )
    .epochs(1, 1)
    .any_gap()
    .weight(0),
    row(
        "54",
        "large-transaction-in-flight",
        "another serves, nothing acknowledged is lost",
        &[
            Sql(
                Primary,
                &[
                    "DROP TABLE IF EXISTS commerce.large",
                    "CREATE TABLE commerce.large (id INT PRIMARY KEY, text TEXT)",
                ],
            ),
            Begin(
                Primary,
                &["INSERT INTO commerce.large WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM n WHERE id < 1000) \
                   SELECT a.id * 1000 + b.id, REPEAT('x', 1000) FROM n AS a JOIN n AS b WHERE a.id <= 60"],
            ),
            Pause(3_000),
            Signal(Primary, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .epochs(1, 2)
    .any_gap(),
];
