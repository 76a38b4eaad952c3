//! Values in small pieces, each with a checksum over its key and content.
//!
//! A piece is kept under the value's key and its own number. The first begins with the length of the whole value, so that a
//! missing piece is noticed.

/// Bytes of one piece. sled keeps up to 16 values in one node and gives a node larger than half a MiB a file of its own,
/// which it never flushes.
pub(super) const PIECE_BYTES: usize = 16 << 10;
const NUMBER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 8;

/// What is wrong with a stored value.
#[derive(Debug)]
pub(super) enum Damage {
    Sled(sled::Error),
    Content(String),
}

/// Changes that are to be applied together.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) batch: sled::Batch,
}

impl Pieces {
    /// Adds the value under the key. Pieces that are there already beyond the new ones stay: see [`Pieces::remove`].
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut whole = (value.len() as u64).to_be_bytes().to_vec();
        whole.extend_from_slice(value);
        for (number, content) in (0u32..).zip(whole.chunks(PIECE_BYTES)) {
            let key = piece_key(key, number);
            let mut piece = checksum(&key, content).to_be_bytes().to_vec();
            piece.extend_from_slice(content);
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

/// The value under the key.
pub(super) fn read(tree: &sled::Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
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
    fn piece(&mut self) -> Result<Option<(sled::IVec, sled::IVec)>, Damage> {
        self.pieces.next().transpose().map_err(Damage::Sled)
    }

    fn value(&mut self) -> Result<Option<Vec<u8>>, Damage> {
        let Some((first_key, first)) = self.piece()? else {
            return Ok(None);
        };
        let name = first_key
            .get(..self.key_bytes)
            .unwrap_or(&first_key)
            .to_vec();
        let damaged = |what: &str| Damage::Content(format!("{what} of {}", printable(&name)));
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
    type Item = Result<Vec<u8>, Damage>;

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

fn content<'a>(key: &[u8], piece: &'a [u8]) -> Result<&'a [u8], Damage> {
    let found = piece.get(..CHECKSUM_BYTES).and_then(|b| b.try_into().ok());
    let found = found.map(u32::from_be_bytes);
    let content = piece.get(CHECKSUM_BYTES..).unwrap_or_default();
    if found == Some(checksum(key, content)) {
        return Ok(content);
    }
    let what = format!("the checksum of {} is wrong", printable(key));
    Err(Damage::Content(what))
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
