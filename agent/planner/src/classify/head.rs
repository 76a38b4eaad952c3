//! The kind of a statement by its first words.

use super::{Head, definition, session, set, transaction};
use crate::cursor::{Cursor, Item};
use crate::keyword::Keyword;
use crate::statement::Kind;
use crate::traits::Traits;

/// Reads on from behind `first`; how far is nobody's business, the body is walked from the start again.
pub(super) fn head(first: Item, cursor: &mut Cursor<'_>) -> Head {
    use Keyword as K;
    match first.keyword {
        K::None if first.symbol == b'(' => parenthesised(cursor),
        K::Select | K::Table | K::Values => Head::of(Kind::Select),
        K::With => with(cursor),
        K::Insert => Head::of(Kind::Insert),
        K::Replace => Head::of(Kind::Replace),
        K::Update => Head::of(Kind::Update),
        K::Delete => Head::of(Kind::Delete),
        K::Do => Head::of(Kind::Do),
        K::Call => Head::of(Kind::Call),
        K::Load => load(cursor),
        K::Begin | K::Start | K::Commit | K::Rollback | K::Savepoint | K::Release | K::Xa => {
            transaction::head(first.keyword, cursor)
        }
        K::Lock | K::Unlock => transaction::lock(first.keyword, cursor),
        K::Set => set::head(cursor),
        K::Use => session::use_database(cursor),
        K::Show => session::show(cursor),
        K::Vexplain => Head::of(Kind::Vexplain {
            from: first.span.end,
        }),
        K::Explain | K::Describe | K::Desc => session::explain(cursor),
        K::Prepare | K::Execute | K::Deallocate => session::prepared(first.keyword, cursor),
        K::Handler => Head::with(Kind::Handler, Traits::HANDLER),
        K::Get => Head::with(Kind::GetDiagnostics, Traits::DIAGNOSTICS),
        K::Signal | K::Resignal => Head::of(Kind::Signal),
        K::Kill => session::kill(cursor),
        K::Flush => session::flush(cursor),
        K::Create | K::Alter | K::Drop | K::Truncate | K::Rename => {
            definition::head(first.keyword, cursor)
        }
        K::Analyze | K::Optimize | K::Repair | K::Check | K::Cache => {
            Head::with(Kind::Maintenance, Traits::IMPLICIT_COMMIT)
        }
        K::Checksum => Head::of(Kind::Maintenance),
        K::Grant | K::Revoke => Head::with(Kind::Account, Traits::IMPLICIT_COMMIT),
        K::Purge
        | K::Change
        | K::Stop
        | K::Reset
        | K::Clone
        | K::Shutdown
        | K::Restart
        | K::Install
        | K::Uninstall
        | K::Binlog
        | K::Import => Head::of(Kind::Administration),
        _ => Head::of(Kind::Other),
    }
}

fn parenthesised(cursor: &mut Cursor<'_>) -> Head {
    let inner = cursor.find(|item| item.symbol != b'(');
    match inner.map(|item| item.keyword) {
        Some(Keyword::Select | Keyword::Table | Keyword::Values | Keyword::With) => {
            Head::of(Kind::Select)
        }
        _ => Head::of(Kind::Other),
    }
}

/// Behind the common table expressions stands the word that counts.
fn with(cursor: &mut Cursor<'_>) -> Head {
    let mut depth = 0usize;
    for item in cursor {
        match (item.symbol, item.keyword) {
            (b'(', _) => depth += 1,
            (b')', _) => depth = depth.saturating_sub(1),
            (_, Keyword::Select | Keyword::Table | Keyword::Values) if depth == 0 => break,
            (_, Keyword::Update) if depth == 0 => return Head::of(Kind::Update),
            (_, Keyword::Delete) if depth == 0 => return Head::of(Kind::Delete),
            _ => {}
        }
    }
    Head::of(Kind::Select)
}

/// `LOAD DATA [LOW_PRIORITY | CONCURRENT] [LOCAL] INFILE`, `LOAD XML` alike, `LOAD INDEX INTO CACHE`.
fn load(cursor: &mut Cursor<'_>) -> Head {
    if cursor.keyword() == Keyword::Index {
        return Head::with(Kind::Maintenance, Traits::IMPLICIT_COMMIT);
    }
    let local = cursor
        .take_while(|item| item.keyword != Keyword::Infile && item.kind.is_name())
        .any(|item| item.keyword == Keyword::Local);
    Head::of(Kind::LoadData { local })
}
