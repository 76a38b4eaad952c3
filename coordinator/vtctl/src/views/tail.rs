//! The transactions of a kept piece of binary log, for people and as JSON.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A longer value is cut in the listing; JSON has all of it.
const VALUE_LENGTH_MAX: usize = 200;

/// By column: its name, or @1, @2 and so on where the log does not say it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<(String, Value)>);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Update {
    pub before: Row,
    pub after: Row,
}

/// Rows of one table, or a statement.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Change {
    Statement {
        database: String,
        sql: String,
    },
    Insert {
        database: String,
        table: String,
        rows: Vec<Row>,
    },
    Update {
        database: String,
        table: String,
        rows: Vec<Update>,
    },
    Delete {
        database: String,
        table: String,
        rows: Vec<Row>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transaction {
    pub gtid: String,
    /// UTC, RFC 3339: when it would have been committed.
    pub committed: Option<String>,
    pub changes: Vec<Change>,
}

/// What a host keeps, as far as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tail {
    pub tablet: String,
    pub directory: String,
    pub gtids: String,
    pub transactions: Vec<Transaction>,
    /// Beyond the limits.
    pub transactions_left_out: u64,
    pub rows_left_out: u64,
    /// Why the rest cannot be read here, or that it ends in the middle of a transaction.
    pub incomplete: Option<String>,
}

/// A listing: transactions, below each what it changed.
pub fn text(tail: &Tail) -> String {
    let mut lines = Vec::new();
    for transaction in &tail.transactions {
        let committed = transaction.committed.as_deref().unwrap_or("-");
        lines.push(format!("{}  {committed}", transaction.gtid));
        for change in &transaction.changes {
            change.list(&mut lines);
        }
    }
    if tail.transactions_left_out > 0 || tail.rows_left_out > 0 {
        lines.push(format!(
            "left out: {} transactions, and {} rows of those above: see --transactions and --rows",
            tail.transactions_left_out, tail.rows_left_out
        ));
    }
    if let Some(why) = &tail.incomplete {
        lines.push(format!("incomplete: {why}"));
    }
    lines.join("\n")
}

impl Change {
    fn list(&self, lines: &mut Vec<String>) {
        match self {
            Change::Statement { database, sql } => {
                let place = match database.as_str() {
                    "" => String::new(),
                    database => format!(" in {database}"),
                };
                lines.push(format!("  statement{place}: {sql}"));
            }
            Change::Insert {
                database,
                table,
                rows,
            } => {
                lines.push(format!("  insert into {database}.{table}"));
                lines.extend(rows.iter().map(|row| format!("    {}", row.text())));
            }
            Change::Update {
                database,
                table,
                rows,
            } => {
                lines.push(format!("  update {database}.{table}"));
                for Update { before, after } in rows {
                    lines.push(format!("    from {}", before.text()));
                    lines.push(format!("      to {}", after.text()));
                }
            }
            Change::Delete {
                database,
                table,
                rows,
            } => {
                lines.push(format!("  delete from {database}.{table}"));
                lines.extend(rows.iter().map(|row| format!("    {}", row.text())));
            }
        }
    }
}

impl Row {
    fn text(&self) -> String {
        let columns = self.0.iter();
        let columns = columns.map(|(name, value)| format!("{name} = {}", short(value)));
        columns.collect::<Vec<_>>().join(", ")
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let length = text.chars().count();
    if length <= VALUE_LENGTH_MAX {
        return text;
    }
    let start: String = text.chars().take(VALUE_LENGTH_MAX).collect();
    format!("{start}... ({length} characters)")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(values: &[Value]) -> Row {
        let named = (1..).zip(values);
        Row(named
            .map(|(at, it)| (format!("@{at}"), it.clone()))
            .collect())
    }

    #[test]
    fn a_listing_names_every_change_and_what_is_left_out() {
        let (database, table) = ("shop".to_owned(), "orders".to_owned());
        let tail = Tail {
            tablet: "zone1-100".to_owned(),
            directory: "3-uuid".to_owned(),
            gtids: "uuid:5-7".to_owned(),
            transactions: vec![Transaction {
                gtid: "uuid:5".to_owned(),
                committed: Some("2026-01-01T00:00:00Z".to_owned()),
                changes: vec![
                    Change::Statement {
                        database: database.clone(),
                        sql: "CREATE TABLE t (i INT)".to_owned(),
                    },
                    Change::Update {
                        database,
                        table,
                        rows: vec![Update {
                            before: row(&[json!(1), json!("a'b")]),
                            after: row(&[json!(1), json!("x".repeat(300))]),
                        }],
                    },
                ],
            }],
            transactions_left_out: 2,
            rows_left_out: 9,
            incomplete: None,
        };
        let shown = text(&tail);
        let long = format!("\"{}... (302 characters)", "x".repeat(199));
        let expected = format!(
            "uuid:5  2026-01-01T00:00:00Z\n  statement in shop: CREATE TABLE t (i INT)\n  update shop.orders\n    \
             from @1 = 1, @2 = \"a'b\"\n      to @1 = 1, @2 = {long}\n\
             left out: 2 transactions, and 9 rows of those above: see --transactions and --rows"
        );
        assert_eq!(shown, expected);
        let as_json = serde_json::to_value(&tail).unwrap();
        let update = &as_json["transactions"][0]["changes"][1];
        assert_eq!(update["operation"], "update");
        assert_eq!(update["rows"][0]["before"]["@2"], "a'b");
    }
}
