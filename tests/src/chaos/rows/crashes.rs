//! Processes and hosts that end, stop or hang.

use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};

use crate::chaos::{
    bed::EVERYTHING,
    host::Program::{Agent, Guard, Mysqld},
    row::{Row, row},
    step::{
        Step::{
            Blocked, Cut, HealNetwork, Isolate, LosePower, Moves, NoWrites, Pause, Repeat, Signal,
            Sql, Start, Swept, Switchover, Told, Writes,
        },
        Who::{First, Present, Primary, Replicas, Second},
    },
};

/// Delays that hit the steps of a failover, which takes some hundred milliseconds.
const STEPS_MS: &[u64] = &[0, 50, 100, 200, 350, 600];

pub const ROWS: &[Row] = &[
    row(
        "1",
        "mysqld-killed",
        "another serves",
        &[Signal(Primary, &[Mysqld], SIGKILL), Moves],
    )
    .moves(500)
    .weight(4),
    row(
        "2",
        "tablet-killed",
        "another serves",
        &[Signal(Primary, &[Agent, Guard, Mysqld], SIGKILL), Moves],
    )
    .moves(2_000)
    .weight(2),
    row(
        "3",
        "host-lost",
        "another serves",
        &[
            Isolate(Primary),
            Signal(Primary, EVERYTHING, SIGKILL),
            Moves,
        ],
    )
    .moves(2_000)
    .weight(2),
    row(
        "4a",
        "host-paused-0.5s",
        "nothing moves",
        &[
            Signal(Primary, EVERYTHING, SIGSTOP),
            Pause(500),
            Signal(Primary, EVERYTHING, SIGCONT),
            Pause(2_000),
            Writes,
        ],
    )
    .gap(700),
    row(
        "4b",
        "host-paused-3s",
        "another serves; no OK from the old one",
        &[
            Signal(Primary, EVERYTHING, SIGSTOP),
            Pause(3_000),
            Signal(Primary, EVERYTHING, SIGCONT),
            Moves,
            Pause(1_000),
        ],
    )
    .moves(2_000)
    .weight(2),
    row(
        "4c",
        "host-paused-60s",
        "another serves; no OK from the old one",
        &[
            Signal(Primary, EVERYTHING, SIGSTOP),
            Moves,
            Pause(60_000),
            Signal(Primary, EVERYTHING, SIGCONT),
            Pause(1_000),
        ],
    )
    .moves(2_000)
    .weight(0),
    row(
        "5a",
        "mysqld-stopped-0.7s",
        "nothing moves",
        &[
            Signal(Primary, &[Mysqld], SIGSTOP),
            Pause(700),
            Signal(Primary, &[Mysqld], SIGCONT),
            Pause(2_000),
            Writes,
        ],
    )
    .gap(900),
    row(
        "5b",
        "mysqld-stopped-10s",
        "another serves; no OK from the old one",
        &[
            Signal(Primary, &[Mysqld], SIGSTOP),
            Pause(10_000),
            Signal(Primary, &[Mysqld], SIGCONT),
            Moves,
        ],
    )
    .moves(3_000),
    row(
        "6",
        "mysqld-ended-by-stranger",
        "no OK for commits that nobody acknowledged",
        &[
            Cut(Replicas, Primary),
            Cut(Primary, Replicas),
            Pause(200),
            Signal(Primary, &[Mysqld], SIGTERM),
            Pause(500),
            HealNetwork,
            Writes,
        ],
    )
    .any_epochs()
    .any_gap(),
    row(
        "22",
        "candidate-killed-at-each-step",
        "another serves as soon as enough answer",
        &[
            Signal(Primary, &[Mysqld], SIGKILL),
            Swept,
            Signal(First, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .swept(STEPS_MS)
    // Where both die at once, too few answer, and the primary starts again in place.
    .epochs(0, 3)
    .gap(6_000),
    row(
        "31",
        "replica-host-then-primary-host",
        "blocked with a message; its return unblocks",
        &[
            Signal(First, &[Agent, Guard, Mysqld], SIGKILL),
            Pause(1_000),
            Signal(Primary, EVERYTHING, SIGKILL),
            Blocked("zone1-"),
            NoWrites(1_000),
            Start(First),
            Moves,
        ],
    )
    .leader(Second)
    .moves(0)
    .any_gap(),
    row(
        "32",
        "replica-gone-15s-then-primary",
        "the other replica serves",
        &[
            Signal(First, &[Mysqld], SIGSTOP),
            Pause(15_000),
            Signal(Primary, &[Mysqld], SIGKILL),
            Moves,
        ],
    )
    .leader(Second)
    // It opens when one of the two others is back and acknowledges.
    .moves(5_000),
    row(
        "33",
        "acker-killed-with-unapplied-relay-log",
        "what it acknowledged is kept",
        &[
            Sql(Replicas, &["STOP REPLICA SQL_THREAD"]),
            Pause(150),
            Signal(First, &[Mysqld], SIGKILL),
            Signal(Primary, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .epochs(0, 3)
    .gap(10_000),
    row(
        "36",
        "both-ackers-down",
        "no OK meanwhile; goes on when one is back",
        &[
            Signal(Replicas, &[Agent, Guard, Mysqld], SIGKILL),
            NoWrites(10_000),
            Blocked("acknowledgements"),
            Start(First),
            Writes,
        ],
    )
    .leader(Primary)
    .any_gap(),
    row(
        "60a",
        "old-primary-back-during-failover",
        "it never opens",
        &[
            Signal(Primary, &[Agent, Guard, Mysqld], SIGKILL),
            Swept,
            Start(Primary),
            Writes,
        ],
    )
    .swept(&[0, 500, 1_000, 1_300])
    .epochs(0, 2)
    .gap(8_000),
    row(
        "60b",
        "old-primary-back-after-two-failovers",
        "it never opens",
        &[
            Signal(Primary, &[Agent, Guard, Mysqld], SIGKILL),
            Moves,
            Switchover(Present),
            Start(Primary),
            Signal(Present, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .epochs(1, 4)
    .gap(3_000),
    row(
        "64",
        "two-failovers-in-a-row",
        "both are survived",
        &[
            Signal(Primary, &[Mysqld], SIGKILL),
            Moves,
            Signal(Present, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .epochs(1, 3)
    .gap(3_000),
    row(
        "69",
        "agent-restarted-20-times",
        "nobody notices",
        &[Repeat(
            20,
            &[
                Signal(Primary, &[Agent], SIGKILL),
                Pause(200),
                Start(Primary),
                Pause(800),
            ],
        )],
    ),
    row(
        "70",
        "mysqld-ended-by-operator",
        "it hands over first",
        &[
            Signal(Primary, &[Guard], SIGTERM),
            Moves,
            Told("switchover.drain"),
        ],
    )
    .moves(500),
    row(
        "34",
        "acker-loses-power-then-primary-killed",
        "what it acknowledged is kept",
        &[
            LosePower(First),
            Signal(Primary, &[Mysqld], SIGKILL),
            Writes,
        ],
    )
    .leader(Second)
    .epochs(0, 3)
    .any_gap()
    .weight(0)
    .spoils_bed(),
    row(
        "50",
        "guard-killed",
        "mysqld goes on, or another serves",
        &[Signal(Primary, &[Guard], SIGKILL), Pause(3_000), Writes],
    )
    .epochs(0, 1)
    .gap(2_000),
    row(
        "51",
        "crash-loop-of-every-primary",
        "the number of failovers is bounded, nothing is lost",
        &[
            Repeat(5, &[Signal(Present, &[Mysqld], SIGKILL), Pause(2_000)]),
            Writes,
        ],
    )
    .epochs(1, 5)
    .any_gap()
    .weight(0),
];
