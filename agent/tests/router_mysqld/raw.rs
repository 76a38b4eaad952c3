//! A client that speaks packets, for what drivers do not do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use vt_wire::Capabilities;
use vt_wire::auth::{scramble_native, scramble_sha2};
use vt_wire::command::{CommandByte, encode, encode_query};
use vt_wire::handshake::{AuthPacket, Greeting, HandshakeResponse};
use vt_wire::packet::{HEADER_LENGTH, put_packet, whole};
use vt_wire::scanner::{Answer, ResponseScanner, Summary};

/// A router that does not answer for so long hangs.
const READ_TIME_MAX: Duration = Duration::from_secs(20);

pub const OLD: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS);
pub const NEW: Capabilities = OLD
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::SESSION_TRACK);

/// As the drivers of MySQL itself.
pub const NEWEST: Capabilities = NEW
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::QUERY_ATTRIBUTES);

pub struct RawClient {
    pub stream: TcpStream,
    capabilities: Capabilities,
    input: Vec<u8>,
}

impl RawClient {
    pub fn open(port: u16, capabilities: Capabilities) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(READ_TIME_MAX)).unwrap();
        Self {
            stream,
            capabilities,
            input: Vec::new(),
        }
    }

    pub fn login(port: u16, capabilities: Capabilities, plugin: &str) -> Self {
        let mut client = Self::open(port, capabilities);
        let greeting = Greeting::parse(&client.read_packet().unwrap().1).unwrap();
        let auth_response = match plugin {
            "mysql_native_password" => scramble_native(b"secret", &greeting.nonce),
            _ => scramble_sha2(b"secret", &greeting.nonce),
        };
        let response = HandshakeResponse {
            capabilities,
            max_packet_size: 1 << 24,
            collation: 45,
            user: b"app".to_vec(),
            auth_response,
            database: b"shop".to_vec(),
            auth_plugin: plugin.as_bytes().to_vec(),
            attributes: Vec::new(),
            zstd_level: 0,
        };
        client.write_packet(1, &response.encode());
        client.finish_login();
        client
    }

    pub fn finish_login(&mut self) {
        loop {
            let (sequence, payload) = self.read_packet().unwrap();
            match AuthPacket::parse(&payload).unwrap() {
                AuthPacket::Ok => return,
                AuthPacket::MoreData(_) => {}
                AuthPacket::Switch {
                    plugin: b"caching_sha2_password",
                    nonce,
                } => {
                    let response = scramble_sha2(b"secret", nonce);
                    self.write_packet(sequence + 1, &response);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn write_packet(&mut self, sequence: u8, payload: &[u8]) {
        let mut wire = Vec::new();
        put_packet(&mut wire, sequence, payload);
        self.stream.write_all(&wire).unwrap();
    }

    /// Sequence id and payload; `None` at the end of the stream.
    pub fn read_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(found) = whole(&self.input, usize::MAX).unwrap() {
                let payload = self.input[HEADER_LENGTH..found.wire_length].to_vec();
                self.input.drain(..found.wire_length);
                return Some((found.last_sequence, payload));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer).unwrap();
        self.input.extend_from_slice(&buffer[..length]);
        length > 0
    }

    /// Sends a command and reads its answer; returns the answer's packets as well.
    pub fn command(
        &mut self,
        command: CommandByte,
        arguments: &[u8],
        answer: Answer,
    ) -> (Summary, Vec<u8>) {
        self.write_packet(0, &encode(command, arguments));
        self.read_answer(answer)
    }

    pub fn read_answer(&mut self, answer: Answer) -> (Summary, Vec<u8>) {
        let mut scanner = ResponseScanner::new(answer, self.capabilities);
        let mut wire = Vec::new();
        loop {
            let step = scanner.feed(&self.input).unwrap();
            let (consumed, done, more) = (step.consumed, step.done, step.event.is_none());
            wire.extend(self.input.drain(..consumed));
            if done {
                return (*scanner.summary(), wire);
            }
            if more {
                assert!(self.fill(), "the stream ended inside an answer");
            }
        }
    }

    pub fn query(&mut self, sql: &str) -> (Summary, Vec<u8>) {
        let payload = encode_query(sql.as_bytes(), self.capabilities);
        self.write_packet(0, &payload);
        self.read_answer(Answer::Results)
    }
}
