//! Reads a log that is there. Only one thing may be missing: the last write, whole or in parts, if nobody was told of it.
//!
//! Everything else is refused: a segment that ends before the next one begins, a record behind one that is wrong, an end before
//! what is known to be acknowledged, an entry that is missing.

use std::{collections::VecDeque, io};

use vt_proto::wire::RaftEntry;

use super::{
    super::files::Folder,
    Active, Closed, Log, LogError, Sizes,
    acknowledged::{self, Acknowledged, Reached},
    record::{self, Link},
    replay::Replay,
    segment::{self, Segment},
};

impl Log {
    /// The log and the entries in force. `passed`: what an earlier opening had reached, and this one must have too.
    pub(in crate::storage) fn open(
        folder: Box<dyn Folder>,
        directory_id: &str,
        sizes: Sizes,
        passed: Option<Link>,
    ) -> Result<(Self, Vec<RaftEntry>), LogError> {
        let (acknowledged, reached) = read_acknowledged(folder.as_ref(), directory_id)?;
        let numbers = newest_run(folder.as_ref(), reached)?;
        let mut reader = Reader::default();
        for number in numbers.clone() {
            let bytes = folder.open(&segment::name(number))?.read()?;
            reader.take(Segment::read(number, directory_id, bytes)?)?;
        }
        let Some(mut last) = reader.pending.take() else {
            return Err(LogError::damaged(&segment::name(1), "it is missing"));
        };
        check_end(&last, reached, passed)?;
        let last_index = reader.replay_segment(&mut last)?;
        let (situation, entries) = reader.replay.finish().map_err(|missing| {
            let before = numbers.start().saturating_sub(1);
            let what = format!("it is missing, and with it entry {missing}");
            LogError::damaged(&segment::name(before), what)
        })?;
        let (link, at) = last.end();
        let active = Active {
            number: last.head.number,
            file: folder.open(&segment::name(last.head.number))?,
            at: at as u64,
            length: last.bytes.len() as u64,
            last_index,
            holds_batches: !last.batches.is_empty(),
        };
        if last.bytes[at..].iter().any(|byte| *byte != 0) {
            let zeros = vec![0; last.bytes.len() - at];
            active.file.write_at(&zeros, active.at)?;
        }
        // What an ended process wrote last may not be on disk yet, and counts from now on.
        active.file.sync()?;
        remove_leftovers(folder.as_ref(), *numbers.start())?;
        let log = Self {
            folder,
            directory_id: directory_id.to_owned(),
            sizes,
            closed: reader.closed,
            active,
            has_spare: false,
            link,
            situation,
            acknowledged,
            buffer: Vec::new(),
        };
        Ok((log, entries))
    }
}

fn read_acknowledged(
    folder: &dyn Folder,
    directory_id: &str,
) -> Result<(Acknowledged, Reached), LogError> {
    let damaged = |what| LogError::damaged(acknowledged::FILE, what);
    match Acknowledged::open(folder, directory_id) {
        Ok((acknowledged, Some(reached))) => Ok((acknowledged, reached)),
        Ok((_, None)) => Err(damaged("its checksums are wrong")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged("it is missing")),
        Err(error) => Err(error.into()),
    }
}

/// The numbers of the newest segments without a gap: what is before a gap was on its way out.
fn newest_run(
    folder: &dyn Folder,
    reached: Reached,
) -> Result<std::ops::RangeInclusive<u64>, LogError> {
    let names = folder.names()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment::number(n)).collect();
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or(0);
    if last == 0 || last < reached.segment {
        let missing = segment::name(reached.segment.max(1));
        return Err(LogError::damaged(&missing, "it is missing"));
    }
    let mut first = last;
    while first > 1 && numbers.binary_search(&(first - 1)).is_ok() {
        first -= 1;
    }
    Ok(first..=last)
}

/// The last segment may end with a torn record, if it was never acknowledged.
fn check_end(last: &Segment, reached: Reached, passed: Option<Link>) -> Result<(), LogError> {
    let (link, at) = last.end();
    let damaged = |what| LogError::damaged(&segment::name(last.head.number), what);
    if link.sequence < reached.sequence {
        return Err(damaged(format!(
            "it ends at byte {at} ({}) before entry {} that this member has acknowledged",
            last.broken, reached.last_index
        )));
    }
    if let Some(later) = record::find_later(&last.bytes, at, link.sequence) {
        return Err(damaged(format!(
            "{} at byte {at}, and a later record stands at byte {later}",
            last.broken
        )));
    }
    if passed.is_some_and(|passed| !last.passes(passed)) {
        return Err(damaged("it is not what was written".to_owned()));
    }
    Ok(())
}

/// Puts segments together. One is held back until the next one says where it must end.
#[derive(Default)]
struct Reader {
    replay: Replay,
    closed: VecDeque<Closed>,
    pending: Option<Segment>,
    is_later: bool,
}

impl Reader {
    fn take(&mut self, next: Segment) -> Result<(), LogError> {
        if let Some(mut before) = self.pending.take() {
            let file = segment::name(before.head.number);
            before.cut_after(next.before.sequence);
            let (link, at) = before.end();
            if link != next.before {
                let what = format!(
                    "it ends at byte {at} ({}) with batch {}, and the next file continues batch {}",
                    before.broken, link.sequence, next.before.sequence
                );
                return Err(LogError::damaged(&file, what));
            }
            let last_index = self.replay_segment(&mut before)?;
            self.closed.push_back(Closed {
                number: before.head.number,
                length: before.bytes.len() as u64,
                last_index,
            });
        }
        self.pending = Some(next);
        Ok(())
    }

    /// Returns the last entry that stands in it.
    fn replay_segment(&mut self, segment: &mut Segment) -> Result<u64, LogError> {
        let file = segment::name(segment.head.number);
        let damaged = |what| LogError::damaged(&file, what);
        self.replay
            .begin(&segment.head, !self.is_later)
            .map_err(damaged)?;
        self.is_later = true;
        let mut last_index = 0;
        for batch in &mut segment.batches {
            let record = std::mem::take(&mut batch.record);
            last_index = record
                .entries
                .last()
                .map_or(last_index, |e| last_index.max(e.index));
            self.replay.apply(record).map_err(damaged)?;
        }
        Ok(last_index)
    }
}

/// Removes what is neither a segment in use nor known.
fn remove_leftovers(folder: &dyn Folder, first: u64) -> io::Result<()> {
    for name in folder.names()? {
        let in_use = segment::number(&name).is_some_and(|number| number >= first);
        if !in_use && name != acknowledged::FILE {
            folder.remove(&name)?;
        }
    }
    folder.sync()
}
