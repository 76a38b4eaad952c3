//! The connection phase, both roles: greeting, client's answer, request for TLS, authentication switch.
//!
//! It decides nothing about passwords (`auth` does) and never reads past one packet.

use crate::auth::{NONCE_LENGTH, Nonce};
use crate::reader::{put_lenenc, put_lenenc_bytes, put_nul_bytes};
use crate::{Capabilities, Malformed, Reader, ServerStatus};

const PROTOCOL_VERSION: u8 = 10;
/// Length of the fixed part that a client's answer and a request for TLS share.
const FIXED_PART_LENGTH: usize = 32;

/// The server's first packet (`HandshakeV10`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub server_version: Vec<u8>,
    pub connection_id: u32,
    pub nonce: Nonce,
    pub capabilities: Capabilities,
    /// Low byte of the server's default collation id.
    pub collation: u8,
    pub status: ServerStatus,
    pub auth_plugin: Vec<u8>,
}

impl Greeting {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let [low, high] = [
            self.capabilities.0 as u16,
            (self.capabilities.0 >> 16) as u16,
        ];
        let mut out = vec![PROTOCOL_VERSION];
        put_nul_bytes(&mut out, &self.server_version);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(&self.nonce[..8]);
        out.push(0);
        out.extend_from_slice(&low.to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&self.status.0.to_le_bytes());
        out.extend_from_slice(&high.to_le_bytes());
        out.push(NONCE_LENGTH as u8 + 1);
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&self.nonce[8..]);
        out.push(0);
        put_nul_bytes(&mut out, &self.auth_plugin);
        out
    }

    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != PROTOCOL_VERSION {
            return Err(Malformed("greeting of an unknown protocol version"));
        }
        let server_version = reader.nul_bytes()?.to_vec();
        let connection_id = reader.u32()?;
        let mut nonce = [0; NONCE_LENGTH];
        nonce[..8].copy_from_slice(reader.take(8)?);
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = ServerStatus(reader.u16()?);
        let high = reader.u16()?;
        let capabilities = Capabilities(u32::from(low) | u32::from(high) << 16);
        if !capabilities.contains(Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION) {
            return Err(Malformed("greeting of a server older than 4.1"));
        }
        reader.take(11)?;
        nonce[8..].copy_from_slice(reader.take(NONCE_LENGTH - 8)?);
        reader.u8()?;
        let auth_plugin = reader.nul_bytes_or_rest().to_vec();
        Ok(Self {
            server_version,
            connection_id,
            nonce,
            capabilities,
            collation,
            status,
            auth_plugin,
        })
    }
}

/// The first packet of a client: either it wants TLS first, or it is the whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFirst {
    /// `SSLRequest`: the TLS handshake follows; nothing may be read past this packet.
    WantsTls(Capabilities),
    Response(Box<HandshakeResponse>),
}

/// Name and value of a connection attribute.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// The client's answer to the greeting (`HandshakeResponse41`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandshakeResponse {
    pub capabilities: Capabilities,
    pub max_packet_size: u32,
    /// Low byte of the client's collation id.
    pub collation: u8,
    pub user: Vec<u8>,
    pub auth_response: Vec<u8>,
    /// Empty: none.
    pub database: Vec<u8>,
    /// Empty: the client does not name its plugin.
    pub auth_plugin: Vec<u8>,
    pub attributes: Vec<Attribute>,
    /// With `ZSTD_COMPRESSION`: how hard to compress, 1 to 22.
    pub zstd_level: u8,
}

impl HandshakeResponse {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let has = |flag| self.capabilities.contains(flag);
        let mut out = self.encode_ssl_request();
        put_nul_bytes(&mut out, &self.user);
        if has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            put_lenenc_bytes(&mut out, &self.auth_response);
        } else {
            let length = self.auth_response.len().min(250);
            out.push(length as u8);
            out.extend_from_slice(&self.auth_response[..length]);
        }
        if has(Capabilities::CONNECT_WITH_DB) {
            put_nul_bytes(&mut out, &self.database);
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_nul_bytes(&mut out, &self.auth_plugin);
        }
        if has(Capabilities::CONNECT_ATTRS) {
            put_attributes(&mut out, &self.attributes);
        }
        if has(Capabilities::ZSTD_COMPRESSION) {
            out.push(self.zstd_level);
        }
        out
    }

    /// The fixed part alone: what a client sends to ask for TLS.
    #[must_use]
    pub fn encode_ssl_request(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_PART_LENGTH + 96);
        out.extend_from_slice(&self.capabilities.0.to_le_bytes());
        out.extend_from_slice(&self.max_packet_size.to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&[0; 23]);
        out
    }
}

/// Reads a client's first packet. `offered` are the server's capabilities: flags that the server did
/// not offer are taken to be off, as the client should have done.
pub fn parse_client_first(payload: &[u8], offered: Capabilities) -> Result<ClientFirst, Malformed> {
    let mut reader = Reader::new(payload);
    let capabilities = Capabilities(reader.u32()?);
    if !capabilities.contains(Capabilities::PROTOCOL_41) {
        return Err(Malformed("client older than 4.1"));
    }
    let max_packet_size = reader.u32()?;
    let collation = reader.u8()?;
    reader.take(23)?;
    if reader.is_empty() {
        return if capabilities.contains(Capabilities::SSL) {
            Ok(ClientFirst::WantsTls(capabilities & offered))
        } else {
            Err(Malformed("handshake response ends too early"))
        };
    }
    let user = reader.nul_bytes()?.to_vec();
    let auth_response = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
        reader.lenenc_bytes()?.to_vec()
    } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
        let length = reader.u8()?;
        reader.take(usize::from(length))?.to_vec()
    } else {
        reader.nul_bytes()?.to_vec()
    };
    let has = |flag| capabilities.contains(flag);
    let database = if has(Capabilities::CONNECT_WITH_DB) {
        reader.nul_bytes_or_rest()
    } else {
        &[]
    };
    let auth_plugin = if has(Capabilities::PLUGIN_AUTH) {
        reader.nul_bytes_or_rest()
    } else {
        &[]
    };
    let attributes = if has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
        parse_attributes(&mut reader)?
    } else {
        Vec::new()
    };
    let zstd_level = match has(Capabilities::ZSTD_COMPRESSION) && !reader.is_empty() {
        true => reader.u8()?,
        false => 0,
    };
    Ok(ClientFirst::Response(Box::new(HandshakeResponse {
        capabilities: capabilities & offered,
        max_packet_size,
        collation,
        user,
        auth_response,
        database: database.to_vec(),
        auth_plugin: auth_plugin.to_vec(),
        attributes,
        zstd_level,
    })))
}

fn put_attributes(out: &mut Vec<u8>, attributes: &[Attribute]) {
    let mut block = Vec::new();
    for (name, value) in attributes {
        put_lenenc_bytes(&mut block, name);
        put_lenenc_bytes(&mut block, value);
    }
    put_lenenc(out, block.len() as u64);
    out.extend_from_slice(&block);
}

fn parse_attributes(reader: &mut Reader<'_>) -> Result<Vec<Attribute>, Malformed> {
    let mut block = Reader::new(reader.lenenc_bytes()?);
    let mut attributes = Vec::new();
    while !block.is_empty() {
        attributes.push((
            block.lenenc_bytes()?.to_vec(),
            block.lenenc_bytes()?.to_vec(),
        ));
    }
    Ok(attributes)
}

/// A packet of the server while the client authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthPacket<'a> {
    Ok,
    Err(&'a [u8]),
    Switch { plugin: &'a [u8], nonce: &'a [u8] },
    MoreData(&'a [u8]),
}

impl<'a> AuthPacket<'a> {
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        match reader.u8()? {
            0x00 => Ok(Self::Ok),
            0xFF => Ok(Self::Err(payload)),
            0x01 => Ok(Self::MoreData(reader.rest())),
            0xFE if reader.is_empty() => Err(Malformed("switch to pre-4.1 passwords")),
            0xFE => {
                let plugin = reader.nul_bytes()?;
                let nonce = reader.rest();
                Ok(Self::Switch {
                    plugin,
                    nonce: nonce.strip_suffix(b"\0").unwrap_or(nonce),
                })
            }
            _ => Err(Malformed("unknown packet during authentication")),
        }
    }
}

/// Asks the client to begin again with another plugin.
#[must_use]
pub fn encode_auth_switch(plugin: &[u8], nonce: &Nonce) -> Vec<u8> {
    let mut out = vec![0xFE];
    put_nul_bytes(&mut out, plugin);
    out.extend_from_slice(nonce);
    out.push(0);
    out
}

/// Data of the current plugin for the client.
#[must_use]
pub fn encode_auth_more_data(data: &[u8]) -> Vec<u8> {
    [&[1], data].concat()
}

/// `COM_CHANGE_USER`, behind its command byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeUser {
    pub user: Vec<u8>,
    pub auth_response: Vec<u8>,
    pub database: Vec<u8>,
    pub collation: Option<u16>,
    pub auth_plugin: Vec<u8>,
}

impl ChangeUser {
    pub fn parse(arguments: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(arguments);
        let user = reader.nul_bytes()?.to_vec();
        let length = reader.u8()?;
        let auth_response = reader.take(usize::from(length))?.to_vec();
        let database = reader.nul_bytes_or_rest().to_vec();
        let collation = if reader.is_empty() {
            None
        } else {
            Some(reader.u16()?)
        };
        let auth_plugin = reader.nul_bytes_or_rest().to_vec();
        Ok(Self {
            user,
            auth_response,
            database,
            collation,
            auth_plugin,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Capabilities = Capabilities(u32::MAX);

    fn text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8.., 0..40)
    }

    fn greeting() -> Greeting {
        Greeting {
            server_version: b"8.4.0-vitrail".to_vec(),
            connection_id: 7,
            nonce: *b"0123456789abcdefghij",
            capabilities: Capabilities::PROTOCOL_41
                | Capabilities::SECURE_CONNECTION
                | Capabilities::PLUGIN_AUTH,
            collation: 255,
            status: ServerStatus::AUTOCOMMIT,
            auth_plugin: b"caching_sha2_password".to_vec(),
        }
    }

    #[test]
    fn greeting_round_trip() {
        assert_eq!(Greeting::parse(&greeting().encode()), Ok(greeting()));
    }

    #[test]
    fn ssl_request_is_told_from_a_response() {
        let response = HandshakeResponse {
            capabilities: Capabilities::PROTOCOL_41 | Capabilities::SSL,
            ..HandshakeResponse::default()
        };
        let parsed = parse_client_first(&response.encode_ssl_request(), ALL);
        assert_eq!(parsed, Ok(ClientFirst::WantsTls(response.capabilities)));
    }

    #[test]
    fn flags_that_were_not_offered_are_off() {
        let response = HandshakeResponse {
            capabilities: Capabilities::PROTOCOL_41
                | Capabilities::SECURE_CONNECTION
                | Capabilities::COMPRESS,
            user: b"app".to_vec(),
            ..HandshakeResponse::default()
        };
        let offered = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION;
        let Ok(ClientFirst::Response(parsed)) = parse_client_first(&response.encode(), offered)
        else {
            panic!("not a response")
        };
        assert_eq!(parsed.capabilities, offered);
    }

    #[test]
    fn auth_switch_round_trip() {
        let nonce = greeting().nonce;
        let packet = encode_auth_switch(b"mysql_native_password", &nonce);
        let expected = AuthPacket::Switch {
            plugin: b"mysql_native_password",
            nonce: &nonce,
        };
        assert_eq!(AuthPacket::parse(&packet), Ok(expected));
        assert_eq!(
            AuthPacket::parse(&encode_auth_more_data(&[3])),
            Ok(AuthPacket::MoreData(&[3]))
        );
    }

    #[test]
    fn change_user_with_and_without_its_tail() {
        let short = ChangeUser::parse(b"app\0\x02xydb\0").unwrap();
        assert_eq!(
            (short.user, short.auth_response, short.database),
            (b"app".to_vec(), b"xy".to_vec(), b"db".to_vec())
        );
        assert_eq!(short.collation, None);
        let long = ChangeUser::parse(b"app\0\x00db\0\xff\x00mysql_native_password\0").unwrap();
        assert_eq!(
            (long.collation, long.auth_plugin),
            (Some(255), b"mysql_native_password".to_vec())
        );
    }

    proptest! {
        #[test]
        fn response_round_trip(
            user in text(), database in text(), auth_plugin in text(),
            auth_response in proptest::collection::vec(any::<u8>(), 0..200),
            attributes in proptest::collection::vec((text(), text()), 0..5),
            lenenc in any::<bool>(), zstd_level in 1u8..23,
        ) {
            let mut capabilities = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION
                | Capabilities::CONNECT_WITH_DB | Capabilities::PLUGIN_AUTH | Capabilities::CONNECT_ATTRS
                | Capabilities::ZSTD_COMPRESSION;
            if lenenc {
                capabilities = capabilities | Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA;
            }
            let response = HandshakeResponse {
                capabilities, max_packet_size: 1 << 24, collation: 45, user, auth_response, database, auth_plugin, attributes,
                zstd_level,
            };
            let parsed = parse_client_first(&response.encode(), ALL);
            prop_assert_eq!(parsed, Ok(ClientFirst::Response(Box::new(response))));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::parse(&bytes);
            let _ = parse_client_first(&bytes, ALL);
            let _ = AuthPacket::parse(&bytes);
            let _ = ChangeUser::parse(&bytes);
            let mut with_version = vec![10];
            with_version.extend_from_slice(&bytes);
            let _ = Greeting::parse(&with_version);
        }
    }
}
