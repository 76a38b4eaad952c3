//! Someone who may log in to routers. Rights in a keyspace stay when it goes, and hold again for one of the same name.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::UserName,
    user::{PasswordHashes, User},
    wire,
};

use super::{Record, RecordValue};

impl Record for User {
    type Key = UserName;
    type Wire = wire::User;
    type WireKey = String;
    const NOUN: &'static str = "user";
    const WRITTEN_BY: Option<&'static str> = Some("`vtctl user`");

    fn key_to_wire(name: UserName) -> String {
        name.to_string()
    }

    fn key_from_wire(name: String) -> Result<UserName, ConvertError> {
        parse("key.user", &name)
    }
}

impl RecordValue {
    /// As tools are shown it: without what only routers must know.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        match self {
            RecordValue::User(user) => RecordValue::User(User {
                password: PasswordHashes::HIDDEN,
                ..user
            }),
            other => other,
        }
    }
}
