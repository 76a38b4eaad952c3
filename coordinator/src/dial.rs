//! The one place where this program opens connections to other coordinators.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use vt_tls::{
    dial::{DialError, connect},
    files::TlsFiles,
};

/// A member that does not accept a connection within this time is tried again by whoever wants it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How a connection to a host that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// How this member reaches the others: with its certificate, or in plaintext where it has none.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    tls: Option<TlsFiles>,
}

impl Dialer {
    /// With the files of the configuration.
    pub fn new(tls: Option<TlsFiles>) -> Self {
        Self { tls }
    }

    /// A channel to the member at `host:port`.
    pub async fn dial(&self, address: &str) -> Result<Channel, DialError> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| DialError {
                what: format!("'{address}' is no address: {error}"),
                refused: false,
            })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        connect(endpoint, self.tls.as_ref()).await
    }
}
