//! Ends what a server runs for a connection of the pool, over a connection of its own.
//!
//! The server lets an account end its own connections, so no right is needed for it.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;
use vt_proto::topology::Endpoint;
use vt_wire::Capabilities;
use vt_wire::command::{CommandByte, encode};
use vt_wire::packet::put_packet;
use vt_wire::scanner::Answer;

use super::Pool;
use super::connection::{ConnectError, ConnectOptions, Connection, connect};
use crate::router::processlist::Kill;

/// Connections of one router thread that end what others run. More wait: clients that leave all at once are no reason to
/// ask the server for as many connections more.
pub const KILLS_MAX: usize = 4;
/// Time for it, the wait for one of the few connections included. Later than that the server is not the one to ask.
pub const KILL_TIME_MAX: Duration = Duration::from_secs(5);
/// Any collation that every server has.
const COLLATION: u8 = 45;

impl Pool {
    /// Begins to end the statement that `connection` runs; its answer comes all the same.
    pub fn begin_to_interrupt(self: &Rc<Self>, endpoint: &Endpoint, connection: &mut Connection) {
        let (pool, endpoint, number) = (Rc::clone(self), endpoint.clone(), connection.number);
        connection.killing = Some(tokio::task::spawn_local(async move {
            pool.kill(&endpoint, number, Kill::Query).await;
        }));
    }

    /// After the answer of a statement that was interrupted: waits until nothing can be interrupted any more. A
    /// connection of which that is not known stays busy, so that nobody uses it again.
    pub async fn settle_interrupt(&self, connection: &mut Connection) {
        let Some(killing) = connection.killing.take() else {
            return;
        };
        // What came too late for its statement would end the next one; this one may have it.
        let settle = async {
            killing.await.is_ok() && {
                let mut ping = Vec::new();
                put_packet(&mut ping, 0, &encode(CommandByte::PING, b""));
                connection.exchange(&ping, &[Answer::Single]).await.is_ok()
            }
        };
        if !timeout(KILL_TIME_MAX, settle).await.unwrap_or(false) {
            connection.is_busy = true;
        }
    }

    /// Nobody waits any more for the answer that is under way: its connection is ended at the server too, which would
    /// otherwise go on working for nobody. It counts as open until then.
    pub fn abandon(self: &Rc<Self>, endpoint: &Endpoint, connection: Connection) {
        if !connection.is_busy {
            return;
        }
        let (pool, endpoint) = (Rc::clone(self), endpoint.clone());
        tokio::task::spawn_local(async move {
            pool.kill(&endpoint, connection.number, Kill::Connection)
                .await;
            drop(connection);
        });
    }

    async fn kill(&self, endpoint: &Endpoint, number: u32, what: Kill) {
        let outcome = timeout(KILL_TIME_MAX, self.kill_unbounded(endpoint, number, what)).await;
        if let Err(error) = outcome.unwrap_or(Err(ConnectError::TimedOut)) {
            tracing::warn!(host = %endpoint.host, port = endpoint.port, number, ?what, %error,
                "a statement of a client could not be ended at its server");
        }
    }

    async fn kill_unbounded(
        &self,
        endpoint: &Endpoint,
        number: u32,
        what: Kill,
    ) -> Result<(), ConnectError> {
        let slot = loop {
            match self.kills.reserve() {
                Some(slot) => break slot,
                None => self.kills.wait(false).turn().await,
            }
        };
        let options = ConnectOptions {
            endpoint: endpoint.clone(),
            capabilities: Capabilities::NONE,
            collation: COLLATION,
            schema: None,
        };
        let mut connection = connect(options, &self.credentials, slot).await?;
        let sql = match what {
            Kill::Query => format!("KILL QUERY {number}"),
            Kill::Connection => format!("KILL CONNECTION {number}"),
        };
        let mut wire = Vec::new();
        put_packet(&mut wire, 0, &encode(CommandByte::QUERY, sql.as_bytes()));
        // That it is gone already is what was wanted.
        connection.exchange(&wire, &[Answer::Results]).await?;
        Ok(())
    }
}
