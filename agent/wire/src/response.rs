//! OK, ERR and EOF packets: built and read.
//!
//! It never decides whether a packet is one of them: that depends on where it stands (`scanner`).

use crate::error_code::ErrorCode;
use crate::reader::{put_lenenc, put_lenenc_bytes};
use crate::{Capabilities, Malformed, Reader, ServerStatus};

pub const OK_BYTE: u8 = 0x00;
pub const EOF_BYTE: u8 = 0xFE;
pub const ERR_BYTE: u8 = 0xFF;
pub const LOCAL_INFILE_BYTE: u8 = 0xFB;

/// An OK packet, also when it ends rows and begins with 0xFE (`DEPRECATE_EOF`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OkPacket<'a> {
    pub affected_rows: u64,
    pub last_insert_id: u64,
    pub status: ServerStatus,
    pub warnings: u16,
    pub info: &'a [u8],
    /// The block of session tracker items; empty when none. `session_track` reads it.
    pub session_state: &'a [u8],
}

impl<'a> OkPacket<'a> {
    /// Reads the packet behind its first byte; the sender's capabilities decide its shape.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if !matches!(reader.u8()?, OK_BYTE | EOF_BYTE) {
            return Err(Malformed("not an OK packet"));
        }
        let affected_rows = reader.lenenc()?;
        let last_insert_id = reader.lenenc()?;
        let status = ServerStatus(reader.u16()?);
        let warnings = reader.u16()?;
        let mut ok = Self {
            affected_rows,
            last_insert_id,
            status,
            warnings,
            ..Self::default()
        };
        // The server writes the info behind its length whether or not it tracks the session.
        if !reader.is_empty() {
            let rest = reader.rest();
            ok.info = match reader.lenenc_bytes() {
                Ok(info) => info,
                Err(_) if !capabilities.contains(Capabilities::SESSION_TRACK) => rest,
                Err(error) => return Err(error),
            };
        }
        if capabilities.contains(Capabilities::SESSION_TRACK)
            && status.contains(ServerStatus::SESSION_STATE_CHANGED)
        {
            ok.session_state = reader.lenenc_bytes()?;
        }
        Ok(ok)
    }

    /// Appends the payload, with `first` as its first byte: [`OK_BYTE`], or [`EOF_BYTE`] behind rows.
    pub fn put(&self, out: &mut Vec<u8>, first: u8, capabilities: Capabilities) {
        let tracked =
            capabilities.contains(Capabilities::SESSION_TRACK) && !self.session_state.is_empty();
        let status = if tracked {
            self.status.with(ServerStatus::SESSION_STATE_CHANGED)
        } else {
            self.status.without(ServerStatus::SESSION_STATE_CHANGED)
        };
        out.push(first);
        put_lenenc(out, self.affected_rows);
        put_lenenc(out, self.last_insert_id);
        out.extend_from_slice(&status.0.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if !self.info.is_empty() || tracked {
            put_lenenc_bytes(out, self.info);
        }
        if tracked {
            put_lenenc_bytes(out, self.session_state);
        }
    }
}

/// An EOF packet of old clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EofPacket {
    pub warnings: u16,
    pub status: ServerStatus,
}

impl EofPacket {
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != EOF_BYTE {
            return Err(Malformed("not an EOF packet"));
        }
        Ok(Self {
            warnings: reader.u16()?,
            status: ServerStatus(reader.u16()?),
        })
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(EOF_BYTE);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out.extend_from_slice(&self.status.0.to_le_bytes());
    }
}

/// Ends rows as the client's capabilities demand: OK that begins with 0xFE, or EOF.
pub fn put_rows_end(
    out: &mut Vec<u8>,
    status: ServerStatus,
    warnings: u16,
    capabilities: Capabilities,
) {
    if capabilities.contains(Capabilities::DEPRECATE_EOF) {
        OkPacket {
            status,
            warnings,
            ..OkPacket::default()
        }
        .put(out, EOF_BYTE, capabilities);
    } else {
        EofPacket { warnings, status }.put(out);
    }
}

/// An ERR packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    pub code: ErrorCode,
    pub sql_state: [u8; 5],
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// Before the handshake is over, the server leaves the SQLSTATE out.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != ERR_BYTE {
            return Err(Malformed("not an ERR packet"));
        }
        let code = reader.u16()?;
        let mut sql_state = *b"HY000";
        if reader.rest().first() == Some(&b'#') {
            reader.u8()?;
            sql_state = reader.array()?;
        }
        Ok(Self {
            code,
            sql_state,
            message: reader.rest(),
        })
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(ERR_BYTE);
        out.extend_from_slice(&self.code.to_le_bytes());
        out.push(b'#');
        out.extend_from_slice(&self.sql_state);
        out.extend_from_slice(self.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn capabilities() -> impl Strategy<Value = Capabilities> {
        prop_oneof![Just(Capabilities::NONE), Just(Capabilities::SESSION_TRACK)]
    }

    #[test]
    fn tracker_data_is_dropped_for_clients_without_it() {
        let state = [1, 2, 3];
        let ok = OkPacket {
            status: ServerStatus::AUTOCOMMIT.with(ServerStatus::SESSION_STATE_CHANGED),
            session_state: &state,
            ..OkPacket::default()
        };
        let mut out = Vec::new();
        ok.put(&mut out, OK_BYTE, Capabilities::NONE);
        let read = OkPacket::parse(&out, Capabilities::NONE).unwrap();
        assert_eq!(read.status, ServerStatus::AUTOCOMMIT);
        assert_eq!((read.info, read.session_state), (&[][..], &[][..]));
    }

    #[test]
    fn err_with_and_without_its_state() {
        let with = ErrPacket::parse(b"\xff\x15\x04#28000denied").unwrap();
        assert_eq!(
            with,
            ErrPacket {
                code: 1045,
                sql_state: *b"28000",
                message: b"denied"
            }
        );
        let without = ErrPacket::parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!(
            (without.code, without.message),
            (1040, &b"Too many connections"[..])
        );
    }

    #[test]
    fn an_eof_round_trip() {
        let eof = EofPacket {
            warnings: 3,
            status: ServerStatus::MORE_RESULTS,
        };
        let mut out = Vec::new();
        eof.put(&mut out);
        assert_eq!(out.len(), 5);
        assert_eq!(EofPacket::parse(&out), Ok(eof));
    }

    proptest! {
        #[test]
        fn ok_round_trip(
            affected_rows: u64, last_insert_id: u64, warnings: u16,
            info in proptest::collection::vec(any::<u8>(), 0..300),
            state in proptest::collection::vec(any::<u8>(), 0..300),
            capabilities in capabilities(),
        ) {
            let tracked = capabilities.contains(Capabilities::SESSION_TRACK) && !state.is_empty();
            let status = if tracked { ServerStatus::SESSION_STATE_CHANGED } else { ServerStatus(0) };
            let session_state: &[u8] = if tracked { &state } else { &[] };
            let ok = OkPacket { affected_rows, last_insert_id, status, warnings, info: &info, session_state };
            let mut out = Vec::new();
            ok.put(&mut out, OK_BYTE, capabilities);
            prop_assert_eq!(OkPacket::parse(&out, capabilities).unwrap(), ok);
        }

        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), first in 0usize..3) {
            bytes.insert(0, [OK_BYTE, EOF_BYTE, ERR_BYTE][first]);
            let _ = OkPacket::parse(&bytes, Capabilities::SESSION_TRACK);
            let _ = OkPacket::parse(&bytes, Capabilities::NONE);
            let _ = EofPacket::parse(&bytes);
            let _ = ErrPacket::parse(&bytes);
        }
    }
}
