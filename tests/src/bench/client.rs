//! What a benchmark asks of either system. Both sides are tonic clients of one design, so that the client costs the same.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::Context;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::pki::Credentials;

/// How long a member on this machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No request of a benchmark takes longer on a group that works.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that all clients share, as the processes of a real cluster that ask several things at one time do.
pub const CONNECTIONS_MAX: usize = 16;
/// Bytes of a small value.
pub const VALUE_BYTES: usize = 200;

/// Where a member serves clients, and what they show there: nothing in plaintext.
#[derive(Clone)]
pub struct Door {
    pub address: SocketAddr,
    pub shown: Option<Credentials>,
}

impl Door {
    /// How to get in as an agent.
    pub fn endpoint_of_agents(&self) -> anyhow::Result<Endpoint> {
        self.endpoint_with(self.shown.as_ref().map(|shown| &shown.agent))
    }

    fn endpoint_with(&self, shown: Option<&ClientTlsConfig>) -> anyhow::Result<Endpoint> {
        let scheme = if shown.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT);
        Ok(match shown {
            Some(shown) => endpoint.tls_config(shown.clone())?,
            None => endpoint,
        })
    }

    /// A connection of its own, of an operator.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let shown = self.shown.as_ref().map(|shown| &shown.operator);
        let connected = self.endpoint_with(shown)?.connect().await;
        connected.with_context(|| format!("connect to {self}"))
    }

    /// A connection of its own, of an agent.
    pub async fn connect_as_agent(&self) -> anyhow::Result<Channel> {
        let connected = self.endpoint_of_agents()?.connect().await;
        connected.with_context(|| format!("connect to {self}"))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// One client with one record of its own.
pub trait Client: Sized + Send + 'static {
    /// Where changes of a record come from.
    type Watch: Send + 'static;

    /// The client of the record with this number, connected to the member behind the door.
    fn new(door: &Door, channel: Channel, number: usize) -> Self;

    /// Whether the member at the other end leads its group, and the group works.
    fn leads(&mut self) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Sees to it that the record is there.
    fn prepare(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Replaces the record; returns when that is committed.
    fn write(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Reads the record, linearizably.
    fn read(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Begins to watch the record; returns when the other end has confirmed that.
    fn watch(&mut self) -> impl Future<Output = anyhow::Result<Self::Watch>> + Send;

    /// Waits for the next change.
    fn changed(watch: &mut Self::Watch) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// As many clients of one member as asked for, each with its record in place.
pub async fn clients<C: Client>(door: &Door, count: usize) -> anyhow::Result<Vec<C>> {
    let mut channels = Vec::new();
    for _ in 0..count.min(CONNECTIONS_MAX) {
        channels.push(door.connect().await?);
    }
    let mut clients = Vec::with_capacity(count);
    for (number, channel) in (0..count).zip(channels.iter().cycle()) {
        let mut client = C::new(door, channel.clone(), number);
        tokio::time::timeout(REQUEST_TIMEOUT, client.prepare())
            .await
            .with_context(|| format!("{door} does not take record {number}"))??;
        clients.push(client);
    }
    Ok(clients)
}

/// A value of the usual size that differs from one write to the next; JSON, for both.
pub fn value(count: u64) -> String {
    let mut value = format!("{{\"count\":{count},\"columns\":\"");
    while value.len() < VALUE_BYTES - 2 {
        value.push('x');
    }
    value.push_str("\"}");
    value
}
