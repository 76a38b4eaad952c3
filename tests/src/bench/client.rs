//! What a benchmark asks of either system. Both sides are tonic clients of one design, so that the client costs the same.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

/// How long a member on this machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No request of a benchmark takes longer on a group that works.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that all clients share, as the processes of a real cluster that ask several things at one time do.
pub const CONNECTIONS_MAX: usize = 16;
/// Bytes of a small value.
pub const VALUE_BYTES: usize = 200;

/// One client with one record of its own.
pub trait Client: Sized + Send + 'static {
    /// Where changes of a record come from.
    type Watch: Send + 'static;

    /// The client of the record with this number.
    fn new(channel: Channel, number: usize) -> Self;

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

/// A connection of its own.
pub async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))
}

/// As many clients of one member as asked for, each with its record in place.
pub async fn clients<C: Client>(address: SocketAddr, count: usize) -> anyhow::Result<Vec<C>> {
    let mut channels = Vec::new();
    for _ in 0..count.min(CONNECTIONS_MAX) {
        channels.push(connect(address).await?);
    }
    let mut clients = Vec::with_capacity(count);
    for (number, channel) in (0..count).zip(channels.iter().cycle()) {
        let mut client = C::new(channel.clone(), number);
        tokio::time::timeout(REQUEST_TIMEOUT, client.prepare())
            .await
            .with_context(|| format!("{address} does not take record {number}"))??;
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
