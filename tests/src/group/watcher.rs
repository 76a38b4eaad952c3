//! Subscribers of the records: each goes on from its revision at any member, from the window of changes or, beyond it, from a full
//! state. Wherever it has taken everything, it must hold exactly what that member holds.

use std::collections::BTreeMap;

use prost::Message as _;
use vt_coordinator_core::{state::State, window};
use vt_proto::{epoch::Revision, wire};

use super::{
    network::MS,
    sabotage::Sabotage,
    world::{Happening, World},
};
use crate::{check::Violation, sim::random::Random};

/// What a subscriber holds of one record, as it came.
type Held = BTreeMap<String, (u64, Option<wire::RecordValue>)>;

/// One subscriber.
#[derive(Debug)]
pub(super) struct Watcher {
    random: Random,
    host: usize,
    position: Revision,
    held: Held,
    pause_ms_max: u64,
}

impl Watcher {
    pub(super) fn new(mut random: Random) -> Self {
        Self {
            host: 0,
            position: Revision::ZERO,
            held: Held::new(),
            pause_ms_max: *random.pick(&[40, 200, 1_000]),
            random,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let record = wire::Record::decode(bytes).map_err(|error| error.to_string())?;
        let key = format!("{:?}", record.key);
        let before = self.held.get(&key).map_or(0, |held| held.0);
        if record.revision <= before {
            let now = record.revision;
            return Err(format!(
                "a subscriber had {key} at {before} and is told of {now}"
            ));
        }
        self.held.insert(key, (record.revision, record.value));
        Ok(())
    }

    /// Takes everything that a member has beyond the position.
    fn follow(
        &mut self,
        state: &State,
        window: &window::Window,
        lossy: bool,
    ) -> Result<(), Violation> {
        let full = || window::full(state).into_iter().map(|delta| delta.bytes);
        let entries = match self.position {
            Revision::ZERO => None,
            position => window.after(position),
        };
        let Some(entries) = entries else {
            let earlier = std::mem::take(&mut self.held);
            full().try_for_each(|bytes| self.take(&bytes))?;
            let back = self
                .held
                .iter()
                .find(|(key, held)| earlier.get(*key).is_some_and(|earlier| earlier.0 > held.0));
            if let Some((key, _)) = back {
                return Err(format!(
                    "a full state brings a subscriber back to an older {key}"
                ));
            }
            self.position = Revision(state.applied);
            return Ok(());
        };
        let mut newer = 0;
        for entry in entries {
            if entry.revision <= self.position {
                return Err(format!(
                    "a subscriber at {} is told of {}",
                    self.position, entry.revision
                ));
            }
            newer += 1;
            self.position = entry.revision;
            if lossy && self.random.chance(5) {
                continue;
            }
            entry
                .deltas
                .iter()
                .try_for_each(|delta| self.take(&delta.bytes))?;
        }
        // A member that is behind has nothing to say; another one has, and then everything must be there.
        if newer == 0 {
            return Ok(());
        }
        let mut theirs = Watcher::new(Random::new(0));
        full().try_for_each(|bytes| theirs.take(&bytes))?;
        self.held.retain(|_, (_, value)| value.is_some());
        if self.held != theirs.held {
            return Err(format!(
                "a subscriber at {} holds {:?} and the member {:?}",
                self.position, self.held, theirs.held
            ));
        }
        Ok(())
    }
}

impl World {
    /// A subscriber looks at its member, or goes to another one.
    pub(super) fn watch(&mut self, index: usize) {
        let hosts = self.hosts.len() as u64;
        let lossy = self.sabotage == Some(Sabotage::LoseChanges);
        let watcher = &mut self.watchers[index];
        if watcher.random.chance(20) {
            watcher.host = watcher.random.between(0, hosts - 1) as usize;
        }
        let machine = &self.hosts[watcher.host];
        let wait_us = watcher.random.between(1, watcher.pause_ms_max) * MS;
        let mut followed = Ok(());
        if let Some(process) = &machine.process
            && self.now_us >= machine.paused_until_us
            // A member that was never told anything has nothing to be watched.
            && !process.member.core().state().coordinators.is_empty()
        {
            let core = process.member.core();
            followed = watcher.follow(core.state(), core.window(), lossy);
        }
        let id = machine.id;
        self.check(followed.map_err(|why| format!("at member {id}: {why}")));
        self.after(wait_us, Happening::Watch { watcher: index });
    }
}
