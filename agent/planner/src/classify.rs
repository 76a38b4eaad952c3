//! From text to [`Statement`]: the head says the kind, one walk over the body finds traits, schema names and the end.
//! Never rejects anything: what it does not know is `Kind::Other` and the server's to judge.

mod body;
mod definition;
mod head;
mod program;
mod session;
mod set;
mod transaction;

use crate::cursor::Cursor;
use crate::options::LexOptions;
use crate::statement::{Kind, Statement};
use crate::token::{Span, TokenKind};
use crate::traits::Traits;

/// What the first words of a statement say.
pub(crate) struct Head {
    kind: Kind,
    traits: Traits,
    /// CREATE PROCEDURE, FUNCTION, TRIGGER, EVENT: a body with semicolons of its own may follow.
    is_program: bool,
}

impl Head {
    fn of(kind: Kind) -> Head {
        Head {
            kind,
            traits: Traits::NONE,
            is_program: false,
        }
    }

    fn with(kind: Kind, traits: Traits) -> Head {
        Head {
            kind,
            traits,
            is_program: false,
        }
    }
}

/// Classifies the first statement of a text.
pub fn classify(sql: &[u8], options: &LexOptions) -> Statement {
    classify_at(sql, 0, options)
}

/// Classifies every statement of a text, in order; at least one comes, if only an empty one.
pub fn statements<'a>(
    sql: &'a [u8],
    options: &'a LexOptions,
) -> impl Iterator<Item = Statement> + 'a {
    let mut from = Some(0);
    std::iter::from_fn(move || {
        let statement = classify_at(sql, from?, options);
        from = statement.rest;
        Some(statement)
    })
}

fn classify_at(sql: &[u8], offset: usize, options: &LexOptions) -> Statement {
    let mut cursor = Cursor::new(sql, offset, options);
    let start = cursor.clone();
    let Some(first) = cursor
        .next()
        .filter(|item| item.kind != TokenKind::Semicolon)
    else {
        return empty(sql, start);
    };
    let head = head::head(first, &mut cursor);
    body::Scanner::new(start, head).scan(first.span.start)
}

fn empty(sql: &[u8], mut cursor: Cursor<'_>) -> Statement {
    let at = cursor.next().map_or(sql.len(), |item| item.span.start);
    let rest = cursor.rest();
    let traits = match cursor.passed_open_comment {
        true => Traits::OPEN_VERSION_COMMENT,
        false => Traits::NONE,
    };
    Statement {
        span: Span::new(at, at),
        kind: Kind::Empty,
        traits,
        schemas: Vec::new(),
        rest,
    }
}
