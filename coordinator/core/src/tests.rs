//! Whole decisions on a small stage: three tablets that report, a log that commits at once, a clock that is moved by hand.

use std::collections::BTreeMap;

use vt_proto::{
    desired::{Candidacy, Goal},
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    report::{GtidPosition, MysqldState, Replication, SchemaResult, ThreadState},
    routing::{RoutingSnapshot, ServingState},
    topology::{Endpoint, Phase, ReplicaSet, SchemaChangeStatus, Tablet, TabletKind},
};

use super::*;
use crate::refusal::Refusal;

mod decisions;
mod drains;
mod errant;
mod leaving;
mod policy;
mod presence;
mod publishing;
mod records;
mod restore;
mod skew;
mod unprotected;
mod writes;

/// Writes are held for this tablet to take over.
fn handing_over_to(index: u32) -> Phase {
    Phase::Switching {
        candidate: alias(index),
        holds: true,
    }
}

/// `A` to `C` are the servers of tablets 0 to 2.
fn gtids(text: &str) -> GtidSet {
    let uuid = |n: u8| format!("{n:08x}-0000-0000-0000-000000000000");
    text.replace('A', &uuid(10))
        .replace('B', &uuid(11))
        .replace('C', &uuid(12))
        .parse()
        .unwrap()
}

fn alias(index: u32) -> TabletAlias {
    format!("zone1-{}", 100 + index).parse().unwrap()
}

fn endpoint(index: u32) -> Endpoint {
    Endpoint {
        host: "h".to_owned(),
        port: 3300 + index as u16,
    }
}

fn set_name(number: u32) -> ReplicaSetName {
    format!("rs-{number}").parse().unwrap()
}

/// Tablets 0 to 2 belong to rs-0, 3 to 5 to rs-1, and so on.
fn fresh_report(index: u32) -> Report {
    Report {
        tablet: Tablet {
            alias: alias(index),
            kind: TabletKind::Replica,
            replica_set: set_name(index / 3),
            mysql: endpoint(index),
            router: None,
        },
        boot_id: "boot".to_owned(),
        promised: Epoch(0),
        generation: Generation(0),
        mysqld: MysqldState::Running,
        incarnation: Incarnation(1),
        server_uuid: Some(format!("{:08x}-0000-0000-0000-000000000000", 10 + index)),
        gtid: Some(GtidPosition::default()),
        replication: None,
        super_read_only: Some(true),
        semi_sync_source: Some(false),
        semi_sync_replica: Some(false),
        revoked: None,
        fenced: None,
        demoted: None,
        serving: None,
        amnesiac: false,
        schema_results: Vec::new(),
        blocked: None,
        disk_free_bytes: None,
        silent: None,
        confirmed: None,
        locked_out: None,
        prepared: Some(Generation(u64::MAX)),
        write_probe: None,
        disk_probe: None,
        lost: Default::default(),
        stop_asked: false,
    }
}

/// A leading core and the reports of its tablets.
struct Stage {
    core: Core,
    now: Now,
    index: u64,
    reports: BTreeMap<u32, Report>,
    /// What was sent and published since the last look.
    effects: Vec<Effect>,
}

impl Stage {
    /// A leader of an empty cluster.
    fn empty(format: u32) -> Self {
        let state = State {
            cluster_id: "test".to_owned(),
            format,
            ..State::default()
        };
        let mut stage = Self {
            core: Core::new(state),
            now: Now {
                monotonic_ms: 1_000_000,
                unix_ms: 5,
            },
            index: 0,
            reports: BTreeMap::new(),
            effects: Vec::new(),
        };
        stage.step(Event::LeadershipGained);
        stage
    }

    /// Sets of three tablets, each stable in epoch 1 with its first tablet as primary.
    fn stable(sets: u32) -> Self {
        Self::empty(format::FIRST).with_stable(sets)
    }

    /// One of them, in a group of this format.
    fn stable_in(format: u32) -> Self {
        Self::empty(format).with_stable(1)
    }

    fn with_stable(self, sets: u32) -> Self {
        let mut stage = self;
        for index in 0..3 * sets {
            stage.reports.insert(index, fresh_report(index));
        }
        stage.everybody_reports();
        for set in 0..sets {
            assert_eq!(stage.set(set).phase, Phase::Establishing);
            stage.serve(3 * set);
            for replica in [3 * set + 1, 3 * set + 2] {
                stage.replicate(replica, 3 * set);
            }
        }
        stage.everybody_reports();
        assert_eq!(stage.set(0).phase, Phase::Stable);
        stage
    }

    /// One event; what it proposes is committed at once.
    fn step(&mut self, event: Event) {
        let mut queue = self.core.step(self.now, event);
        while !queue.is_empty() {
            let effect = queue.remove(0);
            match effect {
                Effect::Propose(command) => {
                    self.index += 1;
                    let index = self.index;
                    queue.extend(
                        self.core
                            .step(self.now, Event::Committed { index, command }),
                    );
                }
                other => self.effects.push(other),
            }
        }
    }

    /// An operator's command.
    fn submit(&mut self, command: Command) -> Result<Revision, Refusal> {
        self.index += 1;
        let (index, id) = (self.index, command.request_id.clone());
        self.step(Event::Committed { index, command });
        let finished = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Finished {
                request_id,
                outcome,
            } if *request_id == id => Some(outcome.clone()),
            _ => None,
        });
        finished.unwrap()
    }

    fn set(&self, number: u32) -> &ReplicaSet {
        &self.core.state().replica_sets[&set_name(number)].value
    }

    fn report(&mut self, index: u32) -> &mut Report {
        self.reports.get_mut(&index).unwrap()
    }

    /// One tablet sends its report.
    fn reports(&mut self, index: u32) {
        let report = Box::new(self.reports[&index].clone());
        self.step(Event::Reported { report });
    }

    fn everybody_reports(&mut self) {
        for index in self.reports.keys().copied().collect::<Vec<_>>() {
            self.reports(index);
        }
    }

    /// Time passes in steps of ticks; those who are not named report every 200 ms.
    /// What routers should know now, made from nothing.
    fn scratch_routes(&self) -> RoutingSnapshot {
        routing::snapshot(Sources {
            state: &self.core.state,
            members: &self.core.members,
            health: &self.core.health,
            now: self.now,
        })
    }

    fn pass(&mut self, total_ms: u64, silent: &[u32]) {
        for elapsed_ms in (TICK_MS..=total_ms).step_by(TICK_MS as usize) {
            self.now.monotonic_ms += TICK_MS;
            self.step(Event::Tick);
            if elapsed_ms % 200 == 0 {
                for index in self.reports.keys().copied().collect::<Vec<_>>() {
                    if !silent.contains(&index) {
                        self.reports(index);
                    }
                }
            }
        }
    }

    fn serve(&mut self, index: u32) {
        let epoch = self.set(index / 3).epoch;
        let report = self.report(index);
        report.promised = epoch;
        report.serving = Some(epoch);
        report.replication = None;
    }

    fn replicate(&mut self, index: u32, source: u32) {
        let epoch = self.set(index / 3).epoch;
        let source_uuid = self.report(source).server_uuid.clone();
        let report = self.report(index);
        report.promised = epoch;
        report.replication = Some(Replication {
            source: endpoint(source),
            io: ThreadState::On,
            sql: ThreadState::On,
            heartbeat_age_ms: Some(100),
            lag_ms: Some(0),
            error: None,
            stuck: false,
            applier_error: None,
            source_uuid,
        });
    }

    /// A tablet that was away follows another, and has what that one has.
    fn come_back(&mut self, index: u32, source: u32, sets: &str) {
        let mut report = fresh_report(index);
        report.incarnation = Incarnation(2);
        self.reports.insert(index, report);
        self.position(index, sets, sets);
        self.replicate(index, source);
    }

    fn replication(&mut self, index: u32) -> &mut Replication {
        self.report(index).replication.as_mut().unwrap()
    }

    fn position(&mut self, index: u32, executed: &str, received: &str) {
        self.report(index).gtid = Some(GtidPosition {
            executed: gtids(executed),
            received: gtids(received),
        });
    }

    fn revoke(&mut self, index: u32) {
        let epoch = self.set(index / 3).epoch;
        let report = self.report(index);
        report.promised = epoch;
        report.revoked = Some(epoch);
        if let Some(replication) = &mut report.replication {
            replication.io = ThreadState::Off;
        }
    }

    fn exit(&mut self, index: u32) {
        let report = self.report(index);
        report.mysqld = MysqldState::Exited {
            how: "killed by signal 9".to_owned(),
        };
        report.serving = None;
        report.gtid = None;
    }

    fn kinds(&self) -> Vec<String> {
        let events = self.core.state().events.iter();
        events.map(|(_, event)| event.kind.clone()).collect()
    }

    fn goal(&self, index: u32) -> Goal {
        self.core.desired(&alias(index)).unwrap().goal
    }
}
