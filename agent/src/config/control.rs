//! How the agent speaks with coordinators and serves its pages: with certificates, or in plaintext on loopback. Reads no
//! certificate.

use std::net::{IpAddr, SocketAddr};

use vt_proto::topology::Endpoint;
use vt_tls::files::TlsFiles;

use super::section::Section;

/// `[tls]` or `plaintext = true`; None is plaintext.
pub(super) fn resolve(
    root: &mut Section,
    coordinators: &[Endpoint],
    http_listen: Option<SocketAddr>,
    errors: &mut Vec<String>,
) -> Option<TlsFiles> {
    let section = root.section("tls");
    let plaintext = root.flag("plaintext");
    match (&section, plaintext) {
        (Some(_), true) => root.mistake("there are [tls] and plaintext: leave out one of them"),
        (None, false) => root.mistake(
            "[tls] is missing: give certificate, key and ca (`vtctl pki` makes them), or, where all is on loopback, \
             plaintext = true",
        ),
        _ => {}
    }
    if plaintext {
        let far = coordinators.iter().filter(|it| !is_loopback(&it.host));
        let far: Vec<_> = far.map(|it| format!("{}:{}", it.host, it.port)).collect();
        if !far.is_empty() {
            root.mistake(&format!(
                "coordinators: {} not on loopback, so [tls] is needed and no plaintext",
                far.join(", ")
            ));
        }
        if let Some(listen) = http_listen.filter(|listen| !listen.ip().is_loopback()) {
            root.mistake(&format!(
                "http_listen: {listen} is not loopback, so [tls] is needed and no plaintext"
            ));
        }
    }
    let mut section = section?;
    let (certificate, key, ca) = (
        section.path("certificate"),
        section.path("key"),
        section.path("ca"),
    );
    section.finish(errors);
    Some(TlsFiles {
        certificate: certificate?,
        key: key?,
        ca: ca?,
    })
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}
