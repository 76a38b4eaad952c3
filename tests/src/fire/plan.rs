//! What is done to whom and for how long, drawn from a seed: the same seed plans the same. Touches nothing.

use std::{fmt, time::Duration};

use super::MEMBERS;
use crate::sim::random::Random;

/// Who is hit; leaders and followers are found out at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Leader,
    Follower,
    Member(usize),
    /// The leader and one more: no majority is left.
    Two,
    All,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("the leader"),
            Self::Follower => f.write_str("a follower"),
            Self::Member(number) => write!(f, "member {}", number + 1),
            Self::Two => f.write_str("the leader and one more"),
            Self::All => f.write_str("all"),
        }
    }
}

/// What is done to each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injury {
    /// SIGKILL.
    Kill,
    /// SIGKILL, and what was not synced is lost.
    LosePower,
    /// SIGTERM: leadership is handed over.
    Stop,
    /// SIGSTOP.
    Pause,
    /// Neither members nor clients are reached, in neither direction.
    Isolate,
    /// The cable is out.
    Unplug,
    /// Cut off from the other members; clients still reach it.
    CutFromPeers,
    /// Cut off from one other member only.
    CutOneLink,
    /// Hears nobody and is heard.
    Deafen,
    /// Is heard by nobody and hears.
    Mute,
    /// Its filesystem is full.
    FillDisk,
    /// Its filesystem does not answer.
    FreezeDisk,
    /// It receives slowly.
    SlowDown,
    /// Members lose packets of each other.
    LosePackets,
}

/// Everything that can happen, with those that it happens to. Dealt like cards, so that a short run sees all of it.
const CARDS: &[(Injury, Whom)] = &[
    (Injury::Kill, Whom::Leader),
    (Injury::Kill, Whom::Follower),
    (Injury::Kill, Whom::Two),
    (Injury::Kill, Whom::All),
    (Injury::LosePower, Whom::Leader),
    (Injury::LosePower, Whom::Follower),
    (Injury::LosePower, Whom::All),
    (Injury::Stop, Whom::Leader),
    (Injury::Stop, Whom::Follower),
    (Injury::Pause, Whom::Leader),
    (Injury::Pause, Whom::Leader),
    (Injury::Pause, Whom::Follower),
    (Injury::Isolate, Whom::Leader),
    (Injury::Isolate, Whom::Follower),
    (Injury::Unplug, Whom::Leader),
    (Injury::CutFromPeers, Whom::Leader),
    (Injury::CutFromPeers, Whom::Follower),
    (Injury::CutFromPeers, Whom::All),
    (Injury::CutOneLink, Whom::Leader),
    (Injury::CutOneLink, Whom::Follower),
    (Injury::Deafen, Whom::Leader),
    (Injury::Deafen, Whom::Follower),
    (Injury::Mute, Whom::Leader),
    (Injury::Mute, Whom::Follower),
    (Injury::FillDisk, Whom::Leader),
    (Injury::FillDisk, Whom::Follower),
    (Injury::FillDisk, Whom::All),
    (Injury::FreezeDisk, Whom::Leader),
    (Injury::FreezeDisk, Whom::Follower),
    (Injury::SlowDown, Whom::Leader),
    (Injury::SlowDown, Whom::All),
    (Injury::LosePackets, Whom::All),
];

/// Some injuries at once, held for a while, then healed; the next come after a rest, in which the group may or may not recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    pub injuries: Vec<(Injury, Whom)>,
    pub hold: Duration,
    pub rest: Duration,
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (injury, whom) in &self.injuries {
            write!(f, "{injury:?} {whom}, ")?;
        }
        let (hold, rest) = (self.hold.as_millis(), self.rest.as_millis());
        write!(f, "held for {hold} ms, then {rest} ms of rest")
    }
}

/// Percent of the episodes in which two things happen at once.
const TWO_AT_ONCE_PERCENT: u64 = 25;
/// Percent of the episodes that last long enough for everybody's patience to end.
const LONG_PERCENT: u64 = 15;

/// What fills `seconds`.
pub fn plan(seed: u64, seconds: u64) -> Vec<Episode> {
    let mut random = Random::new(seed);
    let mut deck = Vec::new();
    let mut episodes = Vec::new();
    let mut planned = Duration::ZERO;
    while planned < Duration::from_secs(seconds) {
        let mut injuries = vec![deal(&mut random, &mut deck)];
        if random.chance(TWO_AT_ONCE_PERCENT) {
            injuries.push(deal(&mut random, &mut deck));
        }
        let hold = if random.chance(LONG_PERCENT) {
            random.between(3_000, 8_000)
        } else {
            random.between(200, 2_500)
        };
        let rest = random.between(300, 3_000);
        let episode = Episode {
            injuries,
            hold: Duration::from_millis(hold),
            rest: Duration::from_millis(rest),
        };
        planned += episode.hold + episode.rest;
        episodes.push(episode);
    }
    episodes
}

fn deal(random: &mut Random, deck: &mut Vec<(Injury, Whom)>) -> (Injury, Whom) {
    if deck.is_empty() {
        deck.extend(CARDS);
    }
    let drawn = random.between(0, deck.len() as u64 - 1) as usize;
    let (injury, whom) = deck.swap_remove(drawn);
    // Followers are told apart by their number.
    let member = random.between(0, MEMBERS as u64 - 1) as usize;
    match whom {
        Whom::Follower if random.chance(50) => (injury, Whom::Member(member)),
        whom => (injury, whom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_the_same_again_and_fills_the_time() {
        for seed in 0..50 {
            let episodes = plan(seed, 60);
            assert_eq!(episodes, plan(seed, 60));
            let all: Duration = episodes.iter().map(|it| it.hold + it.rest).sum();
            assert!(all >= Duration::from_secs(60) && all < Duration::from_secs(71));
        }
        assert_ne!(plan(1, 60), plan(2, 60));
    }

    #[test]
    fn a_few_minutes_see_every_injury() {
        for seed in 0..50 {
            let episodes = plan(seed, 180);
            let dealt: Vec<_> = episodes.iter().flat_map(|it| &it.injuries).collect();
            for (injury, _) in CARDS {
                assert!(dealt.iter().any(|(it, _)| it == injury), "{injury:?}");
            }
        }
    }
}
