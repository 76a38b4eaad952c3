//! The log of a member in files of its own: a group commit is one record, one write and one flush.
//!
//! Segments are written in place, over zeros or what a segment held that is no longer needed: a flush then carries data only,
//! no change of the file's size. What is missing or wrong is never taken for the end: see `open`.

use std::{collections::VecDeque, io, path::PathBuf};

use prost::Message;
use vt_proto::wire::{LogRecord, RaftEntry, SegmentHead};

use self::{
    acknowledged::{Acknowledged, Reached},
    record::Kind,
    replay::to_position,
};
use super::files::{Folder, LogFile};

mod acknowledged;
mod open;
#[cfg(test)]
mod power;
mod record;
mod replay;
mod segment;

pub(super) use record::Link;
pub(super) use replay::Situation;
pub(super) use segment::FORMAT;

/// How large segments are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    segment_bytes: u64,
    growth_bytes: u64,
    first_bytes: u64,
}

pub(super) const SIZES: Sizes = Sizes {
    // Some times what a member keeps behind its snapshot. One larger record makes its segment larger.
    segment_bytes: 16 << 20,
    // Zeros by which a segment grows at once: some thousand small commits share the flush of the file's size.
    growth_bytes: 1 << 20,
    // Zeros of the very first segment.
    first_bytes: 64 << 10,
};
/// A segment that is no longer needed, kept to be written again.
const SPARE: &str = "spare";
/// A segment that has no head yet.
const UNFINISHED: &str = "unfinished";

/// Why the log cannot be used.
#[derive(Debug)]
pub(super) enum LogError {
    Io(io::Error),
    /// The file, in the log's folder, and what is wrong with it.
    Damaged {
        file: String,
        what: String,
    },
    Newer {
        found: u32,
    },
}

impl LogError {
    fn damaged(file: &str, what: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            what: what.into(),
        }
    }
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A segment in which nothing is written any more.
struct Closed {
    number: u64,
    length: u64,
    /// The last entry that stands in it.
    last_index: u64,
}

/// The segment that is written.
struct Active {
    number: u64,
    file: Box<dyn LogFile>,
    /// Where the next record goes.
    at: u64,
    length: u64,
    /// The last entry that stands in it.
    last_index: u64,
    holds_batches: bool,
}

/// The log, open for writing.
pub(super) struct Log {
    folder: Box<dyn Folder>,
    directory_id: String,
    sizes: Sizes,
    closed: VecDeque<Closed>,
    active: Active,
    has_spare: bool,
    link: Link,
    situation: Situation,
    acknowledged: Acknowledged,
    buffer: Vec<u8>,
}

impl Log {
    /// Makes a log that begins with this situation and these entries, in place of what is there.
    pub(super) fn create(
        folder: Box<dyn Folder>,
        directory_id: &str,
        sizes: Sizes,
        record: &LogRecord,
        entries: &[RaftEntry],
    ) -> io::Result<Self> {
        for name in folder.names()? {
            folder.remove(&name)?;
        }
        folder.sync()?;
        let acknowledged = Acknowledged::create(folder.as_ref(), directory_id)?;
        let situation = Situation::default();
        let head = head(directory_id, 1, &situation);
        let (active, link) = begin(
            folder.as_ref(),
            head,
            Link::default(),
            sizes.first_bytes,
            None,
        )?;
        let mut log = Self {
            folder,
            directory_id: directory_id.to_owned(),
            sizes,
            closed: VecDeque::new(),
            active,
            has_spare: false,
            link,
            situation,
            acknowledged,
            buffer: Vec::new(),
        };
        log.append(record, entries)?;
        log.acknowledged.sync()?;
        Ok(log)
    }

    pub(super) fn situation(&self) -> &Situation {
        &self.situation
    }

    /// Writes one record and flushes it. After an error nothing has changed, and the same or more can be written again.
    pub(super) fn append(&mut self, record: &LogRecord, entries: &[RaftEntry]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.append_with(&mut buffer, record, entries);
        self.buffer = buffer;
        outcome
    }

    fn append_with(
        &mut self,
        buffer: &mut Vec<u8>,
        record: &LogRecord,
        entries: &[RaftEntry],
    ) -> io::Result<()> {
        let sequence = self.link.sequence + 1;
        let fill = |buffer: &mut Vec<u8>| {
            // A message may come in parts; this spares a copy of the entries.
            buffer.extend(record.encode_to_vec());
            for entry in entries {
                prost::encoding::message::encode(ENTRIES_TAG, entry, buffer);
            }
        };
        let mut link = record::write(buffer, Kind::Batch, self.link.checksum, sequence, fill);
        let bytes = buffer.len() as u64;
        if self.active.at + bytes > self.sizes.segment_bytes && self.active.holds_batches {
            self.begin_segment(bytes)?;
            link = record::write(buffer, Kind::Batch, self.link.checksum, sequence, fill);
        }
        self.grow_for(bytes)?;
        self.active.file.write_at(buffer, self.active.at)?;
        self.active.file.sync()?;
        self.active.at += bytes;
        self.link = link;
        self.situation = self.situation.after(record, entries);
        self.active.holds_batches = true;
        if let Some(last) = entries.last() {
            self.active.last_index = self.active.last_index.max(last.index);
        }
        self.acknowledged.put(Reached {
            sequence,
            segment: self.active.number,
            last_index: self.situation.last_index,
        })
    }

    fn grow_for(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.active.at + bytes;
        if needed <= self.active.length {
            return Ok(());
        }
        let grown = (self.active.length + self.sizes.growth_bytes).min(self.sizes.segment_bytes);
        let length = grown.max(needed);
        write_zeros(self.active.file.as_ref(), self.active.length, length)?;
        self.active.length = length;
        Ok(())
    }

    fn begin_segment(&mut self, bytes: u64) -> io::Result<()> {
        let number = self.active.number + 1;
        let head = head(&self.directory_id, number, &self.situation);
        let length = self.sizes.growth_bytes.max(bytes);
        let spare = self.has_spare.then_some(self.sizes.segment_bytes);
        let (active, link) = begin(self.folder.as_ref(), head, self.link, length, spare)?;
        self.has_spare = false;
        let before = std::mem::replace(&mut self.active, active);
        self.link = link;
        self.closed.push_back(Closed {
            number: before.number,
            length: before.length,
            last_index: before.last_index,
        });
        Ok(())
    }

    /// Takes one segment away that holds nothing in force any more; false if there is none.
    pub(super) fn drop_oldest(&mut self) -> io::Result<bool> {
        let start = self.situation.start.index;
        let Some(oldest) = self.closed.pop_front_if(|c| c.last_index <= start) else {
            return Ok(false);
        };
        let name = segment::name(oldest.number);
        if self.has_spare || oldest.length != self.sizes.segment_bytes {
            self.folder.remove(&name)?;
        } else {
            self.folder.rename(&name, SPARE)?;
            self.has_spare = true;
        }
        self.folder.sync()?;
        Ok(true)
    }

    /// Flushes what says how far the log has come.
    pub(super) fn sync_acknowledged(&mut self) -> io::Result<()> {
        self.acknowledged.sync()
    }

    /// Returns when the disk that the log is on has taken a write and a flush; nothing changes.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.acknowledged.write_again()
    }

    /// Where the chain of records has come to.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// The file that is written.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(segment::name(self.active.number))
    }
}

/// The number of `entries` in a log record.
const ENTRIES_TAG: u32 = 5;

fn head(directory_id: &str, number: u64, situation: &Situation) -> SegmentHead {
    SegmentHead {
        format: FORMAT,
        directory_id: directory_id.to_owned(),
        number,
        hard_state: Some(situation.hard_state),
        snapshot: situation.snapshot,
        start: Some(to_position(situation.start)),
        last_index: situation.last_index,
    }
}

/// Makes a segment with its head, which has its name only when it is whole. `spare`: in the file of that name, so large.
fn begin(
    folder: &dyn Folder,
    head: SegmentHead,
    link: Link,
    length: u64,
    spare: Option<u64>,
) -> io::Result<(Active, Link)> {
    let mut bytes = Vec::new();
    let link = record::write(
        &mut bytes,
        Kind::Head,
        link.checksum,
        link.sequence,
        |bytes| {
            bytes.extend(head.encode_to_vec());
        },
    );
    let at = bytes.len() as u64;
    let (from, file, length) = if let Some(spare) = spare {
        (SPARE, folder.open(SPARE)?, spare)
    } else {
        let file = folder.create(UNFINISHED)?;
        write_zeros(file.as_ref(), at, length)?;
        (UNFINISHED, file, length)
    };
    file.write_at(&bytes, 0)?;
    file.sync()?;
    folder.rename(from, &segment::name(head.number))?;
    folder.sync()?;
    let active = Active {
        number: head.number,
        file,
        at,
        length: length.max(at),
        last_index: 0,
        holds_batches: false,
    };
    Ok((active, link))
}

fn write_zeros(file: &dyn LogFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
    file.write_at(&zeros, from)
}
