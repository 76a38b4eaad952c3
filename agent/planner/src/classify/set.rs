//! SET in all its forms, cut into assignments. Values stay the bytes they are; nothing is evaluated here.

use super::Head;
use crate::cursor::{Cursor, Item};
use crate::keyword::Keyword;
use crate::statement::{Assignment, Kind, Scope};
use crate::token::{Span, TokenKind, unquote};
use crate::traits::Traits;

pub(super) fn head(cursor: &mut Cursor<'_>) -> Head {
    use Keyword as K;
    match cursor.peek_keyword() {
        K::Transaction => transaction(Scope::NextTransaction),
        K::Global if second_keyword(cursor) == K::Transaction => transaction(Scope::Global),
        K::Session | K::Local if second_keyword(cursor) == K::Transaction => {
            transaction(Scope::Session)
        }
        K::Password | K::Role => Head::with(Kind::Account, Traits::IMPLICIT_COMMIT),
        K::Default if second_keyword(cursor) == K::Role => {
            Head::with(Kind::Account, Traits::IMPLICIT_COMMIT)
        }
        K::Resource => Head::of(Kind::Administration),
        _ => assignments(cursor),
    }
}

fn transaction(scope: Scope) -> Head {
    let traits = match scope {
        Scope::NextTransaction => Traits::NEXT_TRANSACTION,
        _ => Traits::NONE,
    };
    Head::with(Kind::SetTransaction { scope }, traits)
}

fn second_keyword(cursor: &Cursor<'_>) -> Keyword {
    cursor
        .clone()
        .nth(1)
        .map_or(Keyword::None, |item| item.keyword)
}

fn assignments(cursor: &mut Cursor<'_>) -> Head {
    let mut list = Vec::new();
    let mut traits = Traits::NONE;
    while let Some((scope, name)) = target(cursor) {
        match scope {
            Scope::User => traits |= Traits::ASSIGNS_USER_VARIABLE,
            Scope::NextTransaction => traits |= Traits::NEXT_TRANSACTION,
            _ => {}
        }
        let (value, has_more) = value(cursor);
        list.push(Assignment { scope, name, value });
        if !has_more {
            break;
        }
    }
    Head::with(Kind::Set(list), traits)
}

/// The left side, with the `=` or `:=` behind it stepped over.
fn target(cursor: &mut Cursor<'_>) -> Option<(Scope, Vec<u8>)> {
    use Keyword as K;
    let first = cursor.next()?;
    let is_name_of_variable = cursor
        .peek()
        .is_none_or(|next| matches!(next.symbol, b'=' | b':' | b'.'));
    if !is_name_of_variable {
        let scope = match first.keyword {
            K::Names => return Some((Scope::Names, Vec::new())),
            K::Charset => return Some((Scope::CharacterSet, Vec::new())),
            K::Character => {
                cursor.accept(Keyword::Set);
                return Some((Scope::CharacterSet, Vec::new()));
            }
            K::Global => Scope::Global,
            K::Session | K::Local => Scope::Session,
            K::Persist => Scope::Persist,
            K::PersistOnly => Scope::PersistOnly,
            _ => return None,
        };
        let item = cursor.next()?;
        return Some((scope, dotted_name(item, cursor)));
    }
    let target = match first.kind {
        TokenKind::UserVariable => {
            let name = lower(cursor.text(first).get(1..).unwrap_or_default());
            skip_assignment_sign(cursor);
            (Scope::User, name)
        }
        TokenKind::SystemVariable => {
            let target = system_variable(cursor.text(first));
            skip_assignment_sign(cursor);
            target
        }
        kind if kind.is_name() => (Scope::Session, dotted_name(first, cursor)),
        _ => return None,
    };
    Some(target)
}

/// A name with the parts that dots add, and the assignment sign behind it.
fn dotted_name(first: Item, cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut name = lower(cursor.text(first));
    while let Some(next) = cursor
        .peek()
        .filter(|next| next.symbol == b'.' || next.kind.is_name())
    {
        cursor.next();
        name.extend_from_slice(&lower(cursor.text(next)));
    }
    skip_assignment_sign(cursor);
    name
}

fn skip_assignment_sign(cursor: &mut Cursor<'_>) {
    while cursor
        .peek()
        .is_some_and(|next| matches!(next.symbol, b':' | b'='))
    {
        cursor.next();
    }
}

/// `@@scope.name` and `@@name`. Without a scope the transaction characteristics count for one transaction only.
fn system_variable(text: &[u8]) -> (Scope, Vec<u8>) {
    const SCOPES: [(&[u8], Scope); 5] = [
        (b"global.", Scope::Global),
        (b"session.", Scope::Session),
        (b"local.", Scope::Session),
        (b"persist.", Scope::Persist),
        (b"persist_only.", Scope::PersistOnly),
    ];
    let name = text.get(2..).unwrap_or_default();
    for (prefix, scope) in SCOPES {
        if name.len() > prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix) {
            return (scope, lower(&name[prefix.len()..]));
        }
    }
    let name = lower(name);
    let scope = match name.as_slice() {
        b"transaction_isolation" | b"transaction_read_only" => Scope::NextTransaction,
        _ => Scope::Session,
    };
    (scope, name)
}

fn lower(name: &[u8]) -> Vec<u8> {
    unquote(name).to_ascii_lowercase()
}

/// The expression up to the next comma outside parentheses, and whether one stands there.
fn value(cursor: &mut Cursor<'_>) -> (Span, bool) {
    let mut depth = 0usize;
    let mut span: Option<Span> = None;
    while let Some(item) = cursor.peek() {
        match item.symbol {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                cursor.next();
                return (span.unwrap_or_default(), true);
            }
            _ if item.kind == TokenKind::Semicolon => break,
            _ => {}
        }
        cursor.next();
        let start = span.map_or(item.span.start, |span| span.start);
        span = Some(Span::new(start, item.span.end));
    }
    (span.unwrap_or_default(), false)
}
