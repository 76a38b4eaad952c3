//! One simulated host: its mysqld, the guard's markers, and the agent, which is the shipped core around a modelled shell.
//!
//! The shell here does what the real one does: observe, ask `vt-agent-core` for the next action, carry it out, one at a time.

use std::collections::BTreeMap;

use vt_agent_core::{
    Action, Memory, Observed, Persisted, Process, SchemaChangeState, Server, alone, converge,
    report,
};
use vt_proto::{
    desired::Desired,
    epoch::{Epoch, Incarnation},
    report::{Report, ThreadState},
    topology::Tablet,
};

use super::{
    disk::Suffering,
    mysqld::{Mysqld, uuid},
    sabotage::{Claimed, Sabotage, Turn, pretend_drained},
};

/// Whether mysqld's process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    Down {
        how: String,
    },
    Starting,
    Up,
    /// It runs and does nothing until it is woken.
    Hung {
        since_ms: u64,
    },
}

/// The agent's process.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Which start of the agent this is; what an older one began is not its own.
    pub life: u64,
    pub memory: Memory,
    pub desired: Option<Desired>,
    /// What an earlier life kept; gone on with until a coordinator says what is desired.
    pub recalled: Option<Desired>,
    /// The coordinator it speaks to, and the number of that connection.
    pub uplink: Option<(usize, u64)>,
    pub next_coordinator: usize,
    pub busy: bool,
    pub reported_ms: u64,
    pub last_report: Option<Report>,
}

/// A host with a tablet.
#[derive(Clone, Debug)]
pub struct Host {
    pub index: usize,
    pub tablet: Tablet,
    pub boot: u64,
    pub persisted: Persisted,
    /// The desired state that the agent kept.
    pub kept_order: Option<Desired>,
    pub fence_marker: Option<Epoch>,
    pub role_marker: bool,
    pub incarnation: Incarnation,
    pub life: Life,
    pub mysqld: Mysqld,
    pub agent: Option<Agent>,
    pub agent_lives: u64,
    pub connections: u64,
    /// Until when the whole machine stands still.
    pub paused_until_ms: u64,
    /// While true the applier makes no progress.
    pub applier_stalled: bool,
    pub suffering: Suffering,
    pub uuids: u64,
    /// What a sabotaged agent has claimed for an epoch: it stays with that.
    claimed: Claimed,
}

impl Host {
    /// A host whose data directory is made and whose mysqld was not started yet.
    pub fn new(index: usize, tablet: Tablet) -> Self {
        Self {
            index,
            tablet,
            boot: 1,
            persisted: Persisted::default(),
            kept_order: None,
            fence_marker: None,
            role_marker: false,
            incarnation: Incarnation::ZERO,
            life: Life::Down {
                how: "never started".to_owned(),
            },
            mysqld: Mysqld::new(uuid(index, 1)),
            agent: None,
            agent_lives: 0,
            connections: 0,
            paused_until_ms: 0,
            applier_stalled: false,
            suffering: Suffering::none(!index.is_multiple_of(2)),
            uuids: 1,
            claimed: None,
        }
    }

    /// Whether the machine stands still now.
    pub fn is_paused(&self, now_ms: u64) -> bool {
        now_ms < self.paused_until_ms
    }

    /// Whether mysqld does its work now.
    pub fn is_working(&self, now_ms: u64) -> bool {
        self.life == Life::Up && !self.is_paused(now_ms)
    }

    /// Whether the process exists, working or not.
    pub fn has_process(&self) -> bool {
        !matches!(self.life, Life::Down { .. })
    }

    /// SIGKILL.
    pub fn kill_mysqld(&mut self, how: &str) {
        if self.has_process() {
            self.mysqld.die();
            self.suffering.mysqld_ends();
            self.life = Life::Down {
                how: how.to_owned(),
            };
            // The shell notices that work under way ended with the server.
            if let Some(agent) = &mut self.agent {
                agent.memory.work = None;
            }
        }
    }

    /// A uuid that this host has never had.
    pub fn fresh_uuid(&mut self) -> String {
        self.uuids += 1;
        uuid(self.index, self.uuids)
    }

    /// A client could write here now.
    pub fn accepts_clients(&self, now_ms: u64) -> bool {
        let run = &self.mysqld.run;
        self.is_working(now_ms) && !run.read_only && !run.super_read_only && !run.offline_mode
    }

    /// What the agent sees.
    fn observe(&self, now_ms: u64, newest_acker: Option<u64>) -> Observed {
        let hung_ms = match self.life {
            Life::Hung { since_ms } => Some(now_ms.saturating_sub(since_ms)),
            _ => None,
        };
        let process = match &self.life {
            Life::Down { .. } if self.incarnation == Incarnation::ZERO => {
                Process::Down { how: None }
            }
            Life::Down { how } => Process::Down {
                how: Some(how.clone()),
            },
            _ => Process::Up,
        };
        Observed {
            boot_id: format!("boot-{}-{}", self.index, self.boot),
            process,
            incarnation: self.incarnation,
            fence_marker: self.fence_marker,
            role_marker: self.role_marker,
            server: (self.life == Life::Up).then(|| self.server(now_ms, newest_acker)),
            unresponsive_ms: hung_ms.filter(|ms| *ms > 1_000),
            disk_free_bytes: None,
            write_probe: self.write_probe(now_ms),
            disk_probe: Some(self.disk_probe(now_ms)),
            lost: Default::default(),
            stop_asked: false,
        }
    }

    pub(super) fn server(&self, now_ms: u64, newest_acker: Option<u64>) -> Server {
        let mysqld = &self.mysqld;
        let run = &mysqld.run;
        let lag_ms = 20 * mysqld.relay.len() as u64;
        let replication = mysqld.replication.as_ref();
        Server {
            server_uuid: mysqld.uuid.clone(),
            read_only: run.read_only,
            super_read_only: run.super_read_only,
            offline_mode: run.offline_mode,
            source_semi_sync: run.source_semi_sync,
            wait_for_replica_count: run.acks,
            wait_sessions: run.waiters.len() as u32,
            newest_acker,
            replica_semi_sync: run.replica_semi_sync,
            replica_acknowledges: replication
                .is_some_and(|r| r.acknowledges && r.io != ThreadState::Off),
            channel: mysqld.channel(self.index, now_ms, lag_ms),
            executed: mysqld.executed.clone(),
            received: mysqld.received.clone(),
            app_transactions: 0,
            schemas: mysqld.schemas.clone(),
            schema_changes: BTreeMap::<_, SchemaChangeState>::new(),
        }
    }

    /// One turn of the agent's loop: what to do next and what to report. Nothing while there is no agent.
    pub fn think(
        &mut self,
        now_ms: u64,
        newest_acker: Option<u64>,
        sabotage: Option<Sabotage>,
    ) -> Option<(Option<Action>, Report)> {
        self.look_at_waiters(now_ms);
        let mut observed = self.observe(now_ms, newest_acker);
        let agent = self.agent.as_mut()?;
        let mut desired = agent.desired.clone();
        if sabotage == Some(Sabotage::OpenBeforeDrain) {
            pretend_drained(&mut observed, desired.as_mut());
        }
        agent.memory.look(&observed, now_ms);
        let step = match (&desired, &agent.recalled) {
            (None, Some(kept)) => alone(&observed, &self.persisted, &agent.memory, kept, now_ms),
            (desired, _) => converge(
                &observed,
                &self.persisted,
                &agent.memory,
                desired.as_ref(),
                now_ms,
            ),
        };
        let mut report = report(
            &self.tablet,
            &observed,
            &self.persisted,
            &agent.memory,
            desired.as_ref(),
            &step,
        );
        let mut action = step.action.clone();
        if let Some(sabotage) = sabotage {
            let claimed = &mut self.claimed;
            let turn = Turn {
                observed: &observed,
                desired: desired.as_ref(),
                generation: self.persisted.generation,
            };
            turn.spoil(sabotage, claimed, &mut report, &mut action);
        }
        Some((action.filter(|_| !agent.busy), report))
    }
}

/// What is desired, for the trace.
pub(super) fn goal_word(desired: &Desired) -> String {
    let text = format!("{:?}", desired.goal);
    text.chars().take(160).collect()
}

/// How an action ended, for the trace.
pub(super) fn result_word(outcome: &Result<(), String>) -> String {
    match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}
