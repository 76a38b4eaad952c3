//! The records as one client of one member reads and writes them. What a status says becomes what it means for the history.

use std::time::Duration;

use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use vt_proto::wire::{self, admin_client::AdminClient};

use super::{
    MEMBERS,
    network::{self, GRPC_PORT},
};
use crate::check::linearizable::{Answer, Change};

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
    /// Connects when it is first used.
    pub fn new() -> anyhow::Result<Self> {
        let channels = (0..MEMBERS).map(channel);
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

    /// All of the records at one moment, the newest there is.
    pub async fn read(
        &self,
        member: usize,
        records: &[String],
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let request = within(wire::ListKeyspacesRequest::default(), limit);
        let mut admin = self.admin(member);
        let answer = tokio::time::timeout(limit, admin.list_keyspaces(request)).await;
        let views = flatten(answer)?.into_inner().keyspaces;
        let find = |record: &String| {
            let view = views
                .iter()
                .find(|view| view.keyspace.as_ref().is_some_and(|it| it.name == *record))?;
            Some((view.revision, record.clone()))
        };
        Ok(Answer::Read {
            found: records.iter().map(find).collect(),
        })
    }

    /// All of the changes or none.
    pub async fn write(
        &self,
        member: usize,
        request_id: &str,
        changes: &[Change],
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let [change] = changes else {
            return Err(Failure::Unforeseen("one change at a time".to_owned()));
        };
        let mut admin = self.admin(member);
        let (name, request_id) = (change.record.clone(), request_id.to_owned());
        let answer = if change.value.is_some() {
            let request = wire::CreateKeyspaceRequest {
                name,
                request_id,
                ..wire::CreateKeyspaceRequest::default()
            };
            tokio::time::timeout(limit, admin.create_keyspace(within(request, limit))).await
        } else {
            let request = wire::DeleteKeyspaceRequest {
                name,
                request_id,
                force: true,
                expected_revision: change.expected,
            };
            tokio::time::timeout(limit, admin.delete_keyspace(within(request, limit))).await
        };
        match flatten(answer) {
            Ok(written) => Ok(Answer::Written {
                revision: written.into_inner().revision,
            }),
            Err(failure) => conflict(failure),
        }
    }
}

/// A refused write that says at which revision it found which record, as `vschema/shop/orders is at revision 8, not at 7`.
fn conflict(failure: Failure) -> Result<Answer, Failure> {
    let Failure::Unforeseen(text) = &failure else {
        return Err(failure);
    };
    if text.contains("exists already") || text.contains("there is no keyspace") {
        return Ok(Answer::Refused);
    }
    let found = text.split_once(" is at revision ").and_then(|(key, rest)| {
        let record = key.rsplit('/').next()?.to_owned();
        let found = rest.split(',').next()?.parse().ok()?;
        Some(Answer::Conflict { record, found })
    });
    found.ok_or(failure)
}

fn channel(member: usize) -> Result<Channel, tonic::transport::Error> {
    let address = network::address(member);
    let endpoint = Endpoint::from_shared(format!("http://{address}:{GRPC_PORT}"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
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
