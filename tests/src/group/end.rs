//! The end of a story: everything is healed, and within a bounded time the group must be whole and serve. Then the history is judged.

use super::{
    LIVENESS_MS,
    client::SERVED_ENOUGH,
    host::Host,
    network::MS,
    world::{Happening, World},
};

/// How often the healed world is looked at.
const LOOK_US: u64 = 10 * MS;

impl World {
    /// Ends every fault.
    pub(super) fn heal(&mut self) {
        self.note(|| "everything is healed".to_owned());
        self.healed_us = Some(self.now_us);
        self.network.heal();
        for host in 0..self.hosts.len() {
            let machine = &mut self.hosts[host];
            machine.crash_in_effects = None;
            machine.paused_until_us = 0;
            machine.disk.stalled_until_us = 0;
            machine.disk.flush_us_max = 2 * MS;
            self.disk_full(host, false);
            self.start(host);
        }
        for client in 0..self.clients.len() {
            self.at(self.now_us, Happening::ClientTurn { client });
        }
        self.after(LOOK_US, Happening::Look);
    }

    /// Looks whether all is well after healing.
    pub(super) fn look(&mut self) {
        let Some(healed_us) = self.healed_us else {
            return;
        };
        match self.unhealed() {
            None => {
                let judged = self.judge.at_end(&self.history);
                self.check(judged);
                self.done_us = Some(self.now_us);
            }
            Some(why) if self.now_us > healed_us + LIVENESS_MS * MS => {
                self.check(Err(format!(
                    "{LIVENESS_MS} ms after the faults ended: {why}"
                )));
            }
            Some(_) => self.after(LOOK_US, Happening::Look),
        }
    }

    /// What is not yet as it must be.
    fn unhealed(&self) -> Option<String> {
        if self.served_reads.min(self.served_writes) < SERVED_ENOUGH {
            return Some(format!(
                "only {} reads and {} writes were answered",
                self.served_reads, self.served_writes
            ));
        }
        if let Some(busy) = self.clients.iter().position(|c| !c.is_idle()) {
            return Some(format!("client {busy} still waits"));
        }
        if self.open_goals > 0 {
            return Some(format!(
                "{} changes of members are not accepted",
                self.open_goals
            ));
        }
        let wanted = self.wanted();
        let mut statuses = Vec::new();
        for host in &wanted {
            match self.hosts[*host].status() {
                Some(status) => statuses.push(status),
                None => return Some(format!("member {} does not run", self.hosts[*host].id)),
            }
        }
        let Some(leader) = statuses.iter().find(|status| status.is_leader) else {
            return Some("nobody leads".to_owned());
        };
        if let Some(status) = statuses
            .iter()
            .find(|status| status.applied != leader.commit)
        {
            let (id, applied, commit) = (status.id, status.applied, leader.commit);
            return Some(format!("member {id} has applied {applied} of {commit}"));
        }
        let voters: Vec<u64> = wanted.iter().map(|host| self.hosts[*host].id).collect();
        let group = &leader.membership;
        let settled =
            group.voters == voters && group.learners.is_empty() && group.voters_before.is_empty();
        if !settled {
            let why = leader.membership_waits.clone().unwrap_or_default();
            return Some(format!(
                "the group is {group:?}, wanted are {voters:?}: {why}"
            ));
        }
        self.left_over(&wanted)
    }

    /// Members that were removed end by themselves, except those that lost their disks and know of nothing.
    fn left_over(&self, wanted: &[usize]) -> Option<String> {
        let records = &self.judge.state().coordinators;
        if let Some(id) = records
            .keys()
            .find(|id| !wanted.contains(&(**id as usize - 1)))
        {
            return Some(format!(
                "the record of member {id}, which left, is still there"
            ));
        }
        // One that knows only members that are gone as well has nobody to ask.
        let knows = |host: &Host| {
            let process = host.process.as_ref();
            let known = process.map(|process| process.member.addresses());
            let mut known = known.unwrap_or_default().into_keys();
            host.times_emptied == 0 && known.any(|id| wanted.contains(&(id as usize - 1)))
        };
        let mut others = self.hosts.iter().enumerate();
        let runs = others.find(|(at, host)| !wanted.contains(at) && knows(host));
        runs.map(|(_, host)| format!("member {} was removed and still runs", host.id))
    }
}
