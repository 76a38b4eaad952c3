//! The binary log files of a server that is down: which there are, and where its tail begins. It changes none.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use vt_proto::gtid::{GtidSet, GtidSource};
use vt_wire::binlog::{BinlogWalker, EVENT_HEADER_LENGTH, EventHeader, MAGIC, TransactionId, Walk};

const INDEX: &str = "binlog.index";
/// Takes the index' place when that changes.
const NEXT_INDEX: &str = "binlog.index_crash_safe";
/// Bytes read at once while walking over a file: events are small, and a read for each would be slow.
const WINDOW_LENGTH: usize = 1 << 20;
/// Files looked at, newest first, for the last transaction that was kept; more would be a server without own writes.
const FILES_MAX: usize = 10_000;

/// The part of the last file that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub path: PathBuf,
    pub server_uuid: String,
    /// Where its first transaction begins.
    pub offset: u64,
    pub end: u64,
    pub gtids: GtidSet,
}

impl Tail {
    pub fn name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    pub fn length_bytes(&self) -> u64 {
        self.end - self.offset
    }

    /// Copies the tail behind the file's format description, so that it can be read alone; on disk when this returns.
    pub fn copy_to(&self, target: &Path) -> io::Result<()> {
        let mut source = File::open(&self.path)?;
        let mut header = [0; MAGIC.len() + EVENT_HEADER_LENGTH];
        source.read_exact(&mut header)?;
        let format = EventHeader::parse(&header[MAGIC.len()..]).map_err(io::Error::other)?;
        let mut copy = File::create(target)?;
        source.seek(SeekFrom::Start(0))?;
        let head_length = MAGIC.len() as u64 + u64::from(format.length);
        io::copy(&mut (&source).take(head_length), &mut copy)?;
        source.seek(SeekFrom::Start(self.offset))?;
        io::copy(&mut (&source).take(self.length_bytes()), &mut copy)?;
        copy.flush()?;
        copy.sync_all()
    }
}

/// The tail of `uuid`'s transactions that are not in `kept`; the error says why it cannot be cut.
pub fn find_tail(mysql_dir: &Path, uuid: &str, kept: &GtidSet) -> Result<Option<Tail>, String> {
    let files = list(mysql_dir).map_err(|error| format!("{INDEX} cannot be read: {error}"))?;
    let mut tail = None;
    for (age, path) in files.iter().rev().take(FILES_MAX).enumerate() {
        let found =
            walk(path, uuid, kept).map_err(|error| format!("{}: {error}", path.display()))?;
        match (age, found.lost) {
            (0, Some(lost)) if lost.is_followed => {
                return Err(format!(
                    "behind {}, which was not kept, {} holds other transactions",
                    lost.gtids,
                    path.display()
                ));
            }
            (0, Some(lost)) => {
                tail = Some(Tail {
                    path: path.clone(),
                    server_uuid: uuid.to_owned(),
                    offset: lost.offset,
                    end: found.end,
                    gtids: lost.gtids,
                });
            }
            (_, Some(lost)) => {
                return Err(format!(
                    "{} was not kept and is not in the last binary log file but in {}",
                    lost.gtids,
                    path.display()
                ));
            }
            (_, None) => {}
        }
        // Own transactions are in the order of their numbers: before one that was kept, all were.
        if found.has_kept {
            break;
        }
    }
    if tail.is_some() && kept.of_server(uuid).is_empty() && kept.is_empty() {
        return Err("nothing is known of what was kept".to_owned());
    }
    Ok(tail)
}

/// What names all files, the oldest first. Where mysqld was killed over exchanging it, the one that mysqld takes at its next start.
pub fn index(mysql_dir: &Path) -> PathBuf {
    let [index, next] = [INDEX, NEXT_INDEX].map(|name| mysql_dir.join(name));
    match !index.exists() && next.exists() {
        true => next,
        false => index,
    }
}

/// All binary log files, the oldest first.
pub fn list(mysql_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let index = match fs::read_to_string(index(mysql_dir)) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // Relative to the data directory, as `./binlog.000001`.
    Ok(index
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| mysql_dir.join(line.strip_prefix("./").unwrap_or(line)))
        .collect())
}

/// What one file holds of a server.
struct Walked {
    has_kept: bool,
    lost: Option<Lost>,
    /// The file's length: half an event at its end belongs to the tail.
    end: u64,
}

struct Lost {
    offset: u64,
    gtids: GtidSet,
    /// Something else comes behind: it is no tail.
    is_followed: bool,
}

fn walk(path: &Path, uuid: &str, kept: &GtidSet) -> Result<Walked, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let end = file.metadata().map_err(|error| error.to_string())?.len();
    let mut walked = Walked {
        has_kept: false,
        lost: None,
        end,
    };
    let mut window = Window::new(file);
    let mut walker = BinlogWalker::new(end);
    let mut step = walker.start();
    loop {
        step = match step {
            Walk::Read { offset, length } => {
                let bytes = window
                    .read(offset, length)
                    .map_err(|error| error.to_string())?;
                walker.feed(bytes).map_err(|error| error.to_string())?
            }
            Walk::Transaction(found) => {
                let (source, number) = name(&found.id)?;
                walked.note(source, number, found.offset, uuid, kept);
                walker.resume()
            }
            Walk::End { .. } => return Ok(walked),
        };
    }
}

impl Walked {
    fn note(&mut self, source: GtidSource, number: u64, offset: u64, uuid: &str, kept: &GtidSet) {
        let is_own = source.uuid().eq_ignore_ascii_case(uuid);
        let is_lost = is_own && !kept.has(&source, number);
        match &mut self.lost {
            Some(lost) if is_lost => lost.gtids.add(source, number, number),
            Some(lost) => lost.is_followed = true,
            None if is_lost => {
                let mut gtids = GtidSet::new();
                gtids.add(source, number, number);
                self.lost = Some(Lost {
                    offset,
                    gtids,
                    is_followed: false,
                });
            }
            None => self.has_kept |= is_own,
        }
    }
}

fn name(id: &TransactionId) -> Result<(GtidSource, u64), String> {
    let tag = String::from_utf8_lossy(&id.tag);
    let source = GtidSource::from_bytes(id.sid, &tag).map_err(|error| error.to_string())?;
    if id.gno == 0 {
        return Err(format!("a transaction of {source:?} has no number"));
    }
    Ok((source, id.gno))
}

/// Reads a file in large pieces.
struct Window {
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(file: File) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Exactly these bytes; fewer only where the file ends.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let wanted_end = offset + length as u64;
        let has_all = offset >= self.start && wanted_end <= self.start + self.bytes.len() as u64;
        if !has_all {
            self.fill(offset, length.max(WINDOW_LENGTH))?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self
                .file
                .read_at(&mut self.bytes[filled..], offset + filled as u64)?
            {
                0 => break,
                read => filled += read,
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
