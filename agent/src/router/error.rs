//! Every error that the router itself answers: number, SQLSTATE and sentence, in this one file.
//!
//! Errors of a server are never rewritten: they pass as they came.

use thiserror::Error;
use vt_planner::Unsupported;
use vt_wire::error_code::{self, ErrorCode};
use vt_wire::packet::{FrameError, put_packet};
use vt_wire::response::ErrPacket;

/// A statement was sent and the connection broke before its answer: it may have run or not.
pub const OUTCOME_UNKNOWN: ErrorCode = 9001;
/// The transaction was cut; nothing of it remains.
pub const TRANSACTION_LOST: ErrorCode = 9002;
/// User variables, temporary tables or locks went with their connection.
pub const SESSION_STATE_LOST: ErrorCode = 9003;
/// No primary took statements within the time that they may be held.
pub const NO_PRIMARY: ErrorCode = 9004;
/// So many statements are held already that no more may be.
pub const HOLD_FULL: ErrorCode = 9005;
/// No connection to the server became free in time.
pub const POOL_EXHAUSTED: ErrorCode = 9006;
/// No replica of the wanted kind is fit to answer.
pub const NO_REPLICA: ErrorCode = 9007;
/// The server refuses the router.
pub const BACKEND_REFUSED: ErrorCode = 9008;
/// What the statement asks about the one before it is not known any more.
pub const DIAGNOSTICS_LOST: ErrorCode = 9009;
/// The statement names keyspaces of several replica sets.
pub const SEVERAL_REPLICA_SETS: ErrorCode = 9010;
/// The transaction was open for longer than the router allows; nothing of it remains.
pub const TRANSACTION_TOO_LONG: ErrorCode = 9012;
/// The replica that the session is bound to has not applied what the session wrote.
pub const REPLICA_BEHIND: ErrorCode = 9011;

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouterError {
    #[error(
        "vitrail: outcome unknown: the connection to the primary of {replica_set} broke after the statement was sent; read before you repeat it"
    )]
    OutcomeUnknown { replica_set: String },
    #[error(
        "vitrail: the transaction was rolled back because the primary of {replica_set} was replaced; send ROLLBACK and repeat the transaction"
    )]
    TransactionLost { replica_set: String },
    #[error(
        "vitrail: the transaction was rolled back because it was open for more than {limit_ms} ms, the router's limit (transaction_time_max_s); send ROLLBACK"
    )]
    TransactionTooLong { limit_ms: u64 },
    #[error(
        "vitrail: user variables, temporary tables and locks of this session were lost with the connection to {replica_set}; set them again"
    )]
    SessionStateLost { replica_set: String },
    #[error(
        "vitrail: replica set {replica_set} had no primary that takes statements for {waited_ms} ms; look at: vtctl replica-set show {replica_set}"
    )]
    NoPrimary { replica_set: String, waited_ms: u64 },
    #[error(
        "vitrail: {held} statements are held already while the primary of {replica_set} moves; repeat the statement later"
    )]
    HoldFull { replica_set: String, held: usize },
    #[error(
        "vitrail: all {size} connections of this router thread to {endpoint} were in use for {waited_ms} ms; raise the pool's size or shorten transactions"
    )]
    PoolExhausted {
        endpoint: String,
        size: usize,
        waited_ms: u64,
    },
    #[error("vitrail: no healthy {kind} in replica set {replica_set}; look at: vtctl tablet list")]
    NoReplica {
        replica_set: String,
        kind: &'static str,
    },
    #[error(
        "vitrail: the replica of {replica_set} that this session keeps did not apply within {waited_ms} ms what the session wrote; repeat it, or read from the primary"
    )]
    ReplicaBehind { replica_set: String, waited_ms: u64 },
    #[error("vitrail: the server at {endpoint} refuses the router: {reason}")]
    BackendRefused { endpoint: String, reason: String },
    #[error(
        "vitrail: the warnings, ROW_COUNT() and FOUND_ROWS() of the last statement are not known any more; ask for them in the same transaction"
    )]
    DiagnosticsLost,
    #[error(
        "vitrail: the statement names keyspaces of several replica sets ({first} and {second}); send one statement to each"
    )]
    SeveralReplicaSets { first: String, second: String },
    #[error("vitrail: no keyspace is known yet; create one with: vtctl keyspace create")]
    NoKeyspace,
    #[error("vitrail: keyspace '{0}' is sharded, which this router does not serve yet")]
    Sharded(String),
    #[error("Unknown database '{0}'")]
    UnknownDatabase(String),
    #[error("Access denied for user '{user}'@'{host}' (using password: {})", if *using_password { "YES" } else { "NO" })]
    AccessDenied {
        user: String,
        host: String,
        using_password: bool,
    },
    #[error("Access denied for user '{user}'@'%' to database '{database}'")]
    DatabaseDenied { user: String, database: String },
    #[error(
        "vitrail: user '{user}' lacks the right {lacking} in {place}; an operator can grant it: vtctl user grant {user} {lacking} {place}"
    )]
    RightMissing {
        user: String,
        lacking: String,
        place: String,
    },
    #[error(
        "User '{user}' has exceeded the 'max_user_connections' resource (current value: {limit})"
    )]
    UserConnections { user: String, limit: u32 },
    #[error(
        "User '{user}' has exceeded the 'max_statements_per_second' resource (current value: {limit})"
    )]
    UserStatements { user: String, limit: u32 },
    #[error("vitrail: user '{0}' was dropped; its sessions end")]
    UserDropped(String),
    #[error("Connections using insecure transport are prohibited by this router; connect with TLS")]
    TlsRequired,
    #[error("Unknown prepared statement handler ({0}) given to mysql_stmt_precheck")]
    UnknownStatement(u32),
    #[error("The statement ({0}) has no open cursor.")]
    NoOpenCursor(u32),
    #[error("This command is not supported in the prepared statement protocol yet")]
    NotPreparable,
    #[error("vitrail: more than {0} prepared statements in one session; close some")]
    TooManyStatements(usize),
    #[error("vitrail: the router does not serve {0}")]
    CommandRefused(&'static str),
    #[error("{}", .0.message())]
    Unsupported(Unsupported),
    #[error(
        "vitrail: USE, KILL, VEXPLAIN, SHOW DATABASES, SHOW GRANTS, SHOW PROCESSLIST, SHOW VITRAIL and SET vitrail_... cannot stand in a text of several statements; send them alone"
    )]
    NotAmongSeveral,
    #[error(
        "vitrail: this form of SHOW DATABASES is not served by the router; use SHOW DATABASES [LIKE 'pattern']"
    )]
    ShowFilter,
    #[error("Unknown system variable '{0}'")]
    UnknownVariable(String),
    #[error("Variable '{0}' is a SESSION variable and can't be used with SET GLOBAL")]
    SessionVariable(String),
    #[error("vitrail: variable '{name}' takes a whole number from 0 to {max}, or DEFAULT")]
    WrongValue { name: String, max: u64 },
    #[error(
        "vitrail: variables of the router and of servers cannot stand in one SET; set each in a statement of its own"
    )]
    MixedVariables,
    #[error("Unknown thread id: {0}")]
    KillUnknown(u64),
    #[error("You are not owner of thread {0}")]
    KillDenied(u64),
    #[error("Query execution was interrupted")]
    Interrupted,
    #[error("Session was killed.")]
    Killed,
    #[error(
        "vitrail: the statement was ended after {limit_ms} ms, the router's limit (statement_time_max_s)"
    )]
    StatementTooLong { limit_ms: u64 },
    #[error(
        "vitrail: KILL takes a connection's number at this router, as CONNECTION_ID() shows it"
    )]
    KillExpression,
    #[error("Got a packet bigger than {0} bytes")]
    PacketTooLarge(usize),
    #[error("Got packets out of order")]
    PacketsOutOfOrder,
    #[error("Malformed communication packet: {0}")]
    Malformed(&'static str),
    #[error("Too many connections")]
    TooManyConnections,
    #[error("vitrail: this router is shutting down; connect again")]
    Draining,
    #[error("vitrail: the server at {endpoint} sent what the router cannot understand: {reason}")]
    BackendProtocol {
        endpoint: String,
        reason: &'static str,
    },
}

impl RouterError {
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutcomeUnknown { .. } => OUTCOME_UNKNOWN,
            Self::TransactionLost { .. } => TRANSACTION_LOST,
            Self::TransactionTooLong { .. } => TRANSACTION_TOO_LONG,
            Self::SessionStateLost { .. } => SESSION_STATE_LOST,
            Self::NoPrimary { .. } => NO_PRIMARY,
            Self::HoldFull { .. } => HOLD_FULL,
            Self::PoolExhausted { .. } => POOL_EXHAUSTED,
            Self::NoReplica { .. } => NO_REPLICA,
            Self::ReplicaBehind { .. } => REPLICA_BEHIND,
            Self::BackendRefused { .. } | Self::BackendProtocol { .. } => BACKEND_REFUSED,
            Self::DiagnosticsLost => DIAGNOSTICS_LOST,
            Self::SeveralReplicaSets { .. } => SEVERAL_REPLICA_SETS,
            Self::UnknownDatabase(_) => error_code::BAD_DATABASE,
            Self::AccessDenied { .. } | Self::UserDropped(_) => error_code::ACCESS_DENIED,
            Self::DatabaseDenied { .. } => error_code::DATABASE_ACCESS_DENIED,
            Self::RightMissing { .. } => error_code::TABLE_ACCESS_DENIED,
            Self::UserConnections { .. } | Self::UserStatements { .. } => {
                error_code::USER_LIMIT_REACHED
            }
            Self::TlsRequired => error_code::SECURE_TRANSPORT_REQUIRED,
            Self::UnknownStatement(_) => error_code::UNKNOWN_STATEMENT_HANDLER,
            Self::NoOpenCursor(_) => error_code::NO_OPEN_CURSOR,
            Self::NotPreparable => error_code::UNSUPPORTED_PREPARED,
            Self::TooManyStatements(_) => error_code::TOO_MANY_STATEMENTS,
            Self::CommandRefused(_) => error_code::UNKNOWN_COMMAND,
            Self::Unsupported(reason) => reason.code(),
            Self::NoKeyspace
            | Self::Sharded(_)
            | Self::NotAmongSeveral
            | Self::ShowFilter
            | Self::MixedVariables => error_code::NOT_SUPPORTED_YET,
            Self::UnknownVariable(_) => error_code::UNKNOWN_SYSTEM_VARIABLE,
            Self::SessionVariable(_) => error_code::LOCAL_VARIABLE,
            Self::WrongValue { .. } => error_code::WRONG_VALUE_FOR_VARIABLE,
            Self::KillUnknown(_) | Self::KillExpression => error_code::NO_SUCH_THREAD,
            Self::KillDenied(_) => error_code::KILL_DENIED,
            Self::Interrupted => error_code::QUERY_INTERRUPTED,
            Self::StatementTooLong { .. } => error_code::QUERY_TIMEOUT,
            Self::Killed => error_code::SESSION_WAS_KILLED,
            Self::PacketTooLarge(_) => error_code::NET_PACKET_TOO_LARGE,
            Self::PacketsOutOfOrder => error_code::PACKETS_OUT_OF_ORDER,
            Self::Malformed(_) => error_code::MALFORMED_PACKET,
            Self::TooManyConnections => error_code::TOO_MANY_CONNECTIONS,
            Self::Draining => error_code::SERVER_SHUTDOWN,
        }
    }

    #[must_use]
    pub fn sql_state(&self) -> [u8; 5] {
        match self {
            // Frameworks repeat a transaction that fails with this state.
            Self::TransactionLost { .. } => *b"40001",
            Self::Unsupported(reason) => *reason.sql_state(),
            other => *error_code::sql_state(other.code()),
        }
    }

    /// Appends the ERR packet with the given sequence id.
    pub fn put(&self, out: &mut Vec<u8>, sequence: u8) {
        put_packet(out, sequence, &self.payload());
    }

    /// The payload of the ERR packet.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let message = self.to_string();
        ErrPacket {
            code: self.code(),
            sql_state: self.sql_state(),
            message: message.as_bytes(),
        }
        .put(&mut payload);
        payload
    }
}

impl From<FrameError> for RouterError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { limit_bytes } => Self::PacketTooLarge(limit_bytes),
            FrameError::OutOfOrder { .. } => Self::PacketsOutOfOrder,
        }
    }
}

impl From<vt_wire::Malformed> for RouterError {
    fn from(error: vt_wire::Malformed) -> Self {
        Self::Malformed(error.0)
    }
}
