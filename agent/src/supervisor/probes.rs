//! The agent's own writes, to mysqld and to its disk, and what they find; also told while an action of the loop hangs.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use vt_agent_core::Observed;
use vt_proto::{
    epoch::Epoch,
    report::{DiskState, Lost, WriteProbe},
};

use super::{
    disk::{self, watch_disk},
    is_up,
    writes::{self, Around, Writer, watch_writes},
};
use crate::{
    mysqld::{Layout, lost::watch_lost},
    uplink::{desired::Arrival, report::Outgoing},
};

/// Between two looks while an action is under way: as often as reports go out.
const PERIOD: Duration = Duration::from_millis(200);

/// The writers' progress, for whoever looks.
pub(super) struct Probes {
    disk: watch::Receiver<disk::Progress>,
    open: watch::Sender<writes::Open>,
    writes: watch::Receiver<writes::Progress>,
    lost: watch::Receiver<Lost>,
}

impl Probes {
    /// Starts writing blocks to mysqld's disk at once, and rows whenever a life of mysqld is open.
    pub(super) fn start(layout: Layout, writer: Writer, cancel: CancellationToken) -> Self {
        let (open, is_open) = watch::channel(None);
        Self {
            disk: watch_disk(layout.clone()),
            lost: watch_lost(layout),
            writes: watch_writes(writer, is_open, cancel),
            open,
        }
    }

    /// Adds what the writes find to an observation.
    pub(super) fn look(&self, observed: &mut Observed) {
        observed.disk_free_bytes = self.disk.borrow().free_bytes();
        observed.disk_probe = self.disk.borrow().probe();
        observed.lost = self.lost.borrow().clone();
        let waits = observed
            .server
            .as_ref()
            .is_some_and(|server| server.wait_sessions > 0);
        observed.write_probe = self.open_life(observed).map(|_| self.write_probe(waits));
    }

    /// Lets rows be written while this tablet serves as primary. Where its mysqld gives no answer it is as open as it was.
    pub(super) fn note_serving(&self, observed: &Observed, is_serving: bool) {
        let is_mute = is_up(&observed.process) && observed.server.is_none();
        let life = match is_mute {
            true => self.open_life(observed),
            false => is_serving.then_some(observed.incarnation.0),
        };
        self.open
            .send_if_modified(|open| std::mem::replace(open, life) != life);
    }

    /// The life that is open for writes, if it is the one that runs.
    fn open_life(&self, observed: &Observed) -> writes::Open {
        self.open
            .borrow()
            .filter(|life| is_up(&observed.process) && *life == observed.incarnation.0)
    }

    fn write_probe(&self, commit_waits_for_acknowledgement: bool) -> WriteProbe {
        let disk = self.disk.borrow().probe();
        self.writes.borrow().probe(Around {
            commit_waits_for_acknowledgement,
            disk_is_full: disk.is_some_and(|probe| probe.state == DiskState::Full),
        })
    }

    fn is_disk_bad(&self) -> bool {
        let probe = self.disk.borrow().probe();
        probe.is_some_and(|probe| probe.state != DiskState::Good)
    }

    /// Puts what is found now into the last report; nothing else of it changes. Whether a commit waits for an acknowledgement is
    /// not asked meanwhile, and what is no longer known is not said.
    fn refresh(&self, outgoing: &Outgoing) -> Outgoing {
        let mut fresh = outgoing.clone();
        fresh.report.disk_free_bytes = self.disk.borrow().free_bytes();
        fresh.report.disk_probe = self.disk.borrow().probe();
        fresh.report.lost = self.lost.borrow().clone();
        if fresh.report.write_probe.is_some() {
            fresh.report.write_probe = Some(self.write_probe(false));
        }
        fresh
    }
}

/// What goes on beside an action.
pub(super) struct Beside {
    pub(super) probes: Arc<Probes>,
    pub(super) reports: watch::Sender<Option<Arc<Outgoing>>>,
    pub(super) arrivals: watch::Receiver<Option<Arrival>>,
    /// The epoch that is followed.
    pub(super) epoch: Option<Epoch>,
    /// The action is a write to the agent's own directory, which may be left to itself.
    pub(super) may_be_left: bool,
}

impl Beside {
    /// Tells what the probes find, for a loop that hangs with its disk tells nothing. Ends when the action is to be left: its disk
    /// is bad, and an order of a newer epoch, a fence perhaps, must not wait for it.
    pub(super) async fn go_on(self) -> String {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.reports.send_if_modified(|last| {
                let fresh = last
                    .as_ref()
                    .map(|last| Arc::new(self.probes.refresh(last)));
                let is_some = fresh.is_some();
                *last = fresh;
                is_some
            });
            let newest = self.arrivals.borrow().as_ref().map(|it| it.desired.epoch);
            if self.may_be_left && self.probes.is_disk_bad() && newest > self.epoch {
                return "left for the desired state of a newer epoch: the disk is bad".to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vt_proto::{
        desired::{Desired, Goal},
        epoch::Generation,
    };

    use super::*;
    use crate::uplink::report::tests::a_report;

    fn probes(disk: disk::Progress) -> Arc<Probes> {
        Arc::new(Probes {
            disk: watch::channel(disk).1,
            open: watch::channel(None).0,
            writes: watch::channel(writes::Progress::default()).1,
            lost: watch::channel(Lost::default()).1,
        })
    }

    /// What was told while all was well.
    fn last() -> Arc<Outgoing> {
        let report = a_report();
        Arc::new(Outgoing { report, hot: false })
    }

    fn order(epoch: u64) -> Arrival {
        Arrival {
            cluster_id: "c".to_owned(),
            desired: Desired {
                alias: "zone1-100".parse().unwrap(),
                replica_set: "main".parse().unwrap(),
                generation: Generation(epoch),
                epoch: Epoch(epoch),
                replicas: Vec::new(),
                goal: Goal::Fence,
            },
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_the_loop_is_told_and_keeps_no_newer_order_waiting() {
        let (reports, mut seen) = watch::channel(Some(last()));
        let (orders, arrivals) = watch::channel(Some(order(4)));
        let beside = Beside {
            probes: probes(disk::Progress::stalled()),
            reports,
            arrivals,
            epoch: Some(Epoch(4)),
            may_be_left: true,
        };
        let going_on = tokio::spawn(beside.go_on());
        let told = seen.wait_for(|last| last.as_ref().is_some_and(|it| it.report.has_bad_disk()));
        told.await.unwrap();
        assert!(!going_on.is_finished(), "nobody asks for a newer epoch");
        orders.send_replace(Some(order(5)));
        assert!(going_on.await.unwrap().contains("newer epoch"));
    }
}
