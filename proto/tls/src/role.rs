//! Who a certificate is for: its role (the OU of the subject), its name (the CN), until when. Never says whether it is genuine.

use std::{fmt, str::FromStr, sync::Arc};

use x509_parser::{parse_x509_certificate, x509::AttributeTypeAndValue};

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
    /// The end of its validity.
    pub expires_unix_s: i64,
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
            expires_unix_s: certificate.validity().not_after.timestamp(),
        })
    }
}

/// Whoever made the certificate chose these words, and they go into logs: no control characters, not without end.
fn text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let text = attribute.as_str().unwrap_or_default();
    let shown = |c: char| {
        if c.is_control() || c.is_whitespace() {
            '_'
        } else {
            c
        }
    };
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
