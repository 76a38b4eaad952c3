//! Situations and the one action that each must lead to; and whole goals carried out on a small model of a host.

use std::collections::{BTreeMap, BTreeSet};

use vt_proto::{
    desired::{Candidacy, Desired, Goal, SchemaTask},
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    report::ThreadState,
    topology::{Endpoint, FinishedEpoch},
};

use super::*;
use crate::{
    action::{Failure, Work},
    claims::claims,
    observed::{Channel, SchemaChangeState},
    persisted::{Acking, Primaryship},
};

mod accounts;
mod alone;
mod copy;
mod disk;
mod model;
mod pace;
mod primary;
mod push;
mod stuck;
mod table;
mod unkept;

const OWN: &str = "aaaaaaaa-0000-0000-0000-000000000000";
const OTHER: &str = "bbbbbbbb-0000-0000-0000-000000000000";

/// `A` is this server, `B` another.
fn set(text: &str) -> GtidSet {
    text.replace('A', OWN).replace('B', OTHER).parse().unwrap()
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "h".into(),
        port,
    }
}

fn finished(epoch: u64, kept: &str) -> FinishedEpoch {
    FinishedEpoch {
        epoch: Epoch(epoch),
        primary: "zone1-100".parse().unwrap(),
        kept: set(kept),
    }
}

fn channel(port: u16) -> Channel {
    Channel {
        source: endpoint(port),
        own_account: true,
        source_uuid: Some(OTHER.into()),
        io: ThreadState::On,
        sql: ThreadState::On,
        io_error: None,
        sql_error: None,
        caught_up: true,
        heartbeat_age_ms: Some(50),
        lag_ms: Some(0),
    }
}

fn replica_goal() -> Goal {
    Goal::Replica {
        source: endpoint(2),
        source_alias: "zone1-101".parse().unwrap(),
        acker: true,
        history: vec![finished(3, "A:1-10,B:1-5")],
        candidacy: Candidacy::None,
    }
}

fn primary_goal() -> Goal {
    Goal::Primary {
        start_gtid: set("A:1-10,B:1-5"),
        acks: 1,
        restart_after: None,
        schemas: vec!["commerce".into()],
        schema_tasks: Vec::new(),
        confirm: false,
        locked_out: Vec::new(),
    }
}

/// A host in epoch 4: a healthy acking replica that follows port 2, promised, nothing in the way.
struct Host {
    observed: Observed,
    persisted: Persisted,
    memory: Memory,
    desired: Desired,
    now_ms: u64,
}

impl Host {
    fn replica() -> Self {
        let server = Server {
            server_uuid: OWN.into(),
            read_only: true,
            super_read_only: true,
            offline_mode: false,
            source_semi_sync: false,
            wait_for_replica_count: 1,
            wait_sessions: 0,
            newest_acker: None,
            replica_semi_sync: true,
            replica_acknowledges: true,
            channel: Some(channel(2)),
            executed: set("A:1-10,B:1-5"),
            received: set("A:1-10,B:1-5"),
            app_transactions: 0,
            schemas: BTreeSet::from(["commerce".to_owned()]),
            schema_changes: BTreeMap::new(),
        };
        let mut host = Self {
            observed: Observed {
                boot_id: "boot".into(),
                process: Process::Up,
                incarnation: Incarnation(7),
                fence_marker: None,
                role_marker: false,
                server: Some(server),
                unresponsive_ms: None,
                disk_free_bytes: None,
                write_probe: None,
                disk_probe: None,
                lost: Default::default(),
                stop_asked: false,
            },
            persisted: Persisted {
                cluster_id: Some("c".into()),
                promised: Epoch(4),
                generation: Generation(20),
                acking: Some(Acking {
                    boot_id: "boot".into(),
                    server_uuid: OWN.into(),
                }),
                ..Persisted::default()
            },
            memory: Memory::default(),
            desired: Desired {
                alias: "zone1-100".parse().unwrap(),
                replica_set: "main".parse().unwrap(),
                generation: Generation(20),
                epoch: Epoch(4),
                replicas: Vec::new(),
                goal: replica_goal(),
            },
            now_ms: 100_000,
        };
        host.memory.follow(&host.desired, 50_000);
        host.memory.kept = Some(host.desired.generation);
        host
    }

    /// Open as primary of epoch 4 in this life of mysqld.
    fn primary() -> Self {
        let mut host = Self::replica();
        host.persisted.primaryship = Some(Primaryship {
            epoch: Epoch(4),
            server_uuid: OWN.into(),
            opened: Some(Incarnation(7)),
            tail_cut: false,
        });
        host.observed.role_marker = true;
        let server = host.server();
        server.read_only = false;
        server.super_read_only = false;
        server.source_semi_sync = true;
        server.channel = None;
        host.desired.goal = primary_goal();
        host
    }

    fn server(&mut self) -> &mut Server {
        self.observed.server.as_mut().unwrap()
    }

    fn channel(&mut self) -> &mut Channel {
        self.server().channel.as_mut().unwrap()
    }

    fn down(&mut self) {
        self.observed.process = Process::Down {
            how: Some("killed by signal 9".into()),
        };
        self.observed.server = None;
    }

    /// A newer desired state, already promised.
    fn order(&mut self, epoch: u64, goal: Goal) {
        self.desired.epoch = Epoch(epoch);
        self.desired.generation = self.desired.generation.next();
        self.desired.goal = goal;
        self.persisted.promised = Epoch(epoch);
        self.persisted.generation = self.desired.generation;
        self.memory.follow(&self.desired, self.now_ms);
        self.memory.kept = Some(self.desired.generation);
    }

    fn failed(&mut self, action: Action, count: u32) {
        self.memory.failure = Some(Failure {
            action,
            error: "no".into(),
            at_ms: 0,
            count,
        });
    }

    fn step(&self) -> Step {
        converge(
            &self.observed,
            &self.persisted,
            &self.memory,
            Some(&self.desired),
            self.now_ms,
        )
    }

    fn claims(&self) -> crate::Claims {
        claims(
            &self.observed,
            &self.persisted,
            &self.memory,
            Some(&self.desired),
        )
    }
}
