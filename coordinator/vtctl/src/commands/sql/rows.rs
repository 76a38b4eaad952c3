//! One statement's answer: rows as a table or as JSON, or what it affected.

use mysql_async::{Column, Conn, Row, Value, consts::ColumnType, prelude::Queryable as _};
use serde::{Serialize, ser::SerializeMap as _};

use crate::output;

/// More rows are for a real client.
const ROWS_MAX: usize = 100_000;

/// The answer to one statement.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub statement: String,
    pub affected_rows: u64,
    pub last_insert_id: Option<u64>,
    /// Empty for a statement without rows.
    pub columns: Vec<String>,
    pub rows: Vec<Record>,
}

/// One row: an object with the columns as keys, in their order.
#[derive(Debug)]
pub struct Record(Vec<(String, serde_json::Value)>);

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Runs one statement; a procedure may answer with several results.
pub async fn execute(connection: &mut Conn, statement: &str) -> anyhow::Result<Vec<Outcome>> {
    let mut result = connection.query_iter(statement).await?;
    let mut outcomes = Vec::new();
    while !result.is_empty() || outcomes.is_empty() {
        let columns = result.columns();
        let columns = columns.as_deref().unwrap_or_default();
        let mut outcome = Outcome {
            statement: statement.to_owned(),
            affected_rows: result.affected_rows(),
            last_insert_id: result.last_insert_id(),
            columns: columns
                .iter()
                .map(|column| column.name_str().into_owned())
                .collect(),
            rows: Vec::new(),
        };
        while let Some(row) = result.next().await? {
            anyhow::ensure!(
                outcome.rows.len() < ROWS_MAX,
                "more than {ROWS_MAX} rows; add a LIMIT or use the `mysql` client"
            );
            outcome.rows.push(record(row));
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn record(row: Row) -> Record {
    let columns = row.columns();
    let values = row.unwrap_raw();
    let pair = |(column, value): (&Column, Option<Value>)| {
        let value = value.unwrap_or(Value::NULL);
        (
            column.name_str().into_owned(),
            json(column.column_type(), value),
        )
    };
    Record(columns.iter().zip(values).map(pair).collect())
}

/// Numbers stay numbers where JSON can hold them exactly; decimals and times are texts; bytes that are no text are hexadecimal.
fn json(kind: ColumnType, value: Value) -> serde_json::Value {
    let Value::Bytes(bytes) = value else {
        return match value {
            Value::NULL => serde_json::Value::Null,
            Value::Int(number) => number.into(),
            Value::UInt(number) => number.into(),
            Value::Float(number) => f64::from(number).into(),
            Value::Double(number) => number.into(),
            other => other.as_sql(true).trim_matches('\'').into(),
        };
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return hex(error.as_bytes()).into(),
    };
    let integer = matches!(
        kind,
        ColumnType::MYSQL_TYPE_TINY
            | ColumnType::MYSQL_TYPE_SHORT
            | ColumnType::MYSQL_TYPE_INT24
            | ColumnType::MYSQL_TYPE_LONG
            | ColumnType::MYSQL_TYPE_LONGLONG
            | ColumnType::MYSQL_TYPE_YEAR
    );
    let float = matches!(
        kind,
        ColumnType::MYSQL_TYPE_FLOAT | ColumnType::MYSQL_TYPE_DOUBLE
    );
    let number = match (integer, float) {
        (true, _) => text
            .parse::<i64>()
            .map(Into::into)
            .ok()
            .or_else(|| text.parse::<u64>().map(Into::into).ok()),
        (_, true) => text.parse::<f64>().map(Into::into).ok(),
        _ => None,
    };
    number.unwrap_or_else(|| text.into())
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("0x{digits}")
}

impl Outcome {
    /// The rows as a table, or what was affected.
    pub fn text(&self) -> String {
        if self.columns.is_empty() {
            return format!("OK, {} rows affected", self.affected_rows);
        }
        let cell = |value: &serde_json::Value| match value {
            serde_json::Value::Null => "NULL".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let rows = self
            .rows
            .iter()
            .map(|row| row.0.iter().map(|(_, value)| cell(value)).collect());
        output::wide_table(&self.columns, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn values_keep_their_kind() {
        let cases = [
            (
                ColumnType::MYSQL_TYPE_LONG,
                bytes("-7"),
                serde_json::json!(-7),
            ),
            (
                ColumnType::MYSQL_TYPE_LONGLONG,
                bytes("18446744073709551615"),
                serde_json::json!(u64::MAX),
            ),
            (
                ColumnType::MYSQL_TYPE_DOUBLE,
                bytes("1.5"),
                serde_json::json!(1.5),
            ),
            (
                ColumnType::MYSQL_TYPE_NEWDECIMAL,
                bytes("1.50"),
                serde_json::json!("1.50"),
            ),
            (
                ColumnType::MYSQL_TYPE_VAR_STRING,
                bytes("7"),
                serde_json::json!("7"),
            ),
            (
                ColumnType::MYSQL_TYPE_LONG,
                Value::NULL,
                serde_json::Value::Null,
            ),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(json(kind, value), expected);
        }
    }

    #[test]
    fn answers_are_tables_or_counts() {
        let record = Record(vec![
            ("a".to_owned(), 1.into()),
            ("b".to_owned(), serde_json::Value::Null),
        ]);
        let mut outcome = Outcome {
            statement: "SELECT".to_owned(),
            affected_rows: 2,
            last_insert_id: None,
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![record],
        };
        assert_eq!(outcome.text(), "a  b\n1  NULL");
        assert_eq!(
            serde_json::to_string(&outcome.rows).unwrap(),
            r#"[{"a":1,"b":null}]"#
        );
        outcome.columns.clear();
        assert_eq!(outcome.text(), "OK, 2 rows affected");
    }
}
