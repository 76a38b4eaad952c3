//! One client from its first byte to its last: handshake, then command after command.
//!
//! It never talks to a server itself; the executor does. State of the session is data in `state`.

pub mod analysis;
pub mod explain;
// Nobody hands sessions over yet: its test sees to it that they stay what can be handed over.
#[cfg(test)]
pub mod handover;
pub mod handshake;
pub mod local;
pub mod prepared;
pub mod processes;
pub mod query;
pub mod rights;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use vt_wire::command::Command;
use vt_wire::error_code;
use vt_wire::packet::{self, HEADER_LENGTH, join_payload, put_packet};
use vt_wire::scanner::{Answer, Summary};

use super::Shared;
use super::digests::{DigestId, Outcome};
use super::error::{self, RouterError};
use super::executor::{Failure, Request, Worker, single};
use super::metrics::{ErrorClass, QueryKind};
use super::processlist::{Kill, Listed};
use super::socket::{Channel, give_back};
use super::state::{Broken, State, TransactionEnd, parse_database};
use super::statement_log::Line;
use super::users::Needs;

use self::rights::renew_account;

/// A router on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Sessions end as soon as nothing of theirs is open.
    Draining,
    /// Sessions end now.
    Stopped,
}

/// Why a session ended. Nobody chooses by it; it is for the log.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client left")]
    Quit,
    #[error("the client's connection failed: {0}")]
    Client(#[from] io::Error),
    #[error("refused: {0}")]
    Refused(RouterError),
}

/// A client's session.
pub struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) shared: Arc<Shared>,
    pub(super) client: Channel,
    pub(super) state: State,
    pub(super) phase: watch::Receiver<Phase>,
    listed: Listed,
    /// Since when a transaction is open.
    transaction_since: Option<Instant>,
}

/// A command as it came, in a buffer of its own.
pub(super) struct Incoming {
    pub wire: Vec<u8>,
    /// The payload, if it did not come in one packet.
    joined: Option<Vec<u8>>,
    /// The sequence id of the answer's first packet.
    pub reply_sequence: u8,
}

impl Incoming {
    pub fn payload(&self) -> &[u8] {
        self.joined
            .as_deref()
            .unwrap_or(&self.wire[HEADER_LENGTH..])
    }
}

impl Session {
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        shared: Arc<Shared>,
        client: Channel,
        peer: SocketAddr,
        id: u64,
    ) -> Self {
        let phase = shared.phase.subscribe();
        let listed = shared.processlist.enter(id as u32, peer);
        Self {
            worker,
            shared,
            client,
            state: State::new(id, Arc::clone(listed.process())),
            phase,
            listed,
            transaction_since: None,
        }
    }

    /// Serves the client until one of both has enough.
    pub async fn serve(mut self) -> End {
        let end = match self.shake_hands().await {
            Ok(()) => self.serve_commands().await,
            Err(end) => end,
        };
        if let End::Refused(error) = &end {
            self.count_error(error);
        }
        single::release(&self.worker, &mut self.state);
        self.worker.pool.forget_session(self.state.id);
        // The client is told by the end of the stream; that it may be gone already is no news.
        let _ = self.client.shutdown().await;
        end
    }

    async fn serve_commands(&mut self) -> End {
        loop {
            let mut incoming = match self.next_command().await {
                Ok(incoming) => incoming,
                Err(end) => return end,
            };
            let result = self.dispatch(&mut incoming).await;
            self.end_command();
            give_back(incoming.wire);
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// Waits for a whole command. A router that drains ends sessions that have nothing open.
    async fn next_command(&mut self) -> Result<Incoming, End> {
        loop {
            let deadline = self.transaction_deadline();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.end_transaction();
                continue;
            }
            match packet::whole(self.client.input(), self.shared.packet_length_max) {
                Ok(Some(whole)) => {
                    if whole.first_sequence != 0 {
                        return Err(self
                            .refuse(
                                RouterError::PacketsOutOfOrder,
                                whole.last_sequence.wrapping_add(1),
                            )
                            .await);
                    }
                    let wire = self.client.take(whole.wire_length);
                    self.client.begin_answer();
                    let joined = (!whole.is_single()).then(|| join_payload(&wire));
                    let reply_sequence = whole.last_sequence.wrapping_add(1);
                    return Ok(Incoming {
                        wire,
                        joined,
                        reply_sequence,
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(self.refuse(error.into(), 1).await),
            }
            let phase = *self.phase.borrow();
            let may_end = phase == Phase::Stopped
                || (phase == Phase::Draining && !self.state.is_in_transaction());
            if may_end && self.client.input().is_empty() {
                return Err(self.refuse(RouterError::Draining, 0).await);
            }
            tokio::select! {
                biased;
                read = self.client.fill() => if read? == 0 { return Err(End::Quit) },
                _ = self.phase.changed() => {}
                () = until(deadline) => {}
                () = self.listed.process().ended() => return Err(self.refuse(RouterError::Killed, 0).await),
            }
        }
    }

    /// Others see what the session holds now that a command is over.
    fn end_command(&mut self) {
        self.transaction_since = match self.state.is_in_transaction() {
            true => self.transaction_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        let kept_for = self.state.kept_for();
        self.listed.process().end(kept_for, self.transaction_since);
    }

    fn transaction_deadline(&self) -> Option<Instant> {
        Some(self.transaction_since? + self.shared.transaction_time_max?)
    }

    /// It was open for too long: the reset of its connection rolls it back. The client hears of it when it sends something.
    fn end_transaction(&mut self) {
        let limit = self.shared.transaction_time_max.unwrap_or_default();
        tracing::info!(
            user = %self.state.user,
            connection = self.connection_id(),
            limit_ms = limit.as_millis(),
            "a transaction was open for too long and is rolled back"
        );
        self.transaction_since = None;
        single::release(&self.worker, &mut self.state);
        self.state.end_transaction(Broken::TooLong {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        });
        self.listed.process().hold(self.state.kept_for(), None);
    }

    async fn dispatch(&mut self, incoming: &mut Incoming) -> Result<(), End> {
        let command = match Command::parse(incoming.payload(), self.state.capabilities) {
            Ok(command) => command,
            Err(error) => return Err(self.refuse(error.into(), incoming.reply_sequence).await),
        };
        let sequence = incoming.reply_sequence;
        if let Err(error) = renew_account(&self.worker, &self.shared, &mut self.state) {
            return Err(self.refuse(error, sequence).await);
        }
        self.listed.process().begin(command.title(), command.text());
        if let Err(error) = self.check_pace(&command) {
            return self.reply_error(&error, sequence).await;
        }
        match command {
            Command::Quit => Err(End::Quit),
            Command::Query(sql) => {
                let length = sql.len();
                self.query(incoming, length).await
            }
            Command::InitDb(name) => {
                let name = name.to_vec();
                let result = self.select_database(&name);
                self.reply_selected(result, sequence).await
            }
            Command::Ping => self.reply_ok(sequence).await,
            Command::Statistics => self.reply_statistics(sequence).await,
            Command::ProcessKill(id) => self.kill(Kill::Connection, id.into(), sequence).await,
            Command::SetOption(option) => self.set_option(option, sequence).await,
            Command::ResetConnection => {
                self.reset();
                self.reply_ok(sequence).await
            }
            Command::ChangeUser(arguments) => {
                let arguments = arguments.to_vec();
                self.change_user(&arguments, sequence).await
            }
            Command::FieldList(_) => {
                if let Err(error) = self.check_rights(Needs::READ, &[]) {
                    return self.reply_error(&error, sequence).await;
                }
                let mut request = Request::new(std::mem::take(&mut incoming.wire), Answer::Rows);
                request.is_read_only = true;
                self.carry_out(request, sequence, QueryKind::read).await
            }
            Command::StmtPrepare(_) => self.prepare(incoming).await,
            Command::StmtExecute {
                statement_id,
                flags,
                ..
            } => self.execute(incoming, statement_id, flags).await,
            Command::StmtSendLongData { statement_id, .. } => {
                self.keep_long_data(incoming, statement_id)
            }
            Command::StmtClose { statement_id } => {
                self.close_statement(statement_id);
                Ok(())
            }
            Command::StmtReset { statement_id } => {
                self.reset_statement(incoming, statement_id).await
            }
            Command::StmtFetch { statement_id, .. } => self.fetch(incoming, statement_id).await,
            Command::Other(other) => {
                self.reply_error(&RouterError::CommandRefused(other.name()), sequence)
                    .await
            }
        }
    }

    /// Carries a command out, answers its failure, and counts.
    pub(super) async fn carry_out(
        &mut self,
        mut request: Request,
        sequence: u8,
        kind: QueryKind,
    ) -> Result<(), End> {
        let rolls_back = request.ends_transaction == Some(TransactionEnd::Rollback);
        if request.ends_transaction.is_some() {
            // Another may begin by the same text.
            self.transaction_since = None;
        }
        let result = self.run(&mut request, kind).await;
        give_back(request.wire);
        match result {
            Ok(_) => Ok(()),
            // What was to be rolled back is gone: that is what the client asked for.
            Err(Failure::Answer(RouterError::TransactionLost { .. })) if rolls_back => {
                self.reply_ok(sequence).await
            }
            Err(failure) => self.answer_failure(failure, sequence).await,
        }
    }

    /// Under what a text of this session is counted.
    pub(super) fn digest(&self, sql: &[u8]) -> DigestId {
        let state = &self.state;
        let digests = &self.worker.digests;
        digests.find(&state.user, state.database_name(), sql, &state.lex)
    }

    pub(super) async fn run(
        &mut self,
        request: &mut Request,
        kind: QueryKind,
    ) -> Result<Summary, Failure> {
        let started = Instant::now();
        self.worker.metrics.count_query(kind);
        let result = single::run(&self.worker, &mut self.state, &mut self.client, request).await;
        let elapsed = started.elapsed();
        self.worker.metrics.latency.observe(elapsed.as_secs_f64());
        if let Some(digest) = request.digest {
            let summary = result.as_ref().ok();
            let outcome = Outcome {
                elapsed,
                is_error: summary.is_none_or(|summary| summary.error.is_some()),
                rows: summary.map_or(0, |summary| summary.rows),
                affected_rows: summary.map_or(0, |summary| summary.affected_rows),
            };
            self.worker.digests.record(digest, outcome);
            self.log_if_wanted(digest, outcome);
        }
        if let Ok(Summary { error: Some(_), .. }) = &result {
            self.worker.metrics.count_error(ErrorClass::server);
        }
        result
    }

    /// With the text as the digests know it: literals are nobody's business in a log.
    fn log_if_wanted(&self, digest: DigestId, outcome: Outcome) {
        let log = &self.worker.statement_log;
        let Some(line) = log.admit(outcome.elapsed, Instant::now()) else {
            return;
        };
        let Some(name) = self.worker.digests.name(digest) else {
            return;
        };
        let (left_out, what) = match line {
            Line::Slow { left_out } => (left_out, "slow statement"),
            Line::Sample { left_out } => (left_out, "sampled statement"),
        };
        tracing::info!(
            took_us = outcome.elapsed.as_micros(),
            user = %self.state.user,
            database = %self.state.database_name(),
            connection = self.connection_id(),
            rows = outcome.rows,
            affected_rows = outcome.affected_rows,
            is_error = outcome.is_error,
            left_out,
            statement = %String::from_utf8_lossy(&name.text),
            "{what}"
        );
    }

    pub(super) async fn answer_failure(
        &mut self,
        failure: Failure,
        sequence: u8,
    ) -> Result<(), End> {
        match failure {
            Failure::Answer(error) => self.reply_error(&error, sequence).await,
            Failure::AnswerAfterPart(error, sequence) => self.reply_error(&error, sequence).await,
            Failure::Client(error) => Err(End::Client(error)),
        }
    }

    /// Makes `name` the session's database, if it is one.
    pub(super) fn select_database(&mut self, name: &[u8]) -> Result<(), RouterError> {
        let unknown = || RouterError::UnknownDatabase(String::from_utf8_lossy(name).into_owned());
        let database = parse_database(name).ok_or_else(unknown)?;
        self.check_entry(&database)?;
        if let super::state::Database::Keyspace { name, .. } = &database
            && self.worker.topology.load().keyspace(name).is_none()
        {
            return Err(unknown());
        }
        if self.state.pins.diagnostics && !self.state.is_bound() {
            // As on a server, nothing of the statement before can be asked for any more.
            single::release(&self.worker, &mut self.state);
        }
        self.state.pins.diagnostics = false;
        self.state.database = Some(database);
        let shown = String::from_utf8_lossy(name).into_owned();
        self.listed.process().set_database(Some(shown));
        self.state.place = None;
        Ok(())
    }

    /// As after a fresh handshake.
    pub(super) fn reset(&mut self) {
        single::release(&self.worker, &mut self.state);
        self.worker.pool.forget_session(self.state.id);
        self.state.reset();
    }

    pub(super) async fn send(&mut self, payload: &[u8], sequence: u8) -> Result<(), End> {
        let mut wire = Vec::with_capacity(payload.len() + HEADER_LENGTH);
        put_packet(&mut wire, sequence, payload);
        Ok(self.client.write(&wire).await?)
    }

    pub(super) async fn reply_error(
        &mut self,
        error: &RouterError,
        sequence: u8,
    ) -> Result<(), End> {
        self.count_error(error);
        let mut wire = Vec::new();
        error.put(&mut wire, sequence);
        Ok(self.client.write(&wire).await?)
    }

    /// Tells the client why its session ends.
    pub(super) async fn refuse(&mut self, error: RouterError, sequence: u8) -> End {
        let mut wire = Vec::new();
        error.put(&mut wire, sequence);
        match self.client.write(&wire).await {
            Ok(()) => End::Refused(error),
            Err(failed) => End::Client(failed),
        }
    }

    fn count_error(&self, error: &RouterError) {
        self.worker.metrics.count_error(class_of(error));
    }
}

impl Session {
    /// Refuses a client before the handshake.
    pub async fn turn_away(mut self, error: RouterError) -> End {
        self.count_error(&error);
        self.refuse(error, 0).await
    }
}

/// Ends then; never without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Whose fault an error is, for the metrics.
fn class_of(error: &RouterError) -> ErrorClass {
    match error.code() {
        error::OUTCOME_UNKNOWN | error::TRANSACTION_LOST | error::SESSION_STATE_LOST => {
            ErrorClass::lost
        }
        error::NO_PRIMARY
        | error::HOLD_FULL
        | error::POOL_EXHAUSTED
        | error::NO_REPLICA
        | error::BACKEND_REFUSED
        | error_code::TOO_MANY_CONNECTIONS
        | error_code::SERVER_SHUTDOWN => ErrorClass::unavailable,
        _ => ErrorClass::client,
    }
}
