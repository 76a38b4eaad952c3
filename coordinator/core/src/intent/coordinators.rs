//! Who is to be in the coordinators' group, as operators ask for it. The records say what should be; the leader brings it about,
//! one safe change at a time (see [`crate::member`]).

use vt_proto::{
    epoch::Revision,
    topology::{Coordinator, Standing},
};

use super::{command, event, refuse};
use crate::{
    apply,
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    refusal::Refusal,
    state::{State, Versioned},
};

/// A new coordinator at an address. It votes when it has joined, from an empty data directory, and caught up.
pub fn add(state: &State, address: &str, request_id: &str, now: Now) -> Result<Command, Refusal> {
    let new = newcomer(state, address);
    let key = RecordKey::Coordinator(new.id);
    let message = format!("coordinator {} is to join the group from {address}", new.id);
    let event = event(now, "coordinator.added", &key, message);
    let change = Change::put(Revision::ZERO, RecordValue::Coordinator(new));
    checked(state, command(request_id, vec![change], event))
}

/// A coordinator is to leave the group, for good: its id and its directory do not come back.
pub fn remove(state: &State, id: u64, request_id: &str, now: Now) -> Result<Command, Refusal> {
    let change = leave(state, id)?;
    let message = format!("coordinator {id} is to leave the group");
    let event = event(now, "coordinator.leaving", &change.key, message);
    checked(state, command(request_id, vec![change], event))
}

/// One leaves and another joins, as one wish: the group changes from the old to the new in one step, when the new one is ready.
pub fn replace(
    state: &State,
    id: u64,
    address: &str,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let mut leave = leave(state, id)?;
    // A lost host often comes back under its old address; who leaves keeps none that another one needs.
    if let Some(RecordValue::Coordinator(old)) = &mut leave.value
        && old.address == address
        && !old.directory_id.is_empty()
    {
        old.address = format!("replaced.invalid:{}", 1 + id % 65_535);
    }
    let new = newcomer(state, address);
    let key = RecordKey::Coordinator(new.id);
    let message = format!(
        "coordinator {} is to take the place of {id}, from {address}",
        new.id
    );
    let event = event(now, "coordinator.replaced", &key, message);
    let join = Change::put(Revision::ZERO, RecordValue::Coordinator(new));
    checked(state, command(request_id, vec![leave, join], event))
}

/// Where the others find a coordinator from now on; its data have moved with it.
pub fn set_address(
    state: &State,
    id: u64,
    address: &str,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let old = known(state, id)?;
    if old.value.address == address {
        return refuse(format!(
            "coordinator {id} has the address {address} already"
        ));
    }
    let key = RecordKey::Coordinator(id);
    let message = format!(
        "coordinator {id} is found at {address}, no longer at {}",
        old.value.address
    );
    let event = event(now, "coordinator.moved", &key, message);
    let new = Coordinator {
        address: address.to_owned(),
        ..old.value.clone()
    };
    let change = Change::put(old.revision, RecordValue::Coordinator(new));
    checked(state, command(request_id, vec![change], event))
}

fn newcomer(state: &State, address: &str) -> Coordinator {
    Coordinator {
        id: state.next_coordinator,
        address: address.to_owned(),
        directory_id: String::new(),
        standing: Standing::Voter,
        formats: 0,
    }
}

fn known(state: &State, id: u64) -> Result<&Versioned<Coordinator>, Refusal> {
    let ids = || {
        let ids: Vec<String> = state.coordinators.keys().map(u64::to_string).collect();
        ids.join(", ")
    };
    state.coordinators.get(&id).ok_or_else(|| {
        let reason = format!("there is no coordinator {id}; there is: {}", ids());
        Refusal::Missing { reason }
    })
}

fn leave(state: &State, id: u64) -> Result<Change, Refusal> {
    let old = known(state, id)?;
    if old.value.standing == Standing::Leaving {
        return refuse(format!(
            "coordinator {id} is leaving already: `vtctl coordinator list` says what it waits for"
        ));
    }
    let new = Coordinator {
        standing: Standing::Leaving,
        ..old.value.clone()
    };
    Ok(Change::put(old.revision, RecordValue::Coordinator(new)))
}

/// What applying would refuse is refused here, so that it costs no log entry where the caller gave no request id.
fn checked(state: &State, command: Command) -> Result<Command, Refusal> {
    apply::check(state, &command).map(|()| command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;

    const NOW: Now = Now {
        monotonic_ms: 1,
        unix_ms: 2,
    };

    /// Coordinators 1 to `count`, each in its directory.
    fn group(count: u64) -> State {
        let member = |id| Coordinator {
            id,
            address: format!("host-{id}:1"),
            directory_id: format!("d{id}"),
            standing: Standing::Voter,
            formats: 1,
        };
        State::first("test".to_owned(), 1, (1..=count).map(member).collect())
    }

    fn done(state: &mut State, made: Result<Command, Refusal>) -> Result<(), String> {
        let command = made.map_err(|refusal| refusal.to_string())?;
        let outcome = apply(state, state.applied + 1, &command);
        outcome.map(|_| ()).map_err(|refusal| refusal.to_string())
    }

    fn refused(state: &mut State, made: Result<Command, Refusal>, because: &str) {
        let error = done(state, made).unwrap_err();
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn ids_are_handed_out_once() {
        let mut state = group(3);
        let made = add(&state, "new:1", "a", NOW);
        assert_eq!(made.as_ref().unwrap().events[0].subject, "coordinator/4");
        done(&mut state, made).unwrap();
        let made = remove(&state, 4, "b", NOW);
        done(&mut state, made).unwrap();
        let made = add(&state, "newer:1", "c", NOW);
        done(&mut state, made).unwrap();
        assert_eq!(state.coordinators[&4].value.standing, Standing::Leaving);
        assert_eq!(state.coordinators[&5].value.address, "newer:1");
        assert!(state.coordinators[&5].value.directory_id.is_empty());
    }

    #[test]
    fn a_wish_that_cannot_be_is_refused_with_the_reason() {
        let mut state = group(3);
        let made = add(&state, "host-2:1", "a", NOW);
        refused(&mut state, made, "host-2:1 is that of coordinator 2");
        let made = add(&state, "nowhere", "b", NOW);
        refused(&mut state, made, "must be host:port");
        let made = remove(&state, 9, "c", NOW);
        refused(&mut state, made, "there is: 1, 2, 3");
        let made = set_address(&state, 1, "host-1:1", "d", NOW);
        refused(&mut state, made, "already");
        let made = set_address(&state, 1, "host-2:1", "e", NOW);
        refused(&mut state, made, "that of coordinator 2");
        for (id, request) in [(1, "f"), (2, "g")] {
            let made = remove(&state, id, request, NOW);
            done(&mut state, made).unwrap();
        }
        let made = remove(&state, 2, "h", NOW);
        refused(&mut state, made, "is leaving already");
        let made = remove(&state, 3, "i", NOW);
        refused(&mut state, made, "at least one coordinator must stay");
    }

    #[test]
    fn a_group_has_at_most_seven() {
        let mut state = group(7);
        let made = add(&state, "new:1", "a", NOW);
        refused(&mut state, made, "at most 7");
    }

    #[test]
    fn one_takes_the_place_of_another_at_the_same_address_too() {
        for address in ["new:1", "host-2:1"] {
            let mut state = group(3);
            let made = replace(&state, 2, address, "a", NOW);
            done(&mut state, made).unwrap();
            assert_eq!(state.coordinators[&2].value.standing, Standing::Leaving);
            assert_eq!(state.coordinators[&4].value.address, address);
        }
        let mut single = group(1);
        let made = replace(&single, 1, "new:1", "a", NOW);
        done(&mut single, made).unwrap();
    }

    #[test]
    fn an_address_changes_alone() {
        let mut state = group(3);
        let made = set_address(&state, 2, "moved:7", "a", NOW);
        done(&mut state, made).unwrap();
        let record = &state.coordinators[&2].value;
        assert_eq!((&*record.address, &*record.directory_id), ("moved:7", "d2"));
    }
}
