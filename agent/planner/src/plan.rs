//! What the router shall do with a statement of an unsharded keyspace. A plan is a small value: copied, compared,
//! printed. It never holds text of the statement; names and values stay ranges in [`Statement`].

use std::fmt;

use crate::statement::{Assignment, Begin, Completion, Kill, Kind, Scope, Show, Statement};
use crate::unsupported::{self, Unsupported};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Send the bytes as they came to the one shard of the keyspace and relay the answer.
    Forward(Access),
    /// Ends or opens a transaction; the bytes go to the connection that holds it, if any.
    Transaction(Transaction),
    /// SET: forward, and keep the values once the server has said OK. The assignments stand in the statement.
    Set,
    /// SET of variables that only the router has.
    SetOfRouter,
    /// USE: the session changes its keyspace; no server need be asked.
    Use,
    /// SHOW DATABASES: the keyspaces, as the routing snapshot names them.
    ShowKeyspaces,
    /// SHOW PROCESSLIST: the router's sessions; those of a server are the pool's connections.
    ShowProcesslist { full: bool },
    /// SHOW VITRAIL QUERIES: what ran at this router.
    ShowQueries,
    /// SHOW VITRAIL SESSIONS: who is connected to this router, and what each holds.
    ShowSessions,
    /// SHOW GRANTS: what the client's user may do; servers know one account for all of them.
    ShowGrants,
    /// VEXPLAIN: what the router would do with the statement behind the word; no server is asked.
    Vexplain { from: usize },
    /// KILL: the router's own connection numbers are meant.
    Kill(Kill),
    /// Answer with this error and touch no server.
    Refuse(Unsupported),
}

/// Which tablets may run a forwarded statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any tablet that the session's target allows.
    Read,
    /// The primary only. On a `@replica` target the server's own read-only error is the answer.
    Write,
    /// The connection that the session used last: locks, prepared statements and diagnostics live there. Where there is
    /// none, as for `Write`.
    Affine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    Begin(Begin),
    Commit(Completion),
    Rollback(Completion),
    Savepoint,
    RollbackToSavepoint,
    ReleaseSavepoint,
}

impl Plan {
    /// The plan of a statement in an unsharded keyspace.
    pub fn unsharded(statement: &Statement) -> Plan {
        if let Some(reason) = unsupported::reason(statement) {
            return Plan::Refuse(reason);
        }
        match &statement.kind {
            Kind::Begin(begin) => Plan::Transaction(Transaction::Begin(*begin)),
            Kind::Commit(completion) => Plan::Transaction(Transaction::Commit(*completion)),
            Kind::Rollback(completion) => Plan::Transaction(Transaction::Rollback(*completion)),
            Kind::Savepoint { .. } => Plan::Transaction(Transaction::Savepoint),
            Kind::RollbackToSavepoint { .. } => Plan::Transaction(Transaction::RollbackToSavepoint),
            Kind::ReleaseSavepoint { .. } => Plan::Transaction(Transaction::ReleaseSavepoint),
            Kind::Set(assignments) if assignments.iter().any(is_of_router) => Plan::SetOfRouter,
            Kind::Set(_) | Kind::SetTransaction { .. } => Plan::Set,
            Kind::Use { .. } => Plan::Use,
            Kind::Show(Show::Databases) => Plan::ShowKeyspaces,
            Kind::Show(Show::Processlist { full }) => Plan::ShowProcesslist { full: *full },
            Kind::Show(Show::VitrailQueries) => Plan::ShowQueries,
            Kind::Show(Show::VitrailSessions) => Plan::ShowSessions,
            Kind::Show(Show::Grants) => Plan::ShowGrants,
            Kind::Vexplain { from } => Plan::Vexplain { from: *from },
            Kind::Kill(kill) => Plan::Kill(*kill),
            _ => Plan::Forward(access(statement)),
        }
    }
}

fn access(statement: &Statement) -> Access {
    let is_affine = statement.depends_on_previous()
        || matches!(
            statement.kind,
            Kind::Execute { .. }
                | Kind::Deallocate { .. }
                | Kind::Handler
                | Kind::UnlockTables
                | Kind::Xa
        );
    if is_affine {
        Access::Affine
    } else if statement.is_read_only() {
        Access::Read
    } else {
        Access::Write
    }
}

/// Whether it is a variable that only the router has, by its name.
#[must_use]
pub fn is_of_router(assignment: &Assignment) -> bool {
    assignment.scope != Scope::User && assignment.name.starts_with(b"vitrail_")
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Forward(access) => write!(formatter, "forward {access}"),
            Plan::Transaction(transaction) => write!(formatter, "{transaction}"),
            Plan::Set => write!(formatter, "set"),
            Plan::SetOfRouter => write!(formatter, "set of the router"),
            Plan::Use => write!(formatter, "use"),
            Plan::ShowKeyspaces => write!(formatter, "show keyspaces"),
            Plan::ShowProcesslist { full: false } => write!(formatter, "show processlist"),
            Plan::ShowProcesslist { full: true } => write!(formatter, "show full processlist"),
            Plan::ShowQueries => write!(formatter, "show queries"),
            Plan::ShowSessions => write!(formatter, "show sessions"),
            Plan::ShowGrants => write!(formatter, "show grants"),
            Plan::Vexplain { .. } => write!(formatter, "vexplain"),
            Plan::Kill(kill) => {
                let what = if kill.connection {
                    "connection"
                } else {
                    "query"
                };
                match kill.id {
                    Some(id) => write!(formatter, "kill {what} {id}"),
                    None => write!(formatter, "kill {what} by expression"),
                }
            }
            Plan::Refuse(reason) => {
                write!(formatter, "refuse {} {reason:?}", reason.code())
            }
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Affine => "affine",
        })
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Transaction::Begin(begin) => {
                let read_only = if begin.read_only { " read only" } else { "" };
                let snapshot = if begin.consistent_snapshot {
                    " snapshot"
                } else {
                    ""
                };
                return write!(formatter, "begin{read_only}{snapshot}");
            }
            Transaction::Commit(completion) => return write!(formatter, "commit{completion}"),
            Transaction::Rollback(completion) => return write!(formatter, "rollback{completion}"),
            Transaction::Savepoint => "savepoint",
            Transaction::RollbackToSavepoint => "rollback to savepoint",
            Transaction::ReleaseSavepoint => "release savepoint",
        };
        formatter.write_str(word)
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = if self.chain { " chain" } else { "" };
        let release = if self.release { " release" } else { "" };
        write!(formatter, "{chain}{release}")
    }
}
