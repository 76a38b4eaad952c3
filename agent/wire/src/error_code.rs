//! MySQL's error numbers and SQLSTATEs that the router reads or sends.

/// Number of a MySQL error.
pub type ErrorCode = u16;

pub const HANDSHAKE_ERROR: ErrorCode = 1043;
pub const DATABASE_ACCESS_DENIED: ErrorCode = 1044;
pub const ACCESS_DENIED: ErrorCode = 1045;
pub const NO_DATABASE_SELECTED: ErrorCode = 1046;
pub const UNKNOWN_COMMAND: ErrorCode = 1047;
pub const UNKNOWN_SYSTEM_VARIABLE: ErrorCode = 1193;
pub const LOCAL_VARIABLE: ErrorCode = 1228;
pub const WRONG_VALUE_FOR_VARIABLE: ErrorCode = 1231;
pub const BAD_DATABASE: ErrorCode = 1049;
pub const NO_SUCH_THREAD: ErrorCode = 1094;
pub const KILL_DENIED: ErrorCode = 1095;
pub const TOO_MANY_STATEMENTS: ErrorCode = 1461;
pub const SERVER_SHUTDOWN: ErrorCode = 1053;
pub const TABLE_ACCESS_DENIED: ErrorCode = 1142;
pub const ERROR_DURING_COMMIT: ErrorCode = 1180;
pub const USER_LIMIT_REACHED: ErrorCode = 1226;
pub const SPECIFIC_ACCESS_DENIED: ErrorCode = 1227;
pub const TOO_MANY_CONNECTIONS: ErrorCode = 1040;
pub const UNKNOWN_ERROR: ErrorCode = 1105;
pub const NET_PACKET_TOO_LARGE: ErrorCode = 1153;
pub const PACKETS_OUT_OF_ORDER: ErrorCode = 1156;
pub const NOT_SUPPORTED_YET: ErrorCode = 1235;
pub const UNKNOWN_STATEMENT_HANDLER: ErrorCode = 1243;
pub const QUERY_INTERRUPTED: ErrorCode = 1317;
pub const SESSION_WAS_KILLED: ErrorCode = 3169;
pub const OPTION_PREVENTS_STATEMENT: ErrorCode = 1290;
/// Clients that get it send the statement as a text.
pub const UNSUPPORTED_PREPARED: ErrorCode = 1295;
pub const NO_OPEN_CURSOR: ErrorCode = 1421;
pub const BINLOG_LOGGING_IMPOSSIBLE: ErrorCode = 1598;
pub const NEED_REPREPARE: ErrorCode = 1615;
pub const READ_ONLY_MODE: ErrorCode = 1836;
pub const MALFORMED_PACKET: ErrorCode = 1835;
pub const QUERY_TIMEOUT: ErrorCode = 3024;
pub const OFFLINE_MODE: ErrorCode = 3032;
pub const SECURE_TRANSPORT_REQUIRED: ErrorCode = 3159;
pub const CLIENT_LOCAL_FILES_DISABLED: ErrorCode = 2068;

/// SQLSTATE that the server gives to `code`; `HY000` for all that have none of their own.
#[must_use]
pub fn sql_state(code: ErrorCode) -> &'static [u8; 5] {
    match code {
        TOO_MANY_CONNECTIONS => b"08004",
        HANDSHAKE_ERROR | NET_PACKET_TOO_LARGE | PACKETS_OUT_OF_ORDER | UNKNOWN_COMMAND
        | SERVER_SHUTDOWN => b"08S01",
        DATABASE_ACCESS_DENIED
        | BAD_DATABASE
        | TABLE_ACCESS_DENIED
        | USER_LIMIT_REACHED
        | WRONG_VALUE_FOR_VARIABLE
        | SPECIFIC_ACCESS_DENIED => b"42000",
        ACCESS_DENIED => b"28000",
        NO_DATABASE_SELECTED => b"3D000",
        QUERY_INTERRUPTED => b"70100",
        NOT_SUPPORTED_YET | TOO_MANY_STATEMENTS => b"42000",
        _ => b"HY000",
    }
}
