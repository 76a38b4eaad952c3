//! How one record stands in a segment: a header with a checksum of its own content and that of the record before, then the
//! content, filled up with zeros to a multiple of eight bytes.
//!
//! The chain of checksums makes a record of another time or place no continuation; the sequence number says how far the log
//! has come.

use crc32fast::Hasher;

/// magic, length, checksum, checksum of the record before, sequence.
const HEADER_BYTES: usize = 24;
const ALIGNMENT: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first one of a segment. Its sequence number is that of the last batch before it.
    Head,
    Batch,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::Head => *b"VtL2",
            Self::Batch => *b"VtB2",
        }
    }
}

/// Where the chain of records has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::storage) struct Link {
    pub(super) sequence: u64,
    pub(super) checksum: u32,
}

/// A record whose own checksum is right.
pub(super) struct Record<'a> {
    pub(super) link: Link,
    /// The checksum of the record before it.
    pub(super) previous: u32,
    pub(super) content: &'a [u8],
    /// Where the next one would begin.
    pub(super) end: usize,
}

/// Writes a record into the empty `buffer`: `fill` adds its content. Returns its link.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    kind: Kind,
    previous: u32,
    sequence: u64,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Link {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    fill(buffer);
    // A batch beyond 4 GiB cannot be: entries and snapshots are bounded far below.
    let length = u32::try_from(buffer.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
    buffer[0..4].copy_from_slice(&kind.magic());
    buffer[4..8].copy_from_slice(&length.to_le_bytes());
    buffer[12..16].copy_from_slice(&previous.to_le_bytes());
    buffer[16..24].copy_from_slice(&sequence.to_le_bytes());
    let checksum = checksum(buffer);
    buffer[8..12].copy_from_slice(&checksum.to_le_bytes());
    Link { sequence, checksum }
}

/// The record at that place, or why there is none.
pub(super) fn read(bytes: &[u8], at: usize, kind: Kind) -> Result<Record<'_>, &'static str> {
    let bytes = bytes.get(at..).unwrap_or_default();
    let header = bytes.get(..HEADER_BYTES).ok_or("the file ends")?;
    let number = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&header[at..at + 4]);
        u32::from_le_bytes(four)
    };
    if header[0..4] != kind.magic() {
        return Err("no record begins there");
    }
    let length = usize::try_from(number(4)).unwrap_or(usize::MAX);
    let whole = length
        .checked_add(HEADER_BYTES)
        .and_then(|length| length.checked_next_multiple_of(ALIGNMENT));
    let whole = whole.and_then(|whole| bytes.get(..whole));
    let whole = whole.ok_or("the file ends within a record")?;
    if checksum(whole) != number(8) {
        return Err("a checksum is wrong");
    }
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&header[16..24]);
    Ok(Record {
        link: Link {
            sequence: u64::from_le_bytes(sequence),
            checksum: number(8),
        },
        previous: number(12),
        content: &whole[HEADER_BYTES..HEADER_BYTES + length],
        end: at + whole.len(),
    })
}

/// Where behind `from` a whole batch with a higher sequence number stands. One that was torn is the last of all: if others
/// follow, what is missing was acknowledged.
pub(super) fn find_later(bytes: &[u8], from: usize, sequence: u64) -> Option<usize> {
    (from.next_multiple_of(ALIGNMENT)..bytes.len())
        .step_by(ALIGNMENT)
        .find(|at| read(bytes, *at, Kind::Batch).is_ok_and(|r| r.link.sequence > sequence))
}

/// Over everything but itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&record[0..8]);
    hasher.update(&record[12..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        let link = write(&mut bytes, Kind::Batch, 7, 3, |b| b.extend(b"content"));
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let record = read(&bytes, 0, Kind::Batch).unwrap();
        assert_eq!((record.link, record.previous), (link, 7));
        assert_eq!((record.content, record.end), (&b"content"[..], bytes.len()));
        assert!(read(&bytes, 0, Kind::Head).is_err());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes, 0, Kind::Batch).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], 0, Kind::Batch).is_err());
        }
    }

    #[test]
    fn a_later_record_is_found_behind_nonsense() {
        let mut later = Vec::new();
        write(&mut later, Kind::Batch, 0, 9, |b| b.extend([1; 50]));
        let bytes = [vec![0xee; 64], later].concat();
        assert_eq!(find_later(&bytes, 3, 8), Some(64));
        assert_eq!(find_later(&bytes, 3, 9), None);
    }
}
