//! The records as one client of one member reads and writes them. What a status says becomes what it means for the history.

use std::{collections::BTreeMap, time::Duration};

use tonic::{
    Code, Request, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use vt_proto::wire::{self, admin_client::AdminClient, records_client::RecordsClient};

use super::MEMBERS;
use crate::{
    bed::network::{self, GRPC_PORT},
    check::linearizable::{Answer, Change},
};

/// The records are the vschemas of tables in this keyspace.
pub const KEYSPACE: &str = "fire";
/// A member that does not answer a connection is cut off.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection whose other end vanished without a word is noticed after this, twice.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not done: this member does not lead, that one may.
    Elsewhere(Option<usize>),
    /// Not known whether it was done: the same request may be sent again.
    Perhaps(String),
    /// Nobody foresaw this answer.
    Unforeseen(String),
}

/// One client's connections.
#[derive(Clone)]
pub struct Register {
    channels: Vec<Channel>,
}

impl Register {
    /// Connects when it is first used, and shows this certificate.
    pub fn new(shown: &ClientTlsConfig) -> anyhow::Result<Self> {
        let channels = (0..MEMBERS).map(|member| channel(member, shown));
        Ok(Self {
            channels: channels.collect::<Result<_, _>>()?,
        })
    }

    pub fn admin(&self, member: usize) -> AdminClient<Channel> {
        AdminClient::new(self.channels[member].clone())
    }

    pub fn channel(&self, member: usize) -> Channel {
        self.channels[member].clone()
    }

    pub fn records(&self, member: usize) -> RecordsClient<Channel> {
        RecordsClient::new(self.channels[member].clone())
    }

    /// All of the records at one moment, the newest there is, and the log index of that moment.
    pub async fn read(
        &self,
        member: usize,
        records: &[String],
        limit: Duration,
    ) -> Result<(u64, Answer), Failure> {
        let request = wire::ReadRecordsRequest {
            stale: false,
            keys: records.iter().map(|record| key(record)).collect(),
            kinds: Vec::new(),
        };
        let mut client = self.records(member);
        let answer = client.read(within(request, limit));
        let answer = flatten(tokio::time::timeout(limit, answer).await)?.into_inner();
        let found: BTreeMap<_, _> = answer.records.into_iter().filter_map(named).collect();
        let found = records.iter().map(|record| found.get(record).cloned());
        let found = Answer::Read {
            found: found.map(Option::flatten).collect(),
        };
        Ok((answer.revision, found))
    }

    /// All of the changes or none.
    pub async fn write(
        &self,
        member: usize,
        request_id: &str,
        changes: &[Change],
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let request = wire::WriteRecordsRequest {
            request_id: request_id.to_owned(),
            changes: changes.iter().map(change).collect(),
        };
        let mut client = self.records(member);
        let answer = client.write(within(request, limit));
        match flatten(tokio::time::timeout(limit, answer).await) {
            Ok(written) => Ok(Answer::Written {
                revision: written.into_inner().revision,
            }),
            Err(failure) => conflict(failure),
        }
    }
}

fn key(record: &str) -> wire::RecordKey {
    let table = wire::TableKey {
        keyspace: KEYSPACE.to_owned(),
        table: record.to_owned(),
    };
    wire::RecordKey {
        key: Some(wire::record_key::Key::VschemaTable(table)),
    }
}

fn value(record: &str, value: &str) -> wire::RecordValue {
    let table = wire::VschemaTable {
        keyspace: KEYSPACE.to_owned(),
        table: record.to_owned(),
        spec_json: value.to_owned(),
    };
    wire::RecordValue {
        value: Some(wire::record_value::Value::VschemaTable(table)),
    }
}

fn change(change: &Change) -> wire::RecordChange {
    let new = change.value.as_ref();
    wire::RecordChange {
        key: Some(key(&change.record)),
        expected_revision: change.expected,
        value: new.map(|new| value(&change.record, new)),
    }
}

/// A record as members send it.
#[cfg(test)]
pub fn wire_record(record: &str, revision: u64, given: Option<&str>) -> wire::Record {
    wire::Record {
        key: Some(key(record)),
        revision,
        value: given.map(|given| value(record, given)),
    }
}

/// The name of one of our records, its revision and its value; no value if it was deleted.
pub fn named(record: wire::Record) -> Option<(String, Option<(u64, String)>)> {
    let Some(wire::record_key::Key::VschemaTable(key)) = record.key?.key else {
        return None;
    };
    let value = match record.value.and_then(|value| value.value) {
        Some(wire::record_value::Value::VschemaTable(table)) => {
            Some((record.revision, table.spec_json))
        }
        _ => None,
    };
    (key.keyspace == KEYSPACE).then_some((key.table, value))
}

/// A refused write that says at which revision it found which record, as `vschema/shop/orders is at revision 8, not at 7`.
fn conflict(failure: Failure) -> Result<Answer, Failure> {
    let Failure::Unforeseen(text) = &failure else {
        return Err(failure);
    };
    let found = text.split_once(" is at revision ").and_then(|(key, rest)| {
        let record = key.rsplit('/').next()?.to_owned();
        let found = rest.split(',').next()?.parse().ok()?;
        Some(Answer::Conflict { record, found })
    });
    found.ok_or(failure)
}

fn channel(member: usize, shown: &ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    let address = network::address(member);
    let endpoint = Endpoint::from_shared(format!("https://{address}:{GRPC_PORT}"))?;
    Ok(endpoint
        .tls_config(shown.clone())?
        .connect_timeout(CONNECT_TIMEOUT)
        // Also where it vanished in the middle of the handshake, of which no other limit knows.
        .tcp_keepalive(Some(KEEPALIVE))
        .tcp_keepalive_interval(Some(KEEPALIVE))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// The server is told how long the client waits.
fn within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn flatten<T>(
    answer: Result<Result<T, Status>, tokio::time::error::Elapsed>,
) -> Result<T, Failure> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(failure(&status)),
        Err(_) => Err(Failure::Perhaps("no answer in time".to_owned())),
    }
}

fn failure(status: &Status) -> Failure {
    let leader = status.metadata().get("vitrail-leader");
    if let Some(leader) = leader.and_then(|leader| leader.to_str().ok()) {
        let is_it = |member: &usize| leader == format!("{}:{GRPC_PORT}", network::address(*member));
        return Failure::Elsewhere((0..MEMBERS).find(is_it));
    }
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        // What tonic says of a connection that broke in the middle.
        | Code::Unknown
        | Code::Internal => Failure::Perhaps(text),
        _ => Failure::Unforeseen(text),
    }
}
