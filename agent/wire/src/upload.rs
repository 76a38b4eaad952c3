//! LOAD DATA LOCAL: the file that a client sends when the server asks for it, up to the empty packet that ends it.
//!
//! Its packets are passed on in any pieces, with sequence ids as the server expects them; their bytes are not looked at.

use crate::packet::{HEADER_LENGTH, Header, PAYLOAD_LENGTH_MAX};

/// Follows one file.
#[derive(Debug, Clone)]
pub struct UploadScanner {
    /// Bytes of the current packet that are still to come.
    remaining: usize,
    /// The current packet is continued: an empty one behind it is its end, not the end of the file.
    continued: bool,
    is_done: bool,
    next_sequence: u8,
}

impl UploadScanner {
    /// A file whose first packet has this sequence id.
    #[must_use]
    pub fn new(sequence: u8) -> Self {
        Self {
            remaining: 0,
            continued: false,
            is_done: false,
            next_sequence: sequence,
        }
    }

    /// Goes on to the end of the file or of `bytes`; returns how many of them were understood.
    pub fn feed(&mut self, bytes: &mut [u8]) -> usize {
        let mut position = 0;
        while !self.is_done {
            if self.remaining > 0 {
                let here = self.remaining.min(bytes.len() - position);
                position += here;
                self.remaining -= here;
                if self.remaining > 0 {
                    break;
                }
            }
            let Some(header) = Header::peek(&bytes[position..]) else {
                break;
            };
            position += HEADER_LENGTH;
            bytes[position - 1] = self.next_sequence;
            self.is_done = header.length == 0 && !self.continued;
            self.continued = header.length == PAYLOAD_LENGTH_MAX;
            self.remaining = header.length;
            self.next_sequence = self.next_sequence.wrapping_add(1);
        }
        position
    }

    /// Is the whole file behind us?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The sequence id of the packet that answers it.
    #[must_use]
    pub fn reply_sequence(&self) -> u8 {
        self.next_sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::put_packet;
    use proptest::prelude::*;

    fn file(mut sequence: u8, pieces: &[usize]) -> Vec<u8> {
        let mut wire = Vec::new();
        for piece in pieces {
            sequence = put_packet(&mut wire, sequence, &vec![b'x'; *piece]);
        }
        wire
    }

    #[test]
    fn an_empty_packet_ends_it_and_an_empty_continuation_does_not() {
        let pieces = [3, PAYLOAD_LENGTH_MAX, 5, 0];
        let wire = file(200, &pieces);
        let mut behind = [&wire[..], b"\x01\0\0\0\x0e"].concat();
        let mut scanner = UploadScanner::new(2);
        assert_eq!(scanner.feed(&mut behind), wire.len());
        assert!(scanner.is_done());
        assert!(behind[..wire.len()] == file(2, &pieces), "numbered anew");
        // Packets 2 to 6: the large one takes two.
        assert_eq!(scanner.reply_sequence(), 7);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            mut pieces in proptest::collection::vec(1usize..2000, 0..20),
            cuts in proptest::collection::vec(1usize..700, 1..200),
        ) {
            pieces.push(0);
            let mut wire = file(2, &pieces);
            let mut scanner = UploadScanner::new(2);
            let (mut done, mut cuts) = (0, cuts.into_iter().cycle());
            let mut end = 0;
            while !scanner.is_done() {
                end = (end + cuts.next().unwrap_or(1)).min(wire.len());
                done += scanner.feed(&mut wire[done..end]);
            }
            prop_assert_eq!(done, wire.len());
        }
    }
}
