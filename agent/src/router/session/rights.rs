//! What the session's user may do, asked before anything is sent, and SHOW GRANTS. The rules stand in `router::rights`.

use std::sync::Arc;
use std::time::Instant;

use vt_wire::command::Command;
use vt_wire::result_set::{Column, TextResult};

use super::{End, Session};
use crate::router::Shared;
use crate::router::error::RouterError;
use crate::router::executor::Worker;
use crate::router::rights;
use crate::router::state::{Database, State};
use crate::router::users::{Known, Needs};

/// Takes over what has changed about the user since its last command. Fails if there is no such user any more.
pub(super) fn renew_account(
    worker: &Worker,
    shared: &Shared,
    state: &mut State,
) -> Result<(), RouterError> {
    let Some(account) = &mut state.account else {
        return Ok(());
    };
    if worker.topology.is_current(&account.snapshot) {
        return Ok(());
    }
    let snapshot = worker.topology.load();
    let renewed = shared
        .directory
        .renew(&state.user, &account.snapshot, &snapshot);
    match renewed {
        Some(user) => {
            account.user = user;
            account.snapshot = snapshot;
            Ok(())
        }
        None => Err(RouterError::UserDropped(state.user.clone())),
    }
}

impl Session {
    pub(super) fn known_user(&self) -> Option<&Arc<Known>> {
        self.state.account.as_ref().map(|account| &account.user)
    }

    /// Whether the user may see and end what others run.
    pub(super) fn is_administrator(&self) -> bool {
        self.known_user()
            .is_some_and(|user| user.rights_everywhere().admin)
    }

    /// Whether the user may run what needs this, with these keyspaces named.
    pub(super) fn check_rights(&self, needs: Needs, named: &[String]) -> Result<(), RouterError> {
        match self.known_user() {
            Some(user) => rights::check(user, needs, self.state.database.as_ref(), named),
            None => Err(RouterError::UserDropped(self.state.user.clone())),
        }
    }

    /// Whether the user may send one more statement now.
    pub(super) fn check_pace(&self, command: &Command<'_>) -> Result<(), RouterError> {
        let is_statement = matches!(command, Command::Query(_) | Command::StmtExecute { .. });
        let Some(account) = self.state.account.as_ref().filter(|_| is_statement) else {
            return Ok(());
        };
        match account.user.statements_per_second_max {
            Some(limit) if !account.seat.pace.admit(limit, Instant::now()) => {
                Err(RouterError::UserStatements {
                    user: self.state.user.clone(),
                    limit,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the user may make it its database.
    pub(super) fn check_entry(&self, database: &Database) -> Result<(), RouterError> {
        let (Database::Keyspace { name, .. } | Database::System(name)) = database;
        match self.known_user() {
            Some(user) if !rights::may_enter(user, name) => Err(rights::denied(user, name)),
            _ => Ok(()),
        }
    }

    pub(super) async fn show_grants(&mut self, sequence: u8) -> Result<(), End> {
        let lines = self.known_user().map(|user| rights::grants(user));
        let rows = lines
            .unwrap_or_default()
            .into_iter()
            .map(|line| vec![Some(line.into_bytes())]);
        let title = format!("Grants for {}@%", self.state.user);
        let result = TextResult {
            columns: vec![Column::text(title.as_bytes())],
            rows: rows.collect(),
        };
        self.reply_result(&result, sequence).await
    }

    /// `SELECT CURRENT_USER()` and its kin alone: a server would name the account of the router.
    pub(super) async fn reply_user(&mut self, asked: Asked, sequence: u8) -> Result<(), End> {
        let (title, host) = match asked {
            Asked::CurrentUser => ("CURRENT_USER()", "%".to_owned()),
            Asked::User => ("USER()", self.state.process.peer.ip().to_string()),
        };
        let value = format!("{}@{host}", self.state.user);
        let result = TextResult {
            columns: vec![Column::text(title.as_bytes())],
            rows: vec![vec![Some(value.into_bytes())]],
        };
        self.reply_result(&result, sequence).await
    }
}

/// Which name of the user is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The account that was found.
    CurrentUser,
    /// The name and host that the client came with.
    User,
}

/// Longer texts ask for more than that.
const ASKED_LENGTH_MAX: usize = 64;

/// Whether a text asks for the user's name and for nothing else.
pub(super) fn asked(sql: &[u8]) -> Option<Asked> {
    if sql.len() > ASKED_LENGTH_MAX {
        return None;
    }
    let mut words = sql
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    if !words.next()?.eq_ignore_ascii_case(b"select") {
        return None;
    }
    let name = words.next()?;
    if words.next().is_some() {
        return None;
    }
    let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
    if ["current_user()", "current_user"].iter().any(is) {
        return Some(Asked::CurrentUser);
    }
    let users = ["user()", "session_user()", "system_user()"];
    users.iter().any(is).then_some(Asked::User)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_alone_is_answered_here() {
        for (sql, found) in [
            ("SELECT CURRENT_USER()", Some(Asked::CurrentUser)),
            ("select  current_user ", Some(Asked::CurrentUser)),
            ("SELECT USER()", Some(Asked::User)),
            ("SELECT SESSION_USER()", Some(Asked::User)),
            ("SELECT USER() FROM t", None),
            ("SELECT user FROM t", None),
            ("SELECT CONCAT(USER())", None),
            ("", None),
        ] {
            assert_eq!(asked(sql.as_bytes()), found, "{sql}");
        }
    }
}
