//! What must hold for any bytes whatever.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vt_planner::{ClientCharset, LexOptions, Lexer, Plan, TokenKind, append_key, statements};

fn any_options() -> impl Strategy<Value = LexOptions> {
    let charsets = vec![
        ClientCharset::AsciiSafe,
        ClientCharset::Gbk,
        ClientCharset::Gb18030,
        ClientCharset::Big5,
        ClientCharset::Sjis,
    ];
    (
        select(charsets),
        any::<bool>(),
        any::<bool>(),
        select(vec![None, Some(50_000), Some(80_400), Some(90_700)]),
    )
        .prop_map(
            |(charset, ansi_quotes, no_backslash_escapes, server_version)| LexOptions {
                charset,
                ansi_quotes,
                no_backslash_escapes,
                server_version,
            },
        )
}

/// Pieces of SQL glued together: nearer to the interesting places than random bytes are.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &'static [&'static [u8]] = &[
        b"SELECT ",
        b"INSERT INTO ",
        b"UPDATE ",
        b"FROM ",
        b" WHERE ",
        b"SET ",
        b"BEGIN",
        b"END",
        b"CASE ",
        b"IF ",
        b"CREATE PROCEDURE p() ",
        b"SHOW ",
        b"TABLES ",
        b"XA ",
        b"USE ",
        b"KILL ",
        b"a",
        b".",
        b"b",
        b"`",
        b"'",
        b"\"",
        b"\\",
        b"/*",
        b"*/",
        b"/*!80000 ",
        b"/*!90100 ",
        b"/*!",
        b"/*+",
        b"--",
        b"-- ",
        b"#",
        b"\n",
        b" ",
        b"@",
        b"@@",
        b":=",
        b"=",
        b"?",
        b";",
        b",",
        b"(",
        b")",
        b"1",
        b"0x",
        b"e5",
        b".5",
        b"x'",
        b"b'",
        b"N'",
        b"\x81",
        b"\xE0\x5C",
        b"\xFF",
        b"\0",
        b"*",
        b"{",
        b"LAST_INSERT_ID(",
        b"GET_LOCK(",
        b"FOR UPDATE",
        b"INTO ",
        b"NAMES ",
        b"GLOBAL ",
    ];
    prop_oneof![
        vec(any::<u8>(), 0..64),
        vec(select(pieces), 0..24).prop_map(|chosen| chosen.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_cover_the_text(sql in any_text(), options in any_options()) {
        let mut at = 0;
        for token in Lexer::new(&sql, &options) {
            prop_assert_eq!(token.span.start, at);
            prop_assert!(token.span.end > token.span.start);
            at = token.span.end;
        }
        prop_assert_eq!(at, sql.len());
    }

    #[test]
    fn statements_end_and_stay_in_the_text(sql in any_text(), options in any_options()) {
        let mut last_end = 0;
        for statement in statements(&sql, &options) {
            prop_assert!(statement.span.start >= last_end);
            prop_assert!(statement.span.end >= statement.span.start);
            prop_assert!(statement.span.end <= sql.len());
            for schema in &statement.schemas {
                prop_assert!(statement.span.start <= schema.start && schema.end <= statement.span.end);
            }
            if let Some(rest) = statement.rest {
                prop_assert!(rest > statement.span.start || statement.span.start == statement.span.end);
                prop_assert!(rest > last_end || last_end == 0);
            }
            last_end = statement.span.end;
            let plan = Plan::unsharded(&statement);
            prop_assert!(!plan.to_string().is_empty());
        }
    }

    #[test]
    fn a_key_holds_no_constant_and_is_its_own_key(sql in any_text(), options in any_options()) {
        let mut key = Vec::new();
        append_key(&sql, &options, &mut key);
        for token in Lexer::new(&key, &options) {
            let is_constant = token.kind.is_literal() && token.kind != TokenKind::Placeholder;
            prop_assert!(!is_constant || token.kind == TokenKind::Number, "{:?}", token);
        }
        prop_assert!(key.len() <= 2 * sql.len() + 4);
    }

    #[test]
    fn constants_do_not_change_a_key(number in any::<u64>(), text in "[a-z]{0,12}", ids in vec(any::<u32>(), 2..9)) {
        let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT a FROM t WHERE b = {number}  AND c='{text}' AND d IN ({list})");
        let mut key = Vec::new();
        append_key(sql.as_bytes(), &LexOptions::default(), &mut key);
        prop_assert_eq!(key, b"SELECT a FROM t WHERE b=? AND c=? AND d IN(?+)".to_vec());
    }
}
