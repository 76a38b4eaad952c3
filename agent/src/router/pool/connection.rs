//! One connection to a server: reaching it, proving who we are, and small exchanges of our own.
//!
//! It knows no session. A connection that broke off inside an answer says so and is never used again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use vt_proto::topology::Endpoint;
use vt_wire::auth::{self, Nonce};
use vt_wire::command::{self, CommandByte};
use vt_wire::error_code::ErrorCode;
use vt_wire::handshake::{AuthPacket, Greeting, HandshakeResponse};
use vt_wire::packet::{self, HEADER_LENGTH, put_packet};
use vt_wire::response::ErrPacket;
use vt_wire::scanner::{Answer, Event, ResponseScanner, Summary};
use vt_wire::{Capabilities, Malformed};

use super::inner::Slot;
use super::settings::Settings;
use crate::router::socket::{Channel, Socket};

/// Time to reach a server and log in. A server that needs longer is treated as not there.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest packet that a server may send while the router talks to it on its own account.
const OWN_PACKET_LENGTH_MAX: usize = 1 << 20;
/// Packets of the authentication exchange: OK comes after five at the latest.
const AUTH_PACKETS_MAX: usize = 8;

/// The account by which the router enters servers.
#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Credentials({})", self.user)
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("unreachable: {0}")]
    Unreachable(#[from] io::Error),
    #[error("no answer within {} ms", CONNECT_TIME_MAX.as_millis())]
    TimedOut,
    #[error("error {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error("{0}")]
    Protocol(&'static str),
}

impl From<Malformed> for ConnectError {
    fn from(error: Malformed) -> Self {
        Self::Protocol(error.0)
    }
}

/// What the session state on the other side is known to be.
#[derive(Debug, Clone)]
pub enum InsertId {
    Known(u64),
    /// The owner's statements changed it; whoever takes the connection asks, and keeps the answer here.
    OfOwner(Rc<Cell<u64>>),
}

/// A prepared statement as this server knows it.
#[derive(Debug, Clone, Copy)]
pub struct OnServer {
    pub id: u32,
    /// An execution with parameter types reached the server.
    pub has_types: bool,
}

/// Names a session's prepared statement: session, and the id that its client knows.
pub type StatementKey = (u64, u32);

/// A connection and what is known of its session state.
#[derive(Debug)]
pub struct Connection {
    pub channel: Channel,
    /// By which the server knows it, to be named in a KILL.
    pub number: u32,
    pub capabilities: Capabilities,
    /// Something was sent whose answer is not over.
    pub is_busy: bool,
    pub owner: Option<u64>,
    pub settings: Rc<Settings>,
    pub schema: Option<Rc<str>>,
    pub insert_id: InsertId,
    /// State lies there that only a reset removes.
    pub needs_reset: bool,
    /// The server was asked to report what statements change.
    pub is_tracked: bool,
    pub statements: BTreeMap<StatementKey, OnServer>,
    /// Commands without an answer that go out before the next one: closed statements.
    pub outstanding: Vec<u8>,
    pub last_used: Instant,
    pub slot: Slot,
    /// Somebody ends what it runs, over another connection. Nothing else may be sent before that is over: it would be ended
    /// instead.
    pub killing: Option<JoinHandle<()>>,
}

/// What a connection is made for.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub endpoint: Endpoint,
    pub capabilities: Capabilities,
    pub collation: u8,
    pub schema: Option<Rc<str>>,
}

/// Opens a connection and logs in, within [`CONNECT_TIME_MAX`].
pub async fn connect(
    options: ConnectOptions,
    credentials: &Credentials,
    slot: Slot,
) -> Result<Connection, ConnectError> {
    match timeout(
        CONNECT_TIME_MAX,
        connect_unbounded(options, credentials, slot),
    )
    .await
    {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut),
    }
}

async fn connect_unbounded(
    options: ConnectOptions,
    credentials: &Credentials,
    slot: Slot,
) -> Result<Connection, ConnectError> {
    let stream =
        TcpStream::connect((options.endpoint.host.as_str(), options.endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let mut channel = Channel::new(Socket::Plain(stream));
    let (payload, _) = read_packet(&mut channel).await?;
    if payload.first() == Some(&0xFF) {
        return Err(refused(&payload));
    }
    let greeting = Greeting::parse(&payload)?;
    let mut wanted = options.capabilities
        | Capabilities::PROTOCOL_41
        | Capabilities::SECURE_CONNECTION
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA
        | Capabilities::SESSION_TRACK
        | Capabilities::TRANSACTIONS
        | Capabilities::LONG_FLAG;
    if options.schema.is_some() {
        wanted = wanted | Capabilities::CONNECT_WITH_DB;
    }
    let capabilities = wanted & greeting.capabilities;
    let response = HandshakeResponse {
        capabilities,
        max_packet_size: 1 << 30,
        collation: options.collation,
        user: credentials.user.clone().into_bytes(),
        auth_response: scramble(&greeting.auth_plugin, credentials, &greeting.nonce)
            .unwrap_or_default(),
        database: options
            .schema
            .as_deref()
            .unwrap_or_default()
            .as_bytes()
            .to_vec(),
        auth_plugin: greeting.auth_plugin.clone(),
        attributes: Vec::new(),
        zstd_level: 0,
    };
    write_packet(&mut channel, 1, &response.encode()).await?;
    authenticate(&mut channel, credentials, greeting.nonce).await?;
    Ok(Connection {
        channel,
        number: greeting.connection_id,
        capabilities,
        is_busy: false,
        owner: None,
        settings: Rc::new(Settings::new()),
        schema: options.schema,
        insert_id: InsertId::Known(0),
        needs_reset: false,
        is_tracked: false,
        statements: BTreeMap::new(),
        outstanding: Vec::new(),
        last_used: Instant::now(),
        slot,
        killing: None,
    })
}

async fn authenticate(
    channel: &mut Channel,
    credentials: &Credentials,
    first: Nonce,
) -> Result<(), ConnectError> {
    let mut nonce = first;
    for _ in 0..AUTH_PACKETS_MAX {
        let (payload, sequence) = read_packet(channel).await?;
        let reply = match AuthPacket::parse(&payload)? {
            AuthPacket::Ok => return Ok(()),
            AuthPacket::Err(_) => return Err(refused(&payload)),
            AuthPacket::Switch { plugin, nonce: new } => {
                nonce = new
                    .try_into()
                    .map_err(|_| ConnectError::Protocol("challenge of a wrong length"))?;
                scramble(plugin, credentials, &nonce).ok_or(ConnectError::Protocol(
                    "the server asks for an unknown authentication plugin",
                ))?
            }
            AuthPacket::MoreData([auth::FAST_AUTH_OK]) => continue,
            AuthPacket::MoreData([auth::FULL_AUTH_NEEDED]) => vec![auth::REQUEST_PUBLIC_KEY],
            AuthPacket::MoreData(pem) => encrypt_password(pem, credentials, &nonce)?,
        };
        write_packet(channel, sequence.wrapping_add(1), &reply).await?;
    }
    Err(ConnectError::Protocol(
        "the server does not come to an end of the authentication",
    ))
}

fn scramble(plugin: &[u8], credentials: &Credentials, nonce: &Nonce) -> Option<Vec<u8>> {
    let password = credentials.password.as_bytes();
    match plugin {
        auth::NATIVE_PLUGIN => Some(auth::scramble_native(password, nonce)),
        auth::CACHING_SHA2_PLUGIN => Some(auth::scramble_sha2(password, nonce)),
        _ => None,
    }
}

/// The password for the server's eyes only: RSA-OAEP with the key it sent.
fn encrypt_password(
    pem: &[u8],
    credentials: &Credentials,
    nonce: &Nonce,
) -> Result<Vec<u8>, ConnectError> {
    let unusable = ConnectError::Protocol("the server's public key cannot be used");
    let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(pem) else {
        return Err(unusable);
    };
    let Ok(key) =
        PublicEncryptingKey::from_der(&der).and_then(|key| Ok(OaepPublicEncryptingKey::new(key)?))
    else {
        return Err(unusable);
    };
    let plain = auth::obfuscate(credentials.password.as_bytes(), nonce);
    let mut cipher = vec![0; key.ciphertext_size()];
    match key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut cipher, None) {
        Ok(cipher) => Ok(cipher.to_vec()),
        Err(_) => Err(unusable),
    }
}

fn refused(payload: &[u8]) -> ConnectError {
    match ErrPacket::parse(payload) {
        Ok(error) => ConnectError::Refused {
            code: error.code,
            message: String::from_utf8_lossy(error.message).into_owned(),
        },
        Err(error) => error.into(),
    }
}

async fn read_packet(channel: &mut Channel) -> Result<(Vec<u8>, u8), ConnectError> {
    loop {
        let whole = packet::whole(channel.input(), OWN_PACKET_LENGTH_MAX)
            .map_err(|_| ConnectError::Protocol("packet too long or out of order"))?;
        if let Some(whole) = whole {
            let payload = channel.input()[HEADER_LENGTH..whole.wire_length].to_vec();
            channel.consume(whole.wire_length);
            return Ok((payload, whole.last_sequence));
        }
        if channel.fill().await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

async fn write_packet(
    channel: &mut Channel,
    sequence: u8,
    payload: &[u8],
) -> Result<(), ConnectError> {
    let mut wire = Vec::with_capacity(payload.len() + HEADER_LENGTH);
    put_packet(&mut wire, sequence, payload);
    Ok(channel.write(&wire).await?)
}

/// An answer to a command of our own.
#[derive(Debug, Default)]
pub struct OwnAnswer {
    pub wire: Vec<u8>,
    pub summary: Summary,
    pub error: Option<(ErrorCode, String)>,
    pub prepared: Option<vt_wire::prepared::PrepareOk>,
}

impl Connection {
    /// Sends commands in one go and reads an answer for each. The caller bounds the time; when it
    /// gives up half-way the connection stays busy, so nobody uses it again.
    pub async fn exchange(
        &mut self,
        commands: &[u8],
        answers: &[Answer],
    ) -> Result<Vec<OwnAnswer>, ConnectError> {
        self.is_busy = true;
        self.channel.write(commands).await?;
        let mut own = Vec::with_capacity(answers.len());
        for answer in answers {
            own.push(self.read_own_answer(*answer).await?);
        }
        self.is_busy = false;
        Ok(own)
    }

    async fn read_own_answer(&mut self, answer: Answer) -> Result<OwnAnswer, ConnectError> {
        let mut scanner = ResponseScanner::new(answer, self.capabilities);
        let mut own = OwnAnswer::default();
        loop {
            let step = scanner.feed(self.channel.input())?;
            match step.event {
                Some(Event::Err(error)) => {
                    own.error = Some((
                        error.code,
                        String::from_utf8_lossy(error.message).into_owned(),
                    ));
                }
                Some(Event::Prepared(prepared)) => own.prepared = Some(prepared),
                Some(Event::LocalInfile) => {
                    return Err(ConnectError::Protocol("the server asks for a file"));
                }
                _ => {}
            }
            let (consumed, done, has_event) = (step.consumed, step.done, step.event.is_some());
            own.wire
                .extend_from_slice(&self.channel.input()[..consumed]);
            self.channel.consume(consumed);
            if done {
                own.summary = *scanner.summary();
                return Ok(own);
            }
            if own.wire.len() > OWN_PACKET_LENGTH_MAX {
                return Err(ConnectError::Protocol("the server's answer is too long"));
            }
            if !has_event && self.channel.fill().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Is it between two commands, with nothing left over?
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        !self.is_busy && self.channel.input().is_empty()
    }
}

impl Connection {
    /// Closes the prepared statements of a session with the next command that goes out.
    pub fn close_statements_of(&mut self, session: u64) {
        let keys: Vec<StatementKey> = self
            .statements
            .range((session, 0)..=(session, u32::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.close_statement(key);
        }
    }

    /// Closes a prepared statement with the next command that goes out.
    pub fn close_statement(&mut self, key: StatementKey) {
        if let Some(statement) = self.statements.remove(&key) {
            let close = command::encode(CommandByte::STMT_CLOSE, &statement.id.to_le_bytes());
            put_packet(&mut self.outstanding, 0, &close);
        }
    }
}
