//! What the file says of security: certificates or plaintext, and how many may connect. Reads no certificate.

use std::net::SocketAddr;

use toml::Value;
use vt_tls::{files::TlsFiles, listen::Limits};

use super::{Section, check_path};

/// `[tls]`, `plaintext` and `[limits]`.
pub(super) struct Security {
    /// None: plaintext.
    pub tls: Option<TlsFiles>,
    pub limits: Limits,
}

/// Reads them; whatever is wrong becomes a mistake of `root`. `listens` are the ports with their keys.
pub(super) fn resolve(root: &mut Section, listens: &[(&str, Option<SocketAddr>)]) -> Security {
    let given = root.table.contains_key("tls");
    let tls = tls(root);
    let plaintext = plaintext(root);
    if given && plaintext {
        root.mistake("plaintext", "there is [tls] too: leave out one of them");
    }
    if !given && !plaintext {
        root.mistake(
            "tls",
            "give certificate, key and ca in [tls] (`vtctl pki` makes them), or, for ports on loopback alone, plaintext = true",
        );
    }
    if plaintext {
        for (key, address) in listens {
            if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                let what = format!("{address} is not loopback, so it needs [tls] and no plaintext");
                root.mistake(key, &what);
            }
        }
    }
    let limits = limits(root);
    Security {
        limits: if tls.is_none() {
            limits.plaintext()
        } else {
            limits
        },
        tls,
    }
}

fn tls(root: &mut Section) -> Option<TlsFiles> {
    if !root.table.contains_key("tls") {
        return None;
    }
    let mut section = root.section("tls");
    let mut path = |key| {
        let text = section.text(key);
        section.check(key, text, check_path)
    };
    let (certificate, key, ca) = (path("certificate"), path("key"), path("ca"));
    root.mistakes.extend(section.finish());
    Some(TlsFiles {
        certificate: certificate?,
        key: key?,
        ca: ca?,
    })
}

fn plaintext(root: &mut Section) -> bool {
    match root.table.remove("plaintext") {
        None => false,
        Some(Value::Boolean(plaintext)) => plaintext,
        Some(_) => {
            root.mistake("plaintext", "it must be true or false");
            false
        }
    }
}

fn limits(root: &mut Section) -> Limits {
    let mut section = root.section("limits");
    let mut limits = Limits::default();
    for (key, limit) in [
        ("connections", &mut limits.connections),
        (
            "connections_per_address",
            &mut limits.connections_per_address,
        ),
    ] {
        match section.table.remove(key) {
            None => {}
            Some(Value::Integer(number)) if number > 0 => {
                *limit = usize::try_from(number).unwrap_or(usize::MAX);
            }
            Some(_) => section.mistake(key, "it must be a whole number from 1 up"),
        }
    }
    root.mistakes.extend(section.finish());
    limits
}
