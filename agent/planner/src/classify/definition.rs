//! CREATE, ALTER, DROP, TRUNCATE, RENAME: whose business the named thing is.

use super::Head;
use crate::cursor::{Cursor, Item};
use crate::keyword::Keyword;
use crate::statement::Kind;
use crate::token::TokenKind;
use crate::traits::Traits;

/// More words than this never stand between CREATE and the kind of thing created: the definer, algorithms, OR REPLACE.
const WORDS_BEFORE_THING_MAX: usize = 24;

pub(super) fn head(first: Keyword, cursor: &mut Cursor<'_>) -> Head {
    if first == Keyword::Truncate {
        return ddl();
    }
    let Some(thing) = thing(cursor) else {
        return ddl();
    };
    match thing.keyword {
        Keyword::Database | Keyword::Schema => database(first, cursor),
        Keyword::Temporary => Head::with(Kind::Ddl, Traits::TEMPORARY_TABLE),
        Keyword::User | Keyword::Role => Head::with(Kind::Account, Traits::IMPLICIT_COMMIT),
        Keyword::Prepare => Head::with(
            Kind::Deallocate {
                name: cursor.name(),
            },
            Traits::TEXT_PREPARE,
        ),
        Keyword::Server
        | Keyword::Tablespace
        | Keyword::Logfile
        | Keyword::Resource
        | Keyword::Instance
        | Keyword::Undo => Head::of(Kind::Administration),
        Keyword::Spatial if cursor.peek_keyword() != Keyword::Index => {
            Head::of(Kind::Administration)
        }
        Keyword::Procedure | Keyword::Function | Keyword::Trigger | Keyword::Event => Head {
            is_program: first != Keyword::Drop,
            ..ddl()
        },
        _ => ddl(),
    }
}

fn ddl() -> Head {
    Head::with(Kind::Ddl, Traits::IMPLICIT_COMMIT)
}

/// The word for what is created, behind `OR REPLACE`, `DEFINER = a@b`, `AGGREGATE`, `UNIQUE`, `ALGORITHM = x` and so on.
fn thing(cursor: &mut Cursor<'_>) -> Option<Item> {
    cursor
        .by_ref()
        .take(WORDS_BEFORE_THING_MAX)
        .take_while(|item| item.kind != TokenKind::Semicolon)
        .find(|item| {
            use Keyword as K;
            matches!(
                item.keyword,
                K::Database
                    | K::Schema
                    | K::Temporary
                    | K::User
                    | K::Role
                    | K::Prepare
                    | K::Server
                    | K::Tablespace
                    | K::Logfile
                    | K::Resource
                    | K::Instance
                    | K::Undo
                    | K::Spatial
                    | K::Procedure
                    | K::Function
                    | K::Trigger
                    | K::Event
                    | K::Table
                    | K::Tables
                    | K::View
                    | K::Index
                    | K::Library
            )
        })
}

fn database(first: Keyword, cursor: &mut Cursor<'_>) -> Head {
    let existence = cursor.take_existence();
    let kind = match first {
        Keyword::Create => Kind::CreateDatabase {
            name: cursor.name(),
            if_not_exists: existence,
        },
        Keyword::Drop => Kind::DropDatabase {
            name: cursor.name(),
            if_exists: existence,
        },
        _ => {
            // The name may be left out: ALTER DATABASE CHARACTER SET utf8mb4.
            let next = cursor.peek();
            let names_option = next.is_none_or(|item| {
                use Keyword as K;
                matches!(
                    item.keyword,
                    K::Character | K::Charset | K::Collate | K::Default | K::Read
                )
            });
            Kind::AlterDatabase {
                name: next.filter(|_| !names_option).map(|item| item.span),
            }
        }
    };
    Head::with(kind, Traits::IMPLICIT_COMMIT)
}
