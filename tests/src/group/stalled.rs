//! A leader whose disk hangs for good, and a group whose other members are well: they must not need it.

use super::{
    faults::Focus,
    network::MS,
    world::{Happening, World},
};

/// What was on the disk before is answered by then.
const ANSWERED_WITHIN_MS: u64 = 1_000;
/// From then until another member leads and clients were told of writes: the next look at an idle disk, the patience with a write,
/// a hand-over that fails, two elections, the clients' patience with the member that led before, and some of their tries.
const SERVES_WITHIN_MS: u64 = 4_500;

impl World {
    /// The disk of this machine begins to hang.
    pub(super) fn stall_disk(&mut self, host: usize, until_us: u64) {
        self.hosts[host].disk.stalled_until_us = until_us;
        // Nothing else is wrong then.
        if self.focus == Focus::DiskOfLeader {
            let happening = Happening::WithoutHung { host, told: None };
            self.after(ANSWERED_WITHIN_MS * MS, happening);
        }
    }

    /// Looks whether the others have done what they must have done by now. `told`: of how many writes clients had been told.
    pub(super) fn without_hung(&mut self, host: usize, told: Option<usize>) {
        let id = self.hosts[host].id;
        let now_told = self.judge.acknowledged();
        let Some(told) = told else {
            let told = Some(now_told);
            let happening = Happening::WithoutHung { host, told };
            return self.after(SERVES_WITHIN_MS * MS, happening);
        };
        let mut others = self.hosts.iter().filter(|other| other.id != id);
        let instead = match self.hosts[host].leads() || !others.any(|other| other.leads()) {
            true => Some("no other member leads"),
            false => (told == now_told).then_some("the group takes no writes"),
        };
        if let Some(instead) = instead {
            self.check(Err(format!("the disk of member {id} hangs, and {instead}")));
        }
    }
}
