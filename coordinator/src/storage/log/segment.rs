//! One file of the log: its name, its head, and the records in it up to the first that is none.

use prost::Message;
use vt_proto::wire::{LogRecord, SegmentHead};

use super::{
    LogError,
    record::{self, Kind, Link},
};

/// The layout of records and heads that this version writes and understands.
pub(in crate::storage) const FORMAT: u32 = 2;
const SUFFIX: &str = ".log";

pub(super) fn name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

/// The number in a segment's name.
pub(super) fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

pub(super) struct Batch {
    pub(super) link: Link,
    pub(super) record: LogRecord,
    end: usize,
}

/// What was read of one.
pub(super) struct Segment {
    pub(super) head: SegmentHead,
    /// The end of the segment before it.
    pub(super) before: Link,
    head_link: Link,
    head_end: usize,
    pub(super) batches: Vec<Batch>,
    /// Why there is none behind the last one.
    pub(super) broken: &'static str,
    pub(super) bytes: Vec<u8>,
}

impl Segment {
    pub(super) fn read(number: u64, directory_id: &str, bytes: Vec<u8>) -> Result<Self, LogError> {
        let file = name(number);
        let damaged = |what: String| LogError::damaged(&file, what);
        let found = record::read(&bytes, 0, Kind::Head);
        let found = found.map_err(|why| damaged(format!("it has no head: {why}")))?;
        let head = SegmentHead::decode(found.content);
        let head = head.map_err(|error| damaged(format!("its head: {error}")))?;
        if head.format > FORMAT {
            return Err(LogError::Newer { found: head.format });
        }
        if head.directory_id != directory_id {
            return Err(damaged("it is that of another directory".to_owned()));
        }
        if head.number != number {
            return Err(damaged(format!("it is segment {}", head.number)));
        }
        let (mut link, mut at) = (found.link, found.end);
        let mut segment = Self {
            head,
            before: Link {
                sequence: link.sequence,
                checksum: found.previous,
            },
            head_link: link,
            head_end: at,
            batches: Vec::new(),
            broken: "",
            bytes: Vec::new(),
        };
        segment.broken = loop {
            match record::read(&bytes, at, Kind::Batch) {
                Ok(next) if next.previous != link.checksum => break "another record follows",
                Ok(next) if next.link.sequence != link.sequence + 1 => break "a record is missing",
                Ok(next) => {
                    let record = LogRecord::decode(next.content);
                    let record = record
                        .map_err(|error| damaged(format!("the record at byte {at}: {error}")))?;
                    (link, at) = (next.link, next.end);
                    segment.batches.push(Batch {
                        link,
                        record,
                        end: at,
                    });
                }
                Err(why) => break why,
            }
        };
        segment.bytes = bytes;
        Ok(segment)
    }

    /// The last link, and where the next record goes.
    pub(super) fn end(&self) -> (Link, usize) {
        let last = self.batches.last();
        last.map_or((self.head_link, self.head_end), |b| (b.link, b.end))
    }

    /// The chain runs through that link, here or at its beginning.
    pub(super) fn passes(&self, link: Link) -> bool {
        self.before == link || self.head_link == link || self.batches.iter().any(|b| b.link == link)
    }

    /// Forgets what stands behind that sequence number: it was never acknowledged, and the next segment continues before it.
    pub(super) fn cut_after(&mut self, sequence: u64) {
        while self
            .batches
            .last()
            .is_some_and(|b| b.link.sequence > sequence)
        {
            self.batches.pop();
        }
    }
}
