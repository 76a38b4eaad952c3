//! Carries a statement to the one server that shall run it, and its answer back.
//!
//! It decides when to wait for a new primary, when to repeat, and when to say that nobody knows. It
//! never reads SQL text: the session says what it needs to know.

pub mod attempt;
mod choice;
pub mod patience;
pub mod reads;
pub mod relay;
pub mod route;
pub mod single;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vt_planner::Traits;
use vt_proto::ids::CellName;
use vt_proto::topology::Endpoint;
use vt_wire::scanner::Answer;

use super::buffer::Hold;
use super::digests::{DigestId, ThreadDigests};
use super::error::RouterError;
use super::metrics::Metrics;
use super::pool::Pool;
use super::pool::settings::Untracked;
use super::state::TransactionEnd;
use super::statement_log::StatementLog;
use super::topology::Topology;
use super::variables::Defaults;

/// How long a replica that could not be reached is passed over.
const SHUN_TIME: Duration = Duration::from_secs(1);

/// What the sessions of one thread share.
#[derive(Debug)]
pub struct Worker {
    pub topology: Topology,
    pub pool: Rc<Pool>,
    pub hold: Arc<Hold>,
    pub metrics: Metrics,
    /// Where this router is: replicas of the same cell are asked first.
    pub cell: Option<CellName>,
    /// A statement that takes longer is ended.
    pub statement_time_max: Option<Duration>,
    /// A client that takes nothing of its answer for so long is left.
    pub client_write_time_max: Duration,
    /// What replicas may answer, for sessions that have not said so themselves.
    pub reads: Defaults,
    pub applied: reads::Applied,
    pub digests: Arc<ThreadDigests>,
    pub statement_log: StatementLog,
    pub shunned: RefCell<BTreeMap<Endpoint, Instant>>,
}

impl Worker {
    pub fn shun(&self, endpoint: &Endpoint) {
        self.shunned
            .borrow_mut()
            .insert(endpoint.clone(), Instant::now() + SHUN_TIME);
    }

    #[must_use]
    pub fn is_shunned(&self, endpoint: &Endpoint) -> bool {
        let mut shunned = self.shunned.borrow_mut();
        if shunned.is_empty() {
            return false;
        }
        let now = Instant::now();
        shunned.retain(|_, until| *until > now);
        shunned.contains_key(endpoint)
    }
}

/// A command to be carried out.
#[derive(Debug)]
pub struct Request {
    /// Its packets as the client sent them, or as they were put together.
    pub wire: Vec<u8>,
    pub answer: Answer,
    /// Running it twice does no harm.
    pub is_read_only: bool,
    pub traits: Traits,
    pub untracked: Untracked,
    /// Keyspaces named in the text; empty: the session's own.
    pub schemas: Vec<String>,
    pub ends_transaction: Option<TransactionEnd>,
    /// It asks the server to ask for a file of the client.
    pub uploads: bool,
    /// Under what it is counted.
    pub digest: Option<DigestId>,
    /// What it has to do with a prepared statement.
    pub prepared: Option<PreparedUse>,
}

impl Request {
    #[must_use]
    pub fn new(wire: Vec<u8>, answer: Answer) -> Self {
        Self {
            wire,
            answer,
            is_read_only: false,
            traits: Traits::NONE,
            untracked: Untracked::Nothing,
            schemas: Vec::new(),
            ends_transaction: None,
            uploads: false,
            digest: None,
            prepared: None,
        }
    }

    /// The prepared statement that it executes or goes on with.
    #[must_use]
    pub fn execution(&self) -> Option<u32> {
        match self.prepared {
            Some(PreparedUse::Execute(id) | PreparedUse::Continue(id)) => Some(id),
            Some(PreparedUse::Prepare(_)) | None => None,
        }
    }
}

/// A command's part in the life of a prepared statement, by the id that the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreparedUse {
    Prepare(u32),
    Execute(u32),
    /// FETCH and RESET: only where the statement was executed.
    Continue(u32),
}

/// How carrying out ended when it did not end in an answer.
#[derive(Debug)]
pub enum Failure {
    /// The client gets this error and the session goes on.
    Answer(RouterError),
    /// Part of an answer went out: the error must follow with this sequence id.
    AnswerAfterPart(RouterError, u8),
    /// The session cannot go on.
    Client(io::Error),
}

impl From<RouterError> for Failure {
    fn from(error: RouterError) -> Self {
        Self::Answer(error)
    }
}
