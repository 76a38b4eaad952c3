//! Carries out a plan on the bed, in a thread of its own, and notes it in the diary. Notices who ends without being told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    MEMBERS,
    bed::Bed,
    diary::Diary,
    observer::Observed,
    plan::{Episode, Injury, Whom},
};
use crate::{bed::network, sim::random::Random};

/// Between two looks at who still runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Does what is planned.
pub struct Faults {
    pub bed: Bed,
    pub diary: Arc<Diary>,
    pub observed: Arc<Observed>,
    pub random: Random,
    /// Set from outside to end early.
    pub stop: Arc<AtomicBool>,
}

impl Faults {
    /// Carries out the plan; at the end everything is healed. What could not be done is an error of the bed.
    pub fn carry_out(mut self, plan: &[Episode]) -> anyhow::Result<Self> {
        for episode in plan {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            for (injury, whom) in &episode.injuries {
                self.injure(*injury, *whom)?;
            }
            self.wait(episode.hold)?;
            self.diary.note("heal");
            self.bed.heal()?;
            self.wait(episode.rest)?;
        }
        Ok(self)
    }

    /// Lets time pass, in which nobody may end.
    pub fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            for found in self.bed.ended_by_themselves()? {
                self.diary.find(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK_INTERVAL));
        }
    }

    fn injure(&mut self, injury: Injury, whom: Whom) -> anyhow::Result<()> {
        let hit = self.who(whom);
        let names: Vec<_> = hit.iter().map(|it| (it + 1).to_string()).collect();
        let names = names.join(" and ");
        let what = format!("{injury:?} {whom}: member {names}");
        self.diary.note(&what);
        if injury == Injury::LosePackets {
            return network::lose(self.random.between(5, 30));
        }
        hit.iter().try_for_each(|member| self.hit(injury, *member))
    }

    fn who(&mut self, whom: Whom) -> Vec<usize> {
        let leader = self.observed.leader();
        let another = self.random.between(1, MEMBERS as u64 - 1) as usize;
        let follower = (leader + another) % MEMBERS;
        match whom {
            Whom::Leader => vec![leader],
            Whom::Follower => vec![follower],
            Whom::Member(number) => vec![number],
            Whom::Two => vec![leader, follower],
            Whom::All => (0..MEMBERS).collect(),
        }
    }

    fn hit(&mut self, injury: Injury, number: usize) -> anyhow::Result<()> {
        let member = &mut self.bed.members[number];
        let mut peers = network::others(number, MEMBERS);
        match injury {
            Injury::Kill => member.kill(),
            Injury::LosePower => member.lose_power(),
            Injury::Stop => member.stop(),
            Injury::Pause => member.pause(),
            Injury::FillDisk => member.fill_disk(),
            Injury::FreezeDisk => member.freeze_disk(),
            Injury::Unplug => network::unplug(number),
            Injury::SlowDown => network::slow_down(number),
            Injury::LosePackets => Ok(()),
            Injury::Isolate => network::isolate(number, MEMBERS),
            Injury::CutFromPeers => peers.try_for_each(|peer| {
                network::cut(number, peer)?;
                network::cut(peer, number)
            }),
            Injury::CutOneLink => {
                let peer = (number + self.random.between(1, MEMBERS as u64 - 1) as usize) % MEMBERS;
                network::cut(number, peer)?;
                network::cut(peer, number)
            }
            Injury::Deafen => network::deafen(number, MEMBERS),
            Injury::Mute => network::mute(number, MEMBERS),
        }
    }
}
