//! COM_STMT_*: statements live in the session, under its own numbers, and are prepared on whatever
//! connection runs them.
//!
//! Parameter values are never read; long data wait here until the execution they belong to.

use vt_planner::LexOptions;
use vt_wire::Capabilities;
use vt_wire::command::Command;
use vt_wire::packet::HEADER_LENGTH;
use vt_wire::prepared::{PARAMETER_COUNT_AVAILABLE, Parameters};
use vt_wire::scanner::Answer;

use super::analysis::{Analysis, analyse};
use super::{End, Incoming, Session};
use crate::router::error::RouterError;
use crate::router::executor::{PreparedUse, Request};
use crate::router::metrics::QueryKind;
use crate::router::state::{Prepared, TransactionEnd};

/// Prepared statements of one session: as many as a server allows to all of them by default.
const STATEMENTS_MAX: usize = 16_382;
/// Length of the command byte in front of the text.
const COMMAND_LENGTH: usize = 1;
/// Where the text begins in the packets of a COM_STMT_PREPARE.
const PREPARE_TEXT_OFFSET: usize = HEADER_LENGTH + COMMAND_LENGTH;

impl Session {
    pub(super) async fn prepare(&mut self, incoming: &mut Incoming) -> Result<(), End> {
        let sequence = incoming.reply_sequence;
        let analysis = match analyse(&incoming.payload()[COMMAND_LENGTH..], &self.state.lex) {
            Ok(analysis) => analysis,
            Err(error) => return self.reply_error(&error, sequence).await,
        };
        if let Some(error) = self.state.broken_error() {
            return self.reply_error(&error, sequence).await;
        }
        if analysis.is_local() {
            return self
                .reply_error(&RouterError::NotPreparable, sequence)
                .await;
        }
        if let Err(error) = self.check_rights(analysis.needs, &analysis.schemas) {
            return self.reply_error(&error, sequence).await;
        }
        if self.state.statements.len() >= STATEMENTS_MAX {
            return self
                .reply_error(&RouterError::TooManyStatements(STATEMENTS_MAX), sequence)
                .await;
        }
        let digest = self.digest(&incoming.payload()[COMMAND_LENGTH..]);
        let id = self.next_statement_id();
        let mut request = Request::new(std::mem::take(&mut incoming.wire), Answer::Prepare);
        request.is_read_only = true;
        request.schemas.clone_from(&analysis.schemas);
        request.prepared = Some(PreparedUse::Prepare(id));
        let statement = Prepared {
            digest: Some(digest),
            ..analysed(&request.wire, self.state.lex, analysis)
        };
        self.state.statements.insert(id, statement);
        let result = self.run(&mut request, QueryKind::prepare).await;
        if !matches!(&result, Ok(summary) if summary.error.is_none()) {
            self.state.statements.remove(&id);
        }
        match result {
            Ok(_) => Ok(()),
            Err(failure) => self.answer_failure(failure, sequence).await,
        }
    }

    fn next_statement_id(&mut self) -> u32 {
        loop {
            let id = self.state.next_statement_id;
            self.state.next_statement_id = id.checked_add(1).unwrap_or(1);
            if !self.state.statements.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) async fn execute(
        &mut self,
        incoming: &mut Incoming,
        id: u32,
        flags: u8,
    ) -> Result<(), End> {
        let sequence = incoming.reply_sequence;
        let Some(statement) = self.state.statements.get_mut(&id) else {
            return self
                .reply_error(&RouterError::UnknownStatement(id), sequence)
                .await;
        };
        self.state
            .process
            .begin("Execute", &statement.prepare_wire[PREPARE_TEXT_OFFSET..]);
        let capabilities = self.state.capabilities;
        if let Err(error) = keep_types(statement, incoming.payload(), capabilities) {
            return self.reply_error(&error.into(), sequence).await;
        }
        let (traits, schemas, untracked) = (
            statement.traits,
            statement.schemas.clone(),
            statement.untracked,
        );
        let (needs, digest) = (statement.needs, statement.digest);
        let (is_read_only, ends_transaction) = (
            statement.is_read_only && flags & !PARAMETER_COUNT_AVAILABLE == 0,
            statement.ends_transaction,
        );
        if let Some(error) = self.state.broken_error() {
            return self
                .answer_execute_in_broken_transaction(ends_transaction, error, sequence)
                .await;
        }
        // They may have changed since it was prepared.
        if let Err(error) = self.check_rights(needs, &schemas) {
            return self.reply_error(&error, sequence).await;
        }
        let mut request = Request::new(std::mem::take(&mut incoming.wire), Answer::Results);
        request.is_read_only = is_read_only;
        request.traits = traits;
        request.untracked = untracked;
        request.schemas = schemas;
        request.ends_transaction = ends_transaction;
        request.digest = digest;
        request.prepared = Some(PreparedUse::Execute(id));
        let result = self.carry_out(request, sequence, QueryKind::execute).await;
        if let Some(statement) = self.state.statements.get_mut(&id) {
            statement.long_data = Vec::new();
        }
        result
    }

    async fn answer_execute_in_broken_transaction(
        &mut self,
        end: Option<TransactionEnd>,
        error: RouterError,
        sequence: u8,
    ) -> Result<(), End> {
        if end.is_some() {
            self.state.broken = None;
        }
        match end {
            Some(TransactionEnd::Rollback) => self.reply_ok(sequence).await,
            _ => self.reply_error(&error, sequence).await,
        }
    }

    /// The command has no answer, so what is wrong with it is told by the execution, or ends the session.
    pub(super) fn keep_long_data(&mut self, incoming: &Incoming, id: u32) -> Result<(), End> {
        let limit = self.shared.packet_length_max;
        let Some(statement) = self.state.statements.get_mut(&id) else {
            return Ok(());
        };
        if statement.long_data.len() + incoming.wire.len() > limit {
            return Err(End::Refused(RouterError::PacketTooLarge(limit)));
        }
        statement.long_data.extend_from_slice(&incoming.wire);
        Ok(())
    }

    pub(super) fn close_statement(&mut self, id: u32) {
        if self.state.statements.remove(&id).is_none() {
            return;
        }
        let key = (self.state.id, id);
        if let Some(lease) = &mut self.state.lease {
            lease.connection.close_statement(key);
        } else if let Some(place) = &self.state.place {
            place.bucket.close_statement(key);
        }
        self.state.pins.cursors.remove(&id);
    }

    pub(super) async fn reset_statement(
        &mut self,
        incoming: &mut Incoming,
        id: u32,
    ) -> Result<(), End> {
        let sequence = incoming.reply_sequence;
        let Some(statement) = self.state.statements.get_mut(&id) else {
            return self
                .reply_error(&RouterError::UnknownStatement(id), sequence)
                .await;
        };
        statement.long_data = Vec::new();
        if !self.state.pins.cursors.contains(&id) {
            return self.reply_ok(sequence).await;
        }
        self.continue_statement(incoming, id, Answer::Single).await
    }

    pub(super) async fn fetch(&mut self, incoming: &mut Incoming, id: u32) -> Result<(), End> {
        if !self.state.statements.contains_key(&id) {
            return self
                .reply_error(&RouterError::UnknownStatement(id), incoming.reply_sequence)
                .await;
        }
        if !self.state.pins.cursors.contains(&id) {
            return self
                .reply_error(&RouterError::NoOpenCursor(id), incoming.reply_sequence)
                .await;
        }
        self.continue_statement(incoming, id, Answer::Rows).await
    }

    async fn continue_statement(
        &mut self,
        incoming: &mut Incoming,
        id: u32,
        answer: Answer,
    ) -> Result<(), End> {
        let mut request = Request::new(std::mem::take(&mut incoming.wire), answer);
        request.prepared = Some(PreparedUse::Continue(id));
        self.carry_out(request, incoming.reply_sequence, QueryKind::execute)
            .await
    }
}

/// A statement of which is known what its text says.
pub(super) fn analysed(prepare_wire: &[u8], lex: LexOptions, analysis: Analysis) -> Prepared {
    Prepared {
        is_read_only: analysis.is_read_only,
        needs: analysis.needs,
        traits: analysis.traits,
        untracked: analysis.untracked,
        schemas: analysis.schemas,
        ends_transaction: analysis.ends_transaction,
        ..Prepared::new(prepare_wire, lex)
    }
}

/// Remembers the types of the parameters when the execution carries them.
fn keep_types(
    statement: &mut Prepared,
    payload: &[u8],
    capabilities: Capabilities,
) -> Result<(), vt_wire::Malformed> {
    let Command::StmtExecute {
        flags, parameters, ..
    } = Command::parse(payload, capabilities)?
    else {
        return Ok(());
    };
    let parsed = Parameters::parse(parameters, statement.parameters, flags, capabilities)?;
    if let Some(Parameters {
        count,
        types: Some(types),
        ..
    }) = parsed
        && types != statement.types
    {
        statement.types = types.to_vec();
        statement.typed = count;
    }
    Ok(())
}
