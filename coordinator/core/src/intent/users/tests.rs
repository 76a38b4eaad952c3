//! What may be asked for, what it leads to, and that no hash is told.

use super::*;
use crate::apply::apply;

const NOW: Now = Now {
    monotonic_ms: 1_000,
    unix_ms: 1_700_000_000_000,
};

fn state() -> State {
    let mut state = State::new("c".to_owned());
    state.format = format::NEWEST;
    let keyspace = vt_proto::topology::Keyspace {
        name: "shop".parse().unwrap(),
    };
    state.put(Revision(1), RecordValue::Keyspace(keyspace));
    state.applied = 1;
    state
}

fn user(grants: &[(&str, &str)]) -> User {
    let parsed = |(place, rights): &(&str, &str)| (place.parse().unwrap(), rights.parse().unwrap());
    User {
        name: "app".parse().unwrap(),
        password: PasswordHashes {
            native: [0xAB; 20],
            sha2: [0xCD; 32],
        },
        grants: grants.iter().map(parsed).collect(),
        connections_max: None,
        statements_per_second_max: None,
    }
}

fn name() -> UserName {
    "app".parse().unwrap()
}

fn grants(pairs: &[(&str, &str)]) -> Vec<(Place, Rights)> {
    user(pairs).grants.into_iter().collect()
}

/// Carries a command out; what it told the audit.
fn done(state: &mut State, command: Result<Command, Refusal>) -> String {
    let command = command.unwrap();
    let index = state.applied + 1;
    apply(state, index, &command).unwrap();
    command.events[0].message.clone()
}

#[test]
fn users_come_change_and_go() {
    let mut state = state();
    let made = create_user(&state, user(&[("shop", "read")]), "1", NOW);
    assert_eq!(done(&mut state, made), "user app may read in shop");
    let alteration = Alteration {
        granted: grants(&[("shop", "write"), ("*", "read")]),
        connections_max: Some(Some(5)),
        statements_per_second_max: Some(Some(100)),
        ..Alteration::default()
    };
    let told = alter_user(&state, &name(), &alteration, "2", NOW);
    assert_eq!(
        done(&mut state, told),
        "user app may read in *, may write in shop, may have 5 connections to a router, may send 100 statements in a second through a router"
    );
    let has = state.users[&name()].value.clone();
    assert_eq!(in_words(has.grants.iter()), "read in *; read,write in shop");
    assert_eq!(
        (has.connections_max, has.statements_per_second_max),
        (Some(5), Some(100))
    );
    let alteration = Alteration {
        revoked: grants(&[("shop", "read,write"), ("*", "read,ddl")]),
        connections_max: Some(None),
        statements_per_second_max: Some(None),
        password: Some(PasswordHashes::HIDDEN),
        ..Alteration::default()
    };
    let told = alter_user(&state, &name(), &alteration, "3", NOW);
    done(&mut state, told);
    let has = state.users[&name()].value.clone();
    assert!(has.grants.is_empty());
    assert_eq!(
        (has.connections_max, has.statements_per_second_max),
        (None, None)
    );
    assert_eq!(has.password, PasswordHashes::HIDDEN);
    let dropped = drop_user(&state, &name(), "4", NOW);
    done(&mut state, dropped);
    assert!(state.users.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut state = state();
    let made = create_user(&state, user(&[("shop", "read")]), "1", NOW);
    done(&mut state, made);
    let altered = |alteration: Alteration| alter_user(&state, &name(), &alteration, "2", NOW);
    let with = |change: fn(&mut Alteration)| {
        let mut alteration = Alteration::default();
        change(&mut alteration);
        alteration
    };
    let nobody: UserName = "nobody".parse().unwrap();
    let mut older = state.clone();
    older.format = format::COORDINATORS;
    older.users.clear();
    for (what, refused) in [
        ("exists already", create_user(&state, user(&[]), "2", NOW)),
        ("no user nobody", drop_user(&state, &nobody, "2", NOW)),
        ("upgrade all", create_user(&older, user(&[]), "2", NOW)),
        ("nothing of user app", altered(Alteration::default())),
        (
            "no keyspace shpo",
            altered(with(|it| it.granted = grants(&[("shpo", "read")]))),
        ),
        (
            "it may read in shop",
            altered(with(|it| it.revoked = grants(&[("shop", "write")]))),
        ),
        (
            "drop the user instead",
            altered(with(|it| it.connections_max = Some(Some(0)))),
        ),
        (
            "drop the user instead",
            altered(with(|it| it.statements_per_second_max = Some(Some(0)))),
        ),
    ] {
        let reason = refused.unwrap_err().to_string();
        assert!(reason.contains(what), "'{reason}' lacks '{what}'");
    }
}

#[test]
fn tools_and_the_audit_see_no_hash() {
    let state = state();
    let command = create_user(&state, user(&[]), "1", NOW).unwrap();
    let shown = format!("{command:?}");
    assert!(!shown.contains("171") && !shown.contains("205"), "{shown}");
    let Some(value) = command.changes[0].value.clone() else {
        panic!("a user is made");
    };
    assert_ne!(value.clone().without_secrets(), value);
    let public = Versioned {
        revision: Revision(2),
        value,
    };
    let bytes = prost::Message::encode_to_vec(&public.into_public_wire());
    assert!(!bytes.contains(&0xAB) && !bytes.contains(&0xCD));
}
