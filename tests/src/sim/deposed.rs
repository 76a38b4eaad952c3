//! Who is well, and who is deposed all the same.

use vt_proto::{report::WriteCause, topology::Phase};

use super::world::World;
use crate::check::Violation;

impl World {
    /// A primary that works and commits, whose agent reaches the coordinators, is deposed by nobody, whatever its replicas say.
    pub(super) fn deposed_for_a_reason(&mut self) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        for host in 0..self.hosts.len() {
            if !self.is_well(host) {
                self.deposed.impaired(host, now_ms);
            }
        }
        let Some(set) = self.committed.replica_sets.get(&self.set) else {
            return Ok(());
        };
        let Phase::Revoking { previous, reason } = &set.value.phase else {
            return Ok(());
        };
        match self.host_of(previous) {
            Some(host) => self.deposed.revoked(host, set.value.epoch, reason, now_ms),
            None => Ok(()),
        }
    }

    /// What everybody has, for the trace of a story that ends badly.
    pub(super) fn note_tablets(&mut self) {
        for host in 0..self.hosts.len() {
            let state = &self.hosts[host];
            let said = state
                .agent
                .as_ref()
                .and_then(|it| it.last_report.as_ref())
                .map(|it| {
                    (
                        it.promised,
                        it.revoked,
                        it.fenced,
                        it.amnesiac,
                        it.blocked.clone(),
                    )
                });
            let source = state.mysqld.replication.as_ref();
            let line = format!(
                "tablet {host}: {:?}, received {}, executed {}, logged {}, says {said:?}, replication {:?}",
                state.life,
                state.mysqld.received,
                state.mysqld.executed,
                state.mysqld.logged,
                source.map(|it| (&it.source, &it.source_uuid, it.io, it.sql))
            );
            self.note(|| line);
        }
    }

    fn is_well(&self, host: usize) -> bool {
        let state = &self.hosts[host];
        let node = self.node(host);
        let uplink = state.agent.as_ref().and_then(|agent| agent.uplink);
        let uplink = uplink.map(|(member, _)| member);
        // An agent stays with a coordinator that stands still while another leads.
        let is_heard = uplink.is_some_and(|member| {
            self.log.leader == Some(member) && self.network.connected(node, member)
        });
        // Its ackers may have lost it: then another primary is looked for.
        let commits_wait = state
            .write_probe(self.now_ms)
            .and_then(|probe| probe.failure)
            .is_some_and(|failure| failure.cause == WriteCause::Acknowledgements);
        let is_slow = state.suffering.has_bad_disk() || commits_wait;
        // One that was chosen and cannot apply what its epoch starts with never opens.
        let channel = state.mysqld.replication.as_ref();
        let is_stuck = channel.is_some_and(|channel| channel.sql_error.is_some());
        state.is_working(self.now_ms) && is_heard && !is_slow && !is_stuck
    }
}
