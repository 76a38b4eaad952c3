//! Session tracker items in OK packets: what the server says that changed in a session.
//!
//! It never keeps state; the router's session does.

use crate::{Malformed, Reader};

/// One thing that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionChange<'a> {
    SystemVariable {
        name: &'a [u8],
        value: &'a [u8],
    },
    Schema(&'a [u8]),
    /// Something changed that a reset would undo (`session_track_state_change`).
    StateChanged(bool),
    Gtids(&'a [u8]),
    /// Statement that would restart the transaction with its characteristics.
    TransactionCharacteristics(&'a [u8]),
    TransactionState(TransactionState),
    Unknown(u8),
}

/// Eight letters that describe the transaction (`session_track_transaction_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionState(pub [u8; 8]);

impl TransactionState {
    /// Is an explicit (`T`) or implicit (`I`) transaction open?
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self.0[0], b'T' | b'I')
    }

    /// Are tables locked by LOCK TABLES?
    #[must_use]
    pub fn has_locked_tables(self) -> bool {
        self.0[7] == b'L'
    }
}

/// Iterates the items of [`crate::response::OkPacket::session_state`].
#[derive(Debug, Clone, Copy)]
pub struct SessionChanges<'a> {
    reader: Reader<'a>,
}

impl<'a> SessionChanges<'a> {
    #[must_use]
    pub fn new(session_state: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(session_state),
        }
    }

    fn read_item(&mut self) -> Result<SessionChange<'a>, Malformed> {
        let kind = self.reader.u8()?;
        let mut data = Reader::new(self.reader.lenenc_bytes()?);
        Ok(match kind {
            0 => SessionChange::SystemVariable {
                name: data.lenenc_bytes()?,
                value: data.lenenc_bytes()?,
            },
            1 => SessionChange::Schema(data.lenenc_bytes()?),
            2 => SessionChange::StateChanged(data.lenenc_bytes()? == b"1"),
            3 => {
                data.u8()?;
                SessionChange::Gtids(data.lenenc_bytes()?)
            }
            4 => SessionChange::TransactionCharacteristics(data.lenenc_bytes()?),
            5 => {
                let letters = data.lenenc_bytes()?;
                let state = letters
                    .try_into()
                    .map_err(|_| Malformed("transaction state is not eight letters"))?;
                SessionChange::TransactionState(TransactionState(state))
            }
            other => SessionChange::Unknown(other),
        })
    }
}

impl<'a> Iterator for SessionChanges<'a> {
    type Item = Result<SessionChange<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let item = self.read_item();
        if item.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(item)
    }
}

/// The items that somebody wants. `None`: that is all of them, or they are malformed.
#[must_use]
pub fn wanted(
    session_state: &[u8],
    is_wanted: impl Fn(&SessionChange<'_>) -> bool,
) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    let mut rest = session_state;
    while !rest.is_empty() {
        let mut items = SessionChanges::new(rest);
        let item = items.next()?.ok()?;
        let behind = items.reader.rest();
        if is_wanted(&item) {
            kept.extend_from_slice(&rest[..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    (kept.len() < session_state.len()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_is_left_out() {
        let schema = b"\x01\x05\x04shop";
        let gtids = b"\x03\x05\x00\x03a:7";
        let with = [&schema[..], gtids, schema].concat();
        let without_gtids = |items| wanted(items, |item| !matches!(item, SessionChange::Gtids(_)));
        assert_eq!(without_gtids(&with), Some([&schema[..], schema].concat()));
        assert_eq!(without_gtids(gtids), Some(Vec::new()));
        assert_eq!(without_gtids(schema), None);
        assert_eq!(without_gtids(&with[..with.len() - 1]), None);
    }
    use proptest::prelude::*;

    #[test]
    fn items_in_order() {
        let mut block = vec![0, 15, 10];
        block.extend_from_slice(b"autocommit\x03OFF");
        block.extend_from_slice(b"\x01\x05\x04shop\x02\x02\x011\x03\x04\x00\x02a:");
        block.extend_from_slice(b"\x05\x09\x08T_______");
        let items: Result<Vec<_>, _> = SessionChanges::new(&block).collect();
        assert_eq!(
            items.unwrap(),
            [
                SessionChange::SystemVariable {
                    name: b"autocommit",
                    value: b"OFF"
                },
                SessionChange::Schema(b"shop"),
                SessionChange::StateChanged(true),
                SessionChange::Gtids(b"a:"),
                SessionChange::TransactionState(TransactionState(*b"T_______")),
            ]
        );
    }

    #[test]
    fn a_malformed_item_ends_the_list() {
        let mut items = SessionChanges::new(&[0, 200, 1]);
        assert!(items.next().unwrap().is_err());
        assert!(items.next().is_none());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            assert!(SessionChanges::new(&bytes).count() <= bytes.len());
        }
    }
}
