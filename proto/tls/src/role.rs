//! Who a certificate is for: its role (the OU of the subject), its name (the CN), until when. Never says whether it is genuine.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    parse_x509_certificate,
    x509::AttributeTypeAndValue,
};

/// The longest name that is shown; longer ones are cut.
const NAME_LENGTH_MAX: usize = 64;

/// What the holder of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Agent,
    Coordinator,
    Operator,
    Viewer,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Agent, Role::Coordinator, Role::Operator, Role::Viewer];

    /// As it stands in certificates.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Coordinator => "coordinator",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            format!("'{text}' is no role: use agent, coordinator, operator or viewer")
        })
    }
}

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// None: the subject has no OU, several roles, or one that is not known.
    pub role: Option<Role>,
    /// The OU as it stands there, for messages.
    pub unit: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.unit, self.name)
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub identity: Identity,
    /// Names and addresses under which its holder is reached.
    pub hosts: Vec<String>,
    pub starts_unix_s: i64,
    /// The end of its validity.
    pub expires_unix_s: i64,
    /// It may sign others.
    pub is_authority: bool,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key_id: Option<Vec<u8>>,
    issuer_key_id: Option<Vec<u8>>,
}

impl Leaf {
    /// Reads it; the reason if it is no certificate.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            parse_x509_certificate(der).map_err(|error| format!("is no certificate: {error}"))?;
        let subject = certificate.subject();
        let units: Vec<_> = subject.iter_organizational_unit().map(text).collect();
        let mut roles = units.iter().filter_map(|unit| unit.parse::<Role>().ok());
        let role = match (roles.next(), roles.next()) {
            (Some(role), None) => Some(role),
            _ => None,
        };
        let name = subject.iter_common_name().map(text).next();
        Ok(Self {
            identity: Identity {
                role,
                unit: units.join("+").into(),
                name: name.unwrap_or_default().into(),
            },
            hosts: hosts(&certificate),
            starts_unix_s: certificate.validity().not_before.timestamp(),
            expires_unix_s: certificate.validity().not_after.timestamp(),
            is_authority: certificate.is_ca(),
            subject: subject.as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            key_id: key_id(&certificate),
            issuer_key_id: issuer_key_id(&certificate),
        })
    }

    /// The first certificate of a PEM text.
    pub fn read_pem(pem: &[u8]) -> Result<Self, String> {
        let all = Self::read_all_pem(pem)?;
        let first = all.into_iter().next();
        first.ok_or_else(|| "holds no certificate in PEM".to_owned())
    }

    /// Every certificate of a PEM text.
    pub fn read_all_pem(pem: &[u8]) -> Result<Vec<Self>, String> {
        let read = |der: Result<CertificateDer<'_>, _>| match der {
            Ok(der) => Self::read(&der),
            Err(error) => Err(format!("is not PEM: {error:?}")),
        };
        CertificateDer::pem_slice_iter(pem).map(read).collect()
    }

    /// Whether the other one claims to have signed it; what it says of itself is not proven here.
    pub fn is_signed_by(&self, authority: &Leaf) -> bool {
        let same_key = match (&self.issuer_key_id, &authority.key_id) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        self.issuer == authority.subject && same_key
    }

    /// From when to when it is good, as a span.
    pub fn valid(&self) -> Duration {
        let seconds = self.expires_unix_s.saturating_sub(self.starts_unix_s);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// The end of its validity.
    pub fn expires(&self) -> SystemTime {
        let seconds = u64::try_from(self.expires_unix_s).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }
}

fn hosts(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or_else(Vec::new, |names| names.value.general_names.clone());
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names.iter().filter_map(host).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from);
    v4().map(IpAddr::from)
        .or_else(|_| v6().map(IpAddr::from))
        .ok()
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = certificate.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn issuer_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = certificate.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

/// Whoever made the certificate chose these words, and they go into logs: no control characters, not without end.
fn text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let text = attribute.as_str().unwrap_or_default();
    let shown = |c: char| if c.is_control() { '_' } else { c };
    text.chars().take(NAME_LENGTH_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Ca;

    #[test]
    fn the_subject_says_who_it_is() {
        let ca = Ca::new();
        for (unit, role) in [
            ("agent", Some(Role::Agent)),
            ("coordinator", Some(Role::Coordinator)),
            ("operator", Some(Role::Operator)),
            ("viewer", Some(Role::Viewer)),
            ("root", None),
            ("", None),
        ] {
            let leaf = ca.leaf(unit, "an\nna", &["localhost"], 3_600);
            let read = Leaf::read(&leaf.der).unwrap();
            assert_eq!(read.identity.role, role);
            assert_eq!(&*read.identity.unit, unit);
            assert_eq!(&*read.identity.name, "an_na");
        }
        assert!(Leaf::read(b"nothing").is_err());
    }
}
