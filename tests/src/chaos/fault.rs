//! What can happen to a primary and its host, and to the coordinators.

use nix::sys::signal::Signal;

use super::{
    FRONT, HOSTS, REPLICA_SET, alias,
    bed::{Bed, EVERYTHING},
    host::Program,
};
use crate::bed::network;

/// Something that is done to a whole cluster whose primary is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Switchover,
    KillMysqld,
    /// Every process of the host at once; its kernel lives and resets connections.
    KillHost,
    /// Packets vanish both ways; nobody gets a reset.
    CutHost,
    /// Every process stands still; connections are kept and still accepted.
    FreezeHost,
    StopMysqld,
    FreezeDisk,
    FillDisk,
    /// The host is cut off and its coordinator leads.
    CutHostOfLeader,
    KillAgent,
    KillCoordinators,
}

impl Fault {
    /// Which coordinator is to lead before it happens: what happens to the primary alone must leave the leader alone.
    pub fn leader(self, primary: usize) -> usize {
        match self {
            Self::CutHostOfLeader => primary,
            _ => (primary + 1) % HOSTS,
        }
    }

    /// Whether another primary has to take over.
    pub fn moves_primary(self) -> bool {
        !matches!(self, Self::KillAgent | Self::KillCoordinators)
    }

    /// Whether the old primary comes back without anybody's help.
    pub fn heals_itself(self) -> bool {
        matches!(self, Self::Switchover | Self::KillMysqld)
    }

    /// Lets it happen.
    pub async fn inject(self, bed: &mut Bed, primary: usize) -> anyhow::Result<()> {
        let next = alias((primary + 1) % HOSTS);
        let host = &mut bed.hosts[primary];
        match self {
            Self::Switchover => {
                let words = ["replica-set", "switchover", REPLICA_SET, "--to", &next];
                bed.vtctl(&words).await.map(drop)
            }
            Self::KillMysqld => host.signal(&[Program::Mysqld], Signal::SIGKILL),
            Self::KillHost => host.signal(EVERYTHING, Signal::SIGKILL),
            Self::CutHost | Self::CutHostOfLeader => network::isolate(primary, FRONT + 1),
            Self::FreezeHost => host.signal(EVERYTHING, Signal::SIGSTOP),
            Self::StopMysqld => host.signal(&[Program::Mysqld], Signal::SIGSTOP),
            Self::FreezeDisk => host.disk()?.freeze(),
            Self::FillDisk => host.disk()?.fill(),
            Self::KillAgent => host.signal(&[Program::Agent], Signal::SIGKILL),
            Self::KillCoordinators => {
                let mut hosts = bed.hosts.iter_mut();
                hosts.try_for_each(|it| it.signal(&[Program::Coordinator], Signal::SIGKILL))
            }
        }
    }
}
