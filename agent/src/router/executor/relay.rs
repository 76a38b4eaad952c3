//! Passes a server's answer on to the client, by whole reads, with nothing decoded but what ends it.
//!
//! It never keeps rows and never injects packets: sequence ids stay as the server set them.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use vt_wire::error_code::{self, ErrorCode};
use vt_wire::packet::{HEADER_LENGTH, put_packet};
use vt_wire::prepared::replace_statement_id;
use vt_wire::response::{EOF_BYTE, ErrPacket, OK_BYTE, OkPacket};
use vt_wire::scanner::{Answer, Event, ResponseScanner, Summary};
use vt_wire::session_track;
use vt_wire::upload::UploadScanner;
use vt_wire::{Capabilities, Malformed, ServerStatus};

use super::Worker;
use crate::router::error::RouterError;
use crate::router::pool::connection::Connection;
use crate::router::pool::place::Place;
use crate::router::processlist::Process;
use crate::router::socket::Channel;
use crate::router::state::{Role, State};

/// How long a server that was replaced may still finish an answer that has begun.
const REPLACED_GRACE: Duration = Duration::from_secs(2);
/// How long one may still begin: what it had done before is on its way, and what it does now counts no more.
const REPLACED_BEGIN_GRACE: Duration = Duration::from_millis(200);

/// How long a statement that was interrupted may take to end, where its session is to end with it.
const ENDING_GRACE: Duration = Duration::from_secs(1);

/// How an answer ended.
#[derive(Debug)]
pub enum Relayed {
    /// All of it went to the client.
    Whole {
        summary: Summary,
        prepared: Option<vt_wire::prepared::PrepareOk>,
    },
    /// The server refused by an error that says the statement did not run; nothing went to the client.
    NotRun(NotRun),
    /// The server went away. `boundary`: part of the answer went out and ends at a packet's end.
    Lost {
        sent_any: bool,
        boundary: Option<u8>,
    },
    /// The client went away before the answer was there, or does not read it and is to go.
    Abandoned,
    /// The server broke the protocol.
    Protocol {
        reason: &'static str,
        sent_any: bool,
    },
    Client(io::Error),
}

/// Errors after which a statement may be sent again elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRun {
    /// The server takes no writes: it is not the primary any more, or not yet.
    ReadOnly,
    /// The server does not know the prepared statement.
    UnknownStatement,
}

/// Passes one answer on.
pub struct Relay<'a> {
    pub worker: &'a Worker,
    pub place: &'a Place,
    pub connection: &'a mut Connection,
    pub client: &'a mut Channel,
    pub state: &'a mut State,
    /// The id that the client shall know a statement by that is being prepared.
    pub statement_id: Option<u32>,
    /// A prepared statement runs, which the server may have forgotten.
    pub executes: bool,
    /// The client asked for a file of its own to be read.
    pub uploads: bool,
    /// When the statement has taken too long.
    pub deadline: Option<Instant>,
    /// It was ended for that.
    pub is_late: bool,
}

/// Why the wait for more of an answer is over.
enum Woken {
    More,
    /// The server went away, or is replaced and does not come to an end.
    Lost,
    /// The statement was told to end.
    Interrupted,
    TooLong,
    ClientGone,
}

enum Stop {
    Done,
    More,
    /// A result is over and others follow, which matters to this client.
    MoreResults,
    /// The server waits for a file of the client.
    Upload,
    /// It failed in the middle of a commit, which is as if it had gone away.
    Lost,
    NotRun(NotRun),
}

/// What becomes of an error of the server.
enum Judgement {
    Pass,
    /// The client gets this instead.
    Replace(Vec<u8>),
    /// The client gets nothing of it.
    Stop(Stop),
}

/// What one pass over the input found.
struct Pass {
    /// Bytes that may go to the client.
    ready: usize,
    stop: Stop,
}

impl Relay<'_> {
    /// Passes the answer to one command on.
    pub async fn run(mut self, answer: Answer) -> Relayed {
        let mut scanner = ResponseScanner::new(answer, self.connection.capabilities);
        let mut sent_any = false;
        let mut prepared = None;
        loop {
            let pass = match self.pass(&mut scanner, !sent_any, &mut prepared) {
                Ok(pass) => pass,
                Err(error) => {
                    return Relayed::Protocol {
                        reason: error.0,
                        sent_any,
                    };
                }
            };
            if pass.ready > 0 {
                if let Err(end) = self.send_on(pass.ready).await {
                    return end;
                }
                sent_any = true;
            }
            match pass.stop {
                Stop::Done => {
                    return Relayed::Whole {
                        summary: *scanner.summary(),
                        prepared,
                    };
                }
                Stop::NotRun(reason) => return Relayed::NotRun(reason),
                Stop::Lost => {
                    return Relayed::Lost {
                        sent_any: false,
                        boundary: None,
                    };
                }
                Stop::Upload => match self.upload(scanner.next_sequence()).await {
                    Ok(sequence) => {
                        scanner.go_on_at(sequence);
                        continue;
                    }
                    Err(end) => return end,
                },
                Stop::MoreResults => {
                    self.client.end_result();
                    continue;
                }
                Stop::More => {}
            }
            match self.fill(sent_any).await {
                Woken::More => continue,
                Woken::Lost => {}
                woken @ (Woken::Interrupted | Woken::TooLong) => {
                    self.is_late = matches!(woken, Woken::TooLong);
                    let endpoint = self.place.endpoint();
                    let pool = &self.worker.pool;
                    pool.begin_to_interrupt(endpoint, self.connection);
                    continue;
                }
                Woken::ClientGone => return Relayed::Abandoned,
            }
            let boundary = scanner
                .boundary()
                .filter(|_| sent_any && self.connection.channel.input().is_empty());
            return Relayed::Lost { sent_any, boundary };
        }
    }

    /// Sends the first bytes of the input to the client.
    async fn send_on(&mut self, ready: usize) -> Result<(), Relayed> {
        let server = &mut self.connection.channel;
        let limit = self.worker.client_write_time_max;
        tokio::select! {
            biased;
            result = server.forward(ready, self.client) => result.map_err(Relayed::Client),
            // A client that does not read would keep it for ever.
            () = self.state.process.ended() => Err(Relayed::Abandoned),
            // Made only where it is waited for.
            () = async { sleep(limit).await } => {
                tracing::info!(
                    user = %self.state.user,
                    peer = %self.state.process.peer,
                    limit_s = limit.as_secs(),
                    "a client takes nothing of its answer and is left"
                );
                Err(Relayed::Abandoned)
            }
        }
    }

    /// Understands as much of the input as is there.
    fn pass(
        &mut self,
        scanner: &mut ResponseScanner,
        is_first: bool,
        prepared: &mut Option<vt_wire::prepared::PrepareOk>,
    ) -> Result<Pass, Malformed> {
        let mut ready = 0;
        loop {
            let step = scanner.feed(&self.connection.channel.input()[ready..])?;
            let (consumed, length, done) = (step.consumed, step.event_length, step.done);
            let start = ready + consumed - length;
            let mut changed = None;
            let has_event = step.event.is_some();
            let ends_result = matches!(step.event, Some(Event::Ok { .. } | Event::Eof(_)));
            match step.event {
                Some(Event::Err(error)) => match self.judge(&error, is_first && start == 0) {
                    Judgement::Pass => {}
                    Judgement::Replace(payload) => changed = Some(payload),
                    Judgement::Stop(stop) => {
                        self.connection.channel.consume(consumed);
                        return Ok(Pass { ready: 0, stop });
                    }
                },
                Some(Event::Ok { ok, ends_rows })
                    if ok.status.contains(ServerStatus::SESSION_STATE_CHANGED) =>
                {
                    if self.state.record(ok.session_state) {
                        self.connection.settings = std::rc::Rc::clone(&self.state.settings);
                    }
                    changed = told(&ok, ends_rows, self.state);
                }
                Some(Event::Prepared(statement)) => *prepared = Some(statement),
                Some(Event::LocalInfile) => {
                    self.check_upload()?;
                    return Ok(Pass {
                        ready: ready + consumed,
                        stop: Stop::Upload,
                    });
                }
                _ => {}
            }
            ready += consumed;
            if let Some(payload) = changed {
                ready = self.replace_packet(start, length, &payload);
            }
            if let (Some(id), Some(_), true) =
                (self.statement_id, &prepared, has_event && start == 0)
            {
                replace_statement_id(
                    &mut self.connection.channel.input_mut()[HEADER_LENGTH..],
                    id,
                )?;
            }
            let stop = match has_event {
                _ if done => Some(Stop::Done),
                true if ends_result && self.client.numbers_packets() => Some(Stop::MoreResults),
                true => None,
                false => Some(Stop::More),
            };
            if let Some(stop) = stop {
                return Ok(Pass { ready, stop });
            }
        }
    }

    /// What to do with an error of the server; `is_all`: nothing of the answer was before it.
    fn judge(&self, error: &ErrPacket<'_>, is_all: bool) -> Judgement {
        let is_open = leaves_outcome_open(error.code);
        let is_interrupted = error.code == error_code::QUERY_INTERRUPTED;
        match not_run(error, self.must_write(), self.executes) {
            _ if is_open && is_all => Judgement::Stop(Stop::Lost),
            _ if is_open => Judgement::Replace(self.outcome_unknown()),
            Some(reason) if is_all => Judgement::Stop(Stop::NotRun(reason)),
            None if is_all && self.is_late && is_interrupted => Judgement::Replace(self.too_long()),
            _ => Judgement::Pass,
        }
    }

    /// A primary takes writes; and where reads alone were sent to a replica, one that writes after all goes there.
    fn must_write(&self) -> bool {
        self.place.is_primary() || self.state.role() == Role::Split
    }

    /// Which limit it was, in place of the server's word that it was interrupted.
    fn too_long(&self) -> Vec<u8> {
        let limit = self.worker.statement_time_max.unwrap_or_default();
        let limit_ms = limit.as_millis() as u64;
        RouterError::StatementTooLong { limit_ms }.payload()
    }

    /// In place of an error that says that a commit failed.
    fn outcome_unknown(&self) -> Vec<u8> {
        let replica_set = self.place.replica_set.to_string();
        RouterError::OutcomeUnknown { replica_set }.payload()
    }

    /// A server that asks without having been asked for it gets nothing.
    fn check_upload(&self) -> Result<(), Malformed> {
        let is_able = self.state.capabilities.contains(Capabilities::LOCAL_FILES);
        match self.uploads && is_able {
            true => Ok(()),
            false => Err(Malformed("it asks for a file of the client")),
        }
    }

    /// Passes the client's file on to the server; returns the sequence id of what follows. A server that goes away meanwhile
    /// is no reason to stop in the middle: the client reads nothing before all is sent.
    async fn upload(&mut self, sequence: u8) -> Result<u8, Relayed> {
        let mut scanner = UploadScanner::new(sequence);
        let mut is_lost = false;
        loop {
            let ready = scanner.feed(self.client.input_mut());
            if is_lost {
                self.client.consume(ready);
            } else if ready > 0 {
                let server = &mut self.connection.channel;
                tokio::select! {
                    biased;
                    result = self.client.forward(ready, server) => is_lost = result.is_err(),
                    () = given_up(self.worker, self.place) => is_lost = true,
                }
                if is_lost {
                    self.client.consume(ready);
                }
            }
            if scanner.is_done() {
                self.client.begin_answer();
                let sequence = scanner.reply_sequence();
                return match is_lost {
                    false => Ok(sequence),
                    true => Err(Relayed::Lost {
                        sent_any: true,
                        boundary: Some(sequence),
                    }),
                };
            }
            tokio::select! {
                biased;
                result = self.client.fill() => match result {
                    Ok(1..) => {}
                    _ => return Err(Relayed::Abandoned),
                },
                () = self.connection.channel.closed(), if !is_lost => is_lost = true,
                () = self.state.process.ended() => return Err(Relayed::Abandoned),
            }
        }
    }

    /// Puts another payload into the packet at `start`; returns the offset behind it.
    fn replace_packet(&mut self, start: usize, length: usize, payload: &[u8]) -> usize {
        let sequence = self.connection.channel.input()[start + HEADER_LENGTH - 1];
        let mut packet = Vec::with_capacity(payload.len() + HEADER_LENGTH);
        put_packet(&mut packet, sequence, payload);
        self.connection.channel.replace(start, length, &packet);
        start + packet.len()
    }

    /// Reads more of the answer, unless the server is replaced and does not come to an end, or nobody wants the answer any more.
    async fn fill(&mut self, sent_any: bool) -> Woken {
        let grace = match sent_any {
            true => REPLACED_GRACE,
            false => REPLACED_BEGIN_GRACE,
        };
        let is_ending = self.connection.killing.is_some();
        tokio::select! {
            biased;
            result = self.connection.channel.fill() => match result {
                Ok(1..) => Woken::More,
                _ => Woken::Lost,
            },
            () = replaced(self.worker, self.place, grace) => Woken::Lost,
            () = self.state.process.interrupted(), if !is_ending => Woken::Interrupted,
            () = until(self.deadline), if !is_ending => Woken::TooLong,
            () = ended(&self.state.process), if is_ending => Woken::ClientGone,
            () = self.client.closed() => Woken::ClientGone,
        }
    }
}

/// Returns at that time; never, if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns when the session is to end and its statement, which was told so, does not: one that waits for acknowledgements of
/// what it has written cannot be interrupted.
async fn ended(process: &Process) {
    process.ended().await;
    sleep(ENDING_GRACE).await;
}

/// Returns when the server at `place` has been replaced and its time after that is over.
async fn replaced(worker: &Worker, place: &Place, grace: Duration) {
    let mut changes = worker.topology.subscribe();
    while !place.is_replaced(&worker.topology.load()) {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    sleep(grace).await;
}

/// Returns when it makes no sense any more to wait until the server at `place` begins to take or to answer something.
pub async fn given_up(worker: &Worker, place: &Place) {
    replaced(worker, place, REPLACED_BEGIN_GRACE).await;
}

fn not_run(error: &ErrPacket<'_>, is_primary: bool, executes: bool) -> Option<NotRun> {
    match error.code {
        error_code::UNKNOWN_STATEMENT_HANDLER if executes => Some(NotRun::UnknownStatement),
        code if is_primary && refuses_writes(code, error.message) => Some(NotRun::ReadOnly),
        _ => None,
    }
}

/// A commit failed where it was written to the binary log or after that: replicas may have it, and so may the server when it starts
/// again. With `binlog_error_action=ABORT_SERVER` it ends itself after the first of them.
fn leaves_outcome_open(code: ErrorCode) -> bool {
    matches!(
        code,
        error_code::BINLOG_LOGGING_IMPOSSIBLE | error_code::ERROR_DURING_COMMIT
    )
}

/// Error 1290 has many reasons; its message names the option, whatever its language.
fn refuses_writes(code: ErrorCode, message: &[u8]) -> bool {
    match code {
        error_code::READ_ONLY_MODE | error_code::OFFLINE_MODE => true,
        error_code::OPTION_PREVENTS_STATEMENT => {
            let names = |option: &[u8]| message.windows(option.len()).any(|part| part == option);
            names(b"read-only") || names(b"read_only")
        }
        _ => false,
    }
}

/// The OK as the client shall have it, where that is not as it came: without tracker data for one that does not understand them,
/// without what one did not ask for.
fn told(ok: &OkPacket<'_>, ends_rows: bool, state: &State) -> Option<Vec<u8>> {
    let client = state.capabilities;
    let kept = match client.contains(Capabilities::SESSION_TRACK) {
        true => session_track::wanted(ok.session_state, |change| state.wants(change))?,
        false => Vec::new(),
    };
    let ok = OkPacket {
        session_state: &kept,
        ..*ok
    };
    let mut payload = Vec::new();
    ok.put(
        &mut payload,
        if ends_rows { EOF_BYTE } else { OK_BYTE },
        client,
    );
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_say_the_statement_did_not_run() {
        let error = |code, message: &'static str| ErrPacket {
            code,
            sql_state: *b"HY000",
            message: message.as_bytes(),
        };
        let read_only = error(
            1290,
            "running with the --super-read-only option so it cannot",
        );
        let file = error(
            1290,
            "running with the --secure-file-priv option so it cannot",
        );
        let cases = [
            (read_only, true, Some(NotRun::ReadOnly)),
            (read_only, false, None),
            (file, true, None),
            (
                error(1836, "Running in read-only mode"),
                true,
                Some(NotRun::ReadOnly),
            ),
            (
                error(3032, "The server is currently in offline mode"),
                true,
                Some(NotRun::ReadOnly),
            ),
            (
                error(1243, "Unknown prepared statement handler"),
                false,
                Some(NotRun::UnknownStatement),
            ),
            (error(1062, "Duplicate entry"), true, None),
        ];
        for (error, is_primary, expected) in cases {
            assert_eq!(not_run(&error, is_primary, true), expected, "{error:?}");
        }
        // The text EXECUTE has the same error for a name that nobody prepared.
        let unknown = error(1243, "Unknown prepared statement handler (s)");
        assert_eq!(not_run(&unknown, true, false), None);
    }
}
