//! Opens channels to coordinators, and says in words why one cannot be opened. The files are read at each new connection, so a
//! program that runs for months uses the newest.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use tokio::{io::AsyncBufReadExt, net::TcpStream, task::spawn_blocking, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint},
};

use crate::{files::TlsFiles, trust::WrongRole};

/// Name look-up, connection and handshake, where the caller's endpoint has no limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DialError {
    pub what: String,
    /// One side refuses the other's certificate: trying again changes nothing.
    pub refused: bool,
}

/// Connects to the endpoint, whose address is `http://host:port` in both cases: with TLS where there are files, else in plaintext.
pub async fn connect(endpoint: Endpoint, files: Option<&TlsFiles>) -> Result<Channel, DialError> {
    let connected = match files {
        None => endpoint.connect().await,
        Some(files) => {
            let limit = endpoint.get_connect_timeout().unwrap_or(CONNECT_TIMEOUT);
            let connector = Connector {
                files: files.clone(),
                limit,
            };
            endpoint
                .connect_timeout(limit)
                .connect_with_connector(connector)
                .await
        }
    };
    connected.map_err(|error| explain(&error))
}

/// Makes the TLS connections of one channel.
struct Connector {
    files: TlsFiles,
    limit: Duration,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;
type Connection = TokioIo<TlsStream<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let (files, limit) = (self.files.clone(), self.limit);
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            timeout(limit, open(files, uri)).await.map_err(late)?
        })
    }
}

pub(crate) async fn open(files: TlsFiles, uri: Uri) -> io::Result<Connection> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or_default();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let loaded = spawn_blocking(move || files.load()).await?;
    let loaded = loaded.map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(&loaded.client));
    let mut stream = connector.connect(name, stream).await?;
    // The server says only after the handshake that it refuses our certificate. It speaks first, so its first byte (which stays
    // where it is) tells that it does not.
    if stream.fill_buf().await?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(TokioIo::new(stream))
}

/// What an error of a channel means, in words.
pub fn explain(error: &(dyn Error + 'static)) -> DialError {
    let mut deepest = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return of_rustls(error);
        }
        deepest = error.to_string();
        let inner = error.downcast_ref::<io::Error>();
        next = match inner {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                deepest = "it closed the connection at once: it is stopping, has too many connections, or does not speak TLS".to_owned();
                None
            }
            // An error of its own inside is not its source.
            Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    DialError {
        what: deepest,
        refused: false,
    }
}

fn of_rustls(error: &rustls::Error) -> DialError {
    let refused = |what: String| DialError {
        what,
        refused: true,
    };
    match error {
        rustls::Error::AlertReceived(alert) => refused(match alert {
            AlertDescription::CertificateRequired => "it asks for a certificate".to_owned(),
            // The latter where a CA of the same name has another key.
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "it does not accept the CA of the certificate that was shown".to_owned()
            }
            AlertDescription::CertificateExpired => {
                "the certificate that was shown has expired: make a new one with `vtctl pki rotate`"
                    .to_owned()
            }
            other => format!("it refuses the connection: {other:?}"),
        }),
        rustls::Error::InvalidCertificate(why) => refused(of_certificate(why)),
        rustls::Error::InvalidMessage(_) => DialError {
            what: "it does not speak TLS".to_owned(),
            refused: false,
        },
        other => DialError {
            what: other.to_string(),
            refused: false,
        },
    }
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of a CA that is not in our file of CAs".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: make a new one with `vtctl pki rotate`".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for this host: {why}")
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<WrongRole>() {
            Some(wrong) => wrong.to_string(),
            None => other.to_string(),
        },
        other => format!("its certificate cannot be trusted: {other}"),
    }
}
