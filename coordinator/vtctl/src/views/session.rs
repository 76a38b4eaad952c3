//! A client's session at a router.

use anyhow::Context as _;
use mysql_async::{Row, prelude::FromValue};
use serde::Serialize;

use super::query::time;
use crate::output::table;

/// So much of a text is shown in a table; all that the router tells is in the JSON.
const TEXT_CHARS_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    pub router: String,
    /// As CONNECTION_ID() tells it there.
    pub id: u32,
    pub user: String,
    pub client: String,
    pub database: Option<String>,
    pub command: String,
    /// Since the command began, or since the last one ended.
    pub time_ms: u64,
    /// What it waits for.
    pub state: Option<String>,
    /// Since when it has a transaction open.
    pub transaction_ms: Option<u64>,
    /// Why its next statement needs the connection of its last one.
    pub kept_for: Option<String>,
    pub connected_s: u64,
    /// What it runs, up to 1,024 bytes.
    pub text: Option<String>,
}

impl Session {
    /// A row of `SHOW VITRAIL SESSIONS`.
    pub fn read(router: &str, row: Row) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let bytes: Option<Vec<u8>> = field(&row, name)?;
            let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            anyhow::Ok(text.filter(|text| !text.is_empty()))
        };
        let number = |name: &str| {
            let number: Option<u64> = field(&row, name)?;
            number.with_context(|| format!("the router gives no {name}"))
        };
        Ok(Self {
            router: router.to_owned(),
            id: u32::try_from(number("Id")?).context("a session's number")?,
            user: text("User")?.unwrap_or_default(),
            client: text("Host")?.unwrap_or_default(),
            database: text("db")?,
            command: text("Command")?.unwrap_or_default(),
            time_ms: number("Time_ms")?,
            state: text("State")?,
            transaction_ms: field(&row, "Transaction_ms")?,
            kept_for: text("Kept_for")?,
            connected_s: number("Connected_s")?,
            text: text("Info")?,
        })
    }
}

fn field<T: FromValue>(row: &Row, name: &str) -> anyhow::Result<Option<T>> {
    let value: Option<Option<T>> = row.get_opt(name).and_then(Result::ok);
    value.with_context(|| format!("the router says nothing that can be read as {name}"))
}

/// Longest open transaction first, then what runs or rests for longest.
pub fn sort(sessions: &mut [Session]) {
    sessions.sort_by(|one, other| {
        let key = |session: &Session| (session.transaction_ms, session.time_ms);
        key(other).cmp(&key(one))
    });
}

/// One line for each; `count` there were.
pub fn summary(sessions: &[Session], count: usize) -> String {
    let none = || "-".to_owned();
    let row = |session: &Session| {
        let shown = session.text.as_ref().or(session.state.as_ref());
        [
            session.router.clone(),
            session.id.to_string(),
            session.user.clone(),
            session.client.clone(),
            session.database.clone().unwrap_or_else(none),
            session.command.clone(),
            time(session.time_ms * 1_000),
            session
                .transaction_ms
                .map_or_else(none, |ms| time(ms * 1_000)),
            session.kept_for.clone().unwrap_or_else(none),
            shown.map_or_else(none, |text| text.chars().take(TEXT_CHARS_MAX).collect()),
        ]
    };
    let headers = [
        "ROUTER",
        "ID",
        "USER",
        "CLIENT",
        "DATABASE",
        "COMMAND",
        "TIME",
        "TRANSACTION",
        "KEPT FOR",
        "TEXT",
    ];
    let shown = table(headers, sessions.iter().map(row));
    match count - sessions.len() {
        0 => shown,
        more => format!("{shown}\n{more} more; --limit shows them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u32, transaction_ms: Option<u64>, time_ms: u64) -> Session {
        Session {
            router: "db1:3307".to_owned(),
            id,
            user: "app".to_owned(),
            client: "10.0.0.9:40000".to_owned(),
            database: Some("shop".to_owned()),
            command: "Sleep".to_owned(),
            time_ms,
            state: None,
            transaction_ms,
            kept_for: transaction_ms.map(|_| "an open transaction".to_owned()),
            connected_s: 7,
            text: None,
        }
    }

    #[test]
    fn who_holds_most_comes_first() {
        let mut sessions = [
            session(1, None, 900),
            session(2, Some(5), 1),
            session(3, Some(70_000), 2),
            session(4, None, 9_000),
        ];
        sort(&mut sessions);
        assert_eq!(sessions.each_ref().map(|it| it.id), [3, 2, 4, 1]);
        let shown = summary(&sessions[..2], 4);
        assert!(
            shown.contains("70.0 s") && shown.contains("2 more"),
            "{shown}"
        );
    }
}
