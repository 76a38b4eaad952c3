//! Which faults a seed brings, drawn before the world starts so that a failing story can be told with fewer of them.

use super::{FAULTS_END_MS, network::MS};
use crate::sim::random::Random;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The machine of this number, counted over those there are then.
    Machine(usize),
    /// Whoever leads then.
    Leader,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The process dies and starts again when the fault ends.
    Crash(Whom),
    /// It dies between two effects of one step, after so many effects.
    CrashAtEffect(Whom, u64),
    /// All processes die at once.
    CrashAll,
    /// The process sleeps: messages wait, time passes.
    Pause(Whom),
    /// Flushes do not end.
    DiskStall(Whom),
    DiskFull(Whom),
    /// Messages of one direction are lost.
    CutOneWay(Whom, Whom),
    /// Nothing passes between it and the other members; clients reach it.
    Isolate(Whom),
    /// Members with an even number hear nothing from the others.
    Halves,
    /// Much is lost, doubled, late and out of order.
    Storm,
    /// The leader is asked to hand over.
    Transfer(Whom),
    /// A new machine joins the group.
    Join {
        at_once: bool,
    },
    /// A member is to leave.
    Leave(Whom),
    /// A new machine takes a member's place.
    Replace(Whom),
    /// A machine loses its disk and another one takes its place.
    Wipe(Whom),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at_us: u64,
    pub(super) until_us: u64,
    pub(super) kind: Kind,
}

const KINDS: usize = 15;

fn whom(random: &mut Random) -> Whom {
    if random.chance(40) {
        return Whom::Leader;
    }
    Whom::Machine(random.between(0, 9) as usize)
}

fn kind(number: usize, random: &mut Random) -> Kind {
    match number {
        0 => Kind::Crash(whom(random)),
        1 => Kind::CrashAtEffect(whom(random), random.between(0, 40)),
        2 => Kind::CrashAll,
        3 => Kind::Pause(whom(random)),
        4 => Kind::DiskStall(whom(random)),
        5 => Kind::DiskFull(whom(random)),
        6 => Kind::CutOneWay(whom(random), whom(random)),
        7 => Kind::Isolate(whom(random)),
        8 => Kind::Halves,
        9 => Kind::Storm,
        10 => Kind::Transfer(whom(random)),
        11 => Kind::Join {
            at_once: random.chance(50),
        },
        12 => Kind::Leave(whom(random)),
        13 => Kind::Replace(whom(random)),
        _ => Kind::Wipe(whom(random)),
    }
}

/// Which faults a story is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// All kinds.
    #[default]
    All,
    /// Many short lives and leaders that cannot be reached: elections upon elections.
    Elections,
    /// One alone: the disk of whoever leads hangs, and stays so until everything is healed.
    DiskOfLeader,
}

/// Kinds that make elections.
const OF_ELECTIONS: [usize; 6] = [0, 1, 2, 7, 8, 9];

/// The faults of a seed. Each seed leaves out some kinds altogether, so that the others get deep.
pub(super) fn schedule(random: &mut Random, focus: Focus) -> Vec<Fault> {
    if focus == Focus::DiskOfLeader {
        return vec![Fault {
            at_us: random.between(1_500, 2_500) * MS,
            until_us: FAULTS_END_MS * MS,
            kind: Kind::DiskStall(Whom::Leader),
        }];
    }
    let mut kinds: Vec<usize> = (0..KINDS).filter(|_| random.chance(45)).collect();
    let mut count = random.between(1, 24);
    let mut long_ms = *random.pick(&[300u64, 1_000, 3_000]);
    if focus == Focus::Elections {
        (kinds, count, long_ms) = (OF_ELECTIONS.to_vec(), 80, 300);
    }
    if kinds.is_empty() {
        return Vec::new();
    }
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let at_us = random.between(300, FAULTS_END_MS - 200) * MS;
            let until_us = at_us + random.between(20, long_ms) * MS;
            Fault {
                at_us,
                until_us: until_us.min(FAULTS_END_MS * MS),
                kind: kind(*random.pick(&kinds), random),
            }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_us);
    faults
}
