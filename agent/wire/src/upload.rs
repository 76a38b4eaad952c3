//! LOAD DATA LOCAL: the file that a client sends when the server asks for it, up to the empty packet that ends it.
//!
//! Its packets are passed on in any pieces; their bytes are not looked at.

use crate::packet::{HEADER_LENGTH, Header, PAYLOAD_LENGTH_MAX};

/// Follows one file.
#[derive(Debug, Clone, Default)]
pub struct UploadScanner {
    /// Bytes of the current packet that are still to come.
    remaining: usize,
    /// The current packet is continued: an empty one behind it is its end, not the end of the file.
    continued: bool,
    is_done: bool,
    last_sequence: u8,
}

impl UploadScanner {
    /// Goes on to the end of the file or of `bytes`; returns how many of them were understood.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
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
            self.is_done = header.length == 0 && !self.continued;
            self.continued = header.length == PAYLOAD_LENGTH_MAX;
            self.remaining = header.length;
            self.last_sequence = header.sequence;
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
        self.last_sequence.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::put_packet;
    use proptest::prelude::*;

    fn file(pieces: &[usize]) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut sequence = 2;
        for piece in pieces {
            sequence = put_packet(&mut wire, sequence, &vec![b'x'; *piece]);
        }
        wire
    }

    #[test]
    fn an_empty_packet_ends_it_and_an_empty_continuation_does_not() {
        let wire = file(&[3, PAYLOAD_LENGTH_MAX, 5, 0]);
        let behind = [&wire[..], b"\x01\0\0\0\x0e"].concat();
        let mut scanner = UploadScanner::default();
        assert_eq!(scanner.feed(&behind), wire.len());
        assert!(scanner.is_done());
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
            let wire = file(&pieces);
            let mut scanner = UploadScanner::default();
            let (mut done, mut cuts) = (0, cuts.into_iter().cycle());
            let mut end = 0;
            while !scanner.is_done() {
                end = (end + cuts.next().unwrap_or(1)).min(wire.len());
                done += scanner.feed(&wire[done..end]);
            }
            prop_assert_eq!(done, wire.len());
        }
    }
}
