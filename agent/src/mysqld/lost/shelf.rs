//! Operators' questions about transactions that were cut off and are kept on this host: a piece of them is read, or they are removed.
//! Nothing but what is reported can be named, and no row is ever logged.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
};

use tokio::sync::{mpsc, oneshot};
use vt_proto::{
    gtid::GtidSet,
    report::LostTransactions,
    wire::{LostAnswer, LostRequest, lost_request::What},
};

use super::list;
use crate::{guard::sync_parent, mysqld::rewind::TAIL_FILE};

/// Questions that wait while the disk hangs: an operator asks one after the other.
const QUESTIONS_MAX: usize = 2;
/// Of one piece: a message of a stream is at most four times as long.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// A question, and who waits for the answer.
pub type Question = (LostRequest, oneshot::Sender<LostAnswer>);

/// Starts a thread that answers, one question after the other, because the disk may hang. It ends when nobody can ask any more.
pub fn serve_lost(directory: PathBuf) -> mpsc::Sender<Question> {
    let (sender, mut questions) = mpsc::channel::<Question>(QUESTIONS_MAX);
    thread::spawn(move || {
        while let Some((request, waiter)) = questions.blocking_recv() {
            let id = request.id;
            let answer = answer(&directory, &request).unwrap_or_else(|why| LostAnswer {
                error: Some(why),
                ..LostAnswer::default()
            });
            // Who asked may have gone.
            let _ = waiter.send(LostAnswer { id, ..answer });
        }
    });
    sender
}

fn answer(directory: &Path, request: &LostRequest) -> Result<LostAnswer, String> {
    let kept = find(directory, &request.directory)?;
    let path = Path::new(&kept.directory);
    match &request.what {
        Some(What::Read(piece)) => {
            let length = usize::try_from(piece.length_max).unwrap_or(PIECE_BYTES_MAX);
            let tail = path.join(TAIL_FILE);
            read(&tail, piece.offset, length.min(PIECE_BYTES_MAX))
                .map_err(|error| format!("{}: {error}", tail.display()))
        }
        Some(What::Forget(forget)) => {
            remove(path, &kept.gtids, &forget.gtids)?;
            Ok(LostAnswer::default())
        }
        None => Err("this agent does not know what is asked: upgrade it".to_owned()),
    }
}

/// By its name among what lies there: a path that leads elsewhere is none of these.
fn find(directory: &Path, name: &str) -> Result<LostTransactions, String> {
    let path = directory.join(name);
    let is_named = |kept: &LostTransactions| {
        let kept = Path::new(&kept.directory);
        kept == path && kept.file_name().is_some_and(|known| known == name)
    };
    let found = list(directory).kept.into_iter().find(is_named);
    found.ok_or_else(|| {
        format!(
            "{} keeps nothing of this name: '{name}'",
            directory.display()
        )
    })
}

fn read(tail: &Path, offset: u64, length: usize) -> std::io::Result<LostAnswer> {
    let file = File::open(tail)?;
    let total_bytes = file.metadata()?.len();
    let left = usize::try_from(total_bytes.saturating_sub(offset)).unwrap_or(length);
    let mut content = vec![0; length.min(left)];
    file.read_exact_at(&mut content, offset)?;
    Ok(LostAnswer {
        content,
        total_bytes,
        ..LostAnswer::default()
    })
}

/// Only what was looked at: what lies there may have become another since.
fn remove(path: &Path, kept: &GtidSet, named: &str) -> Result<(), String> {
    let named: GtidSet = named
        .parse()
        .map_err(|error| format!("'{named}' is no GTID set: {error}"))?;
    if named != *kept {
        return Err(format!(
            "{} holds {kept}, and {named} are to be removed: look again with `vtctl lost list`",
            path.display()
        ));
    }
    let removed = fs::remove_dir_all(path).and_then(|()| sync_parent(path));
    removed.map_err(|error| format!("{} cannot be removed: {error}", path.display()))?;
    tracing::info!(directory = %path.display(), gtids = %kept, "lost transactions are removed, as an operator wants it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use vt_proto::wire;

    use super::*;
    use crate::mysqld::rewind::METADATA_FILE;

    const GTIDS: &str = "aaaaaaaa-1111-2222-3333-444444444444:5-7";

    fn shelf(directory: &Path) -> mpsc::Sender<Question> {
        let kept = directory.join("lost/3-uuid");
        fs::create_dir_all(&kept).unwrap();
        let metadata = format!(
            r#"{{"epoch": 3, "gtids": "{GTIDS}", "transactions": 3, "length_bytes": 9,
                "cut_at_utc": "2026-01-01T00:00:00Z"}}"#
        );
        fs::write(kept.join(METADATA_FILE), metadata).unwrap();
        fs::write(kept.join(TAIL_FILE), "0123456789").unwrap();
        fs::write(directory.join("secret"), "not kept here").unwrap();
        serve_lost(directory.join("lost"))
    }

    async fn ask(shelf: &mpsc::Sender<Question>, directory: &str, what: What) -> LostAnswer {
        let request = LostRequest {
            id: 4,
            directory: directory.to_owned(),
            what: Some(what),
        };
        let (waiter, answer) = oneshot::channel();
        shelf.send((request, waiter)).await.unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.id, 4);
        answer
    }

    #[tokio::test]
    async fn pieces_are_read_up_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = shelf(directory.path());
        for (offset, length_max, expected) in
            [(0, 4, "0123"), (4, 99, "456789"), (10, 4, ""), (99, 4, "")]
        {
            let piece = What::Read(wire::ReadLost { offset, length_max });
            let answer = ask(&shelf, "3-uuid", piece).await;
            assert_eq!(answer.error, None);
            assert_eq!(answer.content, expected.as_bytes(), "{offset}");
            assert_eq!(answer.total_bytes, 10);
        }
        for elsewhere in ["", ".", "..", "../lost/3-uuid", "4-uuid", "3-uuid/", "/etc"] {
            let piece = What::Read(wire::ReadLost {
                offset: 0,
                length_max: 9,
            });
            let answer = ask(&shelf, elsewhere, piece).await;
            assert!(
                answer.error.is_some() && answer.content.is_empty(),
                "{elsewhere}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_named_exactly_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = shelf(directory.path());
        let forget = |gtids: &str| {
            What::Forget(wire::ForgetLost {
                gtids: gtids.to_owned(),
            })
        };
        for wrong in ["", "aaaaaaaa-1111-2222-3333-444444444444:5-8", "5-7"] {
            let answer = ask(&shelf, "3-uuid", forget(wrong)).await;
            assert!(answer.error.is_some(), "{wrong}");
        }
        assert_eq!(ask(&shelf, "3-uuid", forget(GTIDS)).await.error, None);
        assert_eq!(
            fs::read_dir(directory.path().join("lost")).unwrap().count(),
            0
        );
        let again = ask(&shelf, "3-uuid", forget(GTIDS)).await;
        assert!(again.error.unwrap().contains("nothing of this name"));
    }
}
