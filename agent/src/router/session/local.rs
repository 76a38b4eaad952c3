//! Answers that need no server: OK, SHOW DATABASES, statistics, the client's own number.

use vt_wire::reader::put_lenenc_bytes;
use vt_wire::response::{OK_BYTE, OkPacket, put_rows_end};
use vt_wire::result_set::{Column, TextResult};
use vt_wire::{Capabilities, ServerStatus};

use super::{End, Session};
use crate::router::error::RouterError;
use crate::router::rights;
use crate::router::variables::{Variable, Variables};

/// Session tracker: the schema changed.
const TRACK_SCHEMA: u8 = 1;

impl Session {
    pub(super) async fn reply_ok(&mut self, sequence: u8) -> Result<(), End> {
        self.reply_ok_with(&[], sequence).await
    }

    async fn reply_ok_with(&mut self, session_state: &[u8], sequence: u8) -> Result<(), End> {
        let mut payload = Vec::new();
        let ok = OkPacket {
            status: self.state.status,
            session_state,
            ..OkPacket::default()
        };
        ok.put(&mut payload, OK_BYTE, self.state.capabilities);
        self.send(&payload, sequence).await
    }

    /// Answers USE and INIT_DB.
    pub(super) async fn reply_selected(
        &mut self,
        result: Result<(), RouterError>,
        sequence: u8,
    ) -> Result<(), End> {
        if let Err(error) = result {
            return self.reply_error(&error, sequence).await;
        }
        let name = self.state.database_name();
        let mut item = Vec::new();
        put_lenenc_bytes(&mut item, name.as_bytes());
        let mut session_state = vec![TRACK_SCHEMA];
        put_lenenc_bytes(&mut session_state, &item);
        self.reply_ok_with(&session_state, sequence).await
    }

    pub(super) async fn reply_result(
        &mut self,
        result: &TextResult,
        sequence: u8,
    ) -> Result<(), End> {
        let mut wire = Vec::new();
        result.put(
            &mut wire,
            sequence,
            self.state.status,
            self.state.capabilities,
        );
        Ok(self.client.write(&wire).await?)
    }

    pub(super) async fn reply_statistics(&mut self, sequence: u8) -> Result<(), End> {
        let connections = self.worker.metrics.client_connections.get();
        let held = self.worker.metrics.held.get();
        let text = format!("Vitrail router  Connections: {connections}  Held statements: {held}");
        self.send(text.as_bytes(), sequence).await
    }

    /// COM_SET_OPTION: several statements in one text, on (0) or off (1).
    pub(super) async fn set_option(&mut self, option: u16, sequence: u8) -> Result<(), End> {
        let capabilities = self.state.capabilities;
        self.state.capabilities = match option {
            0 => capabilities.with(Capabilities::MULTI_STATEMENTS),
            1 => capabilities.without(Capabilities::MULTI_STATEMENTS),
            _ => {
                return self
                    .reply_error(
                        &RouterError::CommandRefused("this COM_SET_OPTION"),
                        sequence,
                    )
                    .await;
            }
        };
        self.state.place = None;
        let mut payload = Vec::new();
        put_rows_end(&mut payload, self.state.status, 0, self.state.capabilities);
        self.send(&payload, sequence).await
    }

    /// SHOW DATABASES: the keyspaces, and the schema that every client asks for its metadata.
    pub(super) async fn show_keyspaces(&mut self, text: &[u8], sequence: u8) -> Result<(), End> {
        let Some(pattern) = like_pattern(text) else {
            return self.reply_error(&RouterError::ShowFilter, sequence).await;
        };
        let snapshot = self.worker.topology.load();
        let mut names: Vec<&str> = snapshot
            .keyspaces
            .iter()
            .map(|keyspace| keyspace.name.as_str())
            .filter(|name| {
                self.known_user()
                    .is_some_and(|user| rights::may_enter(user, name))
            })
            .collect();
        names.push("information_schema");
        names.sort_unstable();
        let rows = names
            .into_iter()
            .filter(|name| {
                pattern
                    .as_deref()
                    .is_none_or(|pattern| is_like(name.as_bytes(), pattern))
            })
            .map(|name| vec![Some(name.as_bytes().to_vec())])
            .collect();
        let title = match &pattern {
            Some(pattern) => format!("Database ({})", String::from_utf8_lossy(pattern)),
            None => "Database".to_owned(),
        };
        let result = TextResult {
            columns: vec![Column::text(title.as_bytes())],
            rows,
        };
        self.reply_result(&result, sequence).await
    }

    /// Answers a SET of the router's own variables.
    pub(super) async fn set_variables(
        &mut self,
        result: Result<Variables, RouterError>,
        sequence: u8,
    ) -> Result<(), End> {
        match result {
            Ok(variables) => {
                self.state.variables = variables;
                // Another replica may be fit now.
                self.state.place = None;
                self.reply_ok(sequence).await
            }
            Err(error) => self.reply_error(&error, sequence).await,
        }
    }

    pub(super) async fn show_variable(
        &mut self,
        variable: Variable,
        sequence: u8,
    ) -> Result<(), End> {
        let (title, value) = self.state.variables.show(variable, &self.worker.reads);
        let result = TextResult {
            columns: vec![Column::number(title.as_bytes())],
            rows: vec![vec![Some(value.to_string().into_bytes())]],
        };
        self.reply_result(&result, sequence).await
    }

    pub(super) async fn reply_connection_id(&mut self, sequence: u8) -> Result<(), End> {
        let number = self.connection_id().to_string().into_bytes();
        let result = TextResult {
            columns: vec![Column::number(b"CONNECTION_ID()")],
            rows: vec![vec![Some(number)]],
        };
        self.reply_result(&result, sequence).await
    }

    /// The number under which the client knows its connection.
    pub(super) fn connection_id(&self) -> u32 {
        self.state.id as u32
    }

    /// The status flags that a fresh session has.
    pub(super) fn fresh_status() -> ServerStatus {
        ServerStatus::AUTOCOMMIT
    }
}

/// The pattern of `SHOW DATABASES [LIKE 'pattern']`; `Some(None)` without one, `None` for other forms.
fn like_pattern(text: &[u8]) -> Option<Option<Vec<u8>>> {
    let text = text
        .trim_ascii()
        .strip_suffix(b";")
        .unwrap_or(text)
        .trim_ascii();
    let mut words = text
        .splitn(4, u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let is = |word: Option<&[u8]>, wanted: &[u8]| {
        word.is_some_and(|word| word.eq_ignore_ascii_case(wanted))
    };
    if !is(words.next(), b"show") {
        return None;
    }
    let noun = words.next();
    if !is(noun, b"databases") && !is(noun, b"schemas") {
        return None;
    }
    let Some(like) = words.next() else {
        return Some(None);
    };
    let quoted = words.next()?.trim_ascii();
    let inner = |quote: u8| quoted.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    let pattern = inner(b'\'').or_else(|| inner(b'"'))?;
    like.eq_ignore_ascii_case(b"like")
        .then(|| Some(pattern.to_ascii_lowercase()))
}

/// LIKE with `%`, `_` and the backslash, for names of lower-case ASCII letters.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'%', rest @ ..] => (0..=text.len()).any(|skipped| is_like(&text[skipped..], rest)),
        [b'_', rest @ ..] => !text.is_empty() && is_like(&text[1..], rest),
        [b'\\', wanted, rest @ ..] | [wanted, rest @ ..] => {
            text.first() == Some(wanted) && is_like(&text[1..], rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_show_databases() {
        let cases: [(&str, Option<Option<&str>>); 7] = [
            ("SHOW DATABASES", Some(None)),
            ("show schemas;", Some(None)),
            ("SHOW DATABASES LIKE 'shop'", Some(Some("shop"))),
            ("SHOW DATABASES like \"S%\" ", Some(Some("s%"))),
            ("SHOW DATABASES WHERE 1", None),
            ("SHOW DATABASES LIKE shop", None),
            ("SHOW TABLES", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|pattern| pattern.map(|text| text.as_bytes().to_vec()));
            assert_eq!(like_pattern(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn like() {
        let cases = [
            ("shop", "shop", true),
            ("shop", "s%", true),
            ("shop", "s_op", true),
            ("shop", "%x%", false),
            ("a_b", "a\\_b", true),
            ("axb", "a\\_b", false),
            ("", "%", true),
        ];
        for (text, pattern, expected) in cases {
            assert_eq!(
                is_like(text.as_bytes(), pattern.as_bytes()),
                expected,
                "{text} {pattern}"
            );
        }
    }
}
