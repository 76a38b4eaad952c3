//! SQL text into tokens, byte by byte, by the rules of MySQL's own lexer. Every byte of the input belongs to exactly
//! one token; text that MySQL would refuse (an open string, an open comment) still yields tokens, up to the end.
//! Never allocates, never decodes characters, never fails.

use crate::options::{ClientCharset, LexOptions};
use crate::token::{Span, Token, TokenKind};

/// Digits in the version number of a `/*!` comment: five, or six from version 10.0 on.
const VERSION_DIGITS_MIN: usize = 5;
const VERSION_DIGITS_MAX: usize = 6;

const SPACE: u8 = 1;
const NAME: u8 = 2;
const DIGIT: u8 = 4;

/// What each byte may be part of, so that the inner loops are one load and one test.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C => SPACE,
            b'0'..=b'9' => DIGIT | NAME,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80..=0xFF => NAME,
            _ => 0,
        };
        byte += 1;
    }
    table
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// An iterator over all tokens of a text, trivia included.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    options: LexOptions,
    /// Inside the code of a `/*! ... */`.
    in_version_comment: bool,
    /// The last token was a name and a dot follows it: what comes after the dot is a name, whatever it looks like.
    name_before: bool,
    name_forced: bool,
}

impl<'a> Lexer<'a> {
    pub fn new(sql: &'a [u8], options: &LexOptions) -> Self {
        Self::from_offset(sql, 0, options)
    }

    /// Begins at a byte that starts a token; the spans still count from the start of `sql`.
    pub fn from_offset(sql: &'a [u8], offset: usize, options: &LexOptions) -> Self {
        Lexer {
            sql,
            at: offset,
            options: *options,
            in_version_comment: false,
            name_before: false,
            name_forced: false,
        }
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        // A zero byte is an ordinary symbol here, so it can stand for the end of the text.
        self.sql.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn end_of(&self, from: usize, class: u8) -> usize {
        let mut at = from;
        while at < self.sql.len() && is(self.sql[at], class) {
            at += 1;
        }
        at
    }

    fn kind_and_end(&self, start: usize) -> (TokenKind, usize) {
        let byte = self.sql[start];
        let next = self.byte(start + 1);
        if self.name_forced && is(byte, NAME) {
            return (TokenKind::Word, self.name_end(start));
        }
        match byte {
            b'\'' => (TokenKind::Text, self.string_end(start)),
            b'"' if self.options.ansi_quotes => (TokenKind::QuotedName, self.quoted_end(start)),
            b'"' => (TokenKind::Text, self.string_end(start)),
            b'`' => (TokenKind::QuotedName, self.quoted_end(start)),
            b'0'..=b'9' => self.number(start),
            b'.' if is(next, DIGIT) && !self.name_before => {
                (TokenKind::Number, self.fraction_end(start))
            }
            b'n' | b'N' if next == b'\'' => (TokenKind::Text, self.string_end(start + 1)),
            b'x' | b'X' if next == b'\'' => (TokenKind::Hex, self.quoted_end(start + 1)),
            b'b' | b'B' if next == b'\'' => (TokenKind::Bit, self.quoted_end(start + 1)),
            b'@' if next == b'@' => (TokenKind::SystemVariable, self.system_variable_end(start)),
            b'@' => (TokenKind::UserVariable, self.user_variable_end(start)),
            b'#' => (TokenKind::Comment, self.line_end(start)),
            b'-' if next == b'-' && self.opens_dash_comment(start) => {
                (TokenKind::Comment, self.line_end(start))
            }
            b'/' if next == b'*' => self.comment(start),
            b'*' if next == b'/' && self.in_version_comment => {
                (TokenKind::VersionCommentClose, start + 2)
            }
            b'?' => (TokenKind::Placeholder, start + 1),
            b';' => (TokenKind::Semicolon, start + 1),
            _ if is(byte, SPACE) => (TokenKind::Whitespace, self.end_of(start + 1, SPACE)),
            _ if is(byte, NAME) => (TokenKind::Word, self.name_end(start)),
            _ => (TokenKind::Symbol, start + 1),
        }
    }

    #[inline]
    fn name_end(&self, start: usize) -> usize {
        if self.options.charset == ClientCharset::AsciiSafe {
            return self.end_of(start, NAME);
        }
        let mut at = start;
        while at < self.sql.len() && is(self.sql[at], NAME) {
            at += self.options.charset.character_length(&self.sql[at..]);
        }
        at
    }

    /// Behind the closing quote of the string that starts at `start`.
    fn string_end(&self, start: usize) -> usize {
        self.closing_quote(start, !self.options.no_backslash_escapes)
    }

    fn quoted_end(&self, start: usize) -> usize {
        self.closing_quote(start, false)
    }

    fn closing_quote(&self, start: usize, backslash_escapes: bool) -> usize {
        let quote = self.sql[start];
        let mut at = start + 1;
        while at < self.sql.len() {
            let byte = self.sql[at];
            if byte >= 0x80 {
                at += self.options.charset.character_length(&self.sql[at..]);
            } else if byte == b'\\' && backslash_escapes {
                // The escaped character may itself be a multi-byte one.
                at += 1;
                at += self
                    .options
                    .charset
                    .character_length(&self.sql[at.min(self.sql.len())..]);
            } else if byte != quote {
                at += 1;
            } else if self.byte(at + 1) == quote {
                at += 2;
            } else {
                return at + 1;
            }
        }
        self.sql.len()
    }

    /// A number, unless it grows into a name: MySQL allows names that begin with a digit.
    fn number(&self, start: usize) -> (TokenKind, usize) {
        if let Some(token) = self.prefixed_number(start) {
            return token;
        }
        let digits_end = self.end_of(start, DIGIT);
        match self.byte(digits_end) {
            b'.' => (TokenKind::Number, self.fraction_end(digits_end)),
            b'e' | b'E' if self.exponent_end(digits_end) > digits_end => {
                (TokenKind::Number, self.exponent_end(digits_end))
            }
            following if is(following, NAME) => (TokenKind::Word, self.name_end(digits_end)),
            _ => (TokenKind::Number, digits_end),
        }
    }

    /// `0xFF` and `0b01`; `0xyz` and `0b12` are names.
    fn prefixed_number(&self, start: usize) -> Option<(TokenKind, usize)> {
        let (kind, is_digit): (_, fn(&u8) -> bool) = match self.sql.get(start..start + 2)? {
            b"0x" => (TokenKind::Hex, u8::is_ascii_hexdigit),
            b"0b" => (TokenKind::Bit, |byte| matches!(byte, b'0' | b'1')),
            _ => return None,
        };
        let digits = self.sql[start + 2..]
            .iter()
            .take_while(|byte| is_digit(byte));
        let end = start + 2 + digits.count();
        (end > start + 2 && !is(self.byte(end), NAME)).then_some((kind, end))
    }

    fn fraction_end(&self, dot: usize) -> usize {
        self.exponent_end(self.end_of(dot + 1, DIGIT))
    }

    /// Behind the exponent at `at`, or `at` when none stands there.
    fn exponent_end(&self, at: usize) -> usize {
        if !matches!(self.byte(at), b'e' | b'E') {
            return at;
        }
        let digits = match self.byte(at + 1) {
            b'+' | b'-' => at + 2,
            _ => at + 1,
        };
        let end = self.end_of(digits, DIGIT);
        if end > digits { end } else { at }
    }

    fn user_variable_end(&self, start: usize) -> usize {
        match self.byte(start + 1) {
            b'\'' | b'"' => self.string_end(start + 1),
            b'`' => self.quoted_end(start + 1),
            _ => {
                let mut at = start + 1;
                while is(self.byte(at), NAME) || self.byte(at) == b'.' {
                    at += 1;
                }
                at.min(self.sql.len())
            }
        }
    }

    fn system_variable_end(&self, start: usize) -> usize {
        let mut at = start + 2;
        loop {
            at = match self.byte(at) {
                b'`' => self.quoted_end(at),
                byte if is(byte, NAME) => self.end_of(at, NAME),
                _ => return at,
            };
            let follows = self.byte(at + 1);
            if self.byte(at) != b'.' || !(is(follows, NAME) || follows == b'`') {
                return at;
            }
            at += 1;
        }
    }

    /// `--` opens a comment only before a space, a control character or the end.
    fn opens_dash_comment(&self, start: usize) -> bool {
        let byte = self.byte(start + 2);
        is(byte, SPACE) || byte.is_ascii_control()
    }

    fn line_end(&self, start: usize) -> usize {
        self.sql[start..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(self.sql.len(), |length| start + length + 1)
    }

    fn comment(&self, start: usize) -> (TokenKind, usize) {
        match self.byte(start + 2) {
            b'+' => (TokenKind::OptimizerHint, self.comment_end(start + 3)),
            b'!' => self.version_comment(start),
            _ => (TokenKind::Comment, self.comment_end(start + 2)),
        }
    }

    fn version_comment(&self, start: usize) -> (TokenKind, usize) {
        let digits_start = start + 3;
        let digits_end = self
            .end_of(digits_start, DIGIT)
            .min(digits_start + VERSION_DIGITS_MAX);
        if digits_end < digits_start + VERSION_DIGITS_MIN {
            return (TokenKind::VersionCommentOpen, digits_start);
        }
        let version = self.sql[digits_start..digits_end]
            .iter()
            .fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        let (code_up_to, comment_from) = match self.options.server_version {
            Some(known) => (known, known.saturating_add(1)),
            None => (
                LexOptions::SERVER_VERSION_MIN,
                LexOptions::SERVER_VERSION_NEVER,
            ),
        };
        if version <= code_up_to {
            return (TokenKind::VersionCommentOpen, digits_end);
        }
        let kind = if version >= comment_from {
            TokenKind::Comment
        } else {
            TokenKind::OpenVersionComment
        };
        (kind, self.skipped_comment_end(digits_end))
    }

    fn comment_end(&self, from: usize) -> usize {
        self.find_pair(from, *b"*/")
            .map_or(self.sql.len(), |at| at + 2)
    }

    /// Code for a newer server may hold comments of its own, one level deep.
    fn skipped_comment_end(&self, from: usize) -> usize {
        let mut at = from;
        loop {
            let Some(close) = self.find_pair(at, *b"*/") else {
                return self.sql.len();
            };
            match self.sql[at..close]
                .windows(2)
                .position(|pair| pair == b"/*")
            {
                Some(open) => at = self.comment_end(at + open + 2),
                None => return close + 2,
            }
        }
    }

    fn find_pair(&self, from: usize, pair: [u8; 2]) -> Option<usize> {
        let from = from.min(self.sql.len());
        self.sql[from..]
            .windows(2)
            .position(|window| window == pair)
            .map(|offset| from + offset)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        if start >= self.sql.len() {
            return None;
        }
        let (kind, end) = self.kind_and_end(start);
        let end = end.min(self.sql.len());
        match kind {
            TokenKind::VersionCommentOpen => self.in_version_comment = true,
            TokenKind::VersionCommentClose => self.in_version_comment = false,
            _ => {}
        }
        self.name_forced = self.name_before && kind == TokenKind::Symbol && self.sql[start] == b'.';
        self.name_before = kind.is_name();
        self.at = end;
        Some(Token {
            kind,
            span: Span::new(start, end),
        })
    }
}
