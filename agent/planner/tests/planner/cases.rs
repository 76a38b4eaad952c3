//! Statements with what is expected of them, one family to a file in `testdata`. `VT_REWRITE_CASES=1` writes the
//! expectations anew from what the planner says; the change is then read as a diff.
//!
//! A case is: an optional line `@ option option`, lines of SQL, `----`, the expected lines, an empty line. Lines that
//! begin with `# ` between cases are comments.
#![expect(
    clippy::disallowed_methods,
    reason = "the test reads its data; the crate itself does not"
)]

use std::fmt::Write as _;
use std::path::Path;

use vt_planner::{
    Assignment, ClientCharset, Kind, LexOptions, Plan, Span, Statement, append_key, statements,
};

const SEPARATOR: &str = "----";
const FAMILIES: [&str; 9] = [
    "select",
    "write",
    "schema_names",
    "ddl",
    "transaction",
    "session",
    "multi",
    "unsupported",
    "key",
];

#[test]
fn every_case_says_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let rewrites = std::env::var_os("VT_REWRITE_CASES").is_some();
    let mut wrong = String::new();
    for family in FAMILIES {
        let path = folder.join(format!("{family}.case"));
        let text = std::fs::read_to_string(&path).unwrap();
        let actual = run(family, &text);
        if rewrites {
            std::fs::write(&path, &actual).unwrap();
        }
        for (line, (expected, found)) in text.lines().zip(actual.lines()).enumerate() {
            if expected != found && !rewrites {
                let _ = writeln!(
                    wrong,
                    "{family}.case:{}: expected {expected:?}, found {found:?}",
                    line + 1
                );
                break;
            }
        }
        assert!(
            rewrites || !wrong.is_empty() || text == actual,
            "{family}.case: lengths differ"
        );
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\nSet VT_REWRITE_CASES=1 to accept what the planner says."
    );
}

/// The file as it should be.
fn run(family: &str, text: &str) -> String {
    let blocks = text
        .trim_end()
        .split("\n\n")
        .map(|block| one(family, block.trim_matches('\n')));
    blocks.collect::<Vec<_>>().join("\n\n") + "\n"
}

fn one(family: &str, block: &str) -> String {
    let lines = block.lines().take_while(|line| *line != SEPARATOR);
    let (head, sql): (Vec<_>, Vec<_>) =
        lines.partition(|line| line.starts_with("# ") || line.starts_with("@ "));
    if sql.is_empty() {
        return block.to_owned();
    }
    let options = options(&head);
    let sql = sql.join("\n");
    let mut out = String::new();
    for line in &head {
        let _ = writeln!(out, "{line}");
    }
    let _ = write!(out, "{sql}\n{SEPARATOR}");
    if family == "key" {
        let mut key = Vec::new();
        append_key(sql.as_bytes(), &options, &mut key);
        let _ = write!(out, "\n{}", String::from_utf8_lossy(&key));
        return out;
    }
    for statement in statements(sql.as_bytes(), &options) {
        describe(&mut out, &statement, sql.as_bytes());
    }
    out
}

fn options(head: &[&str]) -> LexOptions {
    let mut options = LexOptions::default();
    for word in head
        .iter()
        .filter_map(|line| line.strip_prefix("@ "))
        .flat_map(str::split_whitespace)
    {
        match word.split_once('=') {
            Some(("charset", name)) => options.charset = ClientCharset::from_name(name.as_bytes()),
            Some(("version", version)) => options.server_version = version.parse().ok(),
            _ => {
                options.ansi_quotes |= word == "ansi_quotes";
                options.no_backslash_escapes |= word == "no_backslash_escapes";
            }
        }
    }
    options
}

fn describe(out: &mut String, statement: &Statement, sql: &[u8]) {
    let name = |span: Span| String::from_utf8_lossy(&span.name_of(sql)).into_owned();
    let _ = write!(out, "\n{}", kind(&statement.kind, &name));
    let mut words = Vec::new();
    for (is_so, word) in [
        (statement.is_read_only(), "read_only"),
        (statement.pins(), "pins"),
        (statement.depends_on_previous(), "looks_back"),
    ] {
        words.extend(is_so.then_some(word));
    }
    if !words.is_empty() {
        let _ = write!(out, " ({})", words.join(", "));
    }
    if let Kind::Set(assignments) = &statement.kind {
        for Assignment { scope, name, value } in assignments {
            let name = String::from_utf8_lossy(name);
            let value = String::from_utf8_lossy(value.of(sql));
            let _ = write!(out, "\n  {scope:?} `{name}` = {value}");
        }
    }
    if !statement.traits.is_empty() {
        let _ = write!(out, "\n  traits: {}", statement.traits);
    }
    if !statement.schemas.is_empty() {
        let schemas: Vec<_> = statement.schemas.iter().map(|span| name(*span)).collect();
        let _ = write!(out, "\n  schemas: {}", schemas.join(", "));
    }
    let _ = write!(out, "\n  plan: {}", Plan::unsharded(statement));
}

/// The kind with names in place of ranges.
fn kind(kind: &Kind, name: &dyn Fn(Span) -> String) -> String {
    match kind {
        Kind::CreateDatabase {
            name: span,
            if_not_exists,
        } => {
            format!(
                "CreateDatabase {} if_not_exists={if_not_exists}",
                name(*span)
            )
        }
        Kind::DropDatabase {
            name: span,
            if_exists,
        } => {
            format!("DropDatabase {} if_exists={if_exists}", name(*span))
        }
        Kind::AlterDatabase { name: span } => format!("AlterDatabase {:?}", span.map(name)),
        Kind::Savepoint { name: span } => format!("Savepoint {}", name(*span)),
        Kind::RollbackToSavepoint { name: span } => format!("RollbackToSavepoint {}", name(*span)),
        Kind::ReleaseSavepoint { name: span } => format!("ReleaseSavepoint {}", name(*span)),
        Kind::Use { database } => format!("Use {}", name(*database)),
        Kind::Prepare { name: span } => format!("Prepare {}", name(*span)),
        Kind::Execute { name: span } => format!("Execute {}", name(*span)),
        Kind::Deallocate { name: span } => format!("Deallocate {}", name(*span)),
        Kind::Set(_) => "Set".to_owned(),
        other => format!("{other:?}"),
    }
}
