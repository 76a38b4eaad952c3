//! Users between their domain form and the wire. Hashes are bytes there, and shown by nobody.

use std::{collections::BTreeMap, fmt};

use super::{ConvertError, parse};
use crate::{
    user::{PasswordHashes, Place, Rights, User},
    wire,
};

impl From<(&Place, Rights)> for wire::Grant {
    fn from((place, rights): (&Place, Rights)) -> Self {
        Self {
            keyspace: place.to_string(),
            read: rights.read,
            write: rights.write,
            ddl: rights.ddl,
            admin: rights.admin,
        }
    }
}

impl TryFrom<wire::Grant> for (Place, Rights) {
    type Error = ConvertError;

    fn try_from(grant: wire::Grant) -> Result<Self, ConvertError> {
        let rights = Rights {
            read: grant.read,
            write: grant.write,
            ddl: grant.ddl,
            admin: grant.admin,
        };
        Ok((parse("keyspace", &grant.keyspace)?, rights))
    }
}

/// Rights by place, each place once and with some right.
pub fn grants(messages: Vec<wire::Grant>) -> Result<BTreeMap<Place, Rights>, ConvertError> {
    let mut grants = BTreeMap::new();
    for (index, grant) in messages.into_iter().enumerate() {
        let field = format!("grants[{index}]");
        let (place, rights) = <(Place, Rights)>::try_from(grant)
            .map_err(|error: ConvertError| error.within(&field))?;
        if rights == Rights::NONE {
            return Err(ConvertError::new(&field, "it names no right"));
        }
        if grants.insert(place, rights).is_some() {
            return Err(ConvertError::new(&field, "its keyspace is there twice"));
        }
    }
    Ok(grants)
}

/// Both hashes of a password; the error says nothing of them.
pub fn password_hashes(native: &[u8], sha2: &[u8]) -> Result<PasswordHashes, ConvertError> {
    let native = native.try_into();
    let native = native.map_err(|_| ConvertError::new("native_hash", "it must have 20 bytes"))?;
    let sha2 = sha2.try_into();
    let sha2 = sha2.map_err(|_| ConvertError::new("sha2_hash", "it must have 32 bytes"))?;
    Ok(PasswordHashes { native, sha2 })
}

impl From<&User> for wire::User {
    fn from(user: &User) -> Self {
        let grants = user.grants.iter();
        Self {
            name: user.name.to_string(),
            native_hash: user.password.native.to_vec(),
            sha2_hash: user.password.sha2.to_vec(),
            grants: grants
                .map(|(place, rights)| (place, *rights).into())
                .collect(),
            connections_max: user.connections_max,
            statements_per_second_max: user.statements_per_second_max,
        }
    }
}

impl From<User> for wire::User {
    fn from(user: User) -> Self {
        Self::from(&user)
    }
}

impl TryFrom<wire::User> for User {
    type Error = ConvertError;

    fn try_from(user: wire::User) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse("name", &user.name)?,
            password: password_hashes(&user.native_hash, &user.sha2_hash)?,
            grants: grants(user.grants)?,
            connections_max: user.connections_max,
            statements_per_second_max: user.statements_per_second_max,
        })
    }
}

/// By name only: what else is in them is secret.
macro_rules! shown_by_name {
    ($($message:ident)*) => {
        $(impl fmt::Debug for wire::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($message), "({:?})"), self.name)
            }
        })*
    };
}
shown_by_name!(User CreateUserRequest ChangeUserRequest);

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "app".parse().unwrap(),
            password: PasswordHashes {
                native: [0xAB; 20],
                sha2: [0xCD; 32],
            },
            grants: BTreeMap::from([
                ("*".parse().unwrap(), "read".parse().unwrap()),
                ("shop".parse().unwrap(), "write,ddl".parse().unwrap()),
            ]),
            connections_max: Some(7),
            statements_per_second_max: Some(900),
        }
    }

    #[test]
    fn users_survive_the_wire() {
        let wire = wire::User::from(user());
        assert_eq!(User::try_from(wire).unwrap(), user());
    }

    #[test]
    fn mistakes_name_their_field() {
        type Break = fn(&mut wire::User);
        let cases: [(&str, Break); 6] = [
            ("name", |user| user.name.clear()),
            ("native_hash", |user| user.native_hash.truncate(19)),
            ("sha2_hash", |user| user.sha2_hash.push(0)),
            ("grants[1].keyspace", |user| {
                user.grants[1].keyspace.push('!')
            }),
            ("grants[0]", |user| user.grants[0].read = false),
            ("grants[1]", |user| user.grants[1].keyspace = "*".to_owned()),
        ];
        for (field, spoil) in cases {
            let mut wire = wire::User::from(user());
            spoil(&mut wire);
            assert_eq!(User::try_from(wire).unwrap_err().field, field);
        }
    }

    #[test]
    fn messages_show_no_hash() {
        let shown = format!("{:?}", wire::User::from(user()));
        assert_eq!(shown, "User(\"app\")");
    }
}
