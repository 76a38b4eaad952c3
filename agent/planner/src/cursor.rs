//! The meaningful tokens of one text, each with its keyword: what the classifier walks over. Never allocates.

use crate::keyword::{Keyword, keyword};
use crate::lexer::Lexer;
use crate::options::LexOptions;
use crate::token::{Span, TokenKind};

/// A token that is not trivia.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub kind: TokenKind,
    pub span: Span,
    /// `Keyword::None` for all but words without quotes, and for every word behind a dot.
    pub keyword: Keyword,
    /// The byte of a symbol, else zero.
    pub symbol: u8,
}

#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    after_dot: bool,
    /// A comment was passed that some servers run.
    pub passed_open_comment: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(sql: &'a [u8], offset: usize, options: &LexOptions) -> Self {
        Cursor {
            sql,
            lexer: Lexer::from_offset(sql, offset, options),
            after_dot: false,
            passed_open_comment: false,
        }
    }

    pub fn text(&self, item: Item) -> &'a [u8] {
        self.text_of(item.span)
    }

    pub fn text_of(&self, span: Span) -> &'a [u8] {
        span.of(self.sql)
    }

    /// Where the next statement begins, behind a semicolon.
    pub fn rest(&mut self) -> Option<usize> {
        let mut ahead = self.clone();
        let next = ahead.next();
        self.passed_open_comment = ahead.passed_open_comment;
        next.map(|item| item.span.start)
    }

    #[inline]
    pub fn peek(&self) -> Option<Item> {
        self.clone().next()
    }

    pub fn peek_keyword(&self) -> Keyword {
        self.peek().map_or(Keyword::None, |item| item.keyword)
    }

    /// Steps over the next token if it is this keyword.
    pub fn accept(&mut self, wanted: Keyword) -> bool {
        let is_next = self.peek_keyword() == wanted;
        if is_next {
            self.next();
        }
        is_next
    }

    /// Steps over `IF EXISTS` or `IF NOT EXISTS`.
    pub fn take_existence(&mut self) -> bool {
        if !self.accept(Keyword::If) {
            return false;
        }
        self.accept(Keyword::Not);
        self.accept(Keyword::Exists)
    }

    /// The span of the next token, or an empty one at the end of the statement.
    pub fn name(&mut self) -> Span {
        match self.peek() {
            Some(item) if item.kind != TokenKind::Semicolon => {
                self.next();
                item.span
            }
            _ => Span::default(),
        }
    }

    pub fn keyword(&mut self) -> Keyword {
        self.next().map_or(Keyword::None, |item| item.keyword)
    }
}

impl Iterator for Cursor<'_> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        let token = self.lexer.by_ref().find(|token| {
            self.passed_open_comment |= token.kind == TokenKind::OpenVersionComment;
            !token.kind.is_trivia()
        })?;
        let symbol = match token.kind {
            TokenKind::Symbol => self.sql[token.span.start],
            _ => 0,
        };
        let keyword = match token.kind {
            TokenKind::Word if !self.after_dot => keyword(token.span.of(self.sql)),
            _ => Keyword::None,
        };
        self.after_dot = symbol == b'.';
        Some(Item {
            kind: token.kind,
            span: token.span,
            keyword,
            symbol,
        })
    }
}
