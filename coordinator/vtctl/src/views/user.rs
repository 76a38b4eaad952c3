//! A user of routers and what it may do.

use std::collections::BTreeMap;

use serde::Serialize;
use vt_proto::{
    user::{Place, Rights},
    wire,
};

use crate::output::{list, or_dash, table};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    pub name: String,
    pub revision: u64,
    /// Rights by keyspace, as in `read,write`; `*` is every keyspace.
    pub grants: BTreeMap<String, String>,
    pub connections_max: Option<u32>,
    pub statements_per_second_max: Option<u32>,
}

impl From<wire::UserView> for User {
    fn from(view: wire::UserView) -> Self {
        Self {
            name: view.name,
            revision: view.revision,
            grants: grants(view.grants),
            connections_max: view.connections_max,
            statements_per_second_max: view.statements_per_second_max,
        }
    }
}

/// Rights by keyspace; what this version does not understand is shown as it came.
pub fn grants(messages: Vec<wire::Grant>) -> BTreeMap<String, String> {
    let entry = |grant: wire::Grant| {
        let given = grant.keyspace.clone();
        match <(Place, Rights)>::try_from(grant) {
            Ok((place, rights)) => (place.to_string(), rights.to_string()),
            Err(error) => (given, error.to_string()),
        }
    };
    messages.into_iter().map(entry).collect()
}

/// One line for each user.
pub fn summary(users: &[User]) -> String {
    let row = |user: &User| {
        [
            user.name.clone(),
            in_words(user),
            or_dash(user.connections_max),
            or_dash(user.statements_per_second_max),
            user.revision.to_string(),
        ]
    };
    table(
        ["USER", "RIGHTS", "CONNECTIONS", "STATEMENTS/S", "REVISION"],
        users.iter().map(row),
    )
}

/// All about one.
pub fn details(user: &User) -> String {
    list(&[
        ("user", user.name.clone()),
        ("rights", in_words(user)),
        (
            "connections",
            user.connections_max.map_or_else(
                || "no limit of its own".to_owned(),
                |limit| format!("at most {limit} to one router"),
            ),
        ),
        (
            "statements",
            user.statements_per_second_max.map_or_else(
                || "no limit of its own".to_owned(),
                |limit| format!("at most {limit} in a second through one router"),
            ),
        ),
        ("revision", user.revision.to_string()),
    ])
}

fn in_words(user: &User) -> String {
    let grants = user.grants.iter();
    let words: Vec<String> = grants
        .map(|(place, rights)| format!("{rights} in {place}"))
        .collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join("; "),
    }
}
