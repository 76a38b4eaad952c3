//! How results are printed: a table that fits the terminal, or JSON with stable snake_case keys. Results go to stdout alone.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Narrower terminals are taken for none.
const WIDTH_MIN: u16 = 40;

/// The form of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Prints a value: itself as JSON, or the text that `table` makes of it.
pub fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value).context("print as JSON")?,
    };
    print_text(&text)
}

/// Prints text with a line end; a reader that went away (as `head` does) is no error.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let text = text.trim_end_matches('\n');
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("print the result"),
    }
}

/// Prints a line for people to stderr; that nobody reads it must not end what is under way.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table of rows under headers, without borders.
pub fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    wide_table(
        &headers.map(ToOwned::to_owned),
        rows.into_iter().map(Vec::from),
    )
}

/// The same where the columns are known only when it is printed.
pub fn wide_table(headers: &[String], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // A terminal that does not know its width must not squeeze columns to a letter.
    let arrangement = match table.width() {
        Some(width) if width < WIDTH_MIN => ContentArrangement::Disabled,
        _ => ContentArrangement::Dynamic,
    };
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(arrangement)
        .set_header(headers);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trim_lines(&table.to_string())
}

/// Names and values, one a line.
pub fn list(items: &[(&str, String)]) -> String {
    let width = items.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {value}");
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A value or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value
        .map(|value| value.to_string())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

/// A duration as people say it.
pub fn duration_text(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..120_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", milliseconds / 60_000),
        _ => format!("{} h", milliseconds / 3_600_000),
    }
}

fn trim_lines(text: &str) -> String {
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_columns() {
        let rows = [
            ["a".to_owned(), "bb".to_owned()],
            ["cccc".to_owned(), String::new()],
        ];
        assert_eq!(table(["NAME", "X"], rows), "NAME  X\na     bb\ncccc");
    }

    #[test]
    fn lists_align_their_values() {
        let items = [("name", "a".to_owned()), ("primary", "b".to_owned())];
        assert_eq!(list(&items), "name     a\nprimary  b");
    }

    #[test]
    fn durations_are_short() {
        for (given, printed) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (119_999, "119.9 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
        ] {
            assert_eq!(duration_text(given), printed);
        }
    }

    #[test]
    fn nothing_is_a_dash() {
        assert_eq!(or_dash::<u64>(None), "-");
        assert_eq!(or_dash(Some("")), "-");
        assert_eq!(or_dash(Some(4)), "4");
    }
}
