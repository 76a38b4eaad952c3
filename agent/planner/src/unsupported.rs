//! Every statement that the router refuses by itself, each with the MySQL error that its client sees. Nothing is
//! refused anywhere else in this crate.

use crate::statement::{Assignment, Kind, Scope, Statement};
use crate::traits::Traits;

macro_rules! unsupported {
    ($($(#[$doc:meta])* $name:ident($code:literal, $state:literal, $message:literal),)*) => {
        /// A refusal. Its code, SQLSTATE and message are stable: clients and tests may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
        pub enum Unsupported {
            $($(#[$doc])* #[error($message)] $name,)*
        }

        impl Unsupported {
            pub const ALL: &'static [Unsupported] = &[$(Unsupported::$name,)*];

            /// MySQL's error number.
            pub fn code(self) -> u16 {
                match self { $(Unsupported::$name => $code,)* }
            }

            pub fn sql_state(self) -> &'static [u8; 5] {
                match self { $(Unsupported::$name => $state,)* }
            }

            /// The same text as `Display`, without a copy.
            pub fn message(self) -> &'static str {
                match self { $(Unsupported::$name => $message,)* }
            }
        }
    };
}

unsupported! {
    OpenVersionComment(1235, b"42000",
        "The router cannot tell which servers run this version comment; write its code without it"),
    /// The server would read a file of its own host under the router's account.
    LoadDataInfile(1227, b"42000",
        "The router does not let clients read files of a database host; use LOAD DATA LOCAL"),
    IntoFile(1227, b"42000",
        "The router does not let clients write files on a database host; fetch the rows instead"),
    CreateDatabase(1235, b"42000",
        "The router does not support CREATE DATABASE; create a keyspace with: vtctl keyspace create"),
    AlterDatabase(1235, b"42000",
        "The router does not support ALTER DATABASE; give the option to each table instead"),
    DropDatabase(1235, b"42000",
        "The router does not support DROP DATABASE; drop a keyspace with: vtctl keyspace delete"),
    Account(1235, b"42000",
        "The router does not support account statements; the coordinator keeps the users: vtctl user"),
    Administration(1227, b"42000",
        "The router does not let clients administer a database host; the agents do that: see vtctl help"),
    FlushServer(1227, b"42000",
        "The router supports no FLUSH but FLUSH TABLES; the agents administer the database hosts"),
    LockInstance(1227, b"42000",
        "The router does not support LOCK INSTANCE; the agents take the backups: vtctl backup"),
    SetGlobal(1227, b"42000",
        "The router does not let clients set global variables; the agents keep each server's configuration"),
    SetProtected(1227, b"42000",
        "The router does not let clients set this variable: replication and routing depend on it"),
}

/// Session variables on which the safety of replication or of routing rests.
const PROTECTED_VARIABLES: [&[u8]; 6] = [
    b"sql_log_bin",
    b"gtid_next",
    b"gtid_next_list",
    b"pseudo_replica_mode",
    b"pseudo_slave_mode",
    b"binlog_format",
];

/// The reason to refuse a statement, if there is one.
pub(crate) fn reason(statement: &Statement) -> Option<Unsupported> {
    use crate::statement::Flush;
    if statement.traits.contains(Traits::OPEN_VERSION_COMMENT) {
        return Some(Unsupported::OpenVersionComment);
    }
    match &statement.kind {
        Kind::LoadData { local: false } => Some(Unsupported::LoadDataInfile),
        Kind::Select if statement.traits.contains(Traits::INTO_FILE) => Some(Unsupported::IntoFile),
        Kind::CreateDatabase { .. } => Some(Unsupported::CreateDatabase),
        Kind::AlterDatabase { .. } => Some(Unsupported::AlterDatabase),
        Kind::DropDatabase { .. } => Some(Unsupported::DropDatabase),
        Kind::Account => Some(Unsupported::Account),
        Kind::Administration => Some(Unsupported::Administration),
        Kind::Flush(Flush::Other) => Some(Unsupported::FlushServer),
        Kind::LockInstance => Some(Unsupported::LockInstance),
        Kind::SetTransaction {
            scope: Scope::Global,
        } => Some(Unsupported::SetGlobal),
        Kind::Set(assignments) => assignments.iter().find_map(assignment_reason),
        _ => None,
    }
}

fn assignment_reason(assignment: &Assignment) -> Option<Unsupported> {
    match assignment.scope {
        Scope::Global | Scope::Persist | Scope::PersistOnly => Some(Unsupported::SetGlobal),
        Scope::Session if PROTECTED_VARIABLES.contains(&assignment.name.as_slice()) => {
            Some(Unsupported::SetProtected)
        }
        _ => None,
    }
}
