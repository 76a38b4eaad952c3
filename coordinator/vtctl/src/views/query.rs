//! A kind of statement that ran at routers.

use std::collections::BTreeMap;

use anyhow::Context as _;
use mysql_async::Row;
use serde::Serialize;

use crate::output::table;

/// So much of a text is shown in a table; all of it is in the JSON.
const TEXT_CHARS_MAX: usize = 100;

/// Times are in microseconds; percentiles are up to a quarter too long, and over several routers those of the slowest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Without literals; empty for all those that found no room at their router.
    pub query: String,
    pub database: String,
    pub user: String,
    pub count: u64,
    pub errors: u64,
    pub rows: u64,
    pub affected_rows: u64,
    pub total_us: u64,
    pub average_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub longest_us: u64,
}

/// A row of `SHOW VITRAIL QUERIES`.
impl TryFrom<Row> for Query {
    type Error = anyhow::Error;

    fn try_from(row: Row) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let value: Option<Vec<u8>> = row.get(name);
            let bytes = value.with_context(|| format!("the router names no {name}"))?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let number = |name: &str| {
            let value: Option<u64> = row.get_opt(name).and_then(Result::ok);
            value.with_context(|| format!("the router gives no number as {name}"))
        };
        Ok(Self {
            query: text("Query")?,
            database: text("db")?,
            user: text("User")?,
            count: number("Count")?,
            errors: number("Errors")?,
            rows: number("Rows")?,
            affected_rows: number("Affected_rows")?,
            total_us: number("Total_us")?,
            average_us: number("Average_us")?,
            p95_us: number("P95_us")?,
            p99_us: number("P99_us")?,
            longest_us: number("Longest_us")?,
        })
    }
}

/// What several routers said of the same kind, as one.
pub fn merge(queries: Vec<Query>) -> Vec<Query> {
    let mut sums: BTreeMap<(String, String, String), Query> = BTreeMap::new();
    for query in queries {
        let key = (
            query.query.clone(),
            query.database.clone(),
            query.user.clone(),
        );
        match sums.get_mut(&key) {
            Some(sum) => sum.add(&query),
            None => drop(sums.insert(key, query)),
        }
    }
    sums.into_values().collect()
}

impl Query {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.rows += other.rows;
        self.affected_rows += other.affected_rows;
        self.total_us += other.total_us;
        self.average_us = self.total_us / self.count.max(1);
        self.p95_us = self.p95_us.max(other.p95_us);
        self.p99_us = self.p99_us.max(other.p99_us);
        self.longest_us = self.longest_us.max(other.longest_us);
    }
}

/// One line for each.
pub fn summary(queries: &[Query]) -> String {
    let row = |query: &Query| {
        [
            shown(&query.query),
            query.database.clone(),
            query.user.clone(),
            query.count.to_string(),
            query.errors.to_string(),
            (query.rows + query.affected_rows).to_string(),
            time(query.total_us),
            time(query.average_us),
            time(query.p99_us),
        ]
    };
    table(
        [
            "QUERY", "DATABASE", "USER", "COUNT", "ERRORS", "ROWS", "TOTAL", "AVERAGE", "P99",
        ],
        queries.iter().map(row),
    )
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        return "(others)".to_owned();
    }
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// With a unit that suits it.
pub fn time(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} us"),
        1_000..1_000_000 => format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100),
        _ => format!(
            "{}.{} s",
            microseconds / 1_000_000,
            microseconds % 1_000_000 / 100_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str, user: &str, count: u64, total_us: u64) -> Query {
        Query {
            query: text.to_owned(),
            database: "shop".to_owned(),
            user: user.to_owned(),
            count,
            errors: 1,
            rows: count,
            affected_rows: 0,
            total_us,
            average_us: total_us / count,
            p95_us: total_us / 4,
            p99_us: total_us / 3,
            longest_us: total_us / 2,
        }
    }

    #[test]
    fn what_several_routers_say_of_one_kind_is_one_line() {
        let merged = merge(vec![
            query("SELECT ?", "app", 2, 1_200),
            query("SELECT ?", "report", 1, 5),
            query("SELECT ?", "app", 4, 600),
        ]);
        let [app, report] = merged.as_slice() else {
            panic!("{merged:?}");
        };
        assert_eq!((report.user.as_str(), report.count), ("report", 1));
        let figures = [
            app.count,
            app.errors,
            app.rows,
            app.total_us,
            app.average_us,
        ];
        assert_eq!(figures, [6, 2, 6, 1_800, 300]);
        assert_eq!([app.p95_us, app.p99_us, app.longest_us], [300, 400, 600]);
    }

    #[test]
    fn long_texts_are_cut_and_times_have_units() {
        let long = "é".repeat(TEXT_CHARS_MAX + 1);
        assert_eq!(shown(&long).chars().count(), TEXT_CHARS_MAX + 3);
        assert_eq!(shown(""), "(others)");
        let times = [999, 1_500, 2_340_000].map(time);
        assert_eq!(times, ["999 us", "1.5 ms", "2.3 s"]);
    }
}
