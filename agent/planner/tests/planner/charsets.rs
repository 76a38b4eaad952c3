//! Texts whose meaning hangs on the client's character set: second halves of characters that look like `\`, `` ` `` or `'`.

use vt_planner::{ClientCharset, LexOptions, classify};

/// How many statements a text holds when it is read in a character set.
fn count(sql: &[u8], charset: &str) -> usize {
    let options = LexOptions {
        charset: ClientCharset::from_name(charset.as_bytes()),
        ..LexOptions::default()
    };
    vt_planner::statements(sql, &options).count()
}

#[test]
fn trail_bytes_are_not_punctuation() {
    // The text, the character set, the statements in it, the statements in it when read as latin1.
    let cases: [(&[u8], &str, usize, usize); 6] = [
        (b"SELECT '\x81\x5C'; SELECT 2", "gbk", 2, 1),
        (b"SELECT '\x83\x5C'; SELECT 2", "sjis", 2, 1),
        (b"SELECT '\xA4\x5C'; SELECT 2", "big5", 2, 1),
        (b"SELECT `\x81\x60`; SELECT 2", "gb18030", 2, 1),
        (b"SELECT '\x81\x30\x81\x30'; SELECT 2", "gb18030", 2, 2),
        // A lone lead byte before a quote does not swallow it.
        (b"SELECT '\x81'; SELECT 2", "gbk", 2, 2),
    ];
    for (sql, charset, as_it_is, as_latin1) in cases {
        assert_eq!(count(sql, charset), as_it_is, "{charset}");
        assert_eq!(count(sql, "latin1"), as_latin1, "{charset} read as latin1");
    }
}

#[test]
fn sql_mode_is_read_by_its_words() {
    let options = |mode: &str| LexOptions::default().with_sql_mode(mode.as_bytes());
    assert!(options("STRICT_TRANS_TABLES,ansi_quotes").ansi_quotes);
    assert!(options("REAL_AS_FLOAT,ANSI").ansi_quotes);
    assert!(!options("ANSI_QUOTES_NOT").ansi_quotes);
    assert!(options("NO_BACKSLASH_ESCAPES").no_backslash_escapes);
    assert!(
        !options("NO_BACKSLASH_ESCAPES")
            .with_sql_mode(b"")
            .no_backslash_escapes
    );
}

#[test]
fn names_keep_bytes_that_are_no_text() {
    let sql = b"SELECT * FROM `\xFF\xFE`.t";
    let statement = classify(sql, &LexOptions::default());
    assert_eq!(statement.schemas[0].name_of(sql).as_ref(), b"\xFF\xFE");
}
