//! Who may log in to routers, and what each may do. Nothing here tells a hash to the audit.

use vt_proto::{
    epoch::Revision,
    ids::UserName,
    user::{PasswordHashes, Place, Rights, User},
};

use super::{command, event, known_keyspace, missing, refuse};
use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    format,
    refusal::Refusal,
    state::{State, Versioned},
};

/// Users of one cluster: each router holds them all.
pub const USERS_MAX: usize = 10_000;
/// Places with rights of one user: one log entry must stay small.
pub const GRANTS_MAX: usize = 1_000;

/// What is to become of a user; what is not set stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alteration {
    pub password: Option<PasswordHashes>,
    pub granted: Vec<(Place, Rights)>,
    pub revoked: Vec<(Place, Rights)>,
    /// `Some(None)`: no limit.
    pub connections_max: Option<Option<u32>>,
    /// The same.
    pub statements_per_second_max: Option<Option<u32>>,
}

fn check_format(state: &State) -> Result<(), Refusal> {
    match state.format < format::USERS {
        true => refuse(
            "some coordinators do not know of users yet: upgrade all of them first".to_owned(),
        ),
        false => Ok(()),
    }
}

/// A keyspace that is misspelt would look like a right.
fn check_places<'a>(
    state: &State,
    mut places: impl Iterator<Item = &'a Place>,
) -> Result<(), Refusal> {
    places.try_for_each(|place| match place {
        Place::Keyspace(name) => known_keyspace(state, name).map(drop),
        Place::Everywhere => Ok(()),
    })
}

fn check_bounds(user: &User) -> Result<(), Refusal> {
    if user.grants.len() > GRANTS_MAX {
        return refuse(format!(
            "user {} would have rights in more than {GRANTS_MAX} keyspaces: grant them in * instead",
            user.name
        ));
    }
    if user.connections_max == Some(0) {
        return refuse(
            "a user without a connection could not log in: drop the user instead".to_owned(),
        );
    }
    if user.statements_per_second_max == Some(0) {
        return refuse(
            "a user without a statement could do nothing: drop the user instead".to_owned(),
        );
    }
    Ok(())
}

fn known_user<'a>(state: &'a State, name: &UserName) -> Result<&'a Versioned<User>, Refusal> {
    match state.users.get(name) {
        Some(user) => Ok(user),
        None => missing(format!(
            "there is no user {name}: `vtctl user list` has all"
        )),
    }
}

/// As in `read,write in commerce; read in *`.
fn in_words<'a>(grants: impl Iterator<Item = (&'a Place, &'a Rights)>) -> String {
    let words: Vec<String> = grants
        .map(|(place, rights)| format!("{rights} in {place}"))
        .collect();
    match words.is_empty() {
        true => "nothing yet".to_owned(),
        false => words.join("; "),
    }
}

/// A new user.
pub fn create_user(
    state: &State,
    user: User,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    check_format(state)?;
    if state.users.contains_key(&user.name) {
        return Err(Refusal::Exists {
            reason: format!("user {} exists already", user.name),
        });
    }
    if state.users.len() >= USERS_MAX {
        return refuse(format!("there are {USERS_MAX} users: drop some first"));
    }
    check_places(state, user.grants.keys())?;
    check_bounds(&user)?;
    let key = RecordKey::User(user.name.clone());
    let may = in_words(user.grants.iter());
    let event = event(
        now,
        "user.created",
        &key,
        format!("user {} may {may}", user.name),
    );
    let change = Change::put(Revision::ZERO, RecordValue::User(user));
    Ok(command(request_id, vec![change], event))
}

/// Another password, other rights, another limit.
pub fn alter_user(
    state: &State,
    name: &UserName,
    alteration: &Alteration,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let record = known_user(state, name)?;
    check_places(state, alteration.granted.iter().map(|(place, _)| place))?;
    let mut user = record.value.clone();
    let mut told = Vec::new();
    if let Some(password) = alteration.password {
        user.password = password;
        told.push("has another password".to_owned());
    }
    for (place, rights) in &alteration.granted {
        let held = user.grants.entry(place.clone()).or_default();
        *held = held.with(*rights);
        told.push(format!("may {rights} in {place}"));
    }
    for (place, rights) in &alteration.revoked {
        let held = user.grants.get(place).copied().unwrap_or_default();
        if held.without(*rights) == held {
            let has = in_words(user.grants.iter());
            return refuse(format!(
                "user {name} has none of the rights {rights} in {place}; it may {has}"
            ));
        }
        match held.without(*rights) {
            Rights::NONE => drop(user.grants.remove(place)),
            rest => drop(user.grants.insert(place.clone(), rest)),
        }
        told.push(format!("may no longer {rights} in {place}"));
    }
    if let Some(connections_max) = alteration.connections_max {
        user.connections_max = connections_max;
        told.push(match connections_max {
            Some(limit) => format!("may have {limit} connections to a router"),
            None => "may have any number of connections".to_owned(),
        });
    }
    if let Some(statements_per_second_max) = alteration.statements_per_second_max {
        user.statements_per_second_max = statements_per_second_max;
        told.push(match statements_per_second_max {
            Some(limit) => format!("may send {limit} statements in a second through a router"),
            None => "may send any number of statements".to_owned(),
        });
    }
    if told.is_empty() {
        return refuse(format!("nothing of user {name} is to be changed"));
    }
    check_bounds(&user)?;
    let key = RecordKey::User(name.clone());
    let message = format!("user {name} {}", told.join(", "));
    let event = event(now, "user.changed", &key, message);
    let change = Change::put(record.revision, RecordValue::User(user));
    Ok(command(request_id, vec![change], event))
}

/// The user is no more; its sessions end.
pub fn drop_user(
    state: &State,
    name: &UserName,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let record = known_user(state, name)?;
    let key = RecordKey::User(name.clone());
    let message = format!("user {name} is no more, its sessions end");
    let event = event(now, "user.dropped", &key, message);
    let change = Change::delete(record.revision, key);
    Ok(command(request_id, vec![change], event))
}

#[cfg(test)]
mod tests;
