//! Reads a kept piece of binary log: its transactions, and what each of them changed. It reads whole events alone and no more than it
//! was asked for; what stands in them is decoded by `mysql_common`.

use std::io::{self, Read as _};

use chrono::{DateTime, SecondsFormat, Utc};
use mysql_common::{
    binlog::{
        BinlogFileHeader, EventStreamReader,
        consts::{BinlogChecksumAlg, BinlogVersion},
        events::{
            BinlogEventHeader, Event, EventData, GtidEvent, QueryEvent, RowsEventData,
            TransactionPayloadEvent,
        },
        row::BinlogRow,
        value::BinlogValue,
    },
    constants::ColumnType,
    io::ParseBuf,
    proto::MyDeserialize as _,
    value::Value,
};
use serde_json::{Value as Json, json};
use vt_proto::gtid::GtidSource;

use crate::views::tail::{Change, Row, Transaction, Update};

/// A larger event, or a larger transaction that was compressed, is for mysqlbinlog on the host.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub transactions: usize,
    pub rows: usize,
}

/// What was read so far.
pub struct Reader {
    limits: Limits,
    stream: EventStreamReader,
    begun: bool,
    full: bool,
    /// Of the newest transaction: how long it is by its own words, and how much of it was read.
    length: (u64, u64),
    rows: usize,
    pub rows_left_out: u64,
    pub transactions: Vec<Transaction>,
}

impl Reader {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stream: EventStreamReader::new(BinlogVersion::Version4),
            begun: false,
            full: false,
            length: (0, 0),
            rows: 0,
            rows_left_out: 0,
            transactions: Vec::new(),
        }
    }

    /// More transactions are not wanted.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the newest transaction is here to its end.
    pub fn ends_whole(&self) -> bool {
        self.length.0 == self.length.1
    }

    /// Takes the whole events at the beginning of `bytes` and says how long they are together.
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        if !self.begun {
            if bytes.len() < BinlogFileHeader::LEN {
                return Ok(0);
            }
            BinlogFileHeader::read(bytes)?;
            used = BinlogFileHeader::LEN;
            self.begun = true;
        }
        while let Some(event) = next(&bytes[used..])? {
            self.take(event)?;
            if self.full {
                break;
            }
            used += event.len();
        }
        Ok(used)
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let event = self.stream.read(bytes)?;
        let event = event.ok_or_else(|| io::Error::other("an event has no bytes"))?;
        check(&event)?;
        let data = event.read_data()?;
        if let Some(EventData::GtidEvent(gtid)) = &data {
            self.begin(gtid, &event)?;
        }
        self.length.1 += bytes.len() as u64;
        match data {
            Some(EventData::TransactionPayloadEvent(payload)) => self.unpack(&payload),
            Some(data) => self.note(data),
            None => Ok(()),
        }
    }

    fn begin(&mut self, gtid: &GtidEvent, event: &Event) -> io::Result<()> {
        if self.transactions.len() >= self.limits.transactions {
            self.full = true;
            return Ok(());
        }
        self.length = (gtid.tx_length(), 0);
        let committed_us = match gtid.original_commit_timestamp() {
            0 => u64::from(event.header().timestamp()) * 1_000_000,
            committed_us => committed_us,
        };
        self.transactions.push(Transaction {
            gtid: name(gtid)?,
            committed: utc(i64::try_from(committed_us).unwrap_or(i64::MAX)),
            changes: Vec::new(),
        });
        Ok(())
    }

    /// The events of a compressed transaction have no checksums of their own.
    fn unpack(&mut self, payload: &TransactionPayloadEvent<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let limit = EVENT_BYTES_MAX as u64 + 1;
        payload
            .decompressed()?
            .take(limit)
            .read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        while let Some(event) = next(rest)? {
            rest = &rest[event.len()..];
            if let Some(event) = self.stream.read_decompressed(event)?
                && let Some(data) = event.read_data()?
            {
                self.note(data)?;
            }
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(too_large()),
        }
    }

    fn note(&mut self, data: EventData<'_>) -> io::Result<()> {
        let change = match data {
            EventData::QueryEvent(query) => statement(&query),
            EventData::XaPrepareLogEvent(_) => Some(Change::Statement {
                database: String::new(),
                sql: "XA PREPARE".to_owned(),
            }),
            EventData::RowsEvent(rows) => return self.note_rows(&rows),
            _ => None,
        };
        if let (Some(change), Some(newest)) = (change, self.transactions.last_mut()) {
            newest.changes.push(change);
        }
        Ok(())
    }

    fn note_rows(&mut self, event: &RowsEventData<'_>) -> io::Result<()> {
        let table = self.stream.get_tme(event.table_id());
        let table = table.ok_or_else(|| io::Error::other("rows of a table that is not named"))?;
        let (mut inserted, mut deleted, mut updated) = (Vec::new(), Vec::new(), Vec::new());
        for pair in event.rows(table) {
            let pair = pair?;
            if self.rows >= self.limits.rows {
                self.rows_left_out += 1;
                continue;
            }
            self.rows += 1;
            match pair {
                (None, Some(after)) => inserted.push(row(after)?),
                (Some(before), None) => deleted.push(row(before)?),
                (Some(before), Some(after)) => updated.push(Update {
                    before: row(before)?,
                    after: row(after)?,
                }),
                (None, None) => {}
            }
        }
        let place = || {
            (
                table.database_name().into_owned(),
                table.table_name().into_owned(),
            )
        };
        let Some(newest) = self.transactions.last_mut() else {
            return Ok(());
        };
        let ((database, table), changes) = (place(), &mut newest.changes);
        if !inserted.is_empty() {
            let rows = inserted;
            changes.push(Change::Insert {
                database,
                table,
                rows,
            });
        } else if !deleted.is_empty() {
            let rows = deleted;
            changes.push(Change::Delete {
                database,
                table,
                rows,
            });
        } else if !updated.is_empty() {
            let rows = updated;
            changes.push(Change::Update {
                database,
                table,
                rows,
            });
        }
        Ok(())
    }
}

/// The first event, if all of it is there: the library takes it for granted.
fn next(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    if bytes.len() < BinlogEventHeader::LEN {
        return Ok(None);
    }
    let header = BinlogEventHeader::deserialize((), &mut ParseBuf(bytes))?;
    let length = header.event_size() as usize;
    if length < BinlogEventHeader::LEN {
        return Err(io::Error::other("an event is shorter than its header"));
    }
    if length > EVENT_BYTES_MAX {
        return Err(too_large());
    }
    Ok(bytes.get(..length))
}

fn too_large() -> io::Error {
    io::Error::other(format!(
        "an event or a compressed transaction is larger than {} MiB",
        EVENT_BYTES_MAX >> 20
    ))
}

fn check(event: &Event) -> io::Result<()> {
    let algorithm = event.footer().get_checksum_alg();
    let algorithm = algorithm.map_err(|error| io::Error::other(error.to_string()))?;
    let (Some(checksum), Some(algorithm)) = (event.checksum(), algorithm) else {
        return Ok(());
    };
    let is_good = algorithm == BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_OFF
        || event.calc_checksum(algorithm) == u32::from_le_bytes(checksum);
    match is_good {
        true => Ok(()),
        false => Err(io::Error::other(
            "an event is damaged: its checksum differs",
        )),
    }
}

fn name(gtid: &GtidEvent) -> io::Result<String> {
    let tag = gtid.tag().map(|tag| tag.to_string()).unwrap_or_default();
    let source = GtidSource::from_bytes(gtid.sid(), &tag).map_err(io::Error::other)?;
    Ok(format!("{source}:{}", gtid.gno()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn utc(microseconds: i64) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp_micros(microseconds)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The frame around rows is none of what was changed.
fn statement(query: &QueryEvent<'_>) -> Option<Change> {
    let sql = query.query().into_owned();
    (sql != "BEGIN" && sql != "COMMIT").then(|| Change::Statement {
        database: query.schema().into_owned(),
        sql,
    })
}

/// Without names the columns are numbered from one, as mysqlbinlog does; the library begins at zero.
fn row(row: BinlogRow) -> io::Result<Row> {
    let columns = row.columns();
    let values = columns.iter().zip(row.unwrap()).enumerate();
    let values = values.map(|(index, (column, value))| {
        let name = column.name_str();
        let name = match name.strip_prefix('@') {
            Some(number) if number == index.to_string() => format!("@{}", index + 1),
            _ => name.into_owned(),
        };
        Ok((name, value_of(value, column.column_type())?))
    });
    values.collect::<io::Result<_>>().map(Row)
}

fn value_of(value: BinlogValue<'_>, of: ColumnType) -> io::Result<Json> {
    let value = match value {
        BinlogValue::Value(value) => value,
        BinlogValue::Jsonb(value) => {
            let json = Json::try_from(value);
            return json.map_err(|error| io::Error::other(error.to_string()));
        }
        BinlogValue::JsonDiff(changes) => return Ok(json!({ "changes": format!("{changes:?}") })),
    };
    Ok(match value {
        Value::NULL => Json::Null,
        Value::Int(number) => json!(number),
        Value::UInt(number) => json!(number),
        Value::Float(number) => finite(f64::from(number)),
        Value::Double(number) => finite(number),
        Value::Bytes(bytes) => text_or_hex(bytes, of),
        Value::Date(year, month, day, hour, minute, second, us) => match of {
            ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => {
                json!(format!("{year:04}-{month:02}-{day:02}"))
            }
            _ => json!(format!(
                "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{}",
                fraction(us)
            )),
        },
        Value::Time(is_negative, days, hours, minutes, seconds, us) => {
            let sign = if is_negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            json!(format!(
                "{sign}{hours:02}:{minutes:02}:{seconds:02}{}",
                fraction(us)
            ))
        }
    })
}

fn finite(number: f64) -> Json {
    serde_json::Number::from_f64(number).map_or_else(|| json!(number.to_string()), Json::Number)
}

fn fraction(microseconds: u32) -> String {
    match microseconds {
        0 => String::new(),
        microseconds => format!(".{microseconds:06}"),
    }
}

/// Timestamps come as seconds; of texts and bytes the log does not say which they are.
fn text_or_hex(bytes: Vec<u8>, of: ColumnType) -> Json {
    let bits = [ColumnType::MYSQL_TYPE_BIT, ColumnType::MYSQL_TYPE_SET];
    let is_readable = |text: &str| {
        let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        !bits.contains(&of) && text.chars().all(plain)
    };
    match String::from_utf8(bytes) {
        Ok(text) if of == ColumnType::MYSQL_TYPE_TIMESTAMP2 => timestamp(&text),
        Ok(text) if is_readable(&text) => Json::String(text),
        Ok(text) => json!({ "hex": hex(text.as_bytes()) }),
        Err(error) => json!({ "hex": hex(error.as_bytes()) }),
    }
}

fn timestamp(text: &str) -> Json {
    let (seconds, us) = text.split_once('.').unwrap_or((text, "0"));
    let parsed = seconds.parse::<i64>().ok().zip(us.parse::<i64>().ok());
    let time = parsed.and_then(|(seconds, us)| utc(seconds.checked_mul(1_000_000)? + us));
    json!(time.unwrap_or_else(|| text.to_owned()))
}

#[cfg(test)]
mod tests;
