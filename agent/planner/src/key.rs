//! The literal-free form of a text: the key of plan caches and of digests. Two texts with the same key differ in nothing
//! but constants, comments and blanks. It is never sent to a server.

use crate::lexer::Lexer;
use crate::options::LexOptions;
use crate::token::{Token, TokenKind};

/// Writes the key of `sql` behind what `key` already holds.
///
/// Constants become `?`; lists of constants in parentheses become `(?+)` however long, and rows of such lists `(?+)+`;
/// comments go, optimizer hints stay; blanks between two words become one space. Letters keep their case. The lexing
/// options are not part of the text: a cache must keep them beside it.
pub fn append_key(sql: &[u8], options: &LexOptions, key: &mut Vec<u8>) {
    let mut writer = Writer {
        key,
        last_is_word: false,
        last_is_text: false,
    };
    for token in Lexer::new(sql, options) {
        writer.token(token, token.span.of(sql));
    }
}

struct Writer<'k> {
    key: &'k mut Vec<u8>,
    /// A space is needed before the next word.
    last_is_word: bool,
    last_is_text: bool,
}

impl Writer<'_> {
    #[inline]
    fn token(&mut self, token: Token, text: &[u8]) {
        match token.kind {
            TokenKind::OptimizerHint => self.word(text),
            kind if kind.is_trivia() => return,
            // Strings that stand side by side are one string.
            TokenKind::Text if self.last_is_text => return,
            kind if kind.is_literal() => self.literal(),
            TokenKind::Symbol | TokenKind::Semicolon => self.symbol(text),
            _ => self.word(text),
        }
        self.last_is_text = token.kind == TokenKind::Text;
    }

    #[inline]
    fn word(&mut self, text: &[u8]) {
        if self.last_is_word {
            self.key.push(b' ');
        }
        self.key.extend_from_slice(text);
        self.last_is_word = true;
    }

    fn literal(&mut self) {
        for (list, shrunk) in [(&b"(?+,"[..], 3), (b"(?,", 2)] {
            if self.key.ends_with(list) {
                self.key.truncate(self.key.len() - list.len() + shrunk);
                if shrunk == 2 {
                    self.key.push(b'+');
                }
                self.last_is_word = true;
                return;
            }
        }
        self.word(b"?");
    }

    fn symbol(&mut self, text: &[u8]) {
        self.key.extend_from_slice(text);
        self.last_is_word = false;
        for (rows, shrunk) in [
            (&b"(?+)+,(?+)"[..], 5),
            (b"(?+),(?+)", 4),
            (b"(?)+,(?)", 4),
            (b"(?),(?)", 3),
        ] {
            if self.key.ends_with(rows) {
                self.key.truncate(self.key.len() - rows.len() + shrunk);
                if self.key.last() != Some(&b'+') {
                    self.key.push(b'+');
                }
                return;
            }
        }
    }
}
