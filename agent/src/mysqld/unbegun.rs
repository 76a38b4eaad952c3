//! Binary log files over which a start of mysqld was killed: taken out before the next start.
//!
//! mysqld makes a file at each start, and writes only later into it which transactions came before. Killed in between, it takes that file
//! for the newest at the next start, finds no transactions in it, and forgets those that its crash recovery has committed: their numbers
//! are given again, and whoever has the first ones leaves the second ones out. (<https://bugs.mysql.com/bug.php?id=113489>; seen in
//! 9.7.4.) Such a file holds no transaction: none is written before its beginning is whole.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use vt_wire::binlog::{EVENT_HEADER_LENGTH, EventHeader, EventType, MAGIC};

use super::{Layout, rewind::binlog_files};
use crate::guard::{process, sync_parent};

/// A format description and the event behind it; a file whose beginning is whole and longer has begun.
const LENGTH_MAX: u64 = 64 << 10;

/// Takes the newest files out of the index and deletes them, as long as they have not begun; returns their names. Where mysqld runs this
/// changes nothing.
pub fn take_out(layout: &Layout) -> io::Result<Vec<String>> {
    if process::find_in(&layout.mysql_dir).is_some() {
        return Ok(Vec::new());
    }
    let mut files = binlog_files::list(&layout.mysql_dir)?;
    let mut taken = Vec::new();
    while let Some(newest) = files.last() {
        if !is_unbegun(newest)? {
            break;
        }
        taken.extend(files.pop());
    }
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let path = binlog_files::index(&layout.mysql_dir);
    let index = File::options().write(true).open(&path)?;
    let lines = fs::read_to_string(&path)?;
    let kept = lines.split_inclusive('\n').take(files.len());
    let kept_length: usize = kept.map(str::len).sum();
    // The index first: a file that it does not name is nobody's.
    index.set_len(kept_length as u64)?;
    index.sync_all()?;
    for file in &taken {
        fs::remove_file(file)?;
        sync_parent(file)?;
    }
    let name = |path: &PathBuf| path.file_name().map(|it| it.to_string_lossy().into());
    Ok(taken.iter().filter_map(name).collect())
}

/// Does the file lack the event that says which transactions came before? What cannot be read as a binary log has begun.
fn is_unbegun(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LENGTH_MAX).read_to_end(&mut bytes)?;
    let Some(events) = bytes.strip_prefix(&MAGIC) else {
        return Ok(false);
    };
    let Some((format, behind)) = split_event(events) else {
        return Ok(false);
    };
    let is_format = format.kind == EventType::FORMAT_DESCRIPTION;
    Ok(is_format && split_event(behind).is_none() && (bytes.len() as u64) < LENGTH_MAX)
}

/// The first event's header and what is behind the event, if all of it is there.
fn split_event(bytes: &[u8]) -> Option<(EventHeader, &[u8])> {
    let header = EventHeader::parse(bytes.get(..EVENT_HEADER_LENGTH)?).ok()?;
    let behind = bytes.get(usize::try_from(header.length).ok()?..)?;
    Some((header, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, length: u8) -> Vec<u8> {
        let mut event = vec![0; length.into()];
        event[4] = kind.0;
        event[9] = length;
        event
    }

    #[test]
    fn only_the_newest_that_have_not_begun_are_taken_out() {
        let format = [&MAGIC[..], &event(EventType::FORMAT_DESCRIPTION, 122)].concat();
        let before = event(EventType::PREVIOUS_GTIDS, 31);
        let begun = [&format[..], &before].concat();
        let half = [&format[..], &before[..30]].concat();
        let nothing: [String; 0] = [];
        for (contents, expected) in [
            (vec![&begun, &begun], &nothing[..]),
            (vec![&begun, &format], &["binlog.000002".to_owned()]),
            (vec![&begun, &half], &["binlog.000002".to_owned()]),
            (
                vec![&begun, &format, &format],
                &["binlog.000003".to_owned(), "binlog.000002".to_owned()],
            ),
            // An older one was left by who did not look.
            (vec![&begun, &format, &begun], &nothing),
            (vec![&begun, &b"something else".to_vec()], &nothing),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let layout = Layout::new(directory.path(), None);
            fs::create_dir(&layout.mysql_dir).unwrap();
            let mut index = String::new();
            for (number, content) in (1..).zip(&contents) {
                let name = format!("binlog.{number:06}");
                fs::write(layout.mysql_dir.join(&name), content).unwrap();
                index.push_str(&format!("./{name}\n"));
            }
            // The second name is that of a server that was killed over exchanging its index.
            let names = ["binlog.index", "binlog.index_crash_safe"];
            let name = names[contents.len() % names.len()];
            fs::write(layout.mysql_dir.join(name), index).unwrap();
            assert_eq!(take_out(&layout).unwrap(), expected);
            let left = binlog_files::list(&layout.mysql_dir).unwrap();
            assert_eq!(left.len(), contents.len() - expected.len());
            assert!(left.iter().all(|path| path.exists()));
            assert_eq!(
                fs::read_dir(&layout.mysql_dir).unwrap().count(),
                left.len() + 1
            );
        }
    }
}
