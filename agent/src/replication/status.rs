//! Reads what mysqld says of itself. The order of the queries is part of the meaning: flags and thread states first, GTID sets
//! last, so that what is said of a closed server or a stopped thread is final.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use mysql_async::{Row, from_row_opt, prelude::FromRow};
use vt_agent_core::{Channel, SchemaChangeState, Server};
use vt_proto::{gtid::GtidSet, report::ThreadState, topology::Endpoint};

use super::quoted;
use crate::mysqld::{
    APP_USER, INTERNAL_SCHEMA,
    admin_conn::{AdminConn, AdminError},
};

/// A table or schema that is not there yet.
const NO_SUCH_TABLE: [u16; 2] = [1146, 1049];
/// The received stream ends at most so long ago: the source had nothing more.
const CAUGHT_UP_MS: u64 = 1_000;

/// What is looked at besides replication; each costs a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub app_transactions: bool,
    /// The connections of ackers, while commits wait for long.
    pub ackers: bool,
    /// Schemas that should exist, and the schema changes that were recorded.
    pub schemas: Option<Vec<String>>,
}

/// Why mysqld's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("mysqld's answer is not understood: {0}")]
    Answer(String),
}

impl StatusError {
    fn answer(what: impl Into<String>) -> Self {
        Self::Answer(what.into())
    }
}

/// The order of the queries of one observation, which travel together.
const FLAGS: &str = "SELECT @@global.server_uuid, @@global.read_only, @@global.super_read_only, @@global.offline_mode, \
     @@global.rpl_semi_sync_source_enabled, @@global.rpl_semi_sync_source_wait_for_replica_count, \
     @@global.rpl_semi_sync_replica_enabled";
const CHANNEL: &str = "SHOW REPLICA STATUS";
const COUNTERS: &str = "SELECT LOWER(variable_name), variable_value FROM performance_schema.global_status \
     WHERE variable_name IN ('Rpl_semi_sync_source_wait_sessions', 'Rpl_semi_sync_replica_status')";
const EXECUTED: &str = "SELECT @@global.gtid_executed";

type Flags = (String, bool, bool, bool, bool, u32, bool);

/// Transactions that are open now. InnoDB's own table would be a tenth of a second old, for which writers would wait.
pub(super) const APP_TRANSACTIONS: &str = "performance_schema.events_transactions_current \
     JOIN performance_schema.threads USING (thread_id) WHERE state = 'ACTIVE'";

/// A replica that acknowledges says so in a variable of its own session before it asks for the stream.
const NEWEST_ACKER: &str = "SELECT MAX(processlist_id) FROM performance_schema.threads \
     JOIN performance_schema.user_variables_by_thread USING (thread_id) \
     WHERE processlist_command LIKE 'Binlog Dump%' AND variable_name = 'rpl_semi_sync_replica' AND variable_value = '1'";

/// Ages in microseconds: of the last heartbeat, of the last event, of the stream behind the source's commits, and how long
/// the oldest transaction that is being applied was committed ago. The zero time of MySQL means never.
const AGES: &str = "SELECT \
     (SELECT TIMESTAMPDIFF(MICROSECOND, NULLIF(last_heartbeat_timestamp, 0), NOW(6)) \
        FROM performance_schema.replication_connection_status WHERE channel_name = ''), \
     (SELECT TIMESTAMPDIFF(MICROSECOND, NULLIF(GREATEST(last_queued_transaction_end_queue_timestamp, \
        queueing_transaction_start_queue_timestamp), 0), NOW(6)) \
        FROM performance_schema.replication_connection_status WHERE channel_name = ''), \
     (SELECT TIMESTAMPDIFF(MICROSECOND, NULLIF(last_queued_transaction_original_commit_timestamp, 0), \
        last_queued_transaction_end_queue_timestamp) \
        FROM performance_schema.replication_connection_status WHERE channel_name = ''), \
     (SELECT MAX(TIMESTAMPDIFF(MICROSECOND, NULLIF(applying_transaction_original_commit_timestamp, 0), NOW(6))) \
        FROM performance_schema.replication_applier_status_by_worker WHERE channel_name = '')";

type Ages = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// How far the source's stream was read, and since when no further: within a long transaction there are neither heartbeats nor
/// ends of transactions, and it is heard all the same.
#[derive(Debug, Default)]
pub struct Stream {
    read_to: Option<(String, String)>,
    moved: Option<Instant>,
}

impl Stream {
    /// Time since it moved, as far as that was seen.
    fn moved_ms(&mut self, now: Instant, read_to: Option<(String, String)>) -> Option<u64> {
        if self.read_to != read_to {
            let known = self.read_to.is_some();
            self.moved = known.then_some(now);
            self.read_to = read_to;
        }
        let moved_ms = now.duration_since(self.moved?).as_millis();
        Some(u64::try_from(moved_ms).unwrap_or(u64::MAX))
    }
}

/// Observes the server. `user` is the account with which it replicates; `io_age_ms` is how long ago the IO thread was started, if that is known.
pub async fn observe(
    conn: &mut AdminConn,
    interest: &Interest,
    user: &str,
    stream: &mut Stream,
    io_age_ms: Option<u64>,
) -> Result<Server, StatusError> {
    let queries = [FLAGS, COUNTERS, CHANNEL, EXECUTED, AGES].join("; ");
    let sets = conn.row_sets(&queries).await?;
    let [flags, counters, channel, executed, ages] = <[Vec<Row>; 5]>::try_from(sets)
        .map_err(|sets| StatusError::answer(format!("{} answers to 5 queries", sets.len())))?;
    let flags: Flags = first(flags)?.ok_or_else(|| StatusError::answer("no settings"))?;
    let counters = read_counters(counters)?;
    let executed: Option<(String,)> = first(executed)?;
    let executed = gtid_set(executed.as_ref().map_or("", |(text,)| text))?;
    let row = channel.into_iter().next();
    let mut channel = row
        .as_ref()
        .map(|row| read_channel(row, user))
        .transpose()?;
    let retrieved = row.as_ref().and_then(|row| text(row, "Retrieved_Gtid_Set"));
    let received = executed.union(&gtid_set(&retrieved.unwrap_or_default())?);
    if let (Some(channel), Some(row)) = (&mut channel, &row) {
        let ages: Ages = first(ages)?.unwrap_or_default();
        judge_ages(channel, ages, received == executed, io_age_ms);
        let read_to = text(row, "Source_Log_File").zip(text(row, "Read_Source_Log_Pos"));
        let moved_ms = stream.moved_ms(Instant::now(), read_to);
        channel.heartbeat_age_ms = youngest(channel.heartbeat_age_ms, moved_ms);
    }
    let app_transactions = match interest.app_transactions {
        true => count_app_transactions(conn).await?,
        false => 0,
    };
    let newest_acker = match interest.ackers {
        true => newest_acker(conn).await?,
        false => None,
    };
    let (schemas, schema_changes) = match &interest.schemas {
        Some(wanted) => (
            read_schemas(conn, wanted).await?,
            read_schema_changes(conn).await?,
        ),
        None => (BTreeSet::new(), BTreeMap::new()),
    };
    Ok(Server {
        server_uuid: flags.0,
        read_only: flags.1,
        super_read_only: flags.2,
        offline_mode: flags.3,
        source_semi_sync: flags.4,
        wait_for_replica_count: flags.5,
        wait_sessions: counters.0,
        newest_acker,
        replica_semi_sync: flags.6,
        replica_acknowledges: counters.1,
        channel,
        executed,
        received,
        app_transactions,
        schemas,
        schema_changes,
    })
}

fn first<T: FromRow>(rows: Vec<Row>) -> Result<Option<T>, StatusError> {
    let row = rows.into_iter().next();
    row.map(|row| from_row_opt(row).map_err(|error| StatusError::answer(error.to_string())))
        .transpose()
}

/// Waiting commits, and whether the IO thread acknowledges.
fn read_counters(rows: Vec<Row>) -> Result<(u32, bool), StatusError> {
    let mut counters = (0, false);
    for row in rows {
        let (name, value): (String, String) =
            from_row_opt(row).map_err(|error| StatusError::answer(error.to_string()))?;
        match name.as_str() {
            "rpl_semi_sync_source_wait_sessions" => counters.0 = value.parse().unwrap_or(0),
            _ => counters.1 = value == "ON",
        }
    }
    Ok(counters)
}

fn gtid_set(text: &str) -> Result<GtidSet, StatusError> {
    text.parse()
        .map_err(|error| StatusError::answer(format!("GTID set: {error}")))
}

fn text(row: &Row, column: &str) -> Option<String> {
    row.get_opt::<Option<String>, &str>(column)?
        .unwrap_or_default()
}

fn read_channel(row: &Row, user: &str) -> Result<Channel, StatusError> {
    let need = |column: &str| {
        text(row, column)
            .ok_or_else(|| StatusError::answer(format!("SHOW REPLICA STATUS lacks {column}")))
    };
    let port = need("Source_Port")?;
    let source = Endpoint {
        host: need("Source_Host")?,
        port: port
            .parse()
            .map_err(|_| StatusError::answer(format!("'{port}' is not a port")))?,
    };
    let error = |code: &str, words: &str| {
        let code: u32 = text(row, code)?.parse().ok()?;
        (code != 0).then(|| (code, text(row, words).unwrap_or_default()))
    };
    Ok(Channel {
        source,
        own_account: need("Source_User")? == user,
        source_uuid: text(row, "Source_UUID").filter(|uuid| !uuid.is_empty()),
        io: thread_state(&need("Replica_IO_Running")?),
        sql: thread_state(&need("Replica_SQL_Running")?),
        io_error: error("Last_IO_Errno", "Last_IO_Error"),
        sql_error: error("Last_SQL_Errno", "Last_SQL_Error"),
        caught_up: false,
        heartbeat_age_ms: None,
        lag_ms: None,
    })
}

fn thread_state(text: &str) -> ThreadState {
    match text {
        "No" => ThreadState::Off,
        "Yes" => ThreadState::On,
        _ => ThreadState::Connecting,
    }
}

/// Turns ages into what they mean.
fn judge_ages(channel: &mut Channel, ages: Ages, all_applied: bool, io_age_ms: Option<u64>) {
    let ms = |age: Option<i64>| age.map(|age_us| u64::try_from(age_us / 1_000).unwrap_or(0));
    let (heartbeat, event, stream, applying) = (ms(ages.0), ms(ages.1), ms(ages.2), ms(ages.3));
    channel.heartbeat_age_ms = youngest(heartbeat, event);
    // A heartbeat is sent when there is nothing to send; under load there is none, and the stream's own delay must do.
    let since_start = |age: Option<u64>| {
        age.is_some_and(|age_ms| io_age_ms.is_none_or(|io_age_ms| age_ms < io_age_ms))
    };
    channel.caught_up = channel.io == ThreadState::On
        && (since_start(heartbeat)
            || (since_start(event) && stream.is_some_and(|age_ms| age_ms < CAUGHT_UP_MS)));
    channel.lag_ms = match (channel.io, all_applied, applying) {
        (ThreadState::On, true, _) => Some(0),
        (_, false, Some(age_ms)) => Some(age_ms),
        _ => None,
    };
}

fn youngest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

async fn count_app_transactions(conn: &mut AdminConn) -> Result<u32, StatusError> {
    let query =
        format!("SELECT COUNT(*) FROM {APP_TRANSACTIONS} AND processlist_user = '{APP_USER}'");
    let rows: Vec<u32> = conn.rows(&query).await?;
    Ok(rows.first().copied().unwrap_or(0))
}

async fn newest_acker(conn: &mut AdminConn) -> Result<Option<u64>, StatusError> {
    let rows: Vec<Option<u64>> = conn.rows(NEWEST_ACKER).await?;
    Ok(rows.into_iter().next().flatten())
}

async fn read_schemas(
    conn: &mut AdminConn,
    wanted: &[String],
) -> Result<BTreeSet<String>, StatusError> {
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names: Vec<String> = wanted
        .iter()
        .map(|name| format!("'{}'", quoted(name)))
        .collect();
    let query = format!(
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ({})",
        names.join(", ")
    );
    let found: Vec<String> = conn.rows(&query).await?;
    Ok(found.into_iter().collect())
}

async fn read_schema_changes(
    conn: &mut AdminConn,
) -> Result<BTreeMap<(u64, String), SchemaChangeState>, StatusError> {
    let query = format!(
        "SELECT id, schema_name, state, COALESCE(error, '') FROM `{INTERNAL_SCHEMA}`.schema_changes"
    );
    let rows: Vec<(u64, String, String, String)> = match conn.rows(&query).await {
        Err(error)
            if error
                .code()
                .is_some_and(|code| NO_SUCH_TABLE.contains(&code)) =>
        {
            Vec::new()
        }
        other => other?,
    };
    let state = |state: &str, error: String| match state {
        "done" => SchemaChangeState::Done,
        "failed" => SchemaChangeState::Failed { error },
        _ => SchemaChangeState::Started,
    };
    Ok(rows
        .into_iter()
        .map(|(id, schema, word, error)| ((id, schema), state(&word, error)))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(io: ThreadState) -> Channel {
        Channel {
            source: Endpoint {
                host: "h".into(),
                port: 1,
            },
            own_account: true,
            source_uuid: None,
            io,
            sql: ThreadState::On,
            io_error: None,
            sql_error: None,
            caught_up: false,
            heartbeat_age_ms: None,
            lag_ms: None,
        }
    }

    fn judged(
        io: ThreadState,
        ages: Ages,
        all_applied: bool,
        io_age_ms: Option<u64>,
    ) -> (bool, Option<u64>, Option<u64>) {
        let mut channel = channel(io);
        judge_ages(&mut channel, ages, all_applied, io_age_ms);
        (channel.caught_up, channel.heartbeat_age_ms, channel.lag_ms)
    }

    #[test]
    fn ages_are_judged() {
        use ThreadState::On;
        let ms = |ms: i64| Some(ms * 1_000);
        for (name, io, ages, applied, io_age, caught_up, age, lag) in [
            (
                "quiet",
                On,
                (ms(80), ms(9_000), ms(2), None),
                true,
                Some(500),
                true,
                Some(80),
                Some(0),
            ),
            (
                "busy",
                On,
                (ms(9_000), ms(3), ms(4), ms(7)),
                false,
                Some(500),
                true,
                Some(3),
                Some(7),
            ),
            (
                "far behind",
                On,
                (None, ms(3), ms(60_000), ms(70_000)),
                false,
                Some(500),
                false,
                Some(3),
                Some(70_000),
            ),
            (
                "old heartbeat",
                On,
                (ms(900), None, None, None),
                true,
                Some(500),
                false,
                Some(900),
                Some(0),
            ),
        ] {
            let judged = judged(io, ages, applied, io_age);
            assert_eq!(judged, (caught_up, age, lag), "{name}");
        }
    }

    #[test]
    fn ages_that_nobody_knows_are_judged() {
        use ThreadState::{Connecting, On};
        let ms = |ms: i64| Some(ms * 1_000);
        for (name, io, ages, applied, io_age, caught_up, age, lag) in [
            (
                "connecting",
                Connecting,
                (ms(80), None, None, None),
                true,
                None,
                false,
                Some(80),
                None,
            ),
            (
                "never",
                On,
                (None, None, None, None),
                true,
                None,
                false,
                None,
                Some(0),
            ),
        ] {
            let judged = judged(io, ages, applied, io_age);
            assert_eq!(judged, (caught_up, age, lag), "{name}");
        }
    }

    #[test]
    fn a_stream_that_moves_is_heard() {
        let (mut stream, began) = (Stream::default(), Instant::now());
        let looks = [(0, 4), (700, 4), (1_400, 900), (2_100, 900), (2_800, 1_800)];
        let seen = looks.map(|(at_ms, position)| {
            let read_to = ("binlog.000001".to_owned(), position.to_string());
            stream.moved_ms(began + Duration::from_millis(at_ms), Some(read_to))
        });
        // Nothing is known of the time before the first look.
        assert_eq!(seen, [None, None, Some(0), Some(700), Some(0)]);
    }
}
