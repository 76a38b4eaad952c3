//! Tokens as byte ranges of the text they came from. They own nothing and never copy.

use std::borrow::Cow;

/// A byte range of the SQL text that was given to this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Span { start, end }
    }

    /// The bytes of this range; empty when `sql` is not the text the span was made from.
    pub fn of(self, sql: &[u8]) -> &[u8] {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes of this range as a name: quotes removed, doubled quotes undone.
    pub fn name_of(self, sql: &[u8]) -> Cow<'_, [u8]> {
        unquote(self.of(sql))
    }
}

/// Removes the quotes of a name or simple string and halves the doubled ones; text without quotes comes back as it is.
pub fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    let [quote @ (b'`' | b'"' | b'\''), inner @ .., last] = text else {
        return Cow::Borrowed(text);
    };
    if last != quote {
        return Cow::Borrowed(text);
    }
    if !inner.contains(quote) {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        plain.push(*byte);
        if byte == quote {
            bytes.next();
        }
    }
    Cow::Owned(plain)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenKind {
    Whitespace,
    /// `-- `, `#`, `/* */`, and `/*!NNNNN */` for newer servers than this one.
    Comment,
    /// `/*!` with its version number: what follows is code on this server.
    VersionCommentOpen,
    /// A whole `/*!NNNNN ... */` that some servers run and others do not.
    OpenVersionComment,
    /// The `*/` that ends such code.
    VersionCommentClose,
    /// `/*+ ... */`
    OptimizerHint,
    /// A keyword or a name without quotes.
    Word,
    /// A name in backticks, or in double quotes under ANSI_QUOTES.
    QuotedName,
    /// A string, with the N of a national one.
    Text,
    Number,
    /// `0xFF`, `x'FF'`
    Hex,
    /// `0b01`, `b'01'`
    Bit,
    /// `@name`, also quoted
    UserVariable,
    /// `@@name`, `@@scope.name`
    SystemVariable,
    /// `?`
    Placeholder,
    Semicolon,
    /// One byte of punctuation.
    Symbol,
}

impl TokenKind {
    /// Whether the token carries no meaning of its own for the server.
    #[inline]
    pub fn is_trivia(self) -> bool {
        matches!(
            self,
            TokenKind::Whitespace
                | TokenKind::Comment
                | TokenKind::VersionCommentOpen
                | TokenKind::OpenVersionComment
                | TokenKind::VersionCommentClose
                | TokenKind::OptimizerHint
        )
    }

    /// Whether the token is a constant that a normalised key replaces.
    #[inline]
    pub fn is_literal(self) -> bool {
        matches!(
            self,
            TokenKind::Text
                | TokenKind::Number
                | TokenKind::Hex
                | TokenKind::Bit
                | TokenKind::Placeholder
        )
    }

    #[inline]
    pub fn is_name(self) -> bool {
        matches!(self, TokenKind::Word | TokenKind::QuotedName)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquotes_names() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"plain", b"plain"),
            (b"`a`", b"a"),
            (b"`a``b`", b"a`b"),
            (b"\"a\"\"b\"", b"a\"b"),
            (b"'a'", b"a"),
            (b"`", b"`"),
            (b"``", b""),
        ];
        for (quoted, plain) in cases {
            assert_eq!(unquote(quoted).as_ref(), plain);
        }
    }
}
