//! Values in small pieces, each with a checksum over its key and content.
//!
//! A piece is kept under the value's key and its own number. The first begins with the length of the whole value, so that a
//! missing piece is noticed.

use super::SledError;

/// Bytes of one piece. sled keeps up to 16 values in one node and gives a node larger than half a MiB a file of its own,
/// which it never flushes.
const PIECE_BYTES: usize = 16 << 10;
const NUMBER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 8;

/// Only damage is found here; what fails in sled itself is passed on.
type Outcome<T> = Result<T, SledError>;

/// Changes that are to be applied together.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) batch: sled::Batch,
}

impl Pieces {
    /// Adds the value under the key. Pieces that are there already beyond the new ones stay: see [`Pieces::remove`].
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        for (key, piece) in cut(key, value) {
            self.batch.insert(key, piece);
        }
    }

    /// Adds the removal of all pieces that are there under the key. What is put later in the same batch stays.
    pub(super) fn remove(&mut self, tree: &sled::Tree, key: &[u8]) -> Result<(), sled::Error> {
        for stored in tree.range(range(key)).keys() {
            self.batch.remove(stored?);
        }
        Ok(())
    }
}

/// The key and content of each piece of a value.
fn cut(key: &[u8], value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut whole = (value.len() as u64).to_be_bytes().to_vec();
    whole.extend_from_slice(value);
    let mut pieces = Vec::new();
    for (number, content) in (0u32..).zip(whole.chunks(PIECE_BYTES)) {
        let key = piece_key(key, number);
        let mut piece = checksum(&key, content).to_be_bytes().to_vec();
        piece.extend_from_slice(content);
        pieces.push((key, piece));
    }
    pieces
}

/// The value under the key, in several batches of about so many bytes.
pub(super) fn in_slices(key: &[u8], value: &[u8], bytes: usize) -> Vec<sled::Batch> {
    let mut batches = Vec::new();
    let mut pieces = cut(key, value).into_iter().peekable();
    while pieces.peek().is_some() {
        let mut batch = sled::Batch::default();
        for (key, piece) in pieces.by_ref().take(bytes.div_ceil(PIECE_BYTES)) {
            batch.insert(key, piece);
        }
        batches.push(batch);
    }
    batches
}

/// The value under the key.
pub(super) fn read(tree: &sled::Tree, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
    let mut reader = Reader {
        pieces: tree.range(range(key)),
        key_bytes: key.len(),
    };
    reader.next().transpose()
}

/// All values whose keys begin with `prefix` and have the length of `from`, from that key on, in order.
pub(super) fn read_all(tree: &sled::Tree, prefix: &[u8], from: &[u8]) -> Reader {
    let mut end = prefix.to_vec();
    end.resize(from.len() + NUMBER_BYTES, 0xff);
    Reader {
        pieces: tree.range(from.to_vec()..=end),
        key_bytes: from.len(),
    }
}

/// Puts pieces together.
pub(super) struct Reader {
    pieces: sled::Iter,
    key_bytes: usize,
}

impl Reader {
    fn piece(&mut self) -> Outcome<Option<(sled::IVec, sled::IVec)>> {
        self.pieces.next().transpose().map_err(SledError::from)
    }

    fn value(&mut self) -> Outcome<Option<Vec<u8>>> {
        let Some((first_key, first)) = self.piece()? else {
            return Ok(None);
        };
        let name = first_key
            .get(..self.key_bytes)
            .unwrap_or(&first_key)
            .to_vec();
        let damaged = |what: &str| SledError::Damaged(format!("{what} of {}", printable(&name)));
        if first_key.as_ref() != piece_key(&name, 0) {
            return Err(damaged("the first piece is missing"));
        }
        let mut whole = content(&first_key, &first)?.to_vec();
        let length = whole.get(..LENGTH_BYTES).and_then(|b| b.try_into().ok());
        let length = length.map(u64::from_be_bytes);
        let length = length.ok_or_else(|| damaged("the length is missing"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        whole.drain(..LENGTH_BYTES);
        for number in 1u32.. {
            if whole.len() >= length {
                break;
            }
            let Some((key, piece)) = self.piece()? else {
                return Err(damaged("a piece is missing"));
            };
            if key.as_ref() != piece_key(&name, number) {
                return Err(damaged("a piece is missing"));
            }
            whole.extend_from_slice(content(&key, &piece)?);
        }
        if whole.len() != length {
            return Err(damaged("the length is wrong"));
        }
        Ok(Some(whole))
    }
}

impl Iterator for Reader {
    type Item = Outcome<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.value().transpose()
    }
}

fn range(key: &[u8]) -> std::ops::RangeInclusive<Vec<u8>> {
    piece_key(key, 0)..=piece_key(key, u32::MAX)
}

fn piece_key(key: &[u8], number: u32) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

fn content<'a>(key: &[u8], piece: &'a [u8]) -> Outcome<&'a [u8]> {
    let found = piece.get(..CHECKSUM_BYTES).and_then(|b| b.try_into().ok());
    let found = found.map(u32::from_be_bytes);
    let content = piece.get(CHECKSUM_BYTES..).unwrap_or_default();
    if found == Some(checksum(key, content)) {
        return Ok(content);
    }
    let what = format!("the checksum of {} is wrong", printable(key));
    Err(SledError::Damaged(what))
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
