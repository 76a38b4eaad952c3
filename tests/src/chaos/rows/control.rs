//! Coordinators that are gone, late or stuck, and what operators ask of them.

use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};

use crate::chaos::{
    bed::EVERYTHING,
    host::Program::{Coordinator, Mysqld},
    row::{Row, UNNOTICED_MS, row},
    step::{
        Step::{
            FillCoordinator, FreezeCoordinator, Hold, Moves, NoWrites, Pause, Refused, Signal, Sql,
            Start, Swept, Switchover, Told, Writes,
        },
        Who::{First, Leader, Primary, Replicas, Second},
    },
};

pub const ROWS: &[Row] = &[
    row(
        "7",
        "switchover",
        "another serves",
        &[Switchover(First), Moves],
    )
    .moves(150)
    .weight(3),
    row(
        "23",
        "host-and-leader-lost",
        "another serves",
        &[Signal(Primary, EVERYTHING, SIGKILL), Moves],
    )
    .leader(Primary)
    .moves(3_500)
    .weight(2),
    row(
        "24",
        "coordinators-lost-60s",
        "nobody notices",
        &[
            Signal(Replicas, &[Coordinator], SIGKILL),
            Pause(60_000),
            Writes,
        ],
    )
    .weight(0),
    row(
        "25",
        "coordinators-lost-then-mysqld-killed",
        "no OK until they are back, then writes go on",
        &[
            Signal(Replicas, &[Coordinator], SIGKILL),
            Pause(2_000),
            Signal(Primary, &[Mysqld], SIGKILL),
            NoWrites(5_000),
            Start(Replicas),
            Writes,
        ],
    )
    .epochs(0, 1)
    .any_gap(),
    row(
        "26",
        "coordinators-lost-then-host-lost",
        "no OK until they are back, then another serves",
        &[
            Signal(Replicas, &[Coordinator], SIGKILL),
            Pause(2_000),
            Signal(Primary, EVERYTHING, SIGKILL),
            NoWrites(5_000),
            Start(Replicas),
            Moves,
        ],
    )
    .moves(0)
    .any_gap(),
    row(
        "30",
        "leader-paused-10s",
        "nothing moves",
        &[
            Signal(Leader, &[Coordinator], SIGSTOP),
            Pause(10_000),
            Signal(First, &[Coordinator], SIGCONT),
            Pause(3_000),
            Writes,
        ],
    )
    .gap(UNNOTICED_MS),
    row(
        "8",
        "switchover-to-one-that-lags",
        "refused or taken back, the primary goes on",
        &[
            Hold(First, &["FLUSH TABLES WITH READ LOCK"]),
            Pause(1_000),
            Switchover(First),
            Refused,
            Writes,
        ],
    )
    .gap(2_500),
    row(
        "9",
        "switchover-of-one-that-cannot-close",
        "taken back or carried out, writes go on",
        &[
            Sql(
                Primary,
                &["CREATE TABLE IF NOT EXISTS commerce.locked (id INT PRIMARY KEY)"],
            ),
            Hold(Primary, &["LOCK TABLES commerce.locked WRITE"]),
            Switchover(First),
            Writes,
        ],
    )
    .epochs(0, 1)
    .gap(2_500),
    row(
        "29a",
        "disk-of-leader-frozen",
        "another coordinator leads, nothing moves",
        &[
            FreezeCoordinator(Leader),
            Told("coordinator.leads"),
            Pause(3_000),
            Writes,
        ],
    ),
    row(
        "29b",
        "disk-of-leader-full",
        "nothing moves",
        &[FillCoordinator(Leader), Pause(8_000), Writes],
    ),
    row(
        "65",
        "acker-leaves-during-failover",
        "nothing acknowledged is lost",
        &[
            Signal(First, &[Mysqld], SIGSTOP),
            Pause(10_000),
            Swept,
            Signal(Primary, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .leader(Second)
    .swept(&[0, 300, 1_000, 2_500])
    .epochs(0, 2)
    .any_gap(),
];
