//! The coordinators of a simulated world: the shipped core of each member over a modelled replicated log.
//!
//! The log keeps raft's promises and breaks everything it may: one member can commit at a time, deposed leaders believe in
//! themselves for a while, proposals of a lost leader may or may not be committed later, members lag, crash and replay.

use vt_coordinator_core::{Core, command::Command, event::Now, format, state::State};

use super::random::Random;

/// Members of the group.
pub const MEMBERS: usize = 3;

/// One member.
#[derive(Debug)]
pub struct Member {
    pub core: Core,
    pub alive: bool,
    /// Which start this is.
    pub life: u64,
    pub paused_until_ms: u64,
    /// Offset of its wall clock: it must not matter.
    pub wall_offset_ms: u64,
    /// A state that was kept as a snapshot; it restarts from this one and replays what follows.
    pub snapshot: State,
    /// When it will notice that it leads no more.
    pub steps_down_ms: Option<u64>,
    /// When its core took its last step.
    pub stepped_ms: u64,
}

impl Member {
    /// A member that has applied nothing.
    pub fn new(random: &mut Random) -> Self {
        let state = State {
            cluster_id: "simulated".to_owned(),
            format: format::NEWEST,
            ..State::default()
        };
        Self {
            core: Core::new(state.clone()),
            alive: true,
            life: 1,
            paused_until_ms: 0,
            wall_offset_ms: random.between(0, 100_000),
            snapshot: state,
            steps_down_ms: None,
            stepped_ms: 0,
        }
    }

    /// Whether it does anything now.
    pub fn is_working(&self, now_ms: u64) -> bool {
        self.alive && now_ms >= self.paused_until_ms
    }

    /// Its clocks.
    pub fn now(&self, now_ms: u64) -> Now {
        Now {
            monotonic_ms: now_ms,
            unix_ms: 1_700_000_000_000 + now_ms + self.wall_offset_ms,
        }
    }
}

/// The log as raft guarantees it.
#[derive(Debug, Default)]
pub struct Log {
    /// What is committed; the first entry has index 1.
    pub entries: Vec<Command>,
    /// Who can commit now.
    pub leader: Option<usize>,
    pub term: u64,
    /// Proposals on their way to a majority: who proposed them, in which term.
    pub pending: Vec<(u64, Command)>,
    /// Since when nobody who can commit is seen.
    pub leaderless_since_ms: Option<u64>,
}

impl Log {
    /// Takes a proposal of a member that can commit; drops one of a member that only believes that it leads.
    pub fn propose(&mut self, member: usize, command: Command) -> bool {
        let can = self.leader == Some(member);
        if can {
            self.pending.push((self.term, command));
        }
        can
    }

    /// Commits the oldest proposal of this term.
    pub fn commit(&mut self, term: u64) {
        if self.term == term && !self.pending.is_empty() {
            let (_, command) = self.pending.remove(0);
            self.entries.push(command);
        }
    }

    /// The entry that follows an applied index.
    pub fn after(&self, applied: u64) -> Option<(u64, Command)> {
        let command = self.entries.get(applied as usize)?;
        Some((applied + 1, command.clone()))
    }

    /// A new term: what the old leader had under way is committed up to somewhere, the rest is lost.
    pub fn elect(&mut self, leader: usize, random: &mut Random) {
        let kept = random.between(0, self.pending.len() as u64) as usize;
        let pending = std::mem::take(&mut self.pending);
        self.entries
            .extend(pending.into_iter().take(kept).map(|(_, command)| command));
        self.term += 1;
        self.leader = Some(leader);
        self.leaderless_since_ms = None;
    }
}
