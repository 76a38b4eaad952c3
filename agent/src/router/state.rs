//! The state of one session as plain data: what a hand-over or a replay on another connection needs.
//!
//! It holds the connection that the session is bound to, and never talks over it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use vt_planner::{ClientCharset, LexOptions, Traits};
use vt_proto::routing::RoutingSnapshot;
use vt_proto::topology::Endpoint;
use vt_wire::session_track::{SessionChange, SessionChanges};
use vt_wire::{Capabilities, ServerStatus, collation};

use super::digests::DigestId;
use super::error::RouterError;
use super::pool::connection::Connection;
use super::pool::place::Place;
use super::pool::settings::{Settings, Untracked, is_replayable, is_told, is_tracked};
use super::processlist::{KeptFor, Process};
use super::users::{Known, Needs, Seat};
use super::variables::Variables;

/// Capabilities that both legs of a session must share: they change what packets mean.
pub const SHARED_CAPABILITIES: Capabilities = Capabilities::FOUND_ROWS
    .with(Capabilities::IGNORE_SPACE)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::QUERY_ATTRIBUTES);

/// Which tablets a session wants to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
    Rdonly,
    /// Replicas for what reads alone and outside of transactions, the primary for everything else.
    Split,
}

impl Role {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Rdonly => "rdonly",
            Self::Split => "split",
        }
    }
}

/// What a session selected by its handshake, USE or INIT_DB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    Keyspace {
        name: String,
        role: Role,
    },
    /// One of the server's own schemas, on any primary.
    System(String),
}

/// The server's own schemas.
pub const SYSTEM_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Reads `keyspace`, `keyspace@role` or the name of a system schema. `None`: no such role.
#[must_use]
pub fn parse_database(text: &[u8]) -> Option<Database> {
    let text = std::str::from_utf8(text).ok()?;
    let lower = text.to_ascii_lowercase();
    if SYSTEM_SCHEMAS.contains(&lower.as_str()) {
        return Some(Database::System(lower));
    }
    let (name, role) = match text.split_once('@') {
        None => (text, Role::Primary),
        Some((name, "primary")) => (name, Role::Primary),
        Some((name, "replica")) => (name, Role::Replica),
        Some((name, "rdonly")) => (name, Role::Rdonly),
        Some((name, "split")) => (name, Role::Split),
        Some(_) => return None,
    };
    Some(Database::Keyspace {
        name: name.to_owned(),
        role,
    })
}

/// The newest transaction that a session wrote, as its server named it: what replicas apply in order contains all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    text: String,
}

impl Written {
    /// Reads a GTID or a set of them. `None`: it is neither.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-:,_ \n".contains(byte);
        let text = std::str::from_utf8(text).ok()?;
        let is_set = !text.is_empty() && text.bytes().all(|byte| is_known(&byte));
        is_set.then(|| Self {
            text: text.replace('\n', ""),
        })
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The server and the number there, where it is one transaction.
    #[must_use]
    pub fn last(&self) -> Option<(&[u8], u64)> {
        let (source, number) = self.text.rsplit_once(':')?;
        let is_one = !source.contains(',');
        let number = number.parse().ok().filter(|_| is_one)?;
        Some((source.as_bytes(), number))
    }
}

/// A prepared statement of the session, to be prepared anew wherever it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The packets of its COM_STMT_PREPARE.
    pub prepare_wire: Rc<[u8]>,
    /// How its text was read.
    pub lex: LexOptions,
    pub parameters: u16,
    /// Types of the parameters, as the last execution that carried them said, and for how many values.
    pub types: Vec<u8>,
    pub typed: u16,
    /// Packets of COM_STMT_SEND_LONG_DATA that wait for the execution.
    pub long_data: Vec<u8>,
    pub is_read_only: bool,
    pub needs: Needs,
    pub traits: Traits,
    pub untracked: Untracked,
    pub schemas: Vec<String>,
    pub ends_transaction: Option<TransactionEnd>,
    /// Under what its executions are counted.
    pub digest: Option<DigestId>,
}

impl Prepared {
    /// A statement of which nothing is known but the packets that prepare it.
    #[must_use]
    pub fn new(prepare_wire: &[u8], lex: LexOptions) -> Self {
        Self {
            prepare_wire: Rc::from(prepare_wire),
            lex,
            parameters: 0,
            types: Vec::new(),
            typed: 0,
            long_data: Vec::new(),
            is_read_only: false,
            needs: Needs::default(),
            traits: Traits::NONE,
            untracked: Untracked::Nothing,
            schemas: Vec::new(),
            ends_transaction: None,
            digest: None,
        }
    }
}

/// How a statement ends the transaction it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Rollback,
}

/// Why the transaction is gone that the client believes to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The primary of this replica set was replaced.
    Replaced { replica_set: String },
    /// It was open for longer than a transaction may be.
    TooLong { limit_ms: u64 },
}

/// A connection that only this session may use now, and where it leads.
#[derive(Debug)]
pub struct Lease {
    pub connection: Connection,
    pub place: Rc<Place>,
}

/// Why the session keeps its connection between statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// State that no replay can bring back: until the session is reset.
    pub state: bool,
    /// SET TRANSACTION for the next one alone: until that has begun.
    pub next_transaction: bool,
    /// What the next statement may ask about (warnings, errors): until one ends without any.
    pub diagnostics: bool,
    /// These statements have open cursors.
    pub cursors: BTreeSet<u32>,
}

/// Who the client proved to be, as of one snapshot.
#[derive(Debug)]
pub struct Account {
    pub user: Arc<Known>,
    /// As of this one; where it is not the newest any more, the user is looked up anew.
    pub snapshot: Arc<RoutingSnapshot>,
    /// Among the user's connections; given back with this.
    pub seat: Seat,
}

/// One client's session.
#[derive(Debug)]
pub struct State {
    pub id: u64,
    /// The session as others see it.
    pub process: Arc<Process>,
    pub capabilities: Capabilities,
    pub collation: u8,
    pub user: String,
    /// `None` until the client has logged in.
    pub account: Option<Account>,
    pub database: Option<Database>,
    pub settings: Rc<Settings>,
    /// The client said itself which variables it wants to be told of.
    pub chooses_reports: bool,
    pub variables: Variables,
    pub insert_id: Rc<Cell<u64>>,
    pub status: ServerStatus,
    pub lex: LexOptions,
    pub pins: Pins,
    /// A statement was answered by a server since the session began.
    pub has_run: bool,
    /// Reads of this session are to find it.
    pub written: Option<Written>,
    /// The transaction is gone: every statement gets an error until ROLLBACK.
    pub broken: Option<Broken>,
    pub statements: BTreeMap<u32, Prepared>,
    pub next_statement_id: u32,
    pub lease: Option<Lease>,
    pub place: Option<Rc<Place>>,
    /// Who answered its last read on a replica.
    pub replica: Option<Endpoint>,
}

impl State {
    #[must_use]
    pub fn new(id: u64, process: Arc<Process>) -> Self {
        Self {
            id,
            process,
            capabilities: Capabilities::NONE,
            collation: 0,
            user: String::new(),
            account: None,
            database: None,
            settings: Rc::new(Settings::new()),
            chooses_reports: false,
            variables: Variables::default(),
            insert_id: Rc::new(Cell::new(0)),
            status: ServerStatus::AUTOCOMMIT,
            lex: LexOptions::default(),
            pins: Pins::default(),
            has_run: false,
            written: None,
            broken: None,
            statements: BTreeMap::new(),
            next_statement_id: 1,
            lease: None,
            place: None,
            replica: None,
        }
    }

    pub fn set_collation(&mut self, collation: u8) {
        self.collation = collation;
        self.lex = LexOptions::default();
        if let Some(known) = collation::by_id(collation) {
            self.lex.charset = ClientCharset::from_name(known.character_set.as_bytes());
        }
    }

    /// As a server does it: after a fresh handshake, with the database kept and the server's own character set instead of the
    /// handshake's. The lease is the caller's to take first.
    pub fn reset(&mut self) {
        self.settings = Rc::new(Settings::new());
        self.chooses_reports = false;
        self.variables = Variables::default();
        self.insert_id = Rc::new(Cell::new(0));
        self.status = ServerStatus::AUTOCOMMIT;
        self.pins = Pins::default();
        self.has_run = false;
        self.written = None;
        self.place = None;
        self.broken = None;
        self.statements.clear();
        self.set_collation(collation::OF_SERVER);
    }

    /// The name of its database; empty without one.
    #[must_use]
    pub fn database_name(&self) -> &str {
        match &self.database {
            Some(Database::Keyspace { name, .. } | Database::System(name)) => name,
            None => "",
        }
    }

    /// What every statement gets but the one that ends the transaction.
    #[must_use]
    pub fn broken_error(&self) -> Option<RouterError> {
        Some(match self.broken.clone()? {
            Broken::Replaced { replica_set } => RouterError::TransactionLost { replica_set },
            Broken::TooLong { limit_ms } => RouterError::TransactionTooLong { limit_ms },
        })
    }

    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.status.contains(ServerStatus::IN_TRANSACTION)
    }

    /// What only its connection held is gone with it.
    pub fn lose_connection(&mut self) {
        self.pins = Pins::default();
        self.chooses_reports = false;
    }

    /// Its transaction is gone, and the client has still to hear of it.
    pub fn end_transaction(&mut self, broken: Broken) {
        self.status = self
            .status
            .without(ServerStatus::IN_TRANSACTION)
            .without(ServerStatus::IN_TRANSACTION_READONLY);
        self.pins.cursors.clear();
        self.pins.diagnostics = false;
        self.broken = Some(broken);
    }

    #[must_use]
    pub fn is_autocommit(&self) -> bool {
        self.status.contains(ServerStatus::AUTOCOMMIT)
    }

    /// Does the connection hold what no other can bring back?
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.is_in_transaction()
            || self.pins.state
            || self.pins.next_transaction
            || !self.pins.cursors.is_empty()
    }

    /// Must the connection stay with the session until its next statement?
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.is_bound() || self.pins.diagnostics
    }

    /// Why its next statement needs the connection of the last one.
    #[must_use]
    pub fn kept_for(&self) -> KeptFor {
        KeptFor {
            transaction: self.is_in_transaction(),
            state: self.pins.state,
            next_transaction: self.pins.next_transaction,
            cursor: !self.pins.cursors.is_empty(),
            diagnostics: self.pins.diagnostics,
        }
    }

    /// Keeps what an OK says that changed. Returns whether settings did.
    pub fn record(&mut self, session_state: &[u8]) -> bool {
        let mut changed = None;
        for change in SessionChanges::new(session_state).flatten() {
            let (name, value) = match change {
                SessionChange::SystemVariable { name, value } => (name, value),
                SessionChange::Gtids(gtids) => {
                    self.written = Written::parse(gtids).or_else(|| self.written.take());
                    continue;
                }
                _ => continue,
            };
            if !is_tracked(name) || !is_replayable(value) {
                self.pins.state = true;
                continue;
            }
            match name {
                b"sql_mode" => self.lex = self.lex.with_sql_mode(value),
                b"character_set_client" => self.lex.charset = ClientCharset::from_name(value),
                _ => {}
            }
            changed
                .get_or_insert_with(|| Settings::clone(&self.settings))
                .insert(name.to_vec(), value.to_vec());
        }
        let has_changed = changed.is_some();
        if let Some(settings) = changed {
            self.settings = Rc::new(settings);
        }
        has_changed
    }

    /// The role that its database names.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.database {
            Some(Database::Keyspace { role, .. }) => *role,
            _ => Role::Primary,
        }
    }

    /// Did the client ask to be told the GTIDs of what it writes?
    #[must_use]
    pub fn wants_gtids(&self) -> bool {
        let asked = self.settings.get(&b"session_track_gtids"[..]);
        asked.is_some_and(|value| !value.eq_ignore_ascii_case(b"OFF"))
    }

    /// Did the client ask to be told of this change?
    #[must_use]
    pub fn wants(&self, change: &SessionChange<'_>) -> bool {
        match change {
            SessionChange::Gtids(_) => self.wants_gtids(),
            SessionChange::SystemVariable { name, .. } => self.chooses_reports || is_told(name),
            _ => true,
        }
    }

    /// The flags that a connection for this session must have.
    #[must_use]
    pub fn shared_capabilities(&self) -> Capabilities {
        self.capabilities & SHARED_CAPABILITIES
    }
}

#[cfg(test)]
mod tests {
    use super::super::processlist::Processlist;
    use super::*;

    #[test]
    fn databases() {
        let keyspace = |name: &str, role| {
            Some(Database::Keyspace {
                name: name.to_owned(),
                role,
            })
        };
        assert_eq!(parse_database(b"shop"), keyspace("shop", Role::Primary));
        assert_eq!(
            parse_database(b"shop@primary"),
            keyspace("shop", Role::Primary)
        );
        assert_eq!(
            parse_database(b"shop@replica"),
            keyspace("shop", Role::Replica)
        );
        assert_eq!(
            parse_database(b"shop@rdonly"),
            keyspace("shop", Role::Rdonly)
        );
        assert_eq!(parse_database(b"shop@split"), keyspace("shop", Role::Split));
        assert_eq!(parse_database(b"shop@none"), None);
        assert_eq!(parse_database(b"\xff"), None);
        assert_eq!(
            parse_database(b"SYS"),
            Some(Database::System("sys".to_owned()))
        );
    }

    #[test]
    fn what_was_written_last_is_kept() {
        for (text, expected) in [
            (&b"a-b:7"[..], Some(("a-b", 7))),
            (b"a-b:tag:7", Some(("a-b:tag", 7))),
            (b"a-b:1-7", None),
            (b"a-b:1-7,\nc-d:4", None),
        ] {
            let written = Written::parse(text).unwrap();
            let last = written.last();
            let expected = expected.map(|(source, number)| (source.as_bytes(), number));
            assert_eq!(last, expected);
        }
        assert_eq!(
            Written::parse(b"a-b:1-7,\nc-d:4").unwrap().text(),
            "a-b:1-7,c-d:4"
        );
        for text in [&b""[..], b"a'b", b"\xff"] {
            assert_eq!(Written::parse(text), None);
        }
    }

    #[test]
    fn tracked_variables_are_kept_and_others_pin() {
        let list = Arc::new(Processlist::default());
        let listed = list.enter(1, "127.0.0.1:1".parse().unwrap());
        let mut state = State::new(1, Arc::clone(listed.process()));
        assert!(state.record(b"\x00\x14\x08sql_mode\x0aANSI,X____"));
        assert_eq!(
            state.settings.get(&b"sql_mode"[..]),
            Some(&b"ANSI,X____".to_vec())
        );
        assert!(state.lex.ansi_quotes);
        assert!(!state.is_pinned());
        assert!(!state.record(b"\x00\x0c\x09timestamp\x011"));
        assert!(state.is_pinned());
        state.reset();
        assert!(!state.is_pinned() && state.settings.is_empty() && !state.lex.ansi_quotes);
    }
}
