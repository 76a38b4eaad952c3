//! Small text results that the router answers by itself, and a reader for those it asks for.
//!
//! Never used on the pass-through path: rows of applications are not decoded.

use crate::packet::{HEADER_LENGTH, Header, put_packet};
use crate::reader::{put_lenenc, put_lenenc_bytes};
use crate::response::{EofPacket, put_rows_end};
use crate::{Capabilities, Malformed, Reader, ServerStatus};

/// Type number of a VARCHAR column in results.
pub const TYPE_VAR_STRING: u8 = 0xFD;
/// Type number of a BIGINT column.
pub const TYPE_LONGLONG: u8 = 0x08;
/// Collation id of `utf8mb4_0900_ai_ci`.
pub const COLLATION_UTF8MB4: u16 = 255;
/// Collation id of `binary`, which number columns carry.
pub const COLLATION_BINARY: u16 = 63;
/// NULL in a text row.
const NULL_BYTE: u8 = 0xFB;
/// Length of the fixed fields behind the names of a column definition.
const FIXED_FIELDS_LENGTH: u8 = 12;

/// A column of a local answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Vec<u8>,
    pub kind: u8,
}

impl Column {
    #[must_use]
    pub fn text(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            kind: TYPE_VAR_STRING,
        }
    }

    #[must_use]
    pub fn number(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            kind: TYPE_LONGLONG,
        }
    }

    /// Appends the payload of its column definition.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (collation, length) = if self.kind == TYPE_VAR_STRING {
            (COLLATION_UTF8MB4, 1024u32)
        } else {
            (COLLATION_BINARY, 21)
        };
        put_lenenc_bytes(out, b"def");
        for name in [&b""[..], b"", b"", &self.name, b""] {
            put_lenenc_bytes(out, name);
        }
        out.push(FIXED_FIELDS_LENGTH);
        out.extend_from_slice(&collation.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&[0; 5]);
    }
}

/// A whole small result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextResult {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl TextResult {
    /// Appends its packets, beginning at `sequence`; returns the sequence id that follows.
    pub fn put(
        &self,
        out: &mut Vec<u8>,
        sequence: u8,
        status: ServerStatus,
        capabilities: Capabilities,
    ) -> u8 {
        let mut payload = Vec::new();
        put_lenenc(&mut payload, self.columns.len() as u64);
        let mut next = put_packet(out, sequence, &payload);
        for column in &self.columns {
            payload.clear();
            column.put(&mut payload);
            next = put_packet(out, next, &payload);
        }
        if !capabilities.contains(Capabilities::DEPRECATE_EOF) {
            payload.clear();
            EofPacket {
                warnings: 0,
                status,
            }
            .put(&mut payload);
            next = put_packet(out, next, &payload);
        }
        for row in &self.rows {
            payload.clear();
            for value in row {
                match value {
                    Some(text) => put_lenenc_bytes(&mut payload, text),
                    None => payload.push(NULL_BYTE),
                }
            }
            next = put_packet(out, next, &payload);
        }
        payload.clear();
        put_rows_end(&mut payload, status, 0, capabilities);
        put_packet(out, next, &payload)
    }

    /// Reads the packets of one text result of a server with the given capabilities. Not for
    /// payloads of 16 MiB and more: the router never asks for such.
    pub fn parse(wire: &[u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut packets = Payloads { rest: wire };
        let count = Reader::new(packets.next_payload()?).lenenc()?;
        let mut result = Self::default();
        for _ in 0..count {
            let mut reader = Reader::new(packets.next_payload()?);
            for _ in 0..4 {
                reader.lenenc_bytes()?;
            }
            let name = reader.lenenc_bytes()?.to_vec();
            reader.lenenc_bytes()?;
            reader.take(7)?;
            result.columns.push(Column {
                name,
                kind: reader.u8()?,
            });
        }
        if !capabilities.contains(Capabilities::DEPRECATE_EOF) {
            packets.next_payload()?;
        }
        loop {
            let payload = packets.next_payload()?;
            match payload.first() {
                Some(0xFE) => return Ok(result),
                Some(0xFF) | None => return Err(Malformed("rows end in an error")),
                Some(_) => result.rows.push(parse_row(payload, result.columns.len())?),
            }
        }
    }
}

fn parse_row(payload: &[u8], columns: usize) -> Result<Vec<Option<Vec<u8>>>, Malformed> {
    let mut reader = Reader::new(payload);
    let mut row = Vec::new();
    for _ in 0..columns {
        if reader.rest().first() == Some(&NULL_BYTE) {
            reader.u8()?;
            row.push(None);
        } else {
            row.push(Some(reader.lenenc_bytes()?.to_vec()));
        }
    }
    Ok(row)
}

struct Payloads<'a> {
    rest: &'a [u8],
}

impl<'a> Payloads<'a> {
    fn next_payload(&mut self) -> Result<&'a [u8], Malformed> {
        let header = Header::peek(self.rest).ok_or(Malformed("result ends too early"))?;
        let end = HEADER_LENGTH + header.length;
        let payload = self
            .rest
            .get(HEADER_LENGTH..end)
            .ok_or(Malformed("result ends too early"))?;
        self.rest = &self.rest[end..];
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn column_definition_has_collation_before_length() {
        let mut out = Vec::new();
        Column::number(b"n").put(&mut out);
        assert_eq!(&out[..4], b"\x03def");
        let fixed = &out[out.len() - 12..];
        assert_eq!(u16::from_le_bytes([fixed[0], fixed[1]]), COLLATION_BINARY);
        assert_eq!(
            u32::from_le_bytes([fixed[2], fixed[3], fixed[4], fixed[5]]),
            21
        );
        assert_eq!(fixed[6], TYPE_LONGLONG);
    }

    proptest! {
        #[test]
        fn round_trip(old: bool, cells in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)), 2), 0..6)) {
            let result = TextResult { columns: vec![Column::text(b"a"), Column::number(b"b")], rows: cells };
            let mut out = Vec::new();
            let capabilities = if old { Capabilities::NONE } else { Capabilities::DEPRECATE_EOF };
            result.put(&mut out, 1, ServerStatus::AUTOCOMMIT, capabilities);
            prop_assert_eq!(TextResult::parse(&out, capabilities).unwrap(), result);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = TextResult::parse(&bytes, Capabilities::NONE);
        }
    }
}
