//! What a row of the matrix is made of: things that are done, pauses, and things that must be seen. It does nothing.

use nix::sys::signal::Signal;

use super::host::Program;

/// Which hosts; who is meant is settled when the row begins, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whose tablet was primary.
    Primary,
    /// The next one in line: an acker.
    First,
    /// The other acker.
    Second,
    Replicas,
    /// Whose tablet is primary now, or is about to be.
    Present,
    /// Whose coordinator leads now.
    Leader,
    /// All three.
    All,
    /// The application's, with a router alone.
    Front,
}

/// What the machine has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many sessions at the host's mysqld, more than it takes.
    Sessions(usize),
    /// So many busy processes.
    Processors(usize),
}

/// One thing that is done or seen. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Signal(Who, &'static [Program], Signal),
    /// What its service manager would start, and nothing else is healed.
    Start(Who),
    /// Hears nobody and is not heard; packets vanish.
    Isolate(Who),
    /// What the first send no longer reaches the others.
    Cut(Who, Who),
    /// The same for what is said to coordinators and by them, and nothing else.
    CutControl(Who, Who),
    /// The same for what is said to mysqlds and by them, and nothing else.
    CutData(Who, Who),
    /// So many of a hundred packets are lost.
    Lose(u64),
    HealNetwork,
    /// Isolated for so long, then not for so long, so many times.
    Flap(Who, u64, u32),
    Freeze(Who),
    Thaw(Who),
    Fill(Who),
    TurnReadOnly(Who),
    /// Whatever is written to it or read of it fails.
    Break(Who),
    /// The disk of its coordinator.
    FreezeCoordinator(Who),
    FillCoordinator(Who),
    /// What was not synced is gone, and so is everything that ran on the host; it starts again with another boot id.
    LosePower(Who),
    /// At its mysqld, by an account that may everything.
    Sql(Who, &'static [&'static str]),
    /// The same, and nobody waits for it.
    Begin(Who, &'static [&'static str]),
    /// One by the root user of the host, and nobody waits for it.
    BeginAsRoot(Who, &'static str),
    /// At its mysqld, in a session that stays.
    Hold(Who, &'static [&'static str]),
    Load(Who, Load),
    Switchover(Who),
    /// The same as soon as it is not refused, because the candidate lags or has just come back.
    SwitchoverWhenFit(Who),
    /// Returns at once.
    BeginSwitchover(Who),

    /// These so many times.
    Repeat(u32, &'static [Step]),
    Pause(u64),
    /// A time that differs from trial to trial.
    Swept,

    /// Another one serves in a later epoch, and writes go on.
    Moves,
    /// Writes go on, whoever serves.
    Writes,
    /// Nothing is acknowledged for so long.
    NoWrites(u64),
    /// The replica set says that it waits, in such words.
    Blocked(&'static str),
    /// The last switchover was refused or taken back.
    Refused,
    /// Something with this kind was decided.
    Told(&'static str),
    /// All tablets are as they should be, within so long.
    Repaired(u64),
}

impl Step {
    /// Whether it is only looked at.
    pub fn is_expectation(self) -> bool {
        matches!(
            self,
            Self::Moves
                | Self::Writes
                | Self::NoWrites(_)
                | Self::Blocked(_)
                | Self::Refused
                | Self::Told(_)
                | Self::Repaired(_)
        )
    }

    /// To whom it is done, where that is all there is to know.
    pub fn target(self) -> Option<Who> {
        match self {
            Self::Signal(who, ..)
            | Self::Start(who)
            | Self::Isolate(who)
            | Self::Freeze(who)
            | Self::Thaw(who)
            | Self::Fill(who)
            | Self::TurnReadOnly(who)
            | Self::Break(who)
            | Self::FreezeCoordinator(who)
            | Self::FillCoordinator(who)
            | Self::LosePower(who)
            | Self::BeginAsRoot(who, _)
            | Self::Sql(who, _)
            | Self::Begin(who, _)
            | Self::Hold(who, _)
            | Self::Load(who, _) => Some(who),
            _ => None,
        }
    }
}
