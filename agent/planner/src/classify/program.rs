//! Where the body of a stored program ends: the depth of its BEGIN, IF, CASE and loops.

use crate::cursor::Item;
use crate::keyword::Keyword;
use crate::token::TokenKind;

/// Follows the blocks of a CREATE PROCEDURE, FUNCTION, TRIGGER or EVENT from its first token on.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    depth: u32,
    /// The token before was END: the word that follows names what ends.
    after_end: bool,
    /// A statement may begin here.
    at_start: bool,
    /// A routine's body may begin here: behind `)`, ROW and the like.
    may_start: bool,
    /// REPEAT stood here; a parenthesis makes it the function.
    after_repeat: bool,
}

impl Blocks {
    pub fn is_open(&self) -> bool {
        self.depth > 0
    }

    pub fn step(&mut self, item: Item) {
        use Keyword as K;
        if self.after_repeat && item.symbol == b'(' {
            self.depth = self.depth.saturating_sub(1);
        }
        match item.keyword {
            K::If | K::Case | K::Loop | K::While | K::Repeat if self.after_end => {}
            K::End => self.depth = self.depth.saturating_sub(1),
            K::If if self.at_start || self.may_start => self.depth += 1,
            K::Begin | K::Case | K::Loop | K::While | K::Repeat => self.depth += 1,
            _ => {}
        }
        self.after_repeat = item.keyword == K::Repeat && !self.after_end;
        self.after_end = item.keyword == K::End;
        self.at_start = item.kind == TokenKind::Semicolon
            || item.symbol == b':'
            || matches!(
                item.keyword,
                K::Begin | K::Then | K::Else | K::Do | K::Loop | K::Repeat
            );
        self.may_start = item.symbol == b')'
            || item.kind == TokenKind::Text
            || matches!(item.keyword, K::Row | K::Definer);
    }
}
