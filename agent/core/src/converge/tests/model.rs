//! A host on which actions simply succeed: whole goals must be reached, in an order that never opens too early.

use super::*;

/// Goals are reached within so many steps, or never.
const STEPS_MAX: usize = 40;

impl Host {
    /// Carries out one action as a healthy mysqld would.
    pub(super) fn carry_out(&mut self, action: &Action) {
        let own = self.persisted.promised;
        let mut foreseen = self.observed.clone();
        let is_foreseen = action.foresee(&mut foreseen);
        self.take_effect(action);
        assert!(!is_foreseen || foreseen == self.observed, "{action:?}");
        self.now_ms += 10;
        self.memory
            .note(action, Ok(()), own, self.observed.incarnation, self.now_ms);
        if let Some(record) = action.on_success() {
            self.persisted.apply(&record);
        }
        if let Action::StartWork(work) = action {
            self.memory.work_ended(work, Ok(()), self.now_ms);
        }
    }

    fn take_effect(&mut self, action: &Action) {
        match action {
            Action::Persist(record) => self.persisted.apply(record),
            Action::StartMysqld => self.start(),
            Action::KillMysqld => self.down(),
            Action::WriteFenceMarker { epoch } => self.observed.fence_marker = Some(*epoch),
            Action::RemoveFenceMarker => self.observed.fence_marker = None,
            Action::WriteRoleMarker => self.observed.role_marker = true,
            Action::RemoveRoleMarker => self.observed.role_marker = false,
            Action::CutSessions => self.server().offline_mode = true,
            Action::RestoreSessions => self.server().offline_mode = false,
            Action::CloseServer | Action::CloseForDemotion => {
                assert_eq!(self.server().wait_sessions, 0, "would hang and fire later");
                self.server().read_only = true;
                self.server().super_read_only = true;
            }
            Action::OpenForAgent => {
                self.server().read_only = true;
                self.server().super_read_only = false;
            }
            Action::OpenForAll => self.open_for_all(),
            Action::StopIoThread => {
                if let Some(channel) = &mut self.server().channel {
                    channel.io = ThreadState::Off;
                }
                self.server().replica_acknowledges = false;
            }
            Action::StartIoThread => {
                self.channel().io = ThreadState::On;
                self.channel().source_uuid = Some(OTHER.into());
                self.server().replica_acknowledges = self.server().replica_semi_sync;
            }
            Action::StartSqlThread => self.channel().sql = ThreadState::On,
            Action::ResetReplication => {
                let server = self.server();
                assert!(server.executed.contains(&server.received));
                server.channel = None;
            }
            Action::ConfigureChannel { source } => {
                let mut fresh = channel(source.port);
                fresh.io = ThreadState::Off;
                fresh.sql = ThreadState::Off;
                self.server().channel = Some(fresh);
            }
            Action::RepointChannel { source } => {
                assert_eq!(self.channel().io, ThreadState::Off);
                let server = self.server();
                let is_applied = server.executed.contains(&server.received);
                assert!(
                    is_applied || self.channel().sql == ThreadState::On || self.persisted.replaced,
                    "the relay log would be lost"
                );
                self.channel().source = source.clone();
                self.channel().source_uuid = None;
            }
            Action::SettleAccounts { .. } | Action::LockOut { .. } => {}
            Action::SetReplicaSemiSync { enabled } => self.server().replica_semi_sync = *enabled,
            Action::EnableSourceSemiSync { acks } => {
                self.server().source_semi_sync = true;
                self.server().wait_for_replica_count = *acks;
            }
            Action::DisableSourceSemiSync => self.server().source_semi_sync = false,
            Action::CutTail { .. } | Action::Clone { .. } | Action::InitialiseDataDirectory => {}
            Action::StartWork(_) | Action::KeepOrder { .. } => {}
        }
    }

    fn open_for_all(&mut self) {
        let life = (self.desired.epoch, self.observed.incarnation);
        let opened = self.persisted.primaryship.as_ref().unwrap().opened;
        let proven = self.memory.term_row == Some(life) || opened == Some(life.1);
        assert!(proven, "opened before the epoch could acknowledge");
        self.server().read_only = false;
    }

    fn start(&mut self) {
        assert_eq!(self.observed.fence_marker, None, "the guard refuses");
        let mut server = Host::replica().observed.server.unwrap();
        server.channel = None;
        server.replica_acknowledges = false;
        self.observed.process = Process::Up;
        self.observed.incarnation = self.observed.incarnation.next();
        self.observed.server = Some(server);
    }

    /// Converges; the names of the actions on the way.
    fn run(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..STEPS_MAX {
            let step = self.step();
            let Some(action) = step.action else {
                assert_eq!(step.blocked, None, "after {names:?}");
                return names;
            };
            names.push(action.name());
            self.carry_out(&action);
        }
        panic!("no end: {names:?}");
    }
}

#[test]
fn a_replica_becomes_primary() {
    let mut host = Host::replica();
    host.order(5, Goal::Revoke);
    assert_eq!(host.run(), ["stop-io-thread"]);
    assert_eq!(host.claims().revoked, Some(Epoch(5)));
    host.order(5, primary_goal());
    assert_eq!(
        host.run(),
        [
            "start-work",
            "enable-source-semi-sync",
            "persist",
            "write-role-marker",
            "open-for-agent",
            "start-work",
            "open-for-all",
            "persist",
            "reset-replication",
        ]
    );
    assert_eq!(host.claims().serving, Some(Epoch(5)));
}

#[test]
fn a_fenced_primary_returns_as_replica() {
    let mut host = Host::primary();
    host.order(5, Goal::Fence);
    host.server().wait_sessions = 1;
    assert_eq!(host.run(), ["write-fence-marker", "kill-mysqld"]);
    assert_eq!(host.claims().fenced, Some(Epoch(5)));
    let mut goal = replica_goal();
    if let Goal::Replica { history, .. } = &mut goal {
        history.push(finished(4, "A:1-10,B:1-5"));
    }
    host.order(5, goal);
    assert_eq!(
        host.run(),
        [
            "cut-tail",
            "remove-fence-marker",
            "start-mysqld",
            "remove-role-marker",
            "persist",
            "configure-channel",
            "start-io-thread",
            "start-sql-thread",
        ]
    );
    assert_eq!(host.claims().fenced, None);
    assert_eq!(host.persisted.primaryship, None);
}

#[test]
fn a_demotion_is_taken_back_or_finished() {
    let mut host = Host::primary();
    host.order(4, Goal::Demote { grace_ms: 100 });
    assert_eq!(host.run(), ["close-for-demotion"]);
    assert_eq!(host.claims().demoted, Some(host.desired.generation));
    assert_eq!(host.claims().serving, None);
    host.order(4, primary_goal());
    assert_eq!(host.run(), ["open-for-agent", "open-for-all"]);
    assert_eq!(host.claims().serving, Some(Epoch(4)));
}

#[test]
fn a_primary_restarts_in_place() {
    let mut host = Host::primary();
    host.down();
    let mut goal = primary_goal();
    if let Goal::Primary { restart_after, .. } = &mut goal {
        *restart_after = Some(Incarnation(7));
    }
    host.order(4, goal);
    let names = host.run();
    assert_eq!(names.first(), Some(&"start-mysqld"));
    assert_eq!(names.last(), Some(&"persist"));
    assert!(
        names.contains(&"start-work"),
        "a row of this life is acknowledged: {names:?}"
    );
    assert_eq!(host.claims().serving, Some(Epoch(4)));
}
