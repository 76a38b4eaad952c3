//! COM_QUERY: what the router answers itself, what a cut transaction refuses, and the rest, which is sent on.

use vt_planner::{Plan, Statement, Transaction};
use vt_wire::scanner::Answer;

use super::analysis::{Analysis, analyse};
use super::rights::{Asked, asked};
use super::{End, Incoming, Session};
use crate::router::error::RouterError;
use crate::router::executor::Request;
use crate::router::metrics::QueryKind;
use crate::router::state::State;
use crate::router::variables::{self, Variable, Variables};

impl Session {
    /// The text is the last `length` bytes of the payload.
    pub(super) async fn query(
        &mut self,
        incoming: &mut Incoming,
        length: usize,
    ) -> Result<(), End> {
        let sequence = incoming.reply_sequence;
        let payload = incoming.payload();
        let sql = &payload[payload.len() - length..];
        let analysis = match analyse(sql, &self.state.lex) {
            Ok(analysis) => analysis,
            Err(error) => return self.reply_error(&error, sequence).await,
        };
        if let Some(error) = self.state.broken_error() {
            return self
                .answer_in_broken_transaction(analysis.plan, error, sequence)
                .await;
        }
        if let Err(error) = self.check_rights(analysis.needs, &analysis.schemas) {
            return self.reply_error(&error, sequence).await;
        }
        if let Some(here) = here(&analysis, sql, &self.state) {
            self.worker.metrics.count_query(QueryKind::local);
            return self.answer_here(here, sequence).await;
        }
        let kind = analysis.kind();
        let digest = self.digest(sql);
        let mut request = Request::new(std::mem::take(&mut incoming.wire), Answer::Results);
        request.is_read_only = analysis.is_read_only;
        request.traits = analysis.traits;
        request.untracked = analysis.untracked;
        request.schemas = analysis.schemas;
        request.ends_transaction = analysis.ends_transaction;
        request.uploads = analysis.uploads;
        request.digest = Some(digest);
        self.carry_out(request, sequence, kind).await
    }

    async fn answer_here(&mut self, here: Here, sequence: u8) -> Result<(), End> {
        match here {
            Here::Use(name) => {
                let result = self.select_database(&name);
                self.reply_selected(result, sequence).await
            }
            Here::Set(result) => self.set_variables(result, sequence).await,
            Here::Variable(variable) => self.show_variable(variable, sequence).await,
            Here::Keyspaces(text) => self.show_keyspaces(&text, sequence).await,
            Here::Processlist { full } => self.show_processlist(full, sequence).await,
            Here::Queries => self.show_queries(sequence).await,
            Here::Sessions => self.show_sessions(sequence).await,
            Here::Grants => self.show_grants(sequence).await,
            Here::Explain(text) => self.explain(&text, sequence).await,
            Here::Kill(kill) => self.kill_by_text(kill, sequence).await,
            Here::ConnectionId => self.reply_connection_id(sequence).await,
            Here::User(asked) => self.reply_user(asked, sequence).await,
        }
    }

    /// Nothing of the transaction remains: ROLLBACK agrees with that, COMMIT cannot be had.
    async fn answer_in_broken_transaction(
        &mut self,
        plan: Plan,
        error: RouterError,
        sequence: u8,
    ) -> Result<(), End> {
        match plan {
            Plan::Transaction(Transaction::Rollback(_)) => {
                self.state.broken = None;
                self.reply_ok(sequence).await
            }
            Plan::Transaction(Transaction::Commit(_)) => {
                self.state.broken = None;
                self.reply_error(&error, sequence).await
            }
            _ => self.reply_error(&error, sequence).await,
        }
    }
}

/// What the router answers itself, with what it needs of the text.
enum Here {
    Use(Vec<u8>),
    Set(Result<Variables, RouterError>),
    Variable(Variable),
    Keyspaces(Vec<u8>),
    Processlist { full: bool },
    Queries,
    Sessions,
    Grants,
    Explain(Vec<u8>),
    Kill(vt_planner::Kill),
    ConnectionId,
    User(Asked),
}

fn here(analysis: &Analysis, sql: &[u8], state: &State) -> Option<Here> {
    let text = analysis.first.span.of(sql);
    Some(match analysis.plan {
        Plan::Use => Here::Use(used_database(&analysis.first, sql)),
        Plan::SetOfRouter => Here::Set(set_variables(analysis, sql, state)),
        Plan::ShowKeyspaces => Here::Keyspaces(text.to_vec()),
        Plan::ShowProcesslist { full } => Here::Processlist { full },
        Plan::ShowQueries => Here::Queries,
        Plan::ShowSessions => Here::Sessions,
        Plan::ShowGrants => Here::Grants,
        Plan::Vexplain { from } => Here::Explain(sql[from..analysis.first.span.end].to_vec()),
        Plan::Kill(kill) => Here::Kill(kill),
        _ if analysis.first.rest.is_some() => return None,
        _ if is_connection_id(analysis, sql) => Here::ConnectionId,
        _ if let Some(variable) = variables::asked(text) => Here::Variable(variable),
        _ => Here::User(asked(text)?),
    })
}

/// The variables of the session as they are after the statement.
fn set_variables(analysis: &Analysis, sql: &[u8], state: &State) -> Result<Variables, RouterError> {
    let mut variables = state.variables;
    if let vt_planner::Kind::Set(assignments) = &analysis.first.kind {
        variables.set(assignments, sql)?;
    }
    Ok(variables)
}

fn used_database(statement: &Statement, sql: &[u8]) -> Vec<u8> {
    match &statement.kind {
        vt_planner::Kind::Use { database } => database.name_of(sql).into_owned(),
        _ => Vec::new(),
    }
}

/// The number of the server's connection would mean nothing to the client.
fn is_connection_id(analysis: &Analysis, sql: &[u8]) -> bool {
    analysis.traits.contains(vt_planner::Traits::CONNECTION_ID)
        && analysis
            .first
            .span
            .of(sql)
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_ascii_lowercase)
            .eq([b"select".to_vec(), b"connection_id()".to_vec()])
}
