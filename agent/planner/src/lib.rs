//! SQL text in, decisions out: what a statement is, what it needs, what the router shall do with it.
//!
//! Pure: no I/O, no clock, no randomness, no caches. Text is bytes and is never decoded; only [`LexOptions`] says how
//! to read it. The server stays the judge of what is valid: a text this crate cannot make sense of is
//! [`Kind::Other`] and is forwarded.
//!
//! # The way through
//!
//! ```
//! use vt_planner::{Access, LexOptions, Plan, Traits, classify};
//!
//! let options = LexOptions::default();
//! let sql = b"SELECT c FROM `shop`.sbtest1 WHERE id = 7";
//! let statement = classify(sql, &options);
//! assert!(statement.is_read_only() && !statement.pins() && statement.rest.is_none());
//! assert_eq!(statement.schemas[0].name_of(sql).as_ref(), b"shop");
//! assert_eq!(Plan::unsharded(&statement), Plan::Forward(Access::Read));
//! ```
//!
//! - [`classify`] reads the first statement of a text, [`statements`] all of them. A text has several when
//!   [`Statement::rest`] is set; the traits that matter are then those of all of them together.
//! - [`Statement`]: [`Statement::kind`] with its operands ([`Kind::Set`] has the assignments, [`Kind::Use`] the name),
//!   [`Statement::traits`] (what pins, what looks back, what commits), [`Statement::schemas`] (where a schema is named,
//!   as ranges that can be cut out and replaced).
//! - [`Plan::unsharded`] says what to do with it; [`Plan`] is `Copy` and its `Display` is the EXPLAIN text. Refusals
//!   are [`Unsupported`], with MySQL's error code, SQLSTATE and message.
//! - [`append_key`] writes the literal-free key of a text for plan caches and digests.
//! - [`Lexer`] gives the raw tokens; together they cover every byte of the text.
//!
//! Ranges ([`Span`]) always count from the start of the text that was given, also for its later statements.
//! `Span::name_of` gives a name without its quotes.
//!
//! # What the options must follow
//!
//! `character_set_client` ([`ClientCharset::from_name`]), `sql_mode` ([`LexOptions::with_sql_mode`]) and, where all
//! servers have the same, their version. All three belong into the key of every cache.

mod builtin;
mod classify;
mod cursor;
mod key;
mod keyword;
mod lexer;
mod options;
mod plan;
mod statement;
mod token;
mod traits;
mod unsupported;

pub use classify::{classify, statements};
pub use key::append_key;
pub use lexer::Lexer;
pub use options::{ClientCharset, LexOptions};
pub use plan::{Access, Plan, Transaction, is_of_router};
pub use statement::{Assignment, Begin, Completion, Flush, Kill, Kind, Scope, Show, Statement};
pub use token::{Span, Token, TokenKind, unquote};
pub use traits::Traits;
pub use unsupported::Unsupported;
