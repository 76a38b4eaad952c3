//! Packets that do not arrive.

use nix::sys::signal::Signal::SIGKILL;

use crate::chaos::{
    host::Program::{Coordinator, Mysqld},
    row::{Row, row},
    step::{
        Step::{
            Cut, CutControl, CutData, Flap, HealNetwork, Isolate, Lose, Moves, Pause, Signal,
            Swept, Writes,
        },
        Who::{All, First, Front, Leader, Primary, Replicas, Second},
    },
};

pub const ROWS: &[Row] = &[
    row(
        "10",
        "primary-isolated",
        "another serves",
        &[Isolate(Primary), Moves],
    )
    .moves(2_000)
    .weight(3),
    row(
        "11",
        "primary-cut-from-coordinators",
        "nothing moves",
        &[
            CutControl(Primary, Replicas),
            CutControl(Replicas, Primary),
            Pause(6_000),
            Writes,
        ],
    ),
    row(
        "12",
        "primary-cut-from-ackers",
        "another serves",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Moves,
        ],
    )
    .moves(3_000),
    row(
        "13",
        "acks-of-one-lost",
        "the other acknowledges",
        &[Cut(First, Primary), Pause(6_000), Writes],
    )
    .leader(Second),
    row(
        "14",
        "acks-of-both-lost",
        "another serves; nothing acknowledged is lost",
        &[CutData(Replicas, Primary), Moves],
    )
    .moves(3_000),
    row(
        "15a",
        "ring-cut",
        "one writer at most",
        &[Cut(First, Second), Cut(Second, First), Pause(6_000), Writes],
    )
    .leader(Primary)
    .epochs(0, 1)
    .gap(2_000),
    row(
        "15b",
        "majority-cut-from-primary-and-client",
        "one writer at most",
        &[
            Cut(Primary, Replicas),
            Cut(Replicas, Primary),
            Cut(Front, Replicas),
            Cut(Replicas, Front),
            Pause(5_000),
            HealNetwork,
            Writes,
        ],
    )
    .epochs(0, 1)
    .any_gap(),
    row(
        "16",
        "flapping-link",
        "at most one failover",
        &[Flap(Primary, 200, 150), Writes],
    )
    .epochs(0, 1)
    .gap(3_000),
    row(
        "17a",
        "loss-1-percent",
        "nothing moves",
        &[Lose(1), Pause(10_000), Writes],
    )
    .gap(1_000),
    row(
        "17b",
        "loss-5-percent",
        "nothing moves",
        &[Lose(5), Pause(10_000), Writes],
    )
    .gap(2_000),
    row(
        "17c",
        "loss-30-percent",
        "nothing is lost",
        &[Lose(30), Pause(10_000), HealNetwork, Writes],
    )
    .any_epochs()
    .any_gap(),
    row(
        "20",
        "healed-at-each-step",
        "one writer at most, nothing is lost",
        &[Isolate(Primary), Pause(1_000), Swept, HealNetwork, Writes],
    )
    .swept(&[0, 150, 250, 350, 450, 600])
    .epochs(0, 1)
    .gap(3_000),
    row(
        "21",
        "leader-killed-at-each-step",
        "the next leader goes on",
        &[
            Signal(Primary, &[Mysqld], SIGKILL),
            Swept,
            Signal(Leader, &[Coordinator], SIGKILL),
            Writes,
        ],
    )
    .swept(&[0, 50, 100, 200, 350, 600])
    .epochs(1, 2)
    .gap(2_000),
    row(
        "68",
        "router-cut-from-coordinators",
        "it finds the new primary, or refuses",
        &[
            CutControl(All, Front),
            CutControl(Front, All),
            Signal(Primary, &[Mysqld], SIGKILL),
            Pause(3_000),
            HealNetwork,
            Writes,
        ],
    )
    .epochs(1, 1)
    .any_gap(),
    row(
        "19",
        "heal-race",
        "nothing acknowledged is lost",
        &[
            CutData(Primary, Replicas),
            CutData(Replicas, Primary),
            Pause(1_000),
            Swept,
            HealNetwork,
            Writes,
        ],
    )
    .swept(&[500, 1_000, 1_250, 1_500, 1_750, 2_000])
    .epochs(0, 1)
    .any_gap(),
];
