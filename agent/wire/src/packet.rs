//! Frames: the four-byte header, continuation at 16 MiB, sequence ids.
//!
//! It never looks into a payload.

use thiserror::Error;

/// Length of a packet header: three bytes of length, one of sequence id.
pub const HEADER_LENGTH: usize = 4;
/// Longest payload of one packet; a payload of this length is continued by the next packet.
pub const PAYLOAD_LENGTH_MAX: usize = 0xFF_FFFF;

/// A peer's frames that cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("payload of more than {limit_bytes} bytes")]
    TooLong { limit_bytes: usize },
    #[error("packets out of order: expected sequence id {expected}, got {got}")]
    OutOfOrder { expected: u8, got: u8 },
}

/// One packet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub sequence: u8,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` when fewer than four are there.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk::<HEADER_LENGTH>()?;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        Some(Self { length, sequence })
    }

    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let [a, b, c, _] = (self.length as u32).to_le_bytes();
        [a, b, c, self.sequence]
    }
}

/// Extent of one whole logical payload at the front of a buffer, continuation packets included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Bytes of all its packets, headers included.
    pub wire_length: usize,
    /// Bytes of the payload alone.
    pub payload_length: usize,
    /// Sequence id of its first packet.
    pub first_sequence: u8,
    /// Sequence id of its last packet.
    pub last_sequence: u8,
}

impl Whole {
    /// Is it one packet, so that its payload lies in one piece behind its header?
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.wire_length == self.payload_length + HEADER_LENGTH
    }
}

/// Finds the logical payload at the front of `buffer`. `Ok(None)`: not whole yet. The limit is
/// checked on announced lengths, so an oversized payload is refused before it is received.
pub fn whole(buffer: &[u8], limit_bytes: usize) -> Result<Option<Whole>, FrameError> {
    let Some(first) = Header::peek(buffer) else {
        return Ok(None);
    };
    let mut end = 0;
    let mut payload_length = 0;
    let mut expected = first.sequence;
    loop {
        let Some(header) = buffer.get(end..).and_then(Header::peek) else {
            return Ok(None);
        };
        if header.sequence != expected {
            return Err(FrameError::OutOfOrder {
                expected,
                got: header.sequence,
            });
        }
        payload_length += header.length;
        if payload_length > limit_bytes {
            return Err(FrameError::TooLong { limit_bytes });
        }
        end += HEADER_LENGTH + header.length;
        if header.length < PAYLOAD_LENGTH_MAX {
            if buffer.len() < end {
                return Ok(None);
            }
            return Ok(Some(Whole {
                wire_length: end,
                payload_length,
                first_sequence: first.sequence,
                last_sequence: expected,
            }));
        }
        expected = expected.wrapping_add(1);
    }
}

/// How many bytes the packet at the front of `buffer` still lacks, or its header, if that is not whole.
#[must_use]
pub fn missing(buffer: &[u8]) -> usize {
    let wanted = Header::peek(buffer).map_or(HEADER_LENGTH, |header| HEADER_LENGTH + header.length);
    wanted.saturating_sub(buffer.len())
}

/// Copies the payload out of `wire`, which holds exactly the packets of one logical payload.
#[must_use]
pub fn join_payload(wire: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(wire.len());
    let mut rest = wire;
    while let Some(header) = Header::peek(rest) {
        let end = (HEADER_LENGTH + header.length).min(rest.len());
        payload.extend_from_slice(&rest[HEADER_LENGTH..end]);
        rest = &rest[end..];
    }
    payload
}

/// Appends `payload` as packets beginning at `sequence`; returns the sequence id that follows.
pub fn put_packet(out: &mut Vec<u8>, mut sequence: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (head, tail) = rest.split_at(rest.len().min(PAYLOAD_LENGTH_MAX));
        out.extend_from_slice(
            &Header {
                length: head.len(),
                sequence,
            }
            .to_bytes(),
        );
        out.extend_from_slice(head);
        sequence = sequence.wrapping_add(1);
        if head.len() < PAYLOAD_LENGTH_MAX {
            return sequence;
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(length: usize, packets: usize) {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut wire = Vec::new();
        let next = put_packet(&mut wire, 254, &payload);
        assert_eq!(next, 254u8.wrapping_add(packets as u8));
        let found = whole(&wire, usize::MAX).unwrap().unwrap();
        assert_eq!(found.wire_length, wire.len());
        assert_eq!(found.payload_length, length);
        assert_eq!(found.is_single(), packets == 1);
        assert_eq!(join_payload(&wire), payload);
        assert_eq!(whole(&wire[..wire.len() - 1], usize::MAX), Ok(None));
    }

    #[test]
    fn continuation_at_the_boundary() {
        for (length, packets) in [
            (0, 1),
            (1, 1),
            (PAYLOAD_LENGTH_MAX - 1, 1),
            (PAYLOAD_LENGTH_MAX, 2),
            (PAYLOAD_LENGTH_MAX + 1, 2),
            (2 * PAYLOAD_LENGTH_MAX, 3),
        ] {
            round_trip(length, packets);
        }
    }

    #[test]
    fn oversize_is_refused_by_its_announcement() {
        let header = Header {
            length: 1000,
            sequence: 0,
        }
        .to_bytes();
        assert_eq!(
            whole(&header, 999),
            Err(FrameError::TooLong { limit_bytes: 999 })
        );
        assert_eq!(whole(&header, 1000), Ok(None));
    }

    #[test]
    fn what_is_missing() {
        for (buffer, expected) in [
            (&b""[..], 4),
            (b"\x02", 3),
            (b"\x02\0\0\0", 2),
            (b"\x02\0\0\0ab", 0),
            (b"\x02\0\0\0abc", 0),
        ] {
            assert_eq!(missing(buffer), expected, "{buffer:?}");
        }
    }

    #[test]
    fn continuation_must_count_on() {
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, &vec![7; PAYLOAD_LENGTH_MAX]);
        let last = wire.len() - 1;
        wire[last] = 5;
        assert_eq!(
            whole(&wire, usize::MAX),
            Err(FrameError::OutOfOrder {
                expected: 1,
                got: 5
            })
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), limit in 0usize..100_000) {
            let _ = whole(&bytes, limit);
            let _ = join_payload(&bytes);
        }
    }
}
