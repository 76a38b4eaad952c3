//! A host's disk that is full or stalled, and a mysqld with too much to do: reads and heartbeats go on, commits do not.

use vt_agent_core::Action;
use vt_proto::report::{DiskProbe, DiskState, ThreadState, WriteCause, WriteFailure, WriteProbe};

use super::{
    faults::{Fault, Focus, Kind},
    host::Host,
    mysqld::{Transaction, What},
    random::Random,
    world::{Happening, World},
};

/// The agent gives a row, and a block, so long.
const PROBE_LIMIT_MS: u64 = 1_000;
/// Between two rows; blocks come twice as often.
const ROW_PERIOD_MS: u64 = 500;
/// A client's writes that hang on one server: more of them change nothing.
const HANGING_MAX: usize = 20;
/// What is written to a stalled disk is given up after this.
const DISK_WRITE_LIMIT_MS: u64 = 10_000;
/// Where nothing else fails, writes go on elsewhere within this: a row every half second, a second for it, half a second of the
/// coordinator, a slow STOP, and the failover itself.
const WRITES_GO_ON_MS: u64 = 5_000;
/// Of a hundred writes to a server with too much to do.
const SATURATED_PERCENT_LOST: u64 = 90;

/// What a host's disk and mysqld suffer from.
#[derive(Clone, Debug)]
pub struct Suffering {
    pub disk: DiskState,
    /// Since when the block that the agent writes hangs.
    block_since_ms: u64,
    /// Since when the row that the agent writes hangs.
    row_since_ms: u64,
    pub saturated: bool,
    /// The agent's own directory lies on mysqld's disk.
    shared: bool,
    /// The fault that all this comes from.
    by: Option<usize>,
    /// Commits that are not in the binary log yet.
    hanging: Vec<What>,
    /// The commit that waits for acknowledgements at the head of the queue, and since when.
    head: Option<(Transaction, u64)>,
}

impl Suffering {
    /// From nothing.
    pub fn none(shared: bool) -> Self {
        Self {
            disk: DiskState::Good,
            block_since_ms: 0,
            row_since_ms: 0,
            saturated: false,
            shared,
            by: None,
            hanging: Vec::new(),
            head: None,
        }
    }

    /// What is written to the disk hangs.
    pub fn has_bad_disk(&self) -> bool {
        self.disk != DiskState::Good
    }

    /// The process is gone, and what hung in it.
    pub fn mysqld_ends(&mut self) {
        self.hanging.clear();
        self.head = None;
    }
}

impl Host {
    /// A commit that does not get into the binary log. True if the disk is such that it hangs.
    pub fn hang(&mut self, what: &What) -> bool {
        let hangs = self.suffering.has_bad_disk();
        let is_client = matches!(what, What::Write(_));
        if hangs && (!is_client || self.suffering.hanging.len() < HANGING_MAX) {
            self.suffering.hanging.push(what.clone());
        }
        hangs
    }

    /// Notes since when the head of the commits has been waiting.
    pub fn look_at_waiters(&mut self, now_ms: u64) {
        let head = self.mysqld.run.waiters.first().map(|it| &it.transaction);
        let known = self.suffering.head.as_ref().map(|(head, _)| head);
        if head != known {
            self.suffering.head = head.map(|head| (head.clone(), now_ms));
        }
    }

    /// What the agent's block tells.
    pub fn disk_probe(&self, now_ms: u64) -> DiskProbe {
        let late = now_ms.saturating_sub(self.suffering.block_since_ms) > PROBE_LIMIT_MS;
        let state = match self.suffering.disk {
            DiskState::Stalled if !late => DiskState::Good,
            state => state,
        };
        DiskProbe {
            state,
            success_age_ms: None,
            detail: String::new(),
        }
    }

    /// What the agent's row tells, while this is an open primary.
    pub fn write_probe(&self, now_ms: u64) -> Option<WriteProbe> {
        let (run, suffering) = (&self.mysqld.run, &self.suffering);
        if !self.has_process() || run.read_only || run.super_read_only {
            return None;
        }
        let slow = suffering.has_bad_disk() || suffering.saturated;
        let row = slow.then_some(suffering.row_since_ms);
        let head = suffering.head.as_ref().map(|(_, since_ms)| *since_ms);
        let since_ms = row.into_iter().chain(head).min();
        let waited_ms = since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        let cause = match suffering.disk {
            _ if !run.waiters.is_empty() => WriteCause::Acknowledgements,
            DiskState::Full => WriteCause::DiskSpace,
            _ => WriteCause::Unknown,
        };
        Some(WriteProbe {
            success_age_ms: None,
            failure: (waited_ms > PROBE_LIMIT_MS).then(|| WriteFailure {
                since_ms: waited_ms,
                cause,
                detail: String::new(),
            }),
        })
    }

    /// How long an action takes to fail for the disk's sake; nothing if it need not wait for it.
    pub fn disk_limit_ms(&self, action: &Action) -> Option<u64> {
        let hangs = self.suffering.disk == DiskState::Stalled && self.writes_to_disk(action);
        hangs.then_some(DISK_WRITE_LIMIT_MS)
    }

    /// Why the disk keeps an action from taking effect.
    pub fn disk_refuses(&self, action: &Action) -> Result<(), String> {
        let suffering = &self.suffering;
        let closes = matches!(action, Action::CloseServer | Action::CloseForDemotion);
        if closes && !suffering.hanging.is_empty() {
            return Err("a commit hangs".to_owned());
        }
        // A thread that writes to a relay log without space does not stop.
        let stops = *action == Action::StopIoThread && self.mysqld.replication.is_some();
        if suffering.has_bad_disk() && (stops || self.writes_to_disk(action)) {
            return Err(format!("its disk is {:?}", suffering.disk));
        }
        Ok(())
    }

    fn writes_to_disk(&self, action: &Action) -> bool {
        match action {
            Action::Persist(_)
            | Action::KeepOrder { .. }
            | Action::WriteFenceMarker { .. }
            | Action::RemoveFenceMarker
            | Action::WriteRoleMarker
            | Action::RemoveRoleMarker => self.suffering.shared,
            Action::StartMysqld
            | Action::CutTail { .. }
            | Action::Clone { .. }
            | Action::SettleAccounts { .. }
            | Action::LockOut { .. } => true,
            _ => false,
        }
    }
}

/// Faults of disks and of saturation, beside the schedule of all others so that those stay as they were.
pub fn schedule(random: &mut Random, focus: Focus, hosts: usize, end_ms: u64) -> Vec<Fault> {
    let primary_only = matches!(focus, Focus::Disks | Focus::Saturation);
    if !primary_only && (focus != Focus::All || random.chance(50)) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut at_ms = 3_000;
    loop {
        at_ms += random.between(100, 4_000);
        if at_ms >= end_ms {
            return faults;
        }
        let host = (!primary_only && random.chance(50))
            .then(|| random.between(0, hosts as u64 - 1) as usize);
        let lasts_ms = match primary_only {
            true => random.between(9_000, 12_000),
            false => random.between(500, 12_000),
        };
        let saturates = match focus {
            Focus::Saturation => true,
            Focus::Disks => false,
            _ => random.chance(33),
        };
        let kind = match saturates {
            true => Kind::Saturate { host },
            false => Kind::BadDisk {
                host,
                full: random.chance(50),
            },
        };
        faults.push(Fault {
            at_ms,
            lasts_ms,
            kind,
        });
        if primary_only {
            at_ms += lasts_ms;
        }
    }
}

impl World {
    pub(super) fn suffering_begins(&mut self, index: usize, kind: &Kind) {
        let (named, disk) = match kind {
            Kind::BadDisk { host, full: true } => (host, DiskState::Full),
            Kind::BadDisk { host, full: false } => (host, DiskState::Stalled),
            Kind::Saturate { host } => (host, DiskState::Good),
            _ => return,
        };
        let primary = self.serving_primary();
        let Some(host) = named.or(primary) else {
            return;
        };
        let (now_ms, offset_ms) = (self.now_ms, self.random.between(0, ROW_PERIOD_MS));
        let suffering = &mut self.hosts[host].suffering;
        if suffering.by.is_some() {
            return;
        }
        suffering.by = Some(index);
        suffering.disk = disk;
        suffering.saturated = disk == DiskState::Good;
        suffering.block_since_ms = now_ms + offset_ms / 2;
        suffering.row_since_ms = now_ms + offset_ms;
        self.note(|| format!("tablet {host}: suffers from {kind:?}"));
        if self.focus == Focus::Disks && primary == Some(host) && self.can_go_on_without(host) {
            let since_ms = now_ms;
            self.after(WRITES_GO_ON_MS, Happening::WritesGoOn { host, since_ms });
        }
    }

    /// Only where all others follow, and suffice to acknowledge what one of them writes, is there a bound to hold.
    fn can_go_on_without(&self, primary: usize) -> bool {
        let acks = self.hosts[primary].mysqld.run.acks as usize;
        let follows = |host: &Host| {
            let replication = host.mysqld.replication.as_ref();
            replication.is_some_and(|r| {
                r.io == ThreadState::On && r.acknowledges && self.host_at(&r.source) == primary
            })
        };
        let well = self.hosts.iter().filter(|host| host.index != primary);
        let well = well.filter(|host| !host.suffering.has_bad_disk() && follows(host));
        let well = well.count();
        well + 1 == self.hosts.len() && well > acks
    }

    pub(super) fn suffering_ends(&mut self, index: usize) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].suffering.by == Some(index) {
                self.relieve(host);
            }
        }
    }

    /// The disk works again: what hung goes on, where the process still lives.
    pub(super) fn relieve(&mut self, host: usize) {
        let suffering = &mut self.hosts[host].suffering;
        suffering.by = None;
        suffering.disk = DiskState::Good;
        suffering.saturated = false;
        for what in std::mem::take(&mut suffering.hanging) {
            if let Some(transaction) = self.hosts[host].mysqld.write(what) {
                self.work_acknowledged(host, &transaction.what);
                self.committed(host, &transaction);
            }
        }
    }

    /// Whether a client's write gets no answer because the server has too much to do.
    pub(super) fn is_lost_in_the_crowd(&mut self, host: usize) -> bool {
        self.hosts[host].suffering.saturated && self.client_random.chance(SATURATED_PERCENT_LOST)
    }

    /// The primary could not write since then: another must have acknowledged something meanwhile.
    pub(super) fn writes_go_on(&mut self, host: usize, since_ms: u64) {
        let newest = self.acknowledged_ms.iter().filter(|(by, _)| **by != host);
        let goes_on = newest.into_iter().any(|(_, at_ms)| *at_ms > since_ms);
        self.moved += 1;
        if !goes_on {
            self.check(Err(format!(
                "tablet {host} cannot write since {since_ms} ms, and nobody else does"
            )));
        }
    }
}
