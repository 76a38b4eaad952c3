//! SHOW PROCESSLIST, SHOW VITRAIL SESSIONS and QUERIES, and KILL: the sessions of this router, and what they run.
//!
//! The numbers are the router's own, as CONNECTION_ID() shows them; a server would know nothing of them.

use std::time::Instant;

use vt_wire::result_set::{Column, TextResult};

use super::{End, Session};
use crate::router::error::RouterError;
use crate::router::processlist::{Activity, Kill, Process};

/// So many bytes of a text are shown without FULL, as by the server.
const SHORT_TEXT_LENGTH_MAX: usize = 100;

impl Session {
    pub(super) async fn kill_by_text(
        &mut self,
        kill: vt_planner::Kill,
        sequence: u8,
    ) -> Result<(), End> {
        let Some(id) = kill.id else {
            return self
                .reply_error(&RouterError::KillExpression, sequence)
                .await;
        };
        let what = match kill.connection {
            true => Kill::Connection,
            false => Kill::Query,
        };
        self.kill(what, id, sequence).await
    }

    /// Ends what another session of the same user runs, or that session.
    pub(super) async fn kill(&mut self, what: Kill, id: u64, sequence: u8) -> Result<(), End> {
        let found = u32::try_from(id)
            .ok()
            .and_then(|id| self.shared.processlist.find(id));
        let outcome = match found {
            None => Err(RouterError::KillUnknown(id)),
            Some(process) if !self.may_see(&process) => Err(RouterError::KillDenied(id)),
            Some(process) => {
                process.kill(what);
                match process.id == self.connection_id() {
                    true => Err(RouterError::Interrupted),
                    false => Ok(()),
                }
            }
        };
        match outcome {
            Ok(()) => self.reply_ok(sequence).await,
            Err(error) => self.reply_error(&error, sequence).await,
        }
    }

    /// Its own sessions, or as an administrator all of them.
    fn may_see(&self, process: &Process) -> bool {
        self.is_administrator() || process.is_of(&self.state.user)
    }

    /// The user's sessions.
    pub(super) async fn show_processlist(&mut self, full: bool, sequence: u8) -> Result<(), End> {
        let processes = self.shared.processlist.all();
        let rows = processes
            .iter()
            .filter(|process| self.may_see(process))
            .map(|process| row(process, full))
            .collect();
        let result = TextResult {
            columns: vec![
                Column::number(b"Id"),
                Column::text(b"User"),
                Column::text(b"Host"),
                Column::text(b"db"),
                Column::text(b"Command"),
                Column::number(b"Time"),
                Column::text(b"State"),
                Column::text(b"Info"),
            ],
            rows,
        };
        self.reply_result(&result, sequence).await
    }

    /// The user's sessions, for an administrator all, with what each holds: longest open transaction first.
    pub(super) async fn show_sessions(&mut self, sequence: u8) -> Result<(), End> {
        let processes = self.shared.processlist.all();
        let mut sessions: Vec<_> = processes
            .iter()
            .filter(|process| self.may_see(process))
            .map(|process| (process, process.activity()))
            .collect();
        sessions.sort_by_key(|(process, activity)| {
            let since = activity.transaction_since;
            (since.is_none(), since, activity.since, process.id)
        });
        let rows = sessions
            .into_iter()
            .map(|(process, activity)| held_row(process, activity))
            .collect();
        let result = TextResult {
            columns: vec![
                Column::number(b"Id"),
                Column::text(b"User"),
                Column::text(b"Host"),
                Column::text(b"db"),
                Column::text(b"Command"),
                Column::number(b"Time_ms"),
                Column::text(b"State"),
                Column::number(b"Transaction_ms"),
                Column::text(b"Kept_for"),
                Column::number(b"Connected_s"),
                Column::text(b"Info"),
            ],
            rows,
        };
        self.reply_result(&result, sequence).await
    }

    /// What the user's sessions ran at this router since it started, for an administrator all sessions, the most costly first.
    pub(super) async fn show_queries(&mut self, sequence: u8) -> Result<(), End> {
        let own = (!self.is_administrator()).then_some(self.state.user.as_str());
        let digests = self.shared.digests.of_user(own);
        let number = |number: u128| Some(number.to_string().into_bytes());
        let rows = digests
            .into_iter()
            .map(|(name, figures)| {
                let count = u128::from(figures.count);
                vec![
                    Some(name.text),
                    Some(name.database.into_bytes()),
                    Some(name.user.into_bytes()),
                    number(count),
                    number(figures.errors.into()),
                    number(figures.rows.into()),
                    number(figures.affected_rows.into()),
                    number(figures.total.as_micros()),
                    number(figures.total.as_micros() / count.max(1)),
                    number(figures.percentile(95).as_micros()),
                    number(figures.percentile(99).as_micros()),
                    number(figures.longest.as_micros()),
                ]
            })
            .collect();
        let numbers = [
            "Count",
            "Errors",
            "Rows",
            "Affected_rows",
            "Total_us",
            "Average_us",
            "P95_us",
            "P99_us",
            "Longest_us",
        ];
        let numbers = numbers.map(|name| Column::number(name.as_bytes()));
        let texts = ["Query", "db", "User"];
        let mut columns = texts.map(|name| Column::text(name.as_bytes())).to_vec();
        columns.extend(numbers);
        self.reply_result(&TextResult { columns, rows }, sequence)
            .await
    }
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn row(process: &Process, full: bool) -> Vec<Option<Vec<u8>>> {
    let activity = process.activity();
    let length_max = match full {
        true => activity.text.len(),
        false => SHORT_TEXT_LENGTH_MAX.min(activity.text.len()),
    };
    vec![
        text(&process.id.to_string()),
        text(&activity.user),
        text(&process.peer.to_string()),
        activity.database.map(String::into_bytes),
        text(activity.command),
        text(&activity.since.elapsed().as_secs().to_string()),
        text(activity.state),
        (!activity.text.is_empty()).then(|| activity.text[..length_max].to_vec()),
    ]
}

fn held_row(process: &Process, activity: Activity) -> Vec<Option<Vec<u8>>> {
    let milliseconds = |since: Instant| text(&since.elapsed().as_millis().to_string());
    let reasons: Vec<_> = activity.kept_for.reasons().collect();
    vec![
        text(&process.id.to_string()),
        text(&activity.user),
        text(&process.peer.to_string()),
        activity.database.map(String::into_bytes),
        text(activity.command),
        milliseconds(activity.since),
        text(activity.state),
        activity.transaction_since.and_then(milliseconds),
        (!reasons.is_empty()).then(|| reasons.join(", ").into_bytes()),
        text(&process.entered.elapsed().as_secs().to_string()),
        (!activity.text.is_empty()).then_some(activity.text),
    ]
}
