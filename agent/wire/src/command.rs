//! Commands of a client: the first byte of a packet with sequence id 0, and its arguments.
//!
//! It never looks into SQL text.

use crate::attributes;
use crate::{Capabilities, Malformed, Reader};

/// Number of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandByte(pub u8);

impl CommandByte {
    pub const QUIT: Self = Self(0x01);
    pub const INIT_DB: Self = Self(0x02);
    pub const QUERY: Self = Self(0x03);
    pub const FIELD_LIST: Self = Self(0x04);
    pub const REFRESH: Self = Self(0x07);
    pub const SHUTDOWN: Self = Self(0x08);
    pub const STATISTICS: Self = Self(0x09);
    pub const PROCESS_INFO: Self = Self(0x0A);
    pub const PROCESS_KILL: Self = Self(0x0C);
    pub const DEBUG: Self = Self(0x0D);
    pub const PING: Self = Self(0x0E);
    pub const CHANGE_USER: Self = Self(0x11);
    pub const BINLOG_DUMP: Self = Self(0x12);
    pub const TABLE_DUMP: Self = Self(0x13);
    pub const REGISTER_REPLICA: Self = Self(0x15);
    pub const STMT_PREPARE: Self = Self(0x16);
    pub const STMT_EXECUTE: Self = Self(0x17);
    pub const STMT_SEND_LONG_DATA: Self = Self(0x18);
    pub const STMT_CLOSE: Self = Self(0x19);
    pub const STMT_RESET: Self = Self(0x1A);
    pub const SET_OPTION: Self = Self(0x1B);
    pub const STMT_FETCH: Self = Self(0x1C);
    pub const BINLOG_DUMP_GTID: Self = Self(0x1E);
    pub const RESET_CONNECTION: Self = Self(0x1F);
    pub const CLONE: Self = Self(0x20);

    /// Name as the server's documentation writes it, for errors that refuse the command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QUIT => "COM_QUIT",
            Self::INIT_DB => "COM_INIT_DB",
            Self::QUERY => "COM_QUERY",
            Self::FIELD_LIST => "COM_FIELD_LIST",
            Self::REFRESH => "COM_REFRESH",
            Self::SHUTDOWN => "COM_SHUTDOWN",
            Self::STATISTICS => "COM_STATISTICS",
            Self::PROCESS_INFO => "COM_PROCESS_INFO",
            Self::PROCESS_KILL => "COM_PROCESS_KILL",
            Self::DEBUG => "COM_DEBUG",
            Self::PING => "COM_PING",
            Self::CHANGE_USER => "COM_CHANGE_USER",
            Self::BINLOG_DUMP => "COM_BINLOG_DUMP",
            Self::TABLE_DUMP => "COM_TABLE_DUMP",
            Self::REGISTER_REPLICA => "COM_REGISTER_SLAVE",
            Self::STMT_PREPARE => "COM_STMT_PREPARE",
            Self::STMT_EXECUTE => "COM_STMT_EXECUTE",
            Self::STMT_SEND_LONG_DATA => "COM_STMT_SEND_LONG_DATA",
            Self::STMT_CLOSE => "COM_STMT_CLOSE",
            Self::STMT_RESET => "COM_STMT_RESET",
            Self::SET_OPTION => "COM_SET_OPTION",
            Self::STMT_FETCH => "COM_STMT_FETCH",
            Self::BINLOG_DUMP_GTID => "COM_BINLOG_DUMP_GTID",
            Self::RESET_CONNECTION => "COM_RESET_CONNECTION",
            Self::CLONE => "COM_CLONE",
            _ => "unknown command",
        }
    }
}

/// A command that the router serves, with its arguments in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    Quit,
    InitDb(&'a [u8]),
    /// The text; attributes in front of it are passed over.
    Query(&'a [u8]),
    FieldList(&'a [u8]),
    Statistics,
    ProcessKill(u32),
    Ping,
    ChangeUser(&'a [u8]),
    ResetConnection,
    SetOption(u16),
    StmtPrepare(&'a [u8]),
    StmtExecute {
        statement_id: u32,
        flags: u8,
        parameters: &'a [u8],
    },
    StmtSendLongData {
        statement_id: u32,
        parameter: u16,
        data: &'a [u8],
    },
    StmtClose {
        statement_id: u32,
    },
    StmtReset {
        statement_id: u32,
    },
    StmtFetch {
        statement_id: u32,
        row_count: u32,
    },
    Other(CommandByte),
}

impl<'a> Command<'a> {
    /// Reads a command of a client with these agreed capabilities.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let command = CommandByte(reader.u8()?);
        let rest = reader.rest();
        Ok(match command {
            CommandByte::QUIT => Self::Quit,
            CommandByte::INIT_DB => Self::InitDb(rest),
            CommandByte::QUERY if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) => {
                Self::Query(attributes::skip(rest)?)
            }
            CommandByte::QUERY => Self::Query(rest),
            CommandByte::FIELD_LIST => Self::FieldList(rest),
            CommandByte::STATISTICS => Self::Statistics,
            CommandByte::PROCESS_KILL => Self::ProcessKill(reader.u32()?),
            CommandByte::PING => Self::Ping,
            CommandByte::CHANGE_USER => Self::ChangeUser(rest),
            CommandByte::RESET_CONNECTION => Self::ResetConnection,
            CommandByte::SET_OPTION => Self::SetOption(reader.u16()?),
            CommandByte::STMT_PREPARE => Self::StmtPrepare(rest),
            CommandByte::STMT_EXECUTE => {
                let statement_id = reader.u32()?;
                let flags = reader.u8()?;
                reader.u32()?;
                Self::StmtExecute {
                    statement_id,
                    flags,
                    parameters: reader.rest(),
                }
            }
            CommandByte::STMT_SEND_LONG_DATA => Self::StmtSendLongData {
                statement_id: reader.u32()?,
                parameter: reader.u16()?,
                data: reader.rest(),
            },
            CommandByte::STMT_CLOSE => Self::StmtClose {
                statement_id: reader.u32()?,
            },
            CommandByte::STMT_RESET => Self::StmtReset {
                statement_id: reader.u32()?,
            },
            CommandByte::STMT_FETCH => Self::StmtFetch {
                statement_id: reader.u32()?,
                row_count: reader.u32()?,
            },
            other => Self::Other(other),
        })
    }
}

impl<'a> Command<'a> {
    /// As SHOW PROCESSLIST names it.
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self {
            Self::Quit => "Quit",
            Self::InitDb(_) => "Init DB",
            Self::Query(_) => "Query",
            Self::FieldList(_) => "Field List",
            Self::Statistics => "Statistics",
            Self::ProcessKill(_) => "Kill",
            Self::Ping => "Ping",
            Self::ChangeUser(_) => "Change user",
            Self::ResetConnection => "Reset Connection",
            Self::SetOption(_) => "Set option",
            Self::StmtPrepare(_) => "Prepare",
            Self::StmtExecute { .. } => "Execute",
            Self::StmtSendLongData { .. } => "Long Data",
            Self::StmtClose { .. } => "Close stmt",
            Self::StmtReset { .. } => "Reset stmt",
            Self::StmtFetch { .. } => "Fetch",
            Self::Other(_) => "Error",
        }
    }

    /// Its SQL text; empty where it has none.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        match self {
            Self::Query(sql) | Self::StmtPrepare(sql) => sql,
            _ => &[],
        }
    }
}

/// A statement of our own, for a connection with these agreed capabilities.
#[must_use]
pub fn encode_query(sql: &[u8], capabilities: Capabilities) -> Vec<u8> {
    let attributes: &[u8] = match capabilities.contains(Capabilities::QUERY_ATTRIBUTES) {
        true => &attributes::NONE,
        false => &[],
    };
    [&[CommandByte::QUERY.0], attributes, sql].concat()
}

/// A command whose arguments do not depend on capabilities, for connections that the router itself uses.
#[must_use]
pub fn encode(command: CommandByte, arguments: &[u8]) -> Vec<u8> {
    [&[command.0], arguments].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_and_their_arguments() {
        let cases: [(&[u8], Command<'_>); 10] = [
            (b"\x01", Command::Quit),
            (b"\x02shop@replica", Command::InitDb(b"shop@replica")),
            (b"\x03SELECT 1", Command::Query(b"SELECT 1")),
            (b"\x0e", Command::Ping),
            (b"\x0c\x05\x01\0\0", Command::ProcessKill(261)),
            (b"\x1f", Command::ResetConnection),
            (b"\x1b\x01\x00", Command::SetOption(1)),
            (
                b"\x17\x05\0\0\0\x01\x01\0\0\0rest",
                Command::StmtExecute {
                    statement_id: 5,
                    flags: 1,
                    parameters: b"rest",
                },
            ),
            (
                b"\x18\x05\0\0\0\x02\0data",
                Command::StmtSendLongData {
                    statement_id: 5,
                    parameter: 2,
                    data: b"data",
                },
            ),
            (b"\x12", Command::Other(CommandByte::BINLOG_DUMP)),
        ];
        for (payload, expected) in cases {
            assert_eq!(Command::parse(payload, Capabilities::NONE), Ok(expected));
        }
    }

    #[test]
    fn a_statement_behind_its_attributes() {
        for capabilities in [Capabilities::NONE, Capabilities::QUERY_ATTRIBUTES] {
            let payload = encode_query(b"SELECT 1", capabilities);
            let parsed = Command::parse(&payload, capabilities);
            assert_eq!(parsed, Ok(Command::Query(b"SELECT 1")));
        }
    }

    #[test]
    fn short_arguments_are_malformed() {
        for payload in [
            &b""[..],
            b"\x17\x01\0\0\0",
            b"\x19\x01",
            b"\x1c\x01\0\0\0\x01",
            b"\x1b\x01",
        ] {
            let parsed = Command::parse(payload, Capabilities::NONE);
            assert!(parsed.is_err(), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = Command::parse(&bytes, Capabilities::NONE);
            let _ = Command::parse(&bytes, Capabilities::QUERY_ATTRIBUTES);
        }
    }
}
