//! Binary log files as sequences of events, without their contents.
//!
//! It reads headers, the format description and GTID events, and never rows or statements. It does
//! no I/O: [`BinlogWalker`] says which bytes it wants next.

use thiserror::Error;

use crate::{Malformed, Reader};

pub const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];
const MAGIC_ENCRYPTED: [u8; 4] = [0xFD, b'b', b'i', b'n'];
pub const EVENT_HEADER_LENGTH: usize = 19;
const TYPE_OFFSET: usize = 4;
const FLAGS_OFFSET: usize = 17;
/// The file is being written, or its writer was killed.
const FLAG_IN_USE: u8 = 1;
const CHECKSUM_LENGTH: usize = 4;
/// Longest event that the walker reads into memory. Those that it reads are a few hundred bytes long.
pub const READ_LENGTH_MAX: usize = 1 << 20;

/// Types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventType(pub u8);

impl EventType {
    pub const STOP: Self = Self(3);
    pub const ROTATE: Self = Self(4);
    pub const FORMAT_DESCRIPTION: Self = Self(15);
    pub const GTID: Self = Self(33);
    pub const ANONYMOUS_GTID: Self = Self(34);
    pub const PREVIOUS_GTIDS: Self = Self(35);
    pub const GTID_TAGGED: Self = Self(42);

    fn is_gtid(self) -> bool {
        matches!(self, Self::GTID | Self::GTID_TAGGED)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BinlogError {
    #[error("not a binary log: it does not begin with the magic number")]
    NotABinlog,
    #[error("the binary log is encrypted: its events cannot be read without the keyring")]
    Encrypted,
    #[error("event at offset {offset}: {source}")]
    Malformed { offset: u64, source: Malformed },
    #[error("event at offset {offset}: wrong checksum")]
    Checksum { offset: u64 },
    #[error("event at offset {offset}: {length} bytes are more than an event of its type has")]
    TooLong { offset: u64, length: usize },
}

/// The 19 bytes in front of each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeader {
    pub timestamp: u32,
    pub kind: EventType,
    pub server_id: u32,
    /// Whole length, header and checksum included.
    pub length: u32,
    /// Offset behind this event as its writer saw it; zero in relay logs' artificial events.
    pub next_position: u32,
    pub flags: u16,
}

impl EventHeader {
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            timestamp: reader.u32()?,
            kind: EventType(reader.u8()?),
            server_id: reader.u32()?,
            length: reader.u32()?,
            next_position: reader.u32()?,
            flags: reader.u16()?,
        };
        if (header.length as usize) < EVENT_HEADER_LENGTH {
            return Err(Malformed("event shorter than its header"));
        }
        Ok(header)
    }
}

/// The identifier of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId {
    /// UUID of the server that gave it.
    pub sid: [u8; 16],
    /// Empty: no tag.
    pub tag: Vec<u8>,
    pub gno: u64,
}

/// Where a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionStart {
    /// Offset of its GTID event: a file cut here ends in front of the transaction.
    pub offset: u64,
    pub id: TransactionId,
}

/// What the walker wants or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// Give [`BinlogWalker::feed`] exactly these bytes of the file; fewer only where the file ends.
    Read {
        offset: u64,
        length: usize,
    },
    Transaction(TransactionStart),
    /// No whole event follows; `offset` is the end of the last whole one.
    End {
        offset: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Magic,
    Header,
    Body(EventHeader),
    Nothing,
}

/// Walks over a file from its start, event by event.
#[derive(Debug, Clone)]
pub struct BinlogWalker {
    file_length: u64,
    position: u64,
    wanted: Wanted,
    has_checksums: bool,
}

impl BinlogWalker {
    #[must_use]
    pub fn new(file_length: u64) -> Self {
        Self {
            file_length,
            position: 0,
            wanted: Wanted::Magic,
            has_checksums: false,
        }
    }

    /// What is to be done first.
    #[must_use]
    pub fn start(&self) -> Walk {
        Walk::Read {
            offset: 0,
            length: MAGIC.len(),
        }
    }

    /// Goes on behind a transaction that was found.
    #[must_use]
    pub fn resume(&self) -> Walk {
        self.want()
    }

    /// Takes the bytes that the last [`Walk::Read`] asked for.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Walk, BinlogError> {
        match self.wanted {
            Wanted::Magic => self.take_magic(bytes),
            Wanted::Header => self.take_header(bytes),
            Wanted::Body(header) => self.take_body(header, bytes),
            Wanted::Nothing => Ok(self.want()),
        }
    }

    fn want(&self) -> Walk {
        let (offset, length) = match self.wanted {
            Wanted::Magic => (0, MAGIC.len()),
            Wanted::Header => (self.position, EVENT_HEADER_LENGTH),
            Wanted::Body(header) => (self.position, header.length as usize),
            Wanted::Nothing => {
                return Walk::End {
                    offset: self.position,
                };
            }
        };
        Walk::Read { offset, length }
    }

    fn take_magic(&mut self, bytes: &[u8]) -> Result<Walk, BinlogError> {
        if bytes == MAGIC {
            self.position = MAGIC.len() as u64;
            self.wanted = Wanted::Header;
            Ok(self.want())
        } else if bytes == MAGIC_ENCRYPTED {
            Err(BinlogError::Encrypted)
        } else {
            Err(BinlogError::NotABinlog)
        }
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<Walk, BinlogError> {
        if bytes.len() < EVENT_HEADER_LENGTH {
            return Ok(self.end());
        }
        let header = EventHeader::parse(bytes).map_err(|source| self.malformed(source))?;
        if self.position + u64::from(header.length) > self.file_length {
            return Ok(self.end());
        }
        if header.kind.is_gtid() || header.kind == EventType::FORMAT_DESCRIPTION {
            let length = header.length as usize;
            if length > READ_LENGTH_MAX {
                return Err(BinlogError::TooLong {
                    offset: self.position,
                    length,
                });
            }
            self.wanted = Wanted::Body(header);
        } else {
            self.step_over(header);
        }
        Ok(self.want())
    }

    fn take_body(&mut self, header: EventHeader, bytes: &[u8]) -> Result<Walk, BinlogError> {
        let offset = self.position;
        if bytes.len() < header.length as usize {
            return Ok(self.end());
        }
        if header.kind == EventType::FORMAT_DESCRIPTION {
            self.has_checksums =
                format_has_checksums(bytes).map_err(|source| self.malformed(source))?;
        }
        let body = self.checked_body(bytes)?;
        self.step_over(header);
        let id = match header.kind {
            EventType::GTID => parse_gtid(body),
            EventType::GTID_TAGGED => parse_tagged_gtid(body),
            _ => return Ok(self.want()),
        };
        let id = id.map_err(|source| BinlogError::Malformed { offset, source })?;
        Ok(Walk::Transaction(TransactionStart { offset, id }))
    }

    /// The event without header and checksum; the checksum is verified where there is one.
    fn checked_body<'a>(&self, event: &'a [u8]) -> Result<&'a [u8], BinlogError> {
        let body = &event[EVENT_HEADER_LENGTH..];
        if !self.has_checksums {
            return Ok(body);
        }
        let (content, sum) = event
            .split_last_chunk::<CHECKSUM_LENGTH>()
            .ok_or_else(|| self.malformed(Malformed("event without its checksum")))?;
        if checksum(content) != u32::from_le_bytes(*sum) {
            return Err(BinlogError::Checksum {
                offset: self.position,
            });
        }
        content
            .get(EVENT_HEADER_LENGTH..)
            .ok_or_else(|| self.malformed(Malformed("event without its checksum")))
    }

    fn step_over(&mut self, header: EventHeader) {
        self.position += u64::from(header.length);
        self.wanted = Wanted::Header;
    }

    fn end(&mut self) -> Walk {
        self.wanted = Wanted::Nothing;
        self.want()
    }

    fn malformed(&self, source: Malformed) -> BinlogError {
        BinlogError::Malformed {
            offset: self.position,
            source,
        }
    }
}

/// The first transaction of a file in memory that `wanted` accepts.
pub fn find_transaction(
    file: &[u8],
    mut wanted: impl FnMut(&TransactionId) -> bool,
) -> Result<Option<TransactionStart>, BinlogError> {
    let mut walker = BinlogWalker::new(file.len() as u64);
    let mut walk = walker.start();
    loop {
        walk = match walk {
            Walk::Read { offset, length } => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(file.len());
                let end = start.saturating_add(length).min(file.len());
                walker.feed(&file[start..end])?
            }
            Walk::Transaction(found) if wanted(&found.id) => return Ok(Some(found)),
            Walk::Transaction(_) => walker.resume(),
            Walk::End { .. } => return Ok(None),
        };
    }
}

/// CRC-32 as the writer computed it. It marks a file that is in use (and one that was, when the
/// server was killed) by a flag in the format description, which the checksum leaves out.
fn checksum(content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let (header, body) = content.split_at(content.len().min(EVENT_HEADER_LENGTH));
    let mut header = header.to_vec();
    if header.get(TYPE_OFFSET) == Some(&EventType::FORMAT_DESCRIPTION.0)
        && let Some(flags) = header.get_mut(FLAGS_OFFSET)
    {
        *flags &= !FLAG_IN_USE;
    }
    hasher.update(&header);
    hasher.update(body);
    hasher.finalize()
}

/// Does the format description say that events of this file end in a CRC-32?
fn format_has_checksums(event: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(
        event
            .get(EVENT_HEADER_LENGTH..)
            .ok_or(Malformed("format description too short"))?,
    );
    if reader.u16()? != 4 {
        return Err(Malformed("binary log of an unknown version"));
    }
    reader.take(50 + 4)?;
    if usize::from(reader.u8()?) != EVENT_HEADER_LENGTH {
        return Err(Malformed("event headers of an unknown length"));
    }
    // Behind the table of lengths: one byte of algorithm, then this event's own checksum.
    match reader.rest().iter().rev().nth(CHECKSUM_LENGTH) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(Malformed("checksums of an unknown kind")),
    }
}

fn parse_gtid(body: &[u8]) -> Result<TransactionId, Malformed> {
    let mut reader = Reader::new(body);
    reader.u8()?;
    Ok(TransactionId {
        sid: reader.array()?,
        tag: Vec::new(),
        gno: reader.u64()?,
    })
}

/// The tagged event is written in the server's self-describing format: numbered fields of
/// variable-length integers. The identifier is in fields 1 (UUID), 2 (number) and 3 (tag).
fn parse_tagged_gtid(body: &[u8]) -> Result<TransactionId, Malformed> {
    let mut reader = Reader::new(body);
    if variable_unsigned(&mut reader)? != 1 {
        return Err(Malformed("tagged GTID in an unknown format"));
    }
    variable_unsigned(&mut reader)?;
    variable_unsigned(&mut reader)?;
    expect_field(&mut reader, 0)?;
    variable_unsigned(&mut reader)?;
    expect_field(&mut reader, 1)?;
    let mut sid = [0; 16];
    for byte in &mut sid {
        *byte = u8::try_from(variable_unsigned(&mut reader)?)
            .map_err(|_| Malformed("byte of a UUID out of range"))?;
    }
    expect_field(&mut reader, 2)?;
    let gno = u64::try_from(variable_signed(&mut reader)?)
        .map_err(|_| Malformed("negative transaction number"))?;
    expect_field(&mut reader, 3)?;
    let length = usize::try_from(variable_unsigned(&mut reader)?)
        .map_err(|_| Malformed("tag out of range"))?;
    Ok(TransactionId {
        sid,
        tag: reader.take(length)?.to_vec(),
        gno,
    })
}

fn expect_field(reader: &mut Reader<'_>, number: u64) -> Result<(), Malformed> {
    if variable_unsigned(reader)? == number {
        Ok(())
    } else {
        Err(Malformed("field of a tagged GTID is missing"))
    }
}

/// As many bytes follow the first as it has trailing ones; the value is what stands above them.
fn variable_unsigned(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let first = reader.u8()?;
    let more = first.trailing_ones() as usize;
    let mut bytes = [0; 8];
    bytes[..more.min(8)].copy_from_slice(reader.take(more)?);
    let high = u64::from_le_bytes(bytes);
    if more >= 7 {
        return Ok(high);
    }
    let low = u64::from(first >> (more + 1));
    Ok(high << (7 - more) | low)
}

/// The sign is the lowest bit.
fn variable_signed(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    let raw = variable_unsigned(reader)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

#[cfg(test)]
mod tests;
