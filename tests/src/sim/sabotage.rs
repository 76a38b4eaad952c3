//! Worlds that are broken on purpose: each breaks one rule that the proof of no lost write, or of going on, rests on.

use vt_agent_core::{Action, Observed};
use vt_proto::{
    desired::{Desired, Goal},
    epoch::{Epoch, Generation},
    report::{GtidPosition, Report, ThreadState},
};

use super::{host::Life, mysqld::Transaction, world::World};

/// Ways to break the agents, or the coordinators, on purpose; checkers must notice each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Where the IO thread only looks disconnected, claims a revocation with what is there now, and stops nothing.
    SkipRevokeWait,
    /// Tells what is applied where it should tell what was received.
    ExecutedForReceived,
    /// Opens while the relay log is not applied, and says that it is.
    OpenBeforeDrain,
    /// Switches semi-sync on while the relay log is not applied.
    SemiSyncBeforeDrain,
    /// Shuts mysqld down where it should kill it: what waits for acknowledgements is answered with OK.
    CleanShutdown,
    /// Follows desired states of any age.
    IgnoreEpoch,
    /// Coordinators take what they slept through for silence of everybody else.
    IgnoreOwnStall,
    /// Moves a replica to another source with both threads stopped, whatever its relay log holds.
    MoveUndrained,
    /// Says that it has stopped to acknowledge, and does not stop.
    SilentTooEarly,
    /// Locks out whom it is told to, and leaves them the connections that they have.
    LockWithoutKill,
    /// Ends the connections of whom it is to lock out, and lets them come again.
    KillWithoutLock,
}

/// What a sabotaged agent has claimed for an epoch.
pub(super) type Claimed = Option<(Epoch, Option<GtidPosition>)>;

/// One turn of an agent that is sabotaged.
pub(super) struct Turn<'a> {
    pub observed: &'a Observed,
    pub desired: Option<&'a Desired>,
    /// What is promised.
    pub generation: Generation,
}

impl Turn<'_> {
    /// Changes what the agent says and does.
    pub(super) fn spoil(
        &self,
        sabotage: Sabotage,
        claimed: &mut Claimed,
        report: &mut Report,
        action: &mut Option<Action>,
    ) {
        let goal = self.desired.map(|desired| &desired.goal);
        match sabotage {
            Sabotage::SkipRevokeWait => {
                skip_revoke(self.observed, self.desired, claimed, report, action);
            }
            Sabotage::SilentTooEarly if goal == Some(&Goal::Revoke) && report.revoked.is_none() => {
                report.silent = Some(self.generation);
                action.take_if(|action| *action == Action::StopIoThread);
            }
            Sabotage::ExecutedForReceived if report.revoked.is_some() => {
                if let Some(gtid) = &mut report.gtid {
                    gtid.received = gtid.executed.clone();
                }
            }
            Sabotage::SemiSyncBeforeDrain if report.revoked.is_some() => {
                let server = self.observed.server.as_ref();
                if server.is_some_and(|it| !it.source_semi_sync && it.received != it.executed) {
                    *action = Some(Action::EnableSourceSemiSync { acks: 1 });
                }
            }
            _ => {}
        }
    }
}

pub(super) fn pretend_drained(observed: &mut Observed, desired: Option<&mut Desired>) {
    let Some(desired) = desired else {
        return;
    };
    if let Some(server) = &mut observed.server {
        match &mut desired.goal {
            Goal::Revoke => server.executed = server.received.clone(),
            Goal::Primary { start_gtid, .. } => {
                server.received = server.executed.clone();
                *start_gtid = server.executed.clone();
            }
            _ => {}
        }
    }
}

fn skip_revoke(
    observed: &Observed,
    desired: Option<&Desired>,
    claimed: &mut Option<(Epoch, Option<GtidPosition>)>,
    report: &mut Report,
    action: &mut Option<Action>,
) {
    let revoking = desired
        .is_some_and(|desired| desired.goal == Goal::Revoke && desired.epoch == report.promised);
    let looks_gone = observed
        .channel()
        .is_some_and(|channel| channel.io == ThreadState::Connecting);
    if !revoking {
        return;
    }
    if looks_gone
        && claimed
            .as_ref()
            .is_none_or(|(epoch, _)| *epoch < report.promised)
    {
        *claimed = Some((report.promised, report.gtid.clone()));
    }
    if let Some((epoch, gtid)) = claimed
        && *epoch == report.promised
    {
        report.revoked = Some(*epoch);
        report.gtid = gtid.clone();
        if *action == Some(Action::StopIoThread) {
            *action = None;
        }
    }
}

impl World {
    /// What a sabotaged shell does before an action. Returns what clients are told OK for.
    pub(super) fn spoil_action(&mut self, host: usize, action: &Action) -> Vec<Transaction> {
        let state = &mut self.hosts[host];
        match (self.sabotage, action) {
            (Some(Sabotage::CleanShutdown), Action::KillMysqld) if state.life == Life::Up => {
                state.mysqld.release_without_acknowledgement()
            }
            (Some(Sabotage::MoveUndrained), Action::RepointChannel { .. }) => {
                if let Some(replication) = &mut state.mysqld.replication {
                    replication.sql = ThreadState::Off;
                }
                // Nor does it know that anything is at risk.
                state.persisted.replaced = false;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
