//! Disks that are full, stuck or broken.

use crate::chaos::{
    row::{Row, UNNOTICED_MS, row},
    step::{
        Step::{Break, Fill, Freeze, Moves, Pause, Repeat, Thaw, TurnReadOnly, Writes},
        Who::{First, Primary},
    },
};

pub const ROWS: &[Row] = &[
    row("44", "disk-full", "another serves", &[Fill(Primary), Moves])
        .moves(3_000)
        .weight(2),
    row(
        "45",
        "disk-of-a-replica-full",
        "nobody notices",
        &[Fill(First), Pause(15_000), Writes],
    )
    .gap(UNNOTICED_MS),
    row(
        "46a",
        "disk-frozen-1s",
        "nothing moves",
        &[
            Freeze(Primary),
            Pause(1_000),
            Thaw(Primary),
            Pause(2_000),
            Writes,
        ],
    )
    .gap(1_300),
    row(
        "46b",
        "disk-frozen-30s",
        "another serves; no OK from the old one",
        &[
            Freeze(Primary),
            Moves,
            Pause(30_000),
            Thaw(Primary),
            Pause(1_000),
        ],
    )
    .moves(3_000)
    .weight(2),
    row(
        "48",
        "disk-read-only",
        "another serves",
        &[TurnReadOnly(Primary), Moves],
    )
    .moves(3_000),
    row(
        "47",
        "disk-gives-errors",
        "another serves",
        &[Break(Primary), Moves],
    )
    .moves(3_000),
    row(
        "49",
        "disk-slow",
        "nothing moves, or a switchover",
        &[
            Repeat(
                15,
                &[Freeze(Primary), Pause(400), Thaw(Primary), Pause(150)],
            ),
            Writes,
        ],
    )
    .epochs(0, 1)
    .gap(1_000)
    .weight(0),
];
