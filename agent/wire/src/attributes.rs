//! Query attributes: named values that a client sends with a statement, in front of its text or behind its parameters.
//!
//! They are passed over and passed on; nobody here reads them.

use crate::{Malformed, Reader};

/// What stands in front of a text without attributes: none of them, in one set.
pub const NONE: [u8; 2] = [0, 1];

/// Passes over the attributes in front of the text of a COM_QUERY.
pub fn skip(arguments: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(arguments);
    let count = reader.lenenc()?;
    if reader.lenenc()? != 1 {
        return Err(Malformed("query attributes in several sets"));
    }
    if count == 0 {
        return Ok(reader.rest());
    }
    let count = u16::try_from(count).map_err(|_| Malformed("too many query attributes"))?;
    let nulls = reader.take(null_bitmap_length(count))?;
    if reader.u8()? != 1 {
        return Err(Malformed("query attributes without types"));
    }
    let types = take_types(&mut reader, count, true)?;
    let mut types = Reader::new(types);
    for index in 0..usize::from(count) {
        let kind = types.u16()?.to_le_bytes()[0];
        types.lenenc_bytes()?;
        if nulls[index / 8] & (1 << (index % 8)) == 0 {
            skip_value(&mut reader, kind)?;
        }
    }
    Ok(reader.rest())
}

/// Length of the bitmap that says which of so many values are NULL.
#[must_use]
pub fn null_bitmap_length(count: u16) -> usize {
    usize::from(count).div_ceil(8)
}

/// Takes so many types, each with a name behind it or not.
pub fn take_types<'a>(
    reader: &mut Reader<'a>,
    count: u16,
    are_named: bool,
) -> Result<&'a [u8], Malformed> {
    let start = reader.rest();
    for _ in 0..count {
        reader.u16()?;
        if are_named {
            reader.lenenc_bytes()?;
        }
    }
    Ok(&start[..start.len() - reader.rest().len()])
}

/// Passes over one value of the binary protocol, whose length its type tells.
fn skip_value(reader: &mut Reader<'_>, kind: u8) -> Result<(), Malformed> {
    const NULL: u8 = 6;
    let length = match kind {
        NULL => 0,
        // TINY, BOOL
        1 | 244 => 1,
        // SHORT, YEAR
        2 | 13 => 2,
        // LONG, FLOAT, INT24
        3 | 4 | 9 => 4,
        // DOUBLE, LONGLONG
        5 | 8 => 8,
        // TIMESTAMP, DATE, TIME, DATETIME
        7 | 10 | 11 | 12 => usize::from(reader.u8()?),
        _ => return reader.lenenc_bytes().map(drop),
    };
    reader.take(length).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_begins_behind_them() {
        let none = [&NONE[..], b"SELECT 1"].concat();
        assert_eq!(skip(&none), Ok(&b"SELECT 1"[..]));
        // A text, a NULL, a number of eight bytes and a date.
        let mut some = vec![4, 1, 0b10, 1];
        for (kind, name) in [(253, "trace"), (6, "n"), (8, ""), (12, "d")] {
            some.extend_from_slice(&[kind, 0, name.len() as u8]);
            some.extend_from_slice(name.as_bytes());
        }
        some.extend_from_slice(b"\x03abc");
        some.extend_from_slice(&7u64.to_le_bytes());
        some.extend_from_slice(b"\x04\xea\x07\x0b\x1b");
        some.extend_from_slice(b"SELECT 2");
        assert_eq!(skip(&some), Ok(&b"SELECT 2"[..]));
        for length in 0..some.len() - b"SELECT 2".len() {
            assert!(skip(&some[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = skip(&bytes);
        }
    }
}
