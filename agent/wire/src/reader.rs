//! A cursor over one payload, and the writers of the protocol's integers and strings.
//!
//! It never reads past the end and never copies.

use thiserror::Error;

/// A payload that does not say what its place in the protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed packet: {0}")]
pub struct Malformed(pub &'static str);

/// Reads a payload from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left, without consuming it.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self
            .bytes
            .split_at_checked(count)
            .ok_or(Malformed("ends too early"))?;
        self.bytes = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(Malformed("ends too early"))?;
        self.bytes = tail;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length-encoded integer; 0xFB (NULL) and 0xFF are not integers.
    pub fn lenenc(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            small @ 0..=0xFA => Ok(u64::from(small)),
            0xFC => Ok(u64::from(self.u16()?)),
            0xFD => {
                let [a, b, c] = self.array()?;
                Ok(u64::from(u32::from_le_bytes([a, b, c, 0])))
            }
            0xFE => self.u64(),
            _ => Err(Malformed("not a length-encoded integer")),
        }
    }

    /// A string behind its length-encoded length.
    pub fn lenenc_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.lenenc()?;
        self.take(usize::try_from(length).map_err(|_| Malformed("length out of range"))?)
    }

    /// A string up to a NUL, which is consumed and not returned.
    pub fn nul_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Malformed("string without its NUL"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// Like [`Self::nul_bytes`], but the end of the payload ends the string as well.
    pub fn nul_bytes_or_rest(&mut self) -> &'a [u8] {
        let end = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.bytes.len());
        let text = &self.bytes[..end];
        self.bytes = self.bytes.get(end + 1..).unwrap_or(&[]);
        text
    }
}

/// Appends a length-encoded integer.
pub fn put_lenenc(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xFA => out.push(bytes[0]),
        0xFB..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a string behind its length-encoded length.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, text: &[u8]) {
    put_lenenc(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Appends a string and a NUL. A NUL inside would end it early, so the text is cut there.
pub fn put_nul_bytes(out: &mut Vec<u8>, text: &[u8]) {
    let end = text
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(text.len());
    out.extend_from_slice(&text[..end]);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lenenc_boundaries() {
        for (value, length) in [
            (0u64, 1),
            (0xFA, 1),
            (0xFB, 3),
            (0xFFFF, 3),
            (0x1_0000, 4),
            (0xFF_FFFF, 4),
            (0x100_0000, 9),
            (u64::MAX, 9),
        ] {
            let mut out = Vec::new();
            put_lenenc(&mut out, value);
            assert_eq!(out.len(), length, "{value:#x}");
            let mut reader = Reader::new(&out);
            assert_eq!(reader.lenenc(), Ok(value));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn null_is_not_an_integer() {
        assert!(Reader::new(&[0xFB]).lenenc().is_err());
        assert!(Reader::new(&[0xFF]).lenenc().is_err());
    }

    #[test]
    fn nul_inside_text_cuts_it() {
        let mut out = Vec::new();
        put_nul_bytes(&mut out, b"a\0b");
        assert_eq!(out, b"a\0");
    }

    proptest! {
        #[test]
        fn strings_round_trip(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut out = Vec::new();
            put_lenenc_bytes(&mut out, &text);
            prop_assert_eq!(Reader::new(&out).lenenc_bytes().unwrap(), &text[..]);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), count in 0usize..80) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.lenenc_bytes();
            let _ = reader.nul_bytes();
            let _ = reader.take(count);
            let _ = reader.nul_bytes_or_rest();
        }
    }
}
