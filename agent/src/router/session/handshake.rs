//! The connection phase and COM_CHANGE_USER: greeting, TLS, password, database.
//!
//! Passwords are never logged; what a client sent is compared in constant time, known user or not.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use vt_wire::auth::{
    CACHING_SHA2_PLUGIN, DoubleHashes, FAST_AUTH_OK, FULL_AUTH_NEEDED, NATIVE_PLUGIN, NONCE_LENGTH,
    Nonce,
};
use vt_wire::compression::Algorithm;
use vt_wire::handshake::{
    ChangeUser, ClientFirst, Greeting, HandshakeResponse, encode_auth_more_data,
    encode_auth_switch, parse_client_first,
};
use vt_wire::packet::{self, HEADER_LENGTH};
use vt_wire::{Capabilities, ServerStatus, collation};

use super::{End, Session};
use crate::router::error::RouterError;
use crate::router::socket::{Channel, Socket};
use crate::router::state::Account;
use crate::router::users::{NOBODY, double_hashes};

/// Time from the first byte of a connection to the end of its handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest packet before a client has proved who it is: names, a scramble, attributes.
const HANDSHAKE_PACKET_LENGTH_MAX: usize = 64 << 10;

/// What the router offers. Compression is for clients alone: servers are reached without.
const OFFERED: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::FOUND_ROWS)
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::COMPRESS)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::IGNORE_SPACE)
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA)
    .with(Capabilities::SESSION_TRACK)
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::ZSTD_COMPRESSION)
    .with(Capabilities::QUERY_ATTRIBUTES);

/// What a client says of itself, in a handshake or in COM_CHANGE_USER.
struct Claim {
    user: Vec<u8>,
    auth_response: Vec<u8>,
    auth_plugin: Vec<u8>,
}

impl Session {
    pub(super) async fn shake_hands(&mut self) -> Result<(), End> {
        match timeout(HANDSHAKE_TIME_MAX, self.shake_hands_unbounded()).await {
            Ok(result) => result,
            Err(_) => Err(End::Client(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn shake_hands_unbounded(&mut self) -> Result<(), End> {
        let mut offered = OFFERED;
        if self.shared.tls.is_some() {
            offered = offered | Capabilities::SSL;
        }
        let nonce = new_nonce();
        let greeting = Greeting {
            server_version: self.shared.server_version.clone().into_bytes(),
            connection_id: self.connection_id(),
            nonce,
            capabilities: offered,
            collation: collation::OF_SERVER,
            status: ServerStatus::AUTOCOMMIT,
            auth_plugin: CACHING_SHA2_PLUGIN.to_vec(),
        };
        self.send(&greeting.encode(), 0).await?;
        let (response, sequence) = self.read_response(offered).await?;
        let claim = Claim {
            user: response.user,
            auth_response: response.auth_response,
            auth_plugin: if response.auth_plugin.is_empty() {
                NATIVE_PLUGIN.to_vec()
            } else {
                response.auth_plugin
            },
        };
        self.state.capabilities = response.capabilities;
        let compression = Algorithm::agreed(response.capabilities, response.zstd_level);
        self.state.set_collation(response.collation);
        let sequence = self.authenticate(claim, nonce, sequence).await?;
        if !response.database.is_empty()
            && let Err(error) = self.select_database(&response.database)
        {
            return Err(self.refuse(error, sequence).await);
        }
        self.state.status = Self::fresh_status();
        self.reply_ok(sequence).await?;
        // The OK is the last packet that travels as it is.
        if let Some(algorithm) = compression {
            self.client.compress(algorithm);
        }
        Ok(())
    }

    /// Reads the client's answer to the greeting, through TLS if it wants that; returns the sequence
    /// id of the next packet as well.
    async fn read_response(
        &mut self,
        offered: Capabilities,
    ) -> Result<(HandshakeResponse, u8), End> {
        let mut is_protected = false;
        loop {
            let (payload, sequence) = self.read_handshake_packet().await?;
            match parse_client_first(&payload, offered) {
                Ok(ClientFirst::Response(_)) if self.shared.is_tls_required && !is_protected => {
                    return Err(self.refuse(RouterError::TlsRequired, sequence).await);
                }
                Ok(ClientFirst::Response(response)) => return Ok((*response, sequence)),
                Ok(ClientFirst::WantsTls(_)) if is_protected || self.shared.tls.is_none() => {
                    return Err(self
                        .refuse(
                            RouterError::Malformed("TLS is not to be had here"),
                            sequence,
                        )
                        .await);
                }
                Ok(ClientFirst::WantsTls(_)) => {
                    self.start_tls().await?;
                    is_protected = true;
                }
                Err(error) => return Err(self.refuse(error.into(), sequence).await),
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        let injected = || End::Refused(RouterError::Malformed("bytes behind the request for TLS"));
        let Some(acceptor) = self.shared.tls.clone() else {
            return Err(injected());
        };
        let stream = self.client.take_plain().ok_or_else(injected)?;
        let stream = acceptor.accept(stream).await?;
        self.client = Channel::new(Socket::Tls(Box::new(stream)));
        Ok(())
    }

    async fn read_handshake_packet(&mut self) -> Result<(Vec<u8>, u8), End> {
        loop {
            match packet::whole(self.client.input(), HANDSHAKE_PACKET_LENGTH_MAX) {
                Ok(Some(whole)) => {
                    let payload = self.client.input()[HEADER_LENGTH..whole.wire_length].to_vec();
                    self.client.consume(whole.wire_length);
                    return Ok((payload, whole.last_sequence.wrapping_add(1)));
                }
                Ok(None) => {}
                Err(error) => return Err(self.refuse(error.into(), 1).await),
            }
            // Never past this packet: the TLS handshake may follow at once.
            let missing = packet::missing(self.client.input());
            if self.client.fill_at_most(missing).await? == 0 {
                return Err(End::Quit);
            }
        }
    }

    /// Verifies the claim; returns the sequence id of the OK that is still to be sent.
    async fn authenticate(&mut self, claim: Claim, nonce: Nonce, sequence: u8) -> Result<u8, End> {
        let snapshot = self.worker.topology.load();
        let known = self.shared.directory.find(&claim.user, &snapshot);
        let hashes = known.as_deref().map_or(NOBODY, double_hashes);
        let (mut response, mut sequence) = (claim.auth_response, sequence);
        let mut plugin = claim.auth_plugin.as_slice();
        let mut nonce = nonce;
        let mut has_answered = false;
        if !is_served(plugin) || (response.is_empty() && plugin == NATIVE_PLUGIN) {
            plugin = if plugin == NATIVE_PLUGIN {
                NATIVE_PLUGIN
            } else {
                CACHING_SHA2_PLUGIN
            };
            nonce = new_nonce();
            self.send(&encode_auth_switch(plugin, &nonce), sequence)
                .await?;
            (response, sequence) = self.read_handshake_packet().await?;
        }
        let mut is_right = verify(&hashes, plugin, &nonce, &response);
        if !is_right && plugin == CACHING_SHA2_PLUGIN && self.client.is_encrypted() {
            // As a server does it that does not know the password's digest: the password itself, where nobody else can read it.
            self.send(&encode_auth_more_data(&[FULL_AUTH_NEEDED]), sequence)
                .await?;
            let (password, next) = self.read_handshake_packet().await?;
            let password = password.strip_suffix(&[0]).unwrap_or(&password);
            is_right = hashes.verify_clear(password);
            sequence = next;
            has_answered = true;
        }
        let Some(user) = known.filter(|_| is_right) else {
            let error = RouterError::AccessDenied {
                user: String::from_utf8_lossy(&claim.user).into_owned(),
                host: self.state.process.peer.ip().to_string(),
                using_password: !response.is_empty(),
            };
            return Err(self.refuse(error, sequence).await);
        };
        let Some(seat) = self.shared.directory.take_seat(&user) else {
            let error = RouterError::UserConnections {
                user: user.name.to_string(),
                limit: user.connections_max.unwrap_or_default(),
            };
            return Err(self.refuse(error, sequence).await);
        };
        if plugin == CACHING_SHA2_PLUGIN && !has_answered {
            self.send(&encode_auth_more_data(&[FAST_AUTH_OK]), sequence)
                .await?;
            sequence = sequence.wrapping_add(1);
        }
        self.state.user = String::from_utf8_lossy(&claim.user).into_owned();
        self.state.process.set_user(&self.state.user);
        self.state.account = Some(Account {
            user,
            snapshot,
            seat,
        });
        Ok(sequence)
    }

    pub(super) async fn change_user(&mut self, arguments: &[u8], sequence: u8) -> Result<(), End> {
        match timeout(
            HANDSHAKE_TIME_MAX,
            self.change_user_unbounded(arguments, sequence),
        )
        .await
        {
            Ok(result) => result,
            Err(_) => Err(End::Client(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn change_user_unbounded(&mut self, arguments: &[u8], sequence: u8) -> Result<(), End> {
        let change = match ChangeUser::parse(arguments) {
            Ok(change) => change,
            Err(error) => return Err(self.refuse(error.into(), sequence).await),
        };
        self.reset();
        self.state.account = None;
        self.state.database = None;
        self.state.process.set_database(None);
        // Its scramble answers the challenge of the handshake, which is gone: it is asked again.
        let plugin = if change.auth_plugin == NATIVE_PLUGIN {
            NATIVE_PLUGIN
        } else {
            CACHING_SHA2_PLUGIN
        };
        let nonce = new_nonce();
        self.send(&encode_auth_switch(plugin, &nonce), sequence)
            .await?;
        let (auth_response, sequence) = self.read_handshake_packet().await?;
        let claim = Claim {
            user: change.user,
            auth_response,
            auth_plugin: plugin.to_vec(),
        };
        let sequence = self.authenticate(claim, nonce, sequence).await?;
        if let Some(collation) = change.collation {
            self.state.set_collation(collation.to_le_bytes()[0]);
        }
        if !change.database.is_empty()
            && let Err(error) = self.select_database(&change.database)
        {
            return Err(self.refuse(error, sequence).await);
        }
        self.reply_ok(sequence).await
    }
}

fn is_served(plugin: &[u8]) -> bool {
    plugin == CACHING_SHA2_PLUGIN || plugin == NATIVE_PLUGIN
}

fn verify(hashes: &DoubleHashes, plugin: &[u8], nonce: &Nonce, response: &[u8]) -> bool {
    if plugin == NATIVE_PLUGIN {
        return hashes.verify_native(nonce, response);
    }
    // Some clients take the NUL behind the challenge for a part of it, where they were asked again.
    let with_end: Vec<u8> = nonce.iter().copied().chain([0]).collect();
    hashes.verify_sha2(nonce, response) || hashes.verify_sha2(&with_end, response)
}

/// Random bytes without NUL, which would end the challenge early for some clients, and in seven bits
/// without `$`, as the server makes them.
fn new_nonce() -> Nonce {
    let mut nonce = [0; NONCE_LENGTH];
    for byte in &mut nonce {
        *byte = match rand::random_range(1u8..127) {
            b'$' => b'%',
            other => other,
        };
    }
    nonce
}
