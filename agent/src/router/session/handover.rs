//! A session's state as a message, and back: for the process that goes on with the client where this one stops.
//!
//! What a connection to a server alone holds does not travel; a session with such state waits until it has none. Neither does what the
//! other process knows itself: the user's rights are looked up again, and a prepared statement is analysed anew from its text.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;
use vt_planner::{ClientCharset, LexOptions};
use vt_proto::wire;
use vt_wire::command::{self, CommandByte};
use vt_wire::packet::{join_payload, put_packet};
use vt_wire::{Capabilities, ServerStatus};

use super::analysis::analyse;
use super::prepared::analysed;
use crate::router::digests::ThreadDigests;
use crate::router::error::RouterError;
use crate::router::processlist::Process;
use crate::router::state::{Broken, Database, Pins, Prepared, State, Written, parse_database};
use crate::router::variables::Variables;

/// The session cannot be handed over now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("session {id} keeps its connection for {}", reasons.join(", "))]
pub struct Bound {
    pub id: u64,
    pub reasons: Vec<&'static str>,
}

/// The message describes no session that could go on here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untakeable {
    #[error("session {id} has selected what is no database here: '{name}'")]
    Database { id: u64, name: String },
    #[error("session {id} has {field} = {value}, which is out of range")]
    OutOfRange {
        id: u64,
        field: &'static str,
        value: u32,
    },
    #[error("session {id} has prepared a statement (number {statement}) that is refused here")]
    Statement {
        id: u64,
        statement: u32,
        #[source]
        reason: RouterError,
    },
}

/// Writes down what another process needs to go on with the session. Fails while only its connection holds a part of that.
pub fn give(state: &State) -> Result<wire::Session, Bound> {
    // All fields by name: who adds one decides here whether it travels.
    let State {
        id,
        process: _,
        capabilities,
        collation,
        user,
        account: _,
        database,
        settings,
        chooses_reports,
        variables,
        insert_id,
        status,
        lex,
        pins: _,
        has_run,
        written,
        broken,
        statements,
        next_statement_id,
        lease: _,
        place: _,
        replica: _,
    } = state;
    let reasons: Vec<_> = state.kept_for().reasons().collect();
    if !reasons.is_empty() {
        return Err(Bound { id: *id, reasons });
    }
    let variable = |(name, value): (&Vec<u8>, &Vec<u8>)| wire::SessionVariable {
        name: name.clone(),
        value: value.clone(),
    };
    Ok(wire::Session {
        id: *id,
        capabilities: capabilities.0,
        collation: (*collation).into(),
        user: user.clone(),
        database: database.as_ref().map(give_database),
        variables: settings.iter().map(variable).collect(),
        chooses_reports: *chooses_reports,
        replica_lag_max_ms: variables.replica_lag_max_ms,
        read_wait_ms: variables.read_wait_ms,
        last_insert_id: insert_id.get(),
        status: status.0.into(),
        text_options: Some(give_text_options(lex)),
        has_run: *has_run,
        written: written
            .as_ref()
            .map_or_else(String::new, |written| written.text().to_owned()),
        broken: broken.as_ref().map(give_broken),
        statements: statements.iter().map(give_statement).collect(),
        next_statement_id: *next_statement_id,
    })
}

/// The state of a session that goes on here. Its user has still to be looked up.
pub fn take(
    session: wire::Session,
    process: Arc<Process>,
    digests: &ThreadDigests,
) -> Result<State, Untakeable> {
    let id = session.id;
    let out_of_range = |field, value| Untakeable::OutOfRange { id, field, value };
    let collation = u8::try_from(session.collation)
        .map_err(|_| out_of_range("collation", session.collation))?;
    let status =
        u16::try_from(session.status).map_err(|_| out_of_range("status", session.status))?;
    let variables = session.variables.into_iter();
    let mut state = State {
        capabilities: Capabilities(session.capabilities),
        collation,
        user: session.user,
        database: session
            .database
            .and_then(|database| database.database)
            .map(|database| take_database(id, database))
            .transpose()?,
        settings: Rc::new(variables.map(|it| (it.name, it.value)).collect()),
        chooses_reports: session.chooses_reports,
        variables: Variables {
            replica_lag_max_ms: session.replica_lag_max_ms,
            read_wait_ms: session.read_wait_ms,
        },
        insert_id: Rc::new(Cell::new(session.last_insert_id)),
        status: ServerStatus(status),
        lex: take_text_options(session.text_options.unwrap_or_default()),
        pins: Pins::default(),
        has_run: session.has_run,
        written: Written::parse(session.written.as_bytes()),
        broken: session.broken.map(take_broken),
        next_statement_id: session.next_statement_id.max(1),
        ..State::new(id, process)
    };
    let mut statements = BTreeMap::new();
    for statement in session.statements {
        let number = statement.id;
        let taken =
            take_statement(&state, statement, digests).map_err(|reason| Untakeable::Statement {
                id,
                statement: number,
                reason,
            })?;
        statements.insert(number, taken);
    }
    state.statements = statements;
    Ok(state)
}

fn give_database(database: &Database) -> wire::SessionDatabase {
    use wire::session_database::Database::{Keyspace, System};
    let database = match database {
        Database::Keyspace { name, role } => Keyspace(format!("{name}@{}", role.name())),
        Database::System(name) => System(name.clone()),
    };
    wire::SessionDatabase {
        database: Some(database),
    }
}

fn take_database(
    id: u64,
    database: wire::session_database::Database,
) -> Result<Database, Untakeable> {
    use wire::session_database::Database::{Keyspace, System};
    let (name, is_system) = match database {
        Keyspace(name) => (name, false),
        System(name) => (name, true),
    };
    match parse_database(name.as_bytes()) {
        Some(found) if matches!(found, Database::System(_)) == is_system => Ok(found),
        _ => Err(Untakeable::Database { id, name }),
    }
}

fn give_broken(broken: &Broken) -> wire::session::Broken {
    use wire::session::Broken::{ReplacedIn, TooLongMs};
    match broken {
        Broken::Replaced { replica_set } => ReplacedIn(replica_set.clone()),
        Broken::TooLong { limit_ms } => TooLongMs(*limit_ms),
    }
}

fn take_broken(broken: wire::session::Broken) -> Broken {
    use wire::session::Broken::{ReplacedIn, TooLongMs};
    match broken {
        ReplacedIn(replica_set) => Broken::Replaced { replica_set },
        TooLongMs(limit_ms) => Broken::TooLong { limit_ms },
    }
}

fn give_text_options(lex: &LexOptions) -> wire::TextOptions {
    let LexOptions {
        charset,
        ansi_quotes,
        no_backslash_escapes,
        // What servers there are, the other process finds out.
        server_version: _,
    } = *lex;
    wire::TextOptions {
        charset: match charset {
            ClientCharset::AsciiSafe => wire::ClientCharset::AsciiSafe,
            ClientCharset::Gbk => wire::ClientCharset::Gbk,
            ClientCharset::Gb18030 => wire::ClientCharset::Gb18030,
            ClientCharset::Big5 => wire::ClientCharset::Big5,
            ClientCharset::Sjis => wire::ClientCharset::Sjis,
        }
        .into(),
        ansi_quotes,
        no_backslash_escapes,
    }
}

fn take_text_options(options: wire::TextOptions) -> LexOptions {
    LexOptions {
        charset: match options.charset() {
            wire::ClientCharset::AsciiSafe => ClientCharset::AsciiSafe,
            wire::ClientCharset::Gbk => ClientCharset::Gbk,
            wire::ClientCharset::Gb18030 => ClientCharset::Gb18030,
            wire::ClientCharset::Big5 => ClientCharset::Big5,
            wire::ClientCharset::Sjis => ClientCharset::Sjis,
        },
        ansi_quotes: options.ansi_quotes,
        no_backslash_escapes: options.no_backslash_escapes,
        ..LexOptions::default()
    }
}

fn give_statement((id, statement): (&u32, &Prepared)) -> wire::SessionStatement {
    let Prepared {
        prepare_wire,
        lex,
        parameters,
        types,
        typed,
        long_data,
        is_read_only: _,
        needs: _,
        traits: _,
        untracked: _,
        schemas: _,
        ends_transaction: _,
        digest: _,
    } = statement;
    let mut text = join_payload(prepare_wire);
    // The number of the command.
    text.drain(..1);
    wire::SessionStatement {
        id: *id,
        text,
        text_options: Some(give_text_options(lex)),
        parameters: (*parameters).into(),
        types: types.clone(),
        typed: (*typed).into(),
        long_data: long_data.clone(),
    }
}

fn take_statement(
    state: &State,
    statement: wire::SessionStatement,
    digests: &ThreadDigests,
) -> Result<Prepared, RouterError> {
    let lex = take_text_options(statement.text_options.unwrap_or_default());
    let analysis = analyse(&statement.text, &lex)?;
    let mut prepare_wire = Vec::new();
    let payload = command::encode(CommandByte::STMT_PREPARE, &statement.text);
    put_packet(&mut prepare_wire, 0, &payload);
    let too_many = |_| RouterError::Malformed("more parameters than a statement can have");
    let digest = digests.find(&state.user, state.database_name(), &statement.text, &lex);
    Ok(Prepared {
        parameters: statement.parameters.try_into().map_err(too_many)?,
        types: statement.types,
        typed: statement.typed.try_into().map_err(too_many)?,
        long_data: statement.long_data,
        digest: Some(digest),
        ..analysed(&prepare_wire, lex, analysis)
    })
}

#[cfg(test)]
mod tests;
