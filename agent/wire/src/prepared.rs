//! Prepared statements: PREPARE_OK, and the statement id inside commands that carry one.
//!
//! It never looks at parameter values.

use crate::attributes::{null_bitmap_length, take_types};
use crate::{Capabilities, Malformed, Reader};

/// Offset of the statement id in EXECUTE, SEND_LONG_DATA, CLOSE, RESET and FETCH payloads.
const STATEMENT_ID_OFFSET: usize = 1;

/// Answer to COM_STMT_PREPARE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrepareOk {
    pub statement_id: u32,
    pub columns: u16,
    pub parameters: u16,
    pub warnings: u16,
}

impl PrepareOk {
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != 0 {
            return Err(Malformed("not a PREPARE_OK packet"));
        }
        let statement_id = reader.u32()?;
        let columns = reader.u16()?;
        let parameters = reader.u16()?;
        let warnings = if reader.is_empty() {
            0
        } else {
            reader.u8()?;
            reader.u16()?
        };
        Ok(Self {
            statement_id,
            columns,
            parameters,
            warnings,
        })
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&self.statement_id.to_le_bytes());
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.parameters.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&self.warnings.to_le_bytes());
    }
}

/// Puts another statement id into `payload`, in place: a command that names a statement, or PREPARE_OK.
pub fn replace_statement_id(payload: &mut [u8], statement_id: u32) -> Result<(), Malformed> {
    let place = payload
        .get_mut(STATEMENT_ID_OFFSET..)
        .and_then(|rest| rest.first_chunk_mut::<4>())
        .ok_or(Malformed("no room for a statement id"))?;
    *place = statement_id.to_le_bytes();
    Ok(())
}

/// Flag of a COM_STMT_EXECUTE: values may follow though the statement has no parameter. Not one of the cursor's flags. With
/// parameters the count is there for every client that knows attributes, as MySQL 9.7 demands, flag or not.
pub const PARAMETER_COUNT_AVAILABLE: u8 = 8;

/// What follows the iteration count of a COM_STMT_EXECUTE, cut into its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// Values that follow: the statement's own and its query attributes.
    pub count: u16,
    /// How many there are, as it was written; empty where it was not.
    written_count: &'a [u8],
    nulls: &'a [u8],
    /// Types, with names where the client sends names. Only the first execution after a PREPARE must carry them, so a
    /// statement prepared anew elsewhere needs them repeated.
    pub types: Option<&'a [u8]>,
    values: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Reads `bytes` behind the iteration count. `None`: no values follow. `prepared` is how many the statement has, and
    /// `flags` and `capabilities` are those of the command and of its client.
    pub fn parse(
        bytes: &'a [u8],
        prepared: u16,
        flags: u8,
        capabilities: Capabilities,
    ) -> Result<Option<Self>, Malformed> {
        let are_named = capabilities.contains(Capabilities::QUERY_ATTRIBUTES);
        let mut reader = Reader::new(bytes);
        let is_counted = prepared > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0;
        let count = if are_named && is_counted {
            u16::try_from(reader.lenenc()?).map_err(|_| Malformed("too many parameters"))?
        } else {
            prepared
        };
        let written_count = &bytes[..bytes.len() - reader.rest().len()];
        if count == 0 {
            return Ok(None);
        }
        let nulls = reader.take(null_bitmap_length(count))?;
        let types = match reader.u8()? {
            1 => Some(take_types(&mut reader, count, are_named)?),
            _ => None,
        };
        Ok(Some(Self {
            count,
            written_count,
            nulls,
            types,
            values: reader.rest(),
        }))
    }

    /// The same with `types` in their place.
    #[must_use]
    pub fn with_types(&self, types: &[u8]) -> Vec<u8> {
        [self.written_count, self.nulls, &[1], types, self.values].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prepare_ok_round_trip() {
        let prepared = PrepareOk {
            statement_id: 0x0102_0304,
            columns: 5,
            parameters: 2,
            warnings: 1,
        };
        let mut out = Vec::new();
        prepared.put(&mut out);
        assert_eq!(out.len(), 12);
        assert_eq!(PrepareOk::parse(&out), Ok(prepared));
        replace_statement_id(&mut out, 9).unwrap();
        assert_eq!(PrepareOk::parse(&out).unwrap().statement_id, 9);
    }

    #[test]
    fn types_are_found_and_put_back() {
        const NAMED: Capabilities = Capabilities::QUERY_ATTRIBUTES;
        const PLAIN: Capabilities = Capabilities::NONE;
        /// Capabilities, flags, parameters of the statement, the count as written, types.
        type Case = (Capabilities, u8, u16, &'static [u8], &'static [u8]);
        let cases: [Case; 4] = [
            (PLAIN, 0, 2, b"", b"\x03\0\xfd\0"),
            // The flag means nothing to a client without attributes.
            (PLAIN, PARAMETER_COUNT_AVAILABLE, 2, b"", b"\x03\0\xfd\0"),
            (NAMED, 0, 2, b"\x02", b"\x03\0\0\xfd\0\x01n"),
            (
                NAMED,
                PARAMETER_COUNT_AVAILABLE,
                1,
                b"\x02",
                b"\x03\0\0\xfd\0\x05trace",
            ),
        ];
        for (capabilities, flags, prepared, count, types) in cases {
            let with = [count, &[0b1], &[1], types, b"values"].concat();
            let without = [count, &[0b1], &[0], b"values"].concat();
            let parse = |bytes| {
                Parameters::parse(bytes, prepared, flags, capabilities)
                    .unwrap()
                    .unwrap()
            };
            assert_eq!((parse(&with).count, parse(&with).types), (2, Some(types)));
            assert_eq!((parse(&without).count, parse(&without).types), (2, None));
            assert_eq!(parse(&without).with_types(types), with);
        }
        assert_eq!(Parameters::parse(&[], 0, 0, PLAIN), Ok(None));
        assert_eq!(Parameters::parse(&[], 0, 0, NAMED), Ok(None));
        assert_eq!(
            Parameters::parse(&[0], 0, PARAMETER_COUNT_AVAILABLE, NAMED),
            Ok(None)
        );
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..32), count: u16) {
            let _ = PrepareOk::parse(&bytes);
            for (flags, capabilities) in [(0, Capabilities::NONE), (8, Capabilities::QUERY_ATTRIBUTES)] {
                let _ = Parameters::parse(&bytes, count, flags, capabilities);
            }
            let _ = replace_statement_id(&mut bytes, 1);
        }
    }
}
