//! Compressed connections: packets travel in frames of their own, without regard to where a packet ends.
//!
//! A frame has a header of seven bytes: its length, a sequence id of its own, and the length of what is packed in it, which is
//! zero where packing did not pay. Where a server has flushed what it had to say, its packets count on from the number of its
//! frames, and so do those of its clients; some of them insist on it.

use std::io::{Read, Write};

use crate::packet::HEADER_LENGTH;
use crate::{Capabilities, Malformed};

/// Length of a frame's header.
pub const FRAME_HEADER_LENGTH: usize = 7;
/// So much is packed into one frame: more would only keep its reader waiting.
const PIECE_LENGTH_MAX: usize = 64 << 10;
/// Shorter pieces are sent as they are, as by the server.
const PACKED_LENGTH_MIN: usize = 50;
/// Levels of zstd that a client may ask for, and the one that it gets if it asks for another.
const ZSTD_LEVELS: std::ops::RangeInclusive<u8> = 1..=22;
const ZSTD_LEVEL_DEFAULT: u8 = 3;

/// How pieces are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Zlib,
    Zstd { level: u8 },
}

impl Algorithm {
    /// What both sides agreed on, zlib first where they agreed on both.
    #[must_use]
    pub fn agreed(capabilities: Capabilities, zstd_level: u8) -> Option<Self> {
        if capabilities.contains(Capabilities::COMPRESS) {
            return Some(Self::Zlib);
        }
        let level = match ZSTD_LEVELS.contains(&zstd_level) {
            true => zstd_level,
            false => ZSTD_LEVEL_DEFAULT,
        };
        capabilities
            .contains(Capabilities::ZSTD_COMPRESSION)
            .then_some(Self::Zstd { level })
    }

    fn pack(self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut encoder =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(piece)?;
                encoder.finish()
            }
            Self::Zstd { level } => zstd::bulk::compress(piece, i32::from(level)),
        }
    }

    fn unpack(self, body: &[u8], length: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Zlib => flate2::read::ZlibDecoder::new(body)
                .take(length as u64 + 1)
                .read_to_end(out)
                .map(drop),
            Self::Zstd { .. } => {
                out.extend_from_slice(&zstd::bulk::decompress(body, length)?);
                Ok(())
            }
        }
    }
}

/// One side of a compressed connection.
#[derive(Debug, Clone)]
pub struct Compression {
    algorithm: Algorithm,
    /// Sequence id of the next frame that is written.
    sequence: u8,
    /// Sequence id behind the last frame that was read.
    read: u8,
    numbers: Numbers,
}

impl Compression {
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            sequence: 0,
            read: 0,
            numbers: Numbers::default(),
        }
    }

    /// Unpacks the frame at the front of `wire` behind what `out` holds, and returns its length. `None`: it is not whole yet.
    pub fn decode(&mut self, wire: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, Malformed> {
        let Some([a, b, c, sequence, d, e, f]) = wire.first_chunk::<FRAME_HEADER_LENGTH>().copied()
        else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let unpacked_length = u32::from_le_bytes([d, e, f, 0]) as usize;
        let end = FRAME_HEADER_LENGTH + length;
        let Some(body) = wire.get(FRAME_HEADER_LENGTH..end) else {
            return Ok(None);
        };
        if unpacked_length == 0 {
            out.extend_from_slice(body);
        } else {
            let before = out.len();
            let unpacked = self.algorithm.unpack(body, unpacked_length, out);
            if unpacked.is_err() || out.len() - before != unpacked_length {
                return Err(Malformed("a compressed frame that cannot be unpacked"));
            }
        }
        self.read = sequence.wrapping_add(1);
        Ok(Some(end))
    }

    /// What is written from here on answers what was read: its frames count on, and its packets with them.
    pub fn begin_answer(&mut self) {
        self.sequence = self.read;
        self.numbers.next = self.sequence;
    }

    /// What was written is complete in itself, as a result that others follow: packets count on from the frames.
    pub fn end_result(&mut self) {
        self.numbers.next = self.sequence;
    }

    /// Packs packets into frames behind what `out` holds, with sequence ids as they must be here. They may come in any pieces.
    pub fn encode_packets(&mut self, packets: &[u8], out: &mut Vec<u8>) {
        let mut packets = packets.to_vec();
        self.numbers.apply(&mut packets);
        self.encode(&packets, out);
    }

    /// Packs `plain` into frames behind what `out` holds.
    pub fn encode(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        for piece in plain.chunks(PIECE_LENGTH_MAX) {
            let packed = match piece.len() >= PACKED_LENGTH_MIN {
                // Packing into memory does not fail; if it did, the piece goes as it is.
                true => self.algorithm.pack(piece).ok(),
                false => None,
            };
            match packed.filter(|packed| packed.len() < piece.len()) {
                Some(packed) => self.put_frame(&packed, piece.len(), out),
                None => self.put_frame(piece, 0, out),
            }
        }
    }

    fn put_frame(&mut self, body: &[u8], unpacked_length: usize, out: &mut Vec<u8>) {
        let [a, b, c, _] = (body.len() as u32).to_le_bytes();
        let [d, e, f, _] = (unpacked_length as u32).to_le_bytes();
        out.extend_from_slice(&[a, b, c, self.sequence, d, e, f]);
        out.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// Gives packets other sequence ids, in whatever pieces they come.
#[derive(Debug, Clone, Default)]
struct Numbers {
    next: u8,
    /// What there is of the current header, without its sequence id.
    header: [u8; HEADER_LENGTH - 1],
    header_length: usize,
    /// Bytes of the current packet that are still to come.
    remaining: usize,
}

impl Numbers {
    fn apply(&mut self, bytes: &mut [u8]) {
        let mut position = 0;
        while position < bytes.len() {
            if self.remaining > 0 {
                let here = self.remaining.min(bytes.len() - position);
                position += here;
                self.remaining -= here;
            } else if self.header_length < self.header.len() {
                self.header[self.header_length] = bytes[position];
                self.header_length += 1;
                position += 1;
            } else {
                bytes[position] = self.next;
                self.next = self.next.wrapping_add(1);
                position += 1;
                let [a, b, c] = self.header;
                self.remaining = u32::from_le_bytes([a, b, c, 0]) as usize;
                self.header_length = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALGORITHMS: [Algorithm; 2] = [Algorithm::Zlib, Algorithm::Zstd { level: 3 }];

    fn unpacked(algorithm: Algorithm, mut wire: &[u8]) -> Vec<u8> {
        let mut reader = Compression::new(algorithm);
        let mut out = Vec::new();
        while let Some(length) = reader.decode(wire, &mut out).unwrap() {
            wire = &wire[length..];
        }
        assert_eq!(wire, b"");
        out
    }

    #[test]
    fn what_both_agreed_on() {
        let cases = [
            (Capabilities::NONE, 3, None),
            (Capabilities::COMPRESS, 0, Some(Algorithm::Zlib)),
            (
                Capabilities::ZSTD_COMPRESSION,
                7,
                Some(Algorithm::Zstd { level: 7 }),
            ),
            (
                Capabilities::ZSTD_COMPRESSION,
                0,
                Some(Algorithm::Zstd { level: 3 }),
            ),
            (
                Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION,
                7,
                Some(Algorithm::Zlib),
            ),
        ];
        for (capabilities, level, expected) in cases {
            assert_eq!(Algorithm::agreed(capabilities, level), expected);
        }
    }

    #[test]
    fn short_pieces_go_as_they_are_and_long_ones_packed() {
        for algorithm in ALGORITHMS {
            let mut writer = Compression::new(algorithm);
            let mut wire = Vec::new();
            writer.encode(b"\x01\0\0\0\x0e", &mut wire);
            assert_eq!(wire, b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e");
            wire.clear();
            let long = vec![b'x'; 3 * PIECE_LENGTH_MAX + 1];
            writer.encode(&long, &mut wire);
            assert!(wire.len() < 3_000, "{}", wire.len());
            assert_eq!(wire[3], 1, "frames count on");
            assert_eq!(unpacked(algorithm, &wire), long);
        }
    }

    #[test]
    fn an_answer_counts_on_from_its_question() {
        let mut server = Compression::new(Algorithm::Zlib);
        let mut out = Vec::new();
        server
            .decode(b"\x05\0\0\x07\0\0\0\x01\0\0\0\x0e", &mut out)
            .unwrap();
        server.begin_answer();
        let mut wire = Vec::new();
        // Two packets of a result in three pieces, with numbers that do not matter.
        for piece in [&b"\x01\0"[..], b"\0\x09a\x02\0\0\x0a", b"bc"] {
            server.encode_packets(piece, &mut wire);
        }
        // The client may have asked again meanwhile.
        server
            .decode(b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e", &mut out)
            .unwrap();
        server.end_result();
        server.encode_packets(b"\x01\0\0\x0bd", &mut wire);
        let frames = [wire[3], wire[3 + 9], wire[3 + 9 + 14], wire[3 + 9 + 14 + 9]];
        assert_eq!(frames, [8, 9, 10, 11]);
        let plain = unpacked(Algorithm::Zlib, &wire);
        assert_eq!(plain, b"\x01\0\0\x08a\x02\0\0\x09bc\x01\0\0\x0bd");
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        for algorithm in ALGORITHMS {
            let mut wire = Vec::new();
            Compression::new(algorithm).encode(&[b'x'; 1000], &mut wire);
            for told in [999u32, 1001] {
                let mut lie = wire.clone();
                lie[4..7].copy_from_slice(&told.to_le_bytes()[..3]);
                let read = Compression::new(algorithm).decode(&lie, &mut Vec::new());
                assert!(read.is_err(), "{algorithm:?} {told}");
            }
        }
    }

    /// Bytes that pack well with an even seed and hardly with an odd one.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mask = if seed.is_multiple_of(2) { 3 } else { 255 };
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8 & mask
        })
        .take(length)
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip(zlib: bool, pieces in proptest::collection::vec((any::<u64>(), 0usize..200_000), 0..3)) {
            let algorithm = ALGORITHMS[usize::from(zlib)];
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|(seed, length)| noise(seed, length)).collect();
            let mut writer = Compression::new(algorithm);
            let mut wire = Vec::new();
            for piece in &pieces {
                writer.encode(piece, &mut wire);
            }
            prop_assert_eq!(unpacked(algorithm, &wire), pieces.concat());
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), zlib: bool) {
            let mut compression = Compression::new(ALGORITHMS[usize::from(zlib)]);
            let _ = compression.decode(&bytes, &mut Vec::new());
        }
    }
}
