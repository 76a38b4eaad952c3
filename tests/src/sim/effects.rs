//! What an agent's action changes on its own host.

use vt_agent_core::Action;

use super::host::{Host, Life};

/// What changes an agent's host alone.
pub(super) fn local_effect(host: &mut Host, action: &Action, now_ms: u64) -> Result<(), String> {
    match action {
        Action::WriteFenceMarker { epoch } => host.fence_marker = Some(*epoch),
        Action::RemoveFenceMarker => host.fence_marker = None,
        Action::WriteRoleMarker => host.role_marker = true,
        Action::RemoveRoleMarker => host.role_marker = false,
        Action::KillMysqld => host.kill_mysqld("killed by signal 9"),
        Action::CutTail { kept, epoch } => {
            if host.has_process() {
                return Err("mysqld runs".to_owned());
            }
            let uuid = host.fresh_uuid();
            host.mysqld.cut_tail(kept, *epoch, uuid);
        }
        _ if host.life != Life::Up => return Err("mysqld does not answer".to_owned()),
        _ => return statement(host, action, now_ms),
    }
    Ok(())
}

/// A statement on the administrative connection.
fn statement(host: &mut Host, action: &Action, now_ms: u64) -> Result<(), String> {
    let index = host.index;
    let mysqld = &mut host.mysqld;
    match action {
        Action::CutSessions => mysqld.run.offline_mode = true,
        Action::RestoreSessions => mysqld.run.offline_mode = false,
        Action::CloseServer | Action::CloseForDemotion => {
            if !mysqld.run.waiters.is_empty() {
                return Err("a commit waits for its acknowledgement".to_owned());
            }
            mysqld.run.read_only = true;
            mysqld.run.super_read_only = true;
        }
        Action::OpenForAgent => mysqld.run.super_read_only = false,
        Action::OpenForAll => mysqld.run.read_only = false,
        Action::ConfigureChannel { source } => {
            return mysqld.configure(source.clone(), index, now_ms);
        }
        Action::SetReplicaSemiSync { enabled } => mysqld.run.replica_semi_sync = *enabled,
        // Whether it may write or not: the shell opens it for itself where it must.
        Action::SettleAccounts { open } => {
            let open = open.iter().map(|alias| (alias.clone(), false));
            mysqld.accounts.extend(open);
        }
        Action::ResetReplication => mysqld.forget_channel(),
        _ => return mysqld.replication_statement(action),
    }
    Ok(())
}
