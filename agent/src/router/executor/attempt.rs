//! One attempt to carry out a command on one connection: send, pass the answer on, say what happened.
//!
//! It never waits for another server and never repeats.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use vt_wire::Capabilities;
use vt_wire::command::Command;
use vt_wire::packet::HEADER_LENGTH;
use vt_wire::prepared::{Parameters, replace_statement_id};
use vt_wire::scanner::{Answer, Summary};

use super::relay::{NotRun, Relay, Relayed, given_up};
use super::{PreparedUse, Request, Worker};
use crate::router::error::RouterError;
use crate::router::pool::connection::{ConnectError, Connection, OnServer};
use crate::router::pool::place::Place;
use crate::router::socket::Channel;
use crate::router::state::{Prepared, State};

/// Time to prepare a statement anew on another connection.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(5);

/// Prepared statements on one connection; beyond it, those of other sessions are closed and prepared anew when they are
/// needed. With the servers' `max_connections` this stays within their `max_prepared_stmt_count`.
const STATEMENTS_MAX: usize = 128;

/// What became of it.
#[derive(Debug)]
pub enum Attempt {
    Answered(Summary),
    /// The server cannot have run it.
    NotRun(Why),
    /// It was sent whole, and the answer did not come whole.
    Lost {
        sent_any: bool,
        boundary: Option<u8>,
    },
    Refused(RouterError),
    Client(io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The connection broke before everything was sent.
    Broken,
    /// The server takes no writes.
    ReadOnly,
    /// The server had forgotten a prepared statement.
    UnknownStatement,
}

pub struct Parts<'a> {
    pub worker: &'a Worker,
    pub place: &'a Rc<Place>,
    pub connection: &'a mut Connection,
    pub client: &'a mut Channel,
    pub state: &'a mut State,
}

impl Parts<'_> {
    pub async fn run(&mut self, request: &mut Request) -> Attempt {
        // Reads are repeated when their connection turns out to be dead; for writes it must be known before.
        if !request.is_read_only && self.connection.channel.is_disturbed() {
            return Attempt::NotRun(Why::Broken);
        }
        let prelude = match self.prepare_prelude(request).await {
            Ok(prelude) => prelude,
            Err(attempt) => return attempt,
        };
        self.connection.is_busy = true;
        if self.send(&prelude, &request.wire).await.is_err() {
            return Attempt::NotRun(Why::Broken);
        }
        let statement_id = match request.prepared {
            Some(PreparedUse::Prepare(id)) => Some(id),
            _ => None,
        };
        let relay = Relay {
            worker: self.worker,
            place: self.place,
            connection: &mut *self.connection,
            client: &mut *self.client,
            state: &mut *self.state,
            statement_id,
            executes: request.execution().is_some(),
            uploads: request.uploads,
            deadline: self
                .worker
                .statement_time_max
                .map(|time| Instant::now() + time),
            is_late: false,
        };
        let relayed = relay.run(request.answer).await;
        if matches!(relayed, Relayed::Whole { .. } | Relayed::NotRun(_)) {
            self.connection.is_busy = false;
            let pool = &self.worker.pool;
            pool.settle_interrupt(self.connection).await;
        }
        match relayed {
            Relayed::Whole { summary, prepared } => {
                if let (Some(id), Some(prepared)) = (statement_id, prepared) {
                    self.keep_prepared(id, prepared);
                }
                Attempt::Answered(summary)
            }
            Relayed::NotRun(reason) => self.not_run(reason, request),
            Relayed::Lost { sent_any, boundary } => Attempt::Lost { sent_any, boundary },
            Relayed::Protocol {
                reason,
                sent_any: false,
            } => Attempt::Refused(RouterError::BackendProtocol {
                endpoint: endpoint_text(self.place),
                reason,
            }),
            Relayed::Protocol {
                reason,
                sent_any: true,
            } => Attempt::Client(io::Error::other(reason)),
            Relayed::Abandoned => Attempt::Client(io::ErrorKind::ConnectionReset.into()),
            Relayed::Client(error) => Attempt::Client(error),
        }
    }

    async fn send(&mut self, prelude: &[u8], wire: &[u8]) -> io::Result<()> {
        let outstanding = std::mem::take(&mut self.connection.outstanding);
        let channel = &mut self.connection.channel;
        let write = async {
            if outstanding.is_empty() && prelude.is_empty() {
                return channel.write(wire).await;
            }
            channel.write(&[&outstanding, prelude, wire].concat()).await
        };
        tokio::select! {
            biased;
            result = write => result,
            () = given_up(self.worker, self.place) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Makes sure that this server knows the statement, puts its id into the command, and returns the
    /// long data that go in front.
    async fn prepare_prelude(&mut self, request: &mut Request) -> Result<Vec<u8>, Attempt> {
        let Some(id) = request.execution() else {
            return Ok(Vec::new());
        };
        let on_server = self.ensure_prepared(id).await?;
        let malformed = |error: vt_wire::Malformed| Attempt::Refused(error.into());
        replace_statement_id(&mut request.wire[HEADER_LENGTH..], on_server.id)
            .map_err(malformed)?;
        let mut prelude = Vec::new();
        if let (Some(PreparedUse::Execute(_)), Some(statement)) =
            (request.prepared, self.state.statements.get(&id))
        {
            prelude.clone_from(&statement.long_data);
            replace_ids(&mut prelude, on_server.id).map_err(malformed)?;
            if !on_server.has_types {
                insert_types(&mut request.wire, statement, self.state.capabilities)
                    .map_err(malformed)?;
            }
            if let Some(known) = self.connection.statements.get_mut(&(self.state.id, id)) {
                known.has_types = true;
            }
        }
        Ok(prelude)
    }

    async fn ensure_prepared(&mut self, id: u32) -> Result<OnServer, Attempt> {
        let key = (self.state.id, id);
        if let Some(known) = self.connection.statements.get(&key) {
            return Ok(*known);
        }
        let Some(statement) = self.state.statements.get(&id) else {
            return Err(Attempt::Refused(RouterError::UnknownStatement(id)));
        };
        let wire = Rc::clone(&statement.prepare_wire);
        make_room(self.connection, self.state.id);
        let mut commands = std::mem::take(&mut self.connection.outstanding);
        commands.extend_from_slice(&wire);
        let answers = match timeout(
            PREPARE_TIME_MAX,
            self.connection.exchange(&commands, &[Answer::Prepare]),
        )
        .await
        {
            Ok(Ok(answers)) => answers,
            Ok(Err(ConnectError::Protocol(reason))) => {
                let endpoint = endpoint_text(self.place);
                return Err(Attempt::Refused(RouterError::BackendProtocol {
                    endpoint,
                    reason,
                }));
            }
            Ok(Err(_)) | Err(_) => return Err(Attempt::NotRun(Why::Broken)),
        };
        match answers.into_iter().next() {
            Some(answer) if answer.prepared.is_some() => {
                let id = answer.prepared.map_or(0, |prepared| prepared.statement_id);
                let on_server = OnServer {
                    id,
                    has_types: false,
                };
                self.connection.statements.insert(key, on_server);
                Ok(on_server)
            }
            Some(answer) => {
                let (code, message) = answer.error.unwrap_or_default();
                let reason = format!("error {code}: {message}");
                Err(Attempt::Refused(RouterError::BackendRefused {
                    endpoint: endpoint_text(self.place),
                    reason,
                }))
            }
            None => Err(Attempt::NotRun(Why::Broken)),
        }
    }

    fn keep_prepared(&mut self, id: u32, prepared: vt_wire::prepared::PrepareOk) {
        let on_server = OnServer {
            id: prepared.statement_id,
            has_types: false,
        };
        make_room(self.connection, self.state.id);
        self.connection
            .statements
            .insert((self.state.id, id), on_server);
        if let Some(statement) = self.state.statements.get_mut(&id) {
            statement.parameters = prepared.parameters;
        }
    }

    fn not_run(&mut self, reason: NotRun, request: &Request) -> Attempt {
        match reason {
            NotRun::UnknownStatement => {
                if let Some(id) = request.execution() {
                    self.connection.statements.remove(&(self.state.id, id));
                }
                Attempt::NotRun(Why::UnknownStatement)
            }
            NotRun::ReadOnly => Attempt::NotRun(Why::ReadOnly),
        }
    }
}

/// Closes statements of other sessions, oldest sessions first, until there is room for one more.
fn make_room(connection: &mut Connection, session: u64) {
    while connection.statements.len() >= STATEMENTS_MAX {
        let other = connection.statements.keys().find(|key| key.0 != session);
        let Some(other) = other.copied() else {
            return;
        };
        connection.close_statement(other);
    }
}

#[must_use]
pub fn endpoint_text(place: &Place) -> String {
    format!("{}:{}", place.endpoint().host, place.endpoint().port)
}

/// Puts `id` into each command of `wire`.
fn replace_ids(wire: &mut [u8], id: u32) -> Result<(), vt_wire::Malformed> {
    let mut rest = wire;
    let mut continued = false;
    while let Some(header) = vt_wire::packet::Header::peek(rest) {
        let end = (HEADER_LENGTH + header.length).min(rest.len());
        let (packet, tail) = rest.split_at_mut(end);
        if !continued {
            replace_statement_id(&mut packet[HEADER_LENGTH..], id)?;
        }
        continued = header.length == vt_wire::packet::PAYLOAD_LENGTH_MAX;
        rest = tail;
    }
    Ok(())
}

/// An execution that relies on types sent before, for a server that never saw them.
fn insert_types(
    wire: &mut Vec<u8>,
    statement: &Prepared,
    capabilities: Capabilities,
) -> Result<(), vt_wire::Malformed> {
    let payload = vt_wire::packet::join_payload(wire);
    let Command::StmtExecute {
        flags, parameters, ..
    } = Command::parse(&payload, capabilities)?
    else {
        return Ok(());
    };
    let parsed = Parameters::parse(parameters, statement.parameters, flags, capabilities)?;
    let Some(parsed) = parsed.filter(|parsed| parsed.types.is_none()) else {
        return Ok(());
    };
    if parsed.count != statement.typed {
        return Err(vt_wire::Malformed("an execution without types"));
    }
    let fixed = &payload[..payload.len() - parameters.len()];
    let with_types = [fixed, &parsed.with_types(&statement.types)].concat();
    wire.clear();
    vt_wire::packet::put_packet(wire, 0, &with_types);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vt_planner::LexOptions;
    use vt_wire::packet::put_packet;

    #[test]
    fn types_are_added_once() {
        let statement = Prepared {
            parameters: 1,
            types: vec![8, 0],
            typed: 1,
            ..Prepared::new(&[], LexOptions::default())
        };
        let fixed = b"\x17\x01\0\0\0\0\x01\0\0\0";
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, &[&fixed[..], &[0], &[0], b"value"].concat());
        insert_types(&mut wire, &statement, Capabilities::NONE).unwrap();
        let with_types = wire.clone();
        assert_eq!(
            &wire[HEADER_LENGTH..],
            [&fixed[..], &[0], &[1], &[8, 0], b"value"].concat()
        );
        insert_types(&mut wire, &statement, Capabilities::NONE).unwrap();
        assert_eq!(wire, with_types);

        // Two values by the command's own count, and types of one.
        let more = [&b"\x17\x01\0\0\0\x08\x01\0\0\0"[..], &[2, 0, 0], b"values"].concat();
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, &more);
        assert!(insert_types(&mut wire, &statement, Capabilities::QUERY_ATTRIBUTES).is_err());
    }

    #[test]
    fn every_packet_of_long_data_gets_the_id() {
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, b"\x18\x01\0\0\0\0\0ab");
        put_packet(&mut wire, 0, b"\x18\x01\0\0\0\x01\0cd");
        replace_ids(&mut wire, 7).unwrap();
        assert_eq!((wire[5], wire[5 + 13]), (7, 7));
    }
}
