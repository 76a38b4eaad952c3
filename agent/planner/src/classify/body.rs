//! One walk over all tokens of a statement: traits, schema names, the end.
//!
//! Whether `a.b` is a table of schema `a` or a column of table `a` depends on where it stands. The walk keeps, for each
//! depth of parentheses, whether a list of tables is being read, and at each token whether a table's name may come next.

use super::Head;
use super::program::Blocks;
use crate::builtin::is_builtin;
use crate::cursor::{Cursor, Item};
use crate::keyword::Keyword;
use crate::statement::{Kind, Show, Statement};
use crate::token::{Span, TokenKind};
use crate::traits::Traits;

/// Deeper parentheses share the last bit: a schema name may then be missed, nothing else.
const DEPTH_TRACKED_MAX: u32 = 63;

/// What the next name would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Table,
    Schema,
}

/// A name being read: how many parts so far, and what was expected where it began.
#[derive(Debug, Clone, Copy)]
struct Name {
    first: Span,
    parts: u32,
    expected: Expected,
}

pub(super) struct Scanner<'a> {
    cursor: Cursor<'a>,
    head: Head,
    traits: Traits,
    schemas: Vec<Span>,
    depth: u32,
    /// One bit for each depth: SELECT was seen there.
    selecting: u64,
    /// One bit for each depth: a list of tables is open there.
    listing: u64,
    expected: Expected,
    name: Option<Name>,
    /// The keyword of the token before, and whether a dot or a user variable stood there.
    previous: Keyword,
    previous_symbol: u8,
    previous_kind: TokenKind,
    /// `LAST_INSERT_ID(` was read; the next token tells its two uses apart.
    last_insert_id_open: bool,
    /// The FROM and IN of a SHOW statement seen so far.
    show_sources: u32,
    in_program_body: bool,
    blocks: Blocks,
}

impl<'a> Scanner<'a> {
    pub fn new(cursor: Cursor<'a>, head: Head) -> Self {
        let expected = match head.kind {
            Kind::Explain { .. } | Kind::Handler | Kind::Call => Expected::Table,
            _ => Expected::Nothing,
        };
        Scanner {
            cursor,
            traits: head.traits,
            head,
            schemas: Vec::new(),
            depth: 0,
            selecting: 0,
            listing: 0,
            expected,
            name: None,
            previous: Keyword::None,
            previous_symbol: 0,
            previous_kind: TokenKind::Semicolon,
            last_insert_id_open: false,
            show_sources: 0,
            in_program_body: false,
            blocks: Blocks::default(),
        }
    }

    pub fn scan(mut self, start: usize) -> Statement {
        let mut end = start;
        let mut rest = None;
        let expected_first = self.expected;
        while let Some(item) = self.cursor.next() {
            if item.kind == TokenKind::Semicolon && !self.blocks.is_open() {
                rest = self.cursor.rest();
                self.finish_name(0);
                break;
            }
            self.step(item);
            if item.span.start == start {
                self.expected = match self.expected {
                    Expected::Nothing => expected_first,
                    named => named,
                };
            }
            end = item.span.end;
        }
        self.finish_name(0);
        if self.head.is_program {
            // What stands in a body happens when it runs, not now.
            self.traits = self.head.traits;
        }
        if self.cursor.passed_open_comment {
            self.traits |= Traits::OPEN_VERSION_COMMENT;
        }
        Statement {
            span: Span::new(start, end),
            kind: self.head.kind,
            traits: self.traits,
            schemas: self.schemas,
            rest,
        }
    }

    #[inline]
    fn bit(&self) -> u64 {
        1 << self.depth.min(DEPTH_TRACKED_MAX)
    }

    #[inline]
    fn step(&mut self, item: Item) {
        if self.head.is_program {
            self.blocks.step(item);
        }
        if self.last_insert_id_open {
            self.last_insert_id_open = false;
            self.traits |= match item.symbol {
                b')' => Traits::LAST_INSERT_ID,
                _ => Traits::SETS_LAST_INSERT_ID,
            };
        }
        match item.kind {
            TokenKind::Word | TokenKind::QuotedName => self.name_part(item),
            TokenKind::Symbol => self.symbol(item),
            TokenKind::UserVariable => self.user_variable(),
            TokenKind::SystemVariable => self.system_variable(item),
            TokenKind::Placeholder => self.traits |= Traits::PLACEHOLDER,
            TokenKind::Semicolon => {
                self.listing = 0;
                self.selecting = 0;
                self.expected = Expected::Nothing;
            }
            _ => {}
        }
        if !item.kind.is_name() && item.symbol != b'.' {
            self.finish_name(item.symbol);
        }
        self.previous = item.keyword;
        self.previous_symbol = item.symbol;
        self.previous_kind = item.kind;
    }

    fn name_part(&mut self, item: Item) {
        if self.previous_symbol == b'.' {
            if let Some(name) = &mut self.name {
                name.parts += 1;
            }
            return;
        }
        self.finish_name(0);
        let expected = self.expected;
        self.name = Some(Name {
            first: item.span,
            parts: 1,
            expected,
        });
        if item.keyword == Keyword::None {
            self.expected = Expected::Nothing;
            return;
        }
        self.keyword_traits(item.keyword);
        if self.keyword_position(item.keyword) {
            self.name = None;
        } else {
            self.expected = Expected::Nothing;
        }
    }

    /// Decides, now that the whole name is known, whether its first part is a schema.
    #[inline]
    fn finish_name(&mut self, next_symbol: u8) {
        let Some(name) = self.name.take() else {
            return;
        };
        let has_star = next_symbol == b'*' && self.previous_symbol == b'.';
        let is_schema = match (name.expected, name.parts) {
            (Expected::Schema, _) | (_, 3..) | (Expected::Table, 2) => true,
            (Expected::Nothing, 2) => has_star || next_symbol == b'(',
            _ => false,
        };
        if is_schema {
            self.schemas.push(name.first);
        }
    }

    fn symbol(&mut self, item: Item) {
        match item.symbol {
            b'(' => {
                self.function_traits();
                let lists = self.expected == Expected::Table
                    && !matches!(
                        self.previous,
                        Keyword::Insert | Keyword::Replace | Keyword::Truncate
                    );
                if !lists {
                    self.expected = Expected::Nothing;
                }
                self.finish_name(b'(');
                self.depth += 1;
                let bit = self.bit();
                self.selecting &= !bit;
                self.listing = if lists {
                    self.listing | bit
                } else {
                    self.listing & !bit
                };
            }
            b')' => {
                self.depth = self.depth.saturating_sub(1);
                self.expected = Expected::Nothing;
            }
            b',' => {
                self.expected = match self.listing & self.bit() {
                    0 => Expected::Nothing,
                    _ => Expected::Table,
                };
            }
            b':' if self.previous_kind == TokenKind::UserVariable => {
                self.traits |= Traits::ASSIGNS_USER_VARIABLE;
            }
            // `{ OJ a LEFT JOIN b }` and the dots inside names.
            b'{' | b'.' => {}
            _ => self.expected = Expected::Nothing,
        }
    }

    /// Functions count only when a parenthesis follows their name.
    fn function_traits(&mut self) {
        self.traits |= match self.previous {
            Keyword::GetLock => Traits::ADVISORY_LOCK,
            Keyword::RowCount => Traits::ROW_COUNT,
            Keyword::FoundRows => Traits::FOUND_ROWS,
            Keyword::ConnectionId => Traits::CONNECTION_ID,
            Keyword::LastInsertId => {
                self.last_insert_id_open = true;
                Traits::NONE
            }
            Keyword::None if self.calls_stored_function() => Traits::STORED_FUNCTION,
            _ => Traits::NONE,
        };
    }

    /// A parenthesis behind a name that the server itself does not know, where values are computed.
    fn calls_stored_function(&self) -> bool {
        let computes = matches!(
            self.head.kind,
            Kind::Select | Kind::Do | Kind::Explain { .. }
        );
        let Some(name) = self.name.filter(|_| computes) else {
            return false;
        };
        name.parts > 1
            || self.previous_kind == TokenKind::QuotedName
            || !is_builtin(self.cursor.text_of(name.first))
    }

    fn user_variable(&mut self) {
        self.traits |= Traits::READS_USER_VARIABLE;
        if self.previous == Keyword::Into {
            self.traits |= Traits::INTO_VARIABLE;
        }
        let assigns = matches!(
            self.head.kind,
            Kind::Call | Kind::LoadData { .. } | Kind::GetDiagnostics
        );
        if assigns || self.previous == Keyword::Into {
            self.traits |= Traits::ASSIGNS_USER_VARIABLE;
        }
    }

    fn system_variable(&mut self, item: Item) {
        let text = self.cursor.text_of(item.span);
        let name = text
            .rsplit(|byte| matches!(byte, b'.' | b'@'))
            .next()
            .unwrap_or_default();
        let name = crate::token::unquote(name);
        if name.eq_ignore_ascii_case(b"identity") || name.eq_ignore_ascii_case(b"last_insert_id") {
            self.traits |= Traits::LAST_INSERT_ID;
        } else if name.eq_ignore_ascii_case(b"warning_count")
            || name.eq_ignore_ascii_case(b"error_count")
        {
            self.traits |= Traits::DIAGNOSTICS;
        }
    }

    fn keyword_traits(&mut self, keyword: Keyword) {
        use Keyword as K;
        self.traits |= match (self.previous, keyword) {
            (_, K::SqlCalcFoundRows) => Traits::SQL_CALC_FOUND_ROWS,
            (K::For, K::Update | K::Share) | (K::Lock, K::In) => Traits::LOCKING_READ,
            (K::Into, K::Outfile | K::Dumpfile) => Traits::INTO_FILE,
            (_, K::Insert | K::Replace | K::Update | K::Delete)
                if self.depth == 0
                    && self.selecting & 1 == 0
                    && matches!(self.head.kind, Kind::Explain { .. }) =>
            {
                Traits::WRITING_INSIDE
            }
            _ => Traits::NONE,
        };
    }

    /// What may follow this keyword. Returns whether the keyword decided that; a word that decides nothing is a name.
    fn keyword_position(&mut self, keyword: Keyword) -> bool {
        use Keyword as K;
        let bit = self.bit();
        let is_definition = matches!(self.head.kind, Kind::Ddl);
        match keyword {
            K::Select => {
                self.selecting |= bit;
                self.close_list();
            }
            K::From | K::In if matches!(self.head.kind, Kind::Show(_)) => self.show_source(),
            K::From if self.selecting & bit != 0 || self.depth == 0 => self.open_list(),
            K::Join | K::StraightJoin if self.listing & bit != 0 => self.expected = Expected::Table,
            K::Update | K::Delete if !matches!(self.previous, K::For | K::Key | K::On) => {
                self.open_list();
            }
            K::Table | K::Tables | K::View => self.open_list(),
            K::Into | K::Insert | K::Replace | K::References => self.expected = Expected::Table,
            K::Trigger | K::Event | K::Procedure | K::Function
                if is_definition || matches!(self.head.kind, Kind::Show(Show::Create)) =>
            {
                self.expected = Expected::Table;
            }
            K::Database | K::Schema if self.names_schema() => self.expected = Expected::Schema,
            K::To | K::Truncate if is_definition => self.expected = Expected::Table,
            K::On if is_definition && self.depth == 0 && !self.in_definition_body() => {
                self.expected = Expected::Table;
            }
            K::Like if is_definition && !self.in_definition_body() => {
                if self.depth == 0 || self.previous_symbol == b'(' {
                    self.expected = Expected::Table;
                }
            }
            K::Order | K::Group | K::Join if self.previous == K::For => {}
            K::Where
            | K::Group
            | K::Having
            | K::Order
            | K::Limit
            | K::Set
            | K::Window
            | K::Values
            | K::Union => self.close_list(),
            K::Begin | K::Row | K::Do => {
                self.in_program_body = self.head.is_program;
                self.expected = Expected::Nothing;
            }
            // These stand between a keyword and the name that it announces.
            K::LowPriority
            | K::Delayed
            | K::HighPriority
            | K::Ignore
            | K::Quick
            | K::If
            | K::Not
            | K::Exists
            | K::Oj
            | K::Analyze
            | K::Local
            | K::Only => {}
            _ => return false,
        }
        true
    }

    fn open_list(&mut self) {
        self.listing |= self.bit();
        self.expected = Expected::Table;
    }

    fn close_list(&mut self) {
        self.listing &= !self.bit();
        self.expected = Expected::Nothing;
    }

    fn in_definition_body(&self) -> bool {
        self.in_program_body || self.selecting & self.bit() != 0
    }

    /// `SHOW CREATE DATABASE x`, `EXPLAIN FOR DATABASE x ..`
    fn names_schema(&self) -> bool {
        match self.head.kind {
            Kind::Show(_) => self.previous == Keyword::Create,
            Kind::Explain { .. } => self.previous == Keyword::For,
            _ => false,
        }
    }

    /// SHOW TABLES FROM schema; SHOW COLUMNS FROM table FROM schema.
    fn show_source(&mut self) {
        self.show_sources += 1;
        let names_table = matches!(self.head.kind, Kind::Show(Show::Columns | Show::Index));
        self.expected = match (&self.head.kind, self.show_sources, names_table) {
            (_, 1, true) => Expected::Table,
            (_, 2, true) => Expected::Schema,
            (Kind::Show(Show::Tables | Show::TableLike), 1, false) => Expected::Schema,
            _ => Expected::Nothing,
        };
    }
}
