//! BEGIN, COMMIT, ROLLBACK, savepoints, XA, table locks.

use super::Head;
use crate::cursor::Cursor;
use crate::keyword::Keyword;
use crate::statement::{Begin, Completion, Kind};
use crate::traits::Traits;

pub(super) fn head(first: Keyword, cursor: &mut Cursor<'_>) -> Head {
    match first {
        Keyword::Begin => begin(Begin::default()),
        Keyword::Start if cursor.accept(Keyword::Transaction) => begin(start_options(cursor)),
        Keyword::Start => Head::of(Kind::Administration),
        Keyword::Commit => Head::of(Kind::Commit(completion(cursor))),
        Keyword::Rollback => rollback(cursor),
        Keyword::Savepoint => Head::of(Kind::Savepoint {
            name: cursor.name(),
        }),
        Keyword::Release => {
            cursor.accept(Keyword::Savepoint);
            Head::of(Kind::ReleaseSavepoint {
                name: cursor.name(),
            })
        }
        _ => Head::with(Kind::Xa, Traits::XA),
    }
}

pub(super) fn lock(first: Keyword, cursor: &mut Cursor<'_>) -> Head {
    let is_instance = cursor.accept(Keyword::Instance);
    match (first, is_instance) {
        (_, true) => Head::with(Kind::LockInstance, Traits::TABLE_LOCK),
        (Keyword::Lock, false) => Head::with(
            Kind::LockTables,
            Traits::TABLE_LOCK | Traits::IMPLICIT_COMMIT,
        ),
        (_, false) => Head::with(Kind::UnlockTables, Traits::IMPLICIT_COMMIT),
    }
}

/// A transaction that is open is committed by the next BEGIN.
fn begin(begin: Begin) -> Head {
    Head::with(Kind::Begin(begin), Traits::IMPLICIT_COMMIT)
}

fn start_options(cursor: &mut Cursor<'_>) -> Begin {
    let mut begin = Begin::default();
    let mut previous = Keyword::None;
    for item in cursor.take_while(|item| item.kind.is_name() || item.symbol == b',') {
        match (previous, item.keyword) {
            (Keyword::Read, Keyword::Only) => begin.read_only = true,
            (Keyword::Consistent, Keyword::Snapshot) => begin.consistent_snapshot = true,
            _ => {}
        }
        previous = item.keyword;
    }
    begin
}

/// `[WORK] [AND [NO] CHAIN] [[NO] RELEASE]`
fn completion(cursor: &mut Cursor<'_>) -> Completion {
    let mut completion = Completion::default();
    let mut previous = Keyword::None;
    for item in cursor.take_while(|item| item.kind.is_name()) {
        match item.keyword {
            Keyword::Chain => completion.chain = previous != Keyword::No,
            Keyword::Release => completion.release = previous != Keyword::No,
            _ => {}
        }
        previous = item.keyword;
    }
    completion
}

fn rollback(cursor: &mut Cursor<'_>) -> Head {
    cursor.accept(Keyword::Work);
    if !cursor.accept(Keyword::To) {
        return Head::of(Kind::Rollback(completion(cursor)));
    }
    cursor.accept(Keyword::Savepoint);
    Head::of(Kind::RollbackToSavepoint {
        name: cursor.name(),
    })
}
