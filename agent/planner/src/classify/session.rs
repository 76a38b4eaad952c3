//! Statements about the session and the server: SHOW, EXPLAIN, text PREPARE, KILL, FLUSH.

use super::Head;
use crate::cursor::Cursor;
use crate::keyword::Keyword;
use crate::statement::{Flush, Kill, Kind, Show};
use crate::token::TokenKind;
use crate::traits::Traits;

/// `SHOW [FULL | EXTENDED | GLOBAL | ..] what`
pub(super) fn show(cursor: &mut Cursor<'_>) -> Head {
    use Keyword as K;
    let mut word = cursor.keyword();
    let full = word == K::Full;
    while matches!(
        word,
        K::Full | K::Extended | K::Global | K::Session | K::Local | K::Open
    ) {
        word = cursor.keyword();
    }
    let show = match word {
        K::Databases | K::Schemas => Show::Databases,
        K::Tables => Show::Tables,
        K::Table | K::Triggers | K::Events => Show::TableLike,
        K::Columns | K::Fields => Show::Columns,
        K::Index | K::Indexes | K::Keys => Show::Index,
        K::Create if matches!(cursor.peek_keyword(), K::Database | K::Schema) => {
            Show::CreateDatabase
        }
        K::Create => Show::Create,
        K::Warnings => Show::Warnings,
        K::Errors => Show::Errors,
        K::Count => counted(cursor),
        K::Variables => Show::Variables,
        K::Status => Show::Status,
        K::Vitrail if cursor.accept(K::Queries) => Show::VitrailQueries,
        K::Vitrail if cursor.accept(K::Sessions) => Show::VitrailSessions,
        K::Processlist => Show::Processlist { full },
        K::Grants if is_own(cursor) => Show::Grants,
        _ => Show::Other,
    };
    let traits = match show {
        Show::Warnings | Show::Errors => Traits::DIAGNOSTICS,
        _ => Traits::NONE,
    };
    Head::with(Kind::Show(show), traits)
}

/// `SHOW GRANTS [FOR CURRENT_USER[()]]`, and not those of somebody else.
fn is_own(cursor: &mut Cursor<'_>) -> bool {
    !cursor.accept(Keyword::For)
        || cursor
            .peek()
            .is_some_and(|item| cursor.text(item).eq_ignore_ascii_case(b"current_user"))
}

/// `SHOW COUNT(*) WARNINGS`
fn counted(cursor: &mut Cursor<'_>) -> Show {
    match cursor.nth(3).map(|item| item.keyword) {
        Some(Keyword::Errors) => Show::Errors,
        _ => Show::Warnings,
    }
}

/// `USE shop`; also `USE shop@replica`, whose two tokens are one name without a blank between them.
pub(super) fn use_database(cursor: &mut Cursor<'_>) -> Head {
    let mut database = cursor.name();
    let target = cursor
        .peek()
        .filter(|item| item.kind == TokenKind::UserVariable && item.span.start == database.end);
    if let Some(target) = target {
        database.end = target.span.end;
    }
    Head::of(Kind::Use { database })
}

pub(super) fn explain(cursor: &mut Cursor<'_>) -> Head {
    Head::of(Kind::Explain {
        analyze: cursor.accept(Keyword::Analyze),
    })
}

pub(super) fn prepared(first: Keyword, cursor: &mut Cursor<'_>) -> Head {
    if first == Keyword::Deallocate {
        cursor.accept(Keyword::Prepare);
    }
    let name = cursor.name();
    let kind = match first {
        Keyword::Prepare => Kind::Prepare { name },
        Keyword::Execute => Kind::Execute { name },
        _ => Kind::Deallocate { name },
    };
    Head::with(kind, Traits::TEXT_PREPARE)
}

pub(super) fn kill(cursor: &mut Cursor<'_>) -> Head {
    let is_query = cursor.accept(Keyword::Query);
    if !is_query {
        cursor.accept(Keyword::ConnectionWord);
    }
    let id = cursor
        .next()
        .filter(|item| item.kind == TokenKind::Number)
        .and_then(|item| str::from_utf8(cursor.text(item)).ok()?.parse().ok());
    Head::of(Kind::Kill(Kill {
        connection: !is_query,
        id,
    }))
}

/// `FLUSH [LOCAL | NO_WRITE_TO_BINLOG] TABLES [names] [WITH READ LOCK | FOR EXPORT]`
pub(super) fn flush(cursor: &mut Cursor<'_>) -> Head {
    let is_tables = cursor
        .by_ref()
        .take(2)
        .any(|item| matches!(item.keyword, Keyword::Table | Keyword::Tables));
    if !is_tables {
        return Head::with(Kind::Flush(Flush::Other), Traits::IMPLICIT_COMMIT);
    }
    let locks = cursor
        .take_while(|item| item.kind != TokenKind::Semicolon)
        .any(|item| matches!(item.keyword, Keyword::With | Keyword::For));
    if locks {
        let traits = Traits::IMPLICIT_COMMIT | Traits::TABLE_LOCK;
        return Head::with(Kind::Flush(Flush::TablesWithLock), traits);
    }
    Head::with(Kind::Flush(Flush::Tables), Traits::IMPLICIT_COMMIT)
}
