//! Prepared statements: PREPARE_OK, and the statement id inside commands that carry one.
//!
//! It never looks at parameter values.

use crate::{Malformed, Reader};

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

/// Does a COM_STMT_EXECUTE carry the types of its parameters? Only the first execution after a
/// PREPARE must, so a statement prepared anew elsewhere needs them repeated. `parameters` is what
/// follows the iteration count; a statement without parameters needs none.
pub fn carries_types(parameters: &[u8], parameter_count: u16) -> Result<bool, Malformed> {
    if parameter_count == 0 {
        return Ok(true);
    }
    let mut reader = Reader::new(parameters);
    reader.take(null_bitmap_length(parameter_count))?;
    Ok(reader.u8()? == 1)
}

/// The types (two bytes a parameter) of an execution that carries them.
pub fn parameter_types(parameters: &[u8], parameter_count: u16) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(parameters);
    reader.take(null_bitmap_length(parameter_count))?;
    if reader.u8()? != 1 {
        return Err(Malformed("execution carries no types"));
    }
    reader.take(usize::from(parameter_count) * 2)
}

/// The `parameters` of an execution without types, with `types` put into their place.
pub fn with_types(
    parameters: &[u8],
    parameter_count: u16,
    types: &[u8],
) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(parameters);
    let bitmap = reader.take(null_bitmap_length(parameter_count))?;
    reader.u8()?;
    Ok([bitmap, &[1], types, reader.rest()].concat())
}

fn null_bitmap_length(parameter_count: u16) -> usize {
    usize::from(parameter_count).div_ceil(8)
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
        let with = [&[0b1][..], &[1], &[3, 0, 253, 0], b"values"].concat();
        let without = [&[0b1][..], &[0], b"values"].concat();
        assert_eq!(carries_types(&with, 2), Ok(true));
        assert_eq!(carries_types(&without, 2), Ok(false));
        assert_eq!(parameter_types(&with, 2), Ok(&[3, 0, 253, 0][..]));
        assert_eq!(with_types(&without, 2, &[3, 0, 253, 0]), Ok(with));
        assert_eq!(carries_types(&[], 0), Ok(true));
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..32), count: u16) {
            let _ = PrepareOk::parse(&bytes);
            let _ = carries_types(&bytes, count);
            let _ = parameter_types(&bytes, count);
            let _ = with_types(&bytes, count, &[]);
            let _ = replace_statement_id(&mut bytes, 1);
        }
    }
}
