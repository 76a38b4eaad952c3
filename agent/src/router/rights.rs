//! What a statement needs and whether its user has it. Pure: it sees kinds and names, never a table.
//!
//! Without a parser it is not known which of the named keyspaces is written and which is only read: what is needed is needed in each of
//! them, and in the session's own, for names without a keyspace are meant there.

use vt_planner::{Flush, Kind, Scope, Show, Statement, Traits};
use vt_proto::user::{Rights, User};

use super::error::RouterError;
use super::state::{Database, SYSTEM_SCHEMAS};
use super::users::Needs;

/// Anybody may look into it: what it shows of tables, clients ask for all day.
const INFORMATION_SCHEMA: &str = "information_schema";

/// What a statement of this text needs.
#[must_use]
pub fn needs(statement: &Statement, sql: &[u8]) -> Needs {
    let traits = statement.traits;
    // Some of the servers run what stands in the comment.
    if traits.contains(Traits::OPEN_VERSION_COMMENT) {
        return Needs::ALL;
    }
    let own = match &statement.kind {
        Kind::Empty
        | Kind::Begin(_)
        | Kind::Commit(_)
        | Kind::Rollback(_)
        | Kind::Savepoint { .. }
        | Kind::RollbackToSavepoint { .. }
        | Kind::ReleaseSavepoint { .. }
        | Kind::UnlockTables
        | Kind::SetTransaction {
            scope: Scope::NextTransaction | Scope::Session,
        }
        | Kind::Use { .. }
        | Kind::Vexplain { .. }
        | Kind::Deallocate { .. }
        | Kind::GetDiagnostics
        | Kind::Signal
        | Kind::Kill(_) => Needs::NONE,
        Kind::Set(assignments) => {
            let is_own = |scope: Scope| {
                !matches!(scope, Scope::Global | Scope::Persist | Scope::PersistOnly)
            };
            let all_own = assignments.iter().all(|it| is_own(it.scope));
            // A value may be a subquery.
            match all_own {
                true => reads(statement, sql),
                false => Needs::EVERYWHERE,
            }
        }
        Kind::Show(show) => show_needs(*show),
        Kind::Select | Kind::Do => reads(statement, sql),
        Kind::Handler | Kind::Explain { .. } => Needs::READ,
        Kind::Insert
        | Kind::Replace
        | Kind::Update
        | Kind::Delete
        | Kind::LoadData { .. }
        | Kind::Call
        | Kind::Xa => Needs::WRITE,
        Kind::LockTables => Needs::READ_AND_WRITE,
        Kind::Ddl if traits.contains(Traits::TEMPORARY_TABLE) => Needs::WRITE,
        Kind::Ddl | Kind::Maintenance => Needs::DDL,
        // What they hold may be anything.
        Kind::Prepare { .. } | Kind::Execute { .. } => Needs::ALL,
        Kind::Flush(Flush::Tables | Flush::TablesWithLock | Flush::Other)
        | Kind::CreateDatabase { .. }
        | Kind::AlterDatabase { .. }
        | Kind::DropDatabase { .. }
        | Kind::LockInstance
        | Kind::SetTransaction { .. }
        | Kind::Account
        | Kind::Administration => Needs::EVERYWHERE,
        Kind::Other => Needs::ALL,
    };
    let writes = Traits::LOCKING_READ | Traits::STORED_FUNCTION | Traits::WRITING_INSIDE;
    let more = match traits {
        traits if traits.contains(Traits::INTO_FILE) => Needs::EVERYWHERE,
        traits if traits.intersects(writes) => Needs::WRITE,
        _ => Needs::NONE,
    };
    own.with(more)
}

/// What names no table reads none: clients ask for variables and functions before they know what they may do. No table stands
/// anywhere without one of two words in front.
fn reads(statement: &Statement, sql: &[u8]) -> Needs {
    let text = statement.span.of(sql);
    let has = |word: &[u8]| {
        text.windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
    };
    match has(b"from") || has(b"table") {
        true => Needs::READ,
        false => Needs::NONE,
    }
}

fn show_needs(show: Show) -> Needs {
    match show {
        Show::Tables | Show::TableLike | Show::Columns | Show::Index | Show::Create => Needs::READ,
        Show::Databases
        | Show::CreateDatabase
        | Show::Warnings
        | Show::Errors
        | Show::Variables
        | Show::Status
        | Show::Processlist { .. }
        | Show::VitrailQueries
        | Show::VitrailSessions
        | Show::Grants => Needs::NONE,
        // Engines, binary logs, events: the account of the router is shown no more than it must be.
        Show::Other => Needs::NONE,
    }
}

/// Whether a user may run what needs this, in the session's database and in what it names.
pub fn check(
    user: &User,
    needs: Needs,
    database: Option<&Database>,
    named: &[String],
) -> Result<(), RouterError> {
    if user.rights_everywhere().admin {
        return Ok(());
    }
    if needs.everywhere {
        return Err(missing(user, "admin".to_owned(), "'*'"));
    }
    if needs.rights == Rights::NONE && named.is_empty() {
        return Ok(());
    }
    // In a schema of the system, names without a schema are its tables.
    let own = database.map(|database| {
        let (Database::Keyspace { name, .. } | Database::System(name)) = database;
        name.as_str()
    });
    let named = named.iter().map(String::as_str);
    let mut places = own.into_iter().chain(named);
    places.try_for_each(|place| check_place(user, needs.rights, place))
}

fn check_place(user: &User, needed: Rights, place: &str) -> Result<(), RouterError> {
    if place.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
        return Ok(());
    }
    if is_system(place) {
        return Err(missing(user, "admin".to_owned(), "'*'"));
    }
    let held = user.rights_in(place);
    if held == Rights::NONE {
        return Err(denied(user, place));
    }
    if held.allow(needed) {
        return Ok(());
    }
    Err(missing(user, needed.without(held).to_string(), place))
}

/// Whether a user may make this its database, or see that it is there.
#[must_use]
pub fn may_enter(user: &User, database: &str) -> bool {
    database.eq_ignore_ascii_case(INFORMATION_SCHEMA)
        || user.rights_everywhere().admin
        || (!is_system(database) && user.rights_in(database) != Rights::NONE)
}

fn is_system(name: &str) -> bool {
    let is = |system: &&str| name.eq_ignore_ascii_case(system);
    SYSTEM_SCHEMAS.iter().any(is)
}

fn missing(user: &User, lacking: String, place: &str) -> RouterError {
    RouterError::RightMissing {
        user: user.name.to_string(),
        lacking,
        place: place.to_owned(),
    }
}

/// That a user may not enter it.
#[must_use]
pub fn denied(user: &User, database: &str) -> RouterError {
    RouterError::DatabaseDenied {
        user: user.name.to_string(),
        database: database.to_owned(),
    }
}

/// As SHOW GRANTS says it.
#[must_use]
pub fn grants(user: &User) -> Vec<String> {
    let name = user.name.as_str().replace('`', "``");
    let mut lines = Vec::new();
    if user.rights_everywhere() == Rights::NONE {
        lines.push(format!("GRANT USAGE ON *.* TO `{name}`@`%`"));
    }
    for (place, rights) in &user.grants {
        let place = match place {
            vt_proto::user::Place::Everywhere => "*".to_owned(),
            vt_proto::user::Place::Keyspace(name) => format!("`{name}`"),
        };
        lines.push(format!(
            "GRANT {} ON {place}.* TO `{name}`@`%`",
            privileges(*rights)
        ));
    }
    lines
}

fn privileges(rights: Rights) -> String {
    if rights.admin {
        return "ALL PRIVILEGES".to_owned();
    }
    let words = [
        (rights.read, "SELECT, SHOW VIEW"),
        (
            rights.write,
            "INSERT, UPDATE, DELETE, EXECUTE, LOCK TABLES, CREATE TEMPORARY TABLES",
        ),
        (
            rights.ddl,
            "CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE",
        ),
    ];
    let held: Vec<&str> = words
        .iter()
        .filter(|(held, _)| *held)
        .map(|(_, words)| *words)
        .collect();
    held.join(", ")
}

#[cfg(test)]
mod tests;
