//! Which faults a seed brings, drawn before the world starts, so that a failing run can be repeated with fewer of them.

use super::{FAULTS_END_MS, random::Random};

/// One kind of fault with its victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    KillMysqld {
        host: usize,
    },
    KillAgent {
        host: usize,
    },
    KillBoth {
        host: usize,
    },
    /// Power loss: relay logs lose what was not synced.
    Reboot {
        host: usize,
    },
    /// The machine stands still and wakes with stale beliefs.
    PauseHost {
        host: usize,
    },
    HangMysqld {
        host: usize,
    },
    StallApplier {
        host: usize,
    },
    /// Its data are changed behind replication's back: it cannot apply what comes next. Only other data heal that.
    BreakData {
        host: usize,
    },
    /// Somebody writes on a replica, past its primary.
    WriteOnReplica {
        host: usize,
    },
    /// The host is cut off from everybody.
    IsolateHost {
        host: usize,
    },
    /// The host is cut off from the coordinators only.
    CutFromCoordinators {
        host: usize,
    },
    /// The host is cut off from the other tablets only.
    CutFromTablets {
        host: usize,
    },
    /// One direction between two nodes.
    CutOneWay {
        from: usize,
        to: usize,
    },
    KillCoordinator {
        member: usize,
    },
    PauseCoordinator {
        member: usize,
    },
    /// All of them stand still, so that whoever leads still leads when they wake.
    PauseCoordinators,
    IsolateCoordinator {
        member: usize,
    },
    /// Leadership moves although nobody failed.
    MoveLeadership,
    /// Leadership moves to and fro while a failover runs: the moment it matters.
    KillPrimary,
    KillLeader,
    Switchover {
        to: usize,
    },
    CreateKeyspace {
        number: u64,
    },
    /// Another durability policy is asked for.
    Policy {
        acks: u32,
        cross_cell: bool,
    },
    /// The disk of a host, or of the primary, is full or takes nothing.
    BadDisk {
        host: Option<usize>,
        full: bool,
    },
    /// A mysqld, or the primary's, has too much to do.
    Saturate {
        host: Option<usize>,
    },
}

/// A fault in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at_ms: u64,
    pub lasts_ms: u64,
    pub kind: Kind,
}

/// The first fault comes after this: the replica set has formed by then, or is forming.
const FIRST_MS: u64 = 1_000;

/// Kinds of faults, as weights of a schedule are numbered.
const KINDS: usize = 18;

/// Which kinds a schedule is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// All; each seed leaves some out and exaggerates others.
    All,
    /// Replicas that lose their source while the coordinators lose the primary.
    Disconnection,
    /// Appliers that fall behind while primaries die.
    Backlog,
    /// Replicas that are lost for long while their agents answer, and primaries that die.
    Loss,
    /// Hosts that are lost for long, perhaps with a mysqld that is alive, and primaries that die; beside all else.
    HostLoss,
    /// Leaders that come, go and come back while primaries die.
    Leadership,
    /// Coordinators that sleep all at once while links between tablets break, and nothing else: no primary may be deposed.
    Sleep,
    /// Policies that change while primaries die and replicas come and go.
    Policy,
    /// Primaries whose disk fills or stalls, and nothing else.
    Disks,
    /// Primaries with too much to do, and nothing else.
    Saturation,
    /// Replicas that cannot apply what they receive while primaries die.
    Broken,
    /// Replicas on which somebody writes while primaries die.
    Strangers,
}

impl Focus {
    fn weights(self, random: &mut Random) -> Vec<u64> {
        let kinds: &[usize] = match self {
            Focus::All => return (0..KINDS).map(|_| *random.pick(&[0, 0, 1, 1, 4])).collect(),
            Focus::HostLoss if random.chance(50) => &[],
            // Rarely a leader that changes: each would give the lost one its time anew.
            Focus::HostLoss => &[3, 5, 6, 9, 14, 16],
            Focus::Disconnection => &[1, 4, 7, 8, 9],
            Focus::Backlog => &[6, 9, 14],
            // Leaders and primaries that change would each give it its time anew.
            Focus::Loss => &[9],
            Focus::Leadership => &[1, 11, 12, 13, 14],
            Focus::Policy => &[0, 1, 4, 7, 8, 13, 14, 16],
            Focus::Broken => &[0, 2, 14],
            Focus::Strangers if random.chance(50) => &[],
            Focus::Strangers => &[0, 2, 7, 14, 16],
            Focus::Sleep | Focus::Disks | Focus::Saturation => &[],
        };
        (0..KINDS)
            .map(|kind| u64::from(kinds.contains(&kind)))
            .collect()
    }
}

/// The faults of a seed.
pub fn schedule(
    random: &mut Random,
    focus: Focus,
    hosts: usize,
    members: usize,
    end_ms: u64,
) -> Vec<Fault> {
    let weights = focus.weights(random);
    let total: u64 = weights.iter().sum();
    let pause_ms_max = *random.pick(&[500, 2_000, 6_000]);
    let mut faults = Vec::new();
    let mut at_ms = FIRST_MS;
    if total == 0 {
        return faults;
    }
    loop {
        at_ms += random.between(1, pause_ms_max);
        if at_ms >= end_ms {
            return faults;
        }
        let mut draw = random.between(1, total);
        let index = weights
            .iter()
            .position(|weight| {
                let hit = draw <= *weight;
                draw = draw.saturating_sub(*weight);
                hit
            })
            .unwrap_or_default();
        let lasts_ms = *random.pick(&[50, 300, 1_500, 3_000, 8_000]);
        faults.push(Fault {
            at_ms,
            lasts_ms: random.between(lasts_ms / 2, lasts_ms),
            kind: draw_kind(random, index, hosts, members),
        });
    }
}

/// Faults beside the schedule, each kind from a generator of its own so that none shifts the others.
pub fn beside(seed: u64, focus: Focus, hosts: usize, members: usize) -> Vec<Fault> {
    let random = |word| Random::new(seed).fork(word);
    let mut faults = long_loss(&mut random("loss"), focus, hosts);
    if focus == Focus::HostLoss {
        faults.extend(host_losses(&mut random("host loss"), hosts));
    }
    faults.extend(sleeps(&mut random("sleep"), focus, hosts, members));
    faults.extend(breaks(&mut random("breaks"), focus, hosts));
    faults.extend(policies(&mut random("policies"), focus, hosts));
    faults.extend(strangers(&mut random("strangers"), focus, hosts));
    faults
}

/// A replica that is lost for longer than an acker may be, and a primary that dies around the end of that.
fn long_loss(random: &mut Random, focus: Focus, hosts: usize) -> Vec<Fault> {
    let wanted = focus == Focus::Loss || (focus == Focus::All && random.chance(40));
    if !wanted {
        return Vec::new();
    }
    let host = random.between(0, hosts as u64 - 1) as usize;
    let kind = match random.between(0, 2) {
        0 => Kind::HangMysqld { host },
        _ => Kind::CutFromTablets { host },
    };
    let loss = Fault {
        at_ms: random.between(2_000, 8_000),
        lasts_ms: random.between(11_000, 16_000),
        kind,
    };
    let death = Fault {
        at_ms: loss.at_ms + loss.lasts_ms + random.between(0, 4_000) - 2_000,
        lasts_ms: 50,
        kind: Kind::KillPrimary,
    };
    vec![loss, death]
}

/// Coordinators that sleep for longer than a silence takes.
fn sleeps(random: &mut Random, focus: Focus, hosts: usize, members: usize) -> Vec<Fault> {
    let alone = focus == Focus::Sleep;
    if !alone && (focus != Focus::All || random.chance(75)) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut at_ms = 3_000;
    loop {
        at_ms += random.between(500, 5_000);
        let sleep = Fault {
            at_ms,
            lasts_ms: random.between(900, 3_000),
            kind: Kind::PauseCoordinators,
        };
        if at_ms + sleep.lasts_ms >= FAULTS_END_MS {
            return faults;
        }
        let host = |random: &mut Random| members + random.between(0, hosts as u64 - 1) as usize;
        // Broken since before the sleep, so that the first that is heard after it is that an acker has lost its source.
        let before_ms = random.between(300, 1_500);
        let cut = Fault {
            at_ms: at_ms - before_ms,
            lasts_ms: before_ms + sleep.lasts_ms + random.between(0, 500),
            kind: Kind::CutOneWay {
                from: host(random),
                to: host(random),
            },
        };
        at_ms += sleep.lasts_ms;
        faults.push(sleep);
        faults.extend(alone.then_some(cut));
    }
}

/// Replicas whose data are changed. Of two tablets the replica is the only acker, which cannot be replaced.
fn breaks(random: &mut Random, focus: Focus, hosts: usize) -> Vec<Fault> {
    let wanted = focus == Focus::Broken || (focus == Focus::All && random.chance(20));
    if !wanted || hosts < 3 {
        return Vec::new();
    }
    let count = random.between(1, 3);
    let one = |_| Fault {
        at_ms: random.between(2_000, FAULTS_END_MS - 1),
        lasts_ms: 1,
        kind: Kind::BreakData {
            host: random.between(0, hosts as u64 - 1) as usize,
        },
    };
    (0..count).map(one).collect()
}

/// Replicas on which somebody writes, and primaries that die soon after. Of two tablets the replica is the only acker, which cannot be
/// replaced.
fn strangers(random: &mut Random, focus: Focus, hosts: usize) -> Vec<Fault> {
    let wanted = focus == Focus::Strangers || (focus == Focus::All && random.chance(20));
    if !wanted || hosts < 3 {
        return Vec::new();
    }
    let count = random.between(1, 3);
    let pair = |_| {
        let write = Fault {
            at_ms: random.between(1_500, FAULTS_END_MS - 1),
            lasts_ms: 1,
            kind: Kind::WriteOnReplica {
                host: random.between(0, hosts as u64 - 1) as usize,
            },
        };
        let death = Fault {
            at_ms: (write.at_ms + random.between(0, 15_000)).min(FAULTS_END_MS - 1),
            lasts_ms: 50,
            kind: Kind::KillPrimary,
        };
        [write, death]
    };
    (0..count).flat_map(pair).collect()
}

/// Policies that are asked for, a few in each story.
fn policies(random: &mut Random, focus: Focus, hosts: usize) -> Vec<Fault> {
    if focus != Focus::Policy {
        return Vec::new();
    }
    let mut at_ms = FIRST_MS;
    let mut asked = Vec::new();
    loop {
        at_ms += random.between(500, 8_000);
        if at_ms >= FAULTS_END_MS {
            return asked;
        }
        asked.push(Fault {
            at_ms,
            lasts_ms: 1,
            kind: Kind::Policy {
                acks: random.between(1, hosts as u64 - 1) as u32,
                cross_cell: random.chance(30),
            },
        });
    }
}

/// Two hosts are silent for longer than an acker may be, one after the other: dead, cut off whole, or with an agent that is cut off or
/// dead and a mysqld that goes on. Primaries die around the ends.
fn host_losses(random: &mut Random, hosts: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut at_ms = random.between(1_500, 4_000);
    for _ in 0..2 {
        let host = random.between(0, hosts as u64 - 1) as usize;
        let kinds = [
            Kind::KillAgent { host },
            Kind::CutFromCoordinators { host },
            Kind::IsolateHost { host },
            Kind::KillBoth { host },
            Kind::PauseHost { host },
        ];
        let loss = Fault {
            at_ms,
            lasts_ms: random.between(11_000, 16_000),
            kind: random.pick(&kinds).clone(),
        };
        at_ms += loss.lasts_ms + random.between(0, 3_000);
        faults.push(Fault {
            at_ms: at_ms - random.between(0, 4_000),
            lasts_ms: 50,
            kind: Kind::KillPrimary,
        });
        faults.push(loss);
    }
    faults
}

fn draw_kind(random: &mut Random, index: usize, hosts: usize, members: usize) -> Kind {
    let host = random.between(0, hosts as u64 - 1) as usize;
    let member = random.between(0, members as u64 - 1) as usize;
    let node = |random: &mut Random| random.between(0, (hosts + members) as u64 - 1) as usize;
    match index {
        0 => Kind::KillMysqld { host },
        1 => Kind::KillAgent { host },
        2 => Kind::KillBoth { host },
        3 => Kind::Reboot { host },
        4 => Kind::PauseHost { host },
        5 => Kind::HangMysqld { host },
        6 => Kind::StallApplier { host },
        7 => Kind::IsolateHost { host },
        8 => Kind::CutFromCoordinators { host },
        9 => Kind::CutOneWay {
            from: node(random),
            to: node(random),
        },
        10 => Kind::KillCoordinator { member },
        11 => Kind::PauseCoordinator { member },
        12 => Kind::IsolateCoordinator { member },
        13 => Kind::MoveLeadership,
        14 => Kind::KillPrimary,
        15 => Kind::KillLeader,
        16 => Kind::Switchover { to: host },
        _ => Kind::CreateKeyspace {
            number: random.between(1, 1_000_000),
        },
    }
}
