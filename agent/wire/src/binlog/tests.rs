//! Events that a server of version 9.7 wrote, and files put together from them.

use super::*;
use proptest::prelude::*;

const FORMAT_DESCRIPTION: &str = "\
    5d18036b0f010000007b0000007f00000001000400392e372e342d320000000000000000000000000000000000000000\
    00000000000000000000000000000000000000000000005d18036b13000d0008000000000400040000006300041a0800\
    0000000000020000000a0a0a2a2a001234000a28000001e1817140\
";
const PREVIOUS_GTIDS: &str = "\
    5d18036b23010000001f0000009e00000080000000000000000000a983c6c0\
";
const GTID_1: &str = "\
    5d18036b21010000004f000000ed000000000001b96f0e88e69011f18ddc02fc00000001010000000000000002000000\
    000000000001000000000000008fa988fadf6006fc3701506201003df838cc\
";
const GTID_TAGGED_1: &str = "\
    5d18036b2a0100000052000000a20400000000027600000002e502de1c21029903410222c5033502710304f103000000\
    020404060a6d7974616708100a140c7f12c088fadf60061079041283120b8e4e15d5\
";
const GTID_5: &str = "\
    5d18036b21010000004f000000bd050000000000b96f0e88e69011f18ddc02fc00000001050000000000000002040000\
    00000000000600000000000000e1c188fadf6006fc1b01506201000aaf85a8\
";
const SID: &str = "b96f0e88e69011f18ddc02fc00000001";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn file(events: &[&str]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for event in events {
        file.extend(hex(event));
    }
    file
}

fn whole_file() -> Vec<u8> {
    file(&[
        FORMAT_DESCRIPTION,
        PREVIOUS_GTIDS,
        GTID_1,
        GTID_TAGGED_1,
        GTID_5,
    ])
}

fn id(tag: &[u8], gno: u64) -> TransactionId {
    TransactionId {
        sid: hex(SID).try_into().unwrap(),
        tag: tag.to_vec(),
        gno,
    }
}

#[test]
fn transactions_and_their_offsets() {
    let mut seen = Vec::new();
    let none = find_transaction(&whole_file(), |transaction| {
        seen.push(transaction.clone());
        false
    });
    assert_eq!(none, Ok(None));
    assert_eq!(seen, [id(b"", 1), id(b"mytag", 1), id(b"", 5)]);

    let found = find_transaction(&whole_file(), |transaction| transaction.gno > 1)
        .unwrap()
        .unwrap();
    let behind = file(&[FORMAT_DESCRIPTION, PREVIOUS_GTIDS, GTID_1, GTID_TAGGED_1]).len();
    assert_eq!(
        found,
        TransactionStart {
            offset: behind as u64,
            id: id(b"", 5)
        }
    );
}

#[test]
fn a_torn_event_at_the_end_is_not_an_error() {
    let whole = whole_file();
    let last = whole.len() - hex(GTID_5).len();
    for cut in [whole.len() - 1, last + EVENT_HEADER_LENGTH, last + 3, last] {
        let mut walker = BinlogWalker::new(cut as u64);
        let mut walk = walker.start();
        let end = loop {
            walk = match walk {
                Walk::Read { offset, length } => {
                    let start = offset as usize;
                    walker
                        .feed(&whole[start..(start + length).min(cut)])
                        .unwrap()
                }
                Walk::Transaction(_) => walker.resume(),
                Walk::End { offset } => break offset,
            };
        };
        assert_eq!(end, last as u64);
    }
}

#[test]
fn what_is_wrong_is_told() {
    assert_eq!(
        find_transaction(b"", |_| true),
        Err(BinlogError::NotABinlog)
    );
    assert_eq!(
        find_transaction(b"\x7fELF----", |_| true),
        Err(BinlogError::NotABinlog)
    );
    assert_eq!(
        find_transaction(b"\xfdbin....", |_| true),
        Err(BinlogError::Encrypted)
    );
    let mut flipped = file(&[FORMAT_DESCRIPTION, GTID_1]);
    let place = flipped.len() - 20;
    flipped[place] ^= 1;
    let offset = file(&[FORMAT_DESCRIPTION]).len() as u64;
    assert_eq!(
        find_transaction(&flipped, |_| true),
        Err(BinlogError::Checksum { offset })
    );
    let mut short = file(&[FORMAT_DESCRIPTION]);
    short.extend_from_slice(&[0; EVENT_HEADER_LENGTH]);
    assert!(matches!(
        find_transaction(&short, |_| true),
        Err(BinlogError::Malformed { .. })
    ));
}

#[test]
fn variable_length_integers() {
    let cases: [(&[u8], u64); 5] = [
        (&[0x02], 1),
        (&[0xE5, 0x02], 0xB9),
        (&[0x03, 0x04, 0x00], 0x80),
        (&[0x7F, 1, 2, 3, 4, 5, 6, 7], 0x07_0605_0403_0201),
        (
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            u64::MAX,
        ),
    ];
    for (bytes, value) in cases {
        assert_eq!(
            variable_unsigned(&mut Reader::new(bytes)),
            Ok(value),
            "{bytes:02x?}"
        );
    }
    assert_eq!(variable_signed(&mut Reader::new(&[0x02])), Ok(-1));
    assert_eq!(variable_signed(&mut Reader::new(&[0x04])), Ok(1));
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), place in 4usize..400, value: u8) {
        let _ = find_transaction(&[&MAGIC, &bytes[..]].concat(), |_| false);
        let mut broken = whole_file();
        let place = place.min(broken.len() - 1);
        broken[place] = value;
        let _ = find_transaction(&broken, |_| false);
        let _ = parse_tagged_gtid(&bytes);
        let _ = parse_gtid(&bytes);
    }
}
