//! Brings a pooled connection into the state that a session expects: variables, schema, last insert id.
//!
//! All in one round trip, and in none when the session used the connection last.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;
use vt_wire::Capabilities;
use vt_wire::collation;
use vt_wire::command::{CommandByte, encode, encode_query};
use vt_wire::packet::put_packet;
use vt_wire::result_set::TextResult;
use vt_wire::scanner::Answer;

use super::connection::{ConnectError, Connection, InsertId};
use super::settings::{Settings, put_assignments, track_assignment};

/// Time for an alignment: a few commands that touch no table.
const ALIGN_TIME_MAX: Duration = Duration::from_secs(3);

/// The state that a session expects.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub session: u64,
    pub collation: u8,
    pub settings: &'a Rc<Settings>,
    pub schema: Option<&'a Rc<str>>,
    /// Several statements in one text may be switched on and off.
    pub capabilities: Capabilities,
    pub insert_id: &'a Rc<Cell<u64>>,
}

/// Why a connection could not be aligned.
#[derive(Debug)]
pub enum AlignError {
    /// Take another connection: this one is gone, or cannot be reset.
    Replace(ConnectError),
    /// The server refuses the session's state.
    Refused { code: u16, message: String },
}

struct Batch {
    capabilities: Capabilities,
    commands: Vec<u8>,
    answers: Vec<Answer>,
}

impl Batch {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            commands: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn add(&mut self, command: CommandByte, arguments: &[u8], answer: Answer) {
        let payload = match command {
            CommandByte::QUERY => encode_query(arguments, self.capabilities),
            other => encode(other, arguments),
        };
        put_packet(&mut self.commands, 0, &payload);
        self.answers.push(answer);
    }
}

/// Makes `connection` the session's own.
pub async fn align(connection: &mut Connection, wanted: Wanted<'_>) -> Result<(), AlignError> {
    let is_own = connection.owner == Some(wanted.session);
    let same_schema = connection.schema.as_deref() == wanted.schema.map(|schema| &**schema);
    if is_own
        && !connection.needs_reset
        && same_schema
        && takes_several(connection.capabilities) == takes_several(wanted.capabilities)
        && Rc::ptr_eq(&connection.settings, wanted.settings)
    {
        return Ok(());
    }
    let mut batch = Batch::new(connection.capabilities);
    let foreign_insert_id = match &connection.insert_id {
        InsertId::OfOwner(memory) if !is_own => Some(Rc::clone(memory)),
        _ => None,
    };
    if foreign_insert_id.is_some() {
        batch.add(
            CommandByte::QUERY,
            b"SELECT LAST_INSERT_ID()",
            Answer::Results,
        );
    }
    let covered = connection
        .settings
        .keys()
        .all(|name| wanted.settings.contains_key(name));
    let reset = connection.needs_reset || !covered;
    if reset {
        add_reset(&mut batch, wanted.collation)?;
    }
    add_settings(
        &mut batch,
        connection,
        &wanted,
        reset || !connection.is_tracked,
        is_own,
    );
    let several = takes_several(wanted.capabilities);
    if takes_several(connection.capabilities) != several {
        let option = u8::from(!several);
        batch.add(CommandByte::SET_OPTION, &[option, 0], Answer::Single);
    }
    if let Some(schema) = wanted.schema.filter(|_| !same_schema) {
        batch.add(CommandByte::INIT_DB, schema.as_bytes(), Answer::Single);
    }
    run(connection, &batch, foreign_insert_id.as_deref()).await?;
    if reset {
        connection.statements.clear();
    }
    connection.needs_reset = false;
    connection.is_tracked = true;
    let others = connection
        .capabilities
        .without(Capabilities::MULTI_STATEMENTS);
    connection.capabilities = others | (wanted.capabilities & Capabilities::MULTI_STATEMENTS);
    connection.settings = Rc::clone(wanted.settings);
    connection.schema = wanted.schema.cloned();
    if !is_own || reset {
        connection.insert_id = InsertId::Known(wanted.insert_id.get());
    }
    connection.owner = Some(wanted.session);
    Ok(())
}

/// Undoes whatever a session left behind, for nobody in particular.
pub async fn reset(connection: &mut Connection, collation: u8) -> Result<(), AlignError> {
    let mut batch = Batch::new(connection.capabilities);
    add_reset(&mut batch, collation)?;
    batch.add(
        CommandByte::QUERY,
        format!("SET {}", track_assignment()).as_bytes(),
        Answer::Results,
    );
    run(connection, &batch, None).await?;
    connection.statements.clear();
    connection.needs_reset = false;
    connection.is_tracked = true;
    connection.settings = Rc::new(Settings::new());
    connection.insert_id = InsertId::Known(0);
    connection.owner = None;
    Ok(())
}

/// Does it allow several statements in one text?
fn takes_several(capabilities: Capabilities) -> bool {
    capabilities.contains(Capabilities::MULTI_STATEMENTS)
}

/// A reset takes the character set back to the server's default, not to the handshake's.
fn add_reset(batch: &mut Batch, collation_id: u8) -> Result<(), AlignError> {
    let unknown = ConnectError::Protocol("the client's collation is not known by name");
    let collation = collation::by_id(collation_id).ok_or(AlignError::Replace(unknown))?;
    batch.add(CommandByte::RESET_CONNECTION, b"", Answer::Single);
    let names = format!(
        "SET NAMES {} COLLATE {}",
        collation.character_set, collation.name
    );
    batch.add(CommandByte::QUERY, names.as_bytes(), Answer::Results);
    Ok(())
}

fn add_settings(
    batch: &mut Batch,
    connection: &Connection,
    wanted: &Wanted<'_>,
    from_scratch: bool,
    is_own: bool,
) {
    let mut assignments = Vec::new();
    let present = (!from_scratch).then_some(&*connection.settings);
    put_assignments(&mut assignments, wanted.settings, present);
    let mut parts = Vec::new();
    if from_scratch {
        parts.push(track_assignment().into_bytes());
    }
    if !assignments.is_empty() {
        parts.push(assignments);
    }
    let insert_id = wanted.insert_id.get();
    let known = match connection.insert_id {
        _ if from_scratch => Some(0),
        InsertId::Known(known) => Some(known),
        InsertId::OfOwner(_) if is_own => Some(insert_id),
        InsertId::OfOwner(_) => None,
    };
    if known != Some(insert_id) {
        parts.push(format!("@@SESSION.last_insert_id={insert_id}").into_bytes());
    }
    if !parts.is_empty() {
        batch.add(
            CommandByte::QUERY,
            &[b"SET ", &parts.join(&b","[..])[..]].concat(),
            Answer::Results,
        );
    }
}

async fn run(
    connection: &mut Connection,
    batch: &Batch,
    foreign: Option<&Cell<u64>>,
) -> Result<(), AlignError> {
    if batch.answers.is_empty() {
        return Ok(());
    }
    let mut commands = std::mem::take(&mut connection.outstanding);
    commands.extend_from_slice(&batch.commands);
    let answers = match timeout(
        ALIGN_TIME_MAX,
        connection.exchange(&commands, &batch.answers),
    )
    .await
    {
        Ok(answers) => answers.map_err(AlignError::Replace)?,
        Err(_) => return Err(AlignError::Replace(ConnectError::TimedOut)),
    };
    if let (Some(memory), Some(answer)) = (foreign, answers.first())
        && let Ok(result) = TextResult::parse(&answer.wire, connection.capabilities)
        && let Some(Some(value)) = result.rows.first().and_then(|row| row.first())
        && let Some(value) = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
    {
        memory.set(value);
    }
    match answers.into_iter().find_map(|answer| answer.error) {
        Some((code, message)) => Err(AlignError::Refused { code, message }),
        None => Ok(()),
    }
}
