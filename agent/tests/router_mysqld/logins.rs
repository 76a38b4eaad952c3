//! Clients that prove their password in another way than by the first scramble.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use vt_agent::router::Credentials;
use vt_wire::Capabilities;
use vt_wire::auth::{FULL_AUTH_NEEDED, scramble_sha2};
use vt_wire::handshake::{AuthPacket, Greeting, HandshakeResponse};
use vt_wire::packet::{HEADER_LENGTH, put_packet, whole};
use vt_wire::response::ErrPacket;

use crate::raw::{NEW, RawClient};
use crate::server::{Mysqld, TestRouter, code};

const ACCESS_DENIED: u16 = 1045;
const DATABASE_ACCESS_DENIED: u16 = 1044;

/// The server's own certificate names nobody.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn response(auth_response: Vec<u8>, plugin: &[u8]) -> HandshakeResponse {
    HandshakeResponse {
        capabilities: NEW,
        max_packet_size: 1 << 24,
        collation: 45,
        user: b"app".to_vec(),
        auth_response,
        database: b"shop".to_vec(),
        auth_plugin: plugin.to_vec(),
        ..HandshakeResponse::default()
    }
}

fn read_packet(stream: &mut impl Read, input: &mut Vec<u8>) -> (u8, Vec<u8>) {
    loop {
        if let Some(found) = whole(input, usize::MAX).unwrap() {
            let payload = input[HEADER_LENGTH..found.wire_length].to_vec();
            input.drain(..found.wire_length);
            return (found.last_sequence, payload);
        }
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the router closed the connection");
        input.extend_from_slice(&buffer[..length]);
    }
}

fn write_packet(stream: &mut impl Write, sequence: u8, payload: &[u8]) {
    let mut wire = Vec::new();
    put_packet(&mut wire, sequence, payload);
    stream.write_all(&wire).unwrap();
    stream.flush().unwrap();
}

/// Logs in over TLS with a scramble of something else, then with the password itself; returns the last packet.
fn login_in_full(port: u16, password: &[u8]) -> Vec<u8> {
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut input = Vec::new();
    let (_, greeting) = read_packet(&mut plain, &mut input);
    let greeting = Greeting::parse(&greeting).unwrap();
    let mut response = response(
        scramble_sha2(b"something else", &greeting.nonce),
        b"caching_sha2_password",
    );
    response.capabilities = NEW.with(Capabilities::SSL);
    write_packet(&mut plain, 1, &response.encode_ssl_request());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(tls, plain);
    write_packet(&mut stream, 2, &response.encode());
    let (sequence, packet) = read_packet(&mut stream, &mut input);
    assert_eq!(packet, [1, FULL_AUTH_NEEDED]);
    write_packet(&mut stream, sequence + 1, &[password, b"\0"].concat());
    read_packet(&mut stream, &mut input).1
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_itself_under_tls() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.tls = Some(server.tls()));
    let port = router.handle.local_address().port();
    assert_eq!(login_in_full(port, b"secret")[0], 0);
    let refused = login_in_full(port, b"wrong");
    assert_eq!(ErrPacket::parse(&refused).unwrap().code, ACCESS_DENIED);
}

/// Some clients take the NUL behind a challenge that they get by a switch for a part of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_whose_challenge_is_taken_with_its_end() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let port = router.handle.local_address().port();
    for password in [&b"secret"[..], b"wrong"] {
        let mut client = RawClient::open(port, NEW);
        client.read_packet().unwrap();
        client.write_packet(1, &response(Vec::new(), b"sha256_password").encode());
        let (sequence, packet) = client.read_packet().unwrap();
        let AuthPacket::Switch { nonce, .. } = AuthPacket::parse(&packet).unwrap() else {
            panic!("no switch: {packet:?}");
        };
        let whole = [nonce, &[0]].concat();
        client.write_packet(sequence + 1, &scramble_sha2(password, &whole));
        let (_, packet) = client.read_packet().unwrap();
        if password == b"wrong" {
            assert_eq!(ErrPacket::parse(&packet).unwrap().code, ACCESS_DENIED);
            continue;
        }
        // That the scramble was right, then the OK.
        let (_, packet) = client.read_packet().unwrap();
        assert_eq!(AuthPacket::parse(&packet).unwrap(), AuthPacket::Ok);
    }
}

/// The client is told of itself, not of the account that the router has at the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_the_router_may_not_use() {
    let server = Mysqld::start().await;
    let mut admin = server.admin().await;
    for sql in [
        "CREATE USER narrow@'%' IDENTIFIED BY 'router-password'",
        "GRANT ALL ON shop.* TO narrow@'%'",
    ] {
        admin.query_drop(sql).await.unwrap();
    }
    let router = TestRouter::start(&server, |config| {
        config.backend = Credentials {
            user: "narrow".to_owned(),
            password: "router-password".to_owned(),
        };
    });
    let refused = |result: Result<(), mysql_async::Error>| {
        let told = result.as_ref().unwrap_err().to_string();
        assert!(told.contains("'app'") && told.contains("'mysql'"), "{told}");
        assert_eq!(code(result), DATABASE_ACCESS_DENIED);
    };
    // The driver asks for variables as soon as it is in.
    let fresh = mysql_async::Conn::new(router.options("mysql")).await;
    refused(fresh.map(drop));
    let mut other = router.connect().await;
    other.query_drop("USE mysql").await.unwrap();
    refused(other.query_drop("SELECT 1").await);
}
