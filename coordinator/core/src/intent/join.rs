//! A member with an empty data directory comes to the group that has a place for it.

use vt_proto::topology::{Coordinator, Standing};

use super::{command, event, refuse};
use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    refusal::Refusal,
    state::State,
};

/// Binds the data directory of a coordinator that has none yet. None: it is bound to this one already.
pub fn join(
    state: &State,
    id: u64,
    directory_id: &str,
    formats: u32,
    now: Now,
) -> Result<Option<Command>, Refusal> {
    if directory_id.is_empty() {
        return refuse("a data directory has a name".to_owned());
    }
    let Some(record) = state.coordinators.get(&id) else {
        return refuse(format!(
            "there is no coordinator {id}: `vtctl coordinator add` makes it known"
        ));
    };
    let old = &record.value;
    if old.directory_id == directory_id {
        return Ok(None);
    }
    if !old.directory_id.is_empty() {
        return refuse(format!(
            "coordinator {id} has another data directory: put that one back, or replace the member with `vtctl coordinator replace {id}`"
        ));
    }
    if old.standing == Standing::Leaving {
        return refuse(format!("coordinator {id} is leaving"));
    }
    let key = RecordKey::Coordinator(id);
    let message = format!("coordinator {id} at {} joins the group", old.address);
    let event = event(now, "coordinator.joined", &key, message);
    let new = Coordinator {
        directory_id: directory_id.to_owned(),
        formats,
        ..old.clone()
    };
    let change = Change::put(record.revision, RecordValue::Coordinator(new));
    // The same for every attempt at the same record: one that lost against a change of it must not be the last.
    let request_id = format!("join-{id}-{directory_id}-{}", record.revision);
    Ok(Some(command(&request_id, vec![change], event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;

    #[test]
    fn a_directory_is_bound_once() {
        let record = |id, directory: &str, standing| Coordinator {
            id,
            address: format!("c{id}:1"),
            directory_id: directory.to_owned(),
            standing,
            formats: 1,
        };
        let records = vec![
            record(1, "d1", Standing::Voter),
            record(2, "", Standing::Voter),
            record(3, "", Standing::Leaving),
        ];
        let mut state = State::first("test".to_owned(), 1, records);
        let now = Now::default();
        let cases = [
            (1, "d1", Ok(false)),
            (1, "dx", Err("another data directory")),
            (2, "", Err("has a name")),
            (2, "d2", Ok(true)),
            (3, "d3", Err("is leaving")),
            (4, "d4", Err("there is no coordinator 4")),
        ];
        for (id, directory, expected) in cases {
            match (join(&state, id, directory, 1, now), expected) {
                (Ok(command), Ok(changes)) => assert_eq!(command.is_some(), changes, "{id}"),
                (Err(refusal), Err(text)) => {
                    assert!(refusal.to_string().contains(text), "{refusal}");
                }
                (found, _) => panic!("{id} {directory}: {found:?}"),
            }
        }
        let command = join(&state, 2, "d2", 1, now).unwrap().unwrap();
        apply(&mut state, 2, &command).unwrap();
        assert_eq!(state.coordinators[&2].value.directory_id, "d2");
    }

    #[test]
    fn who_lost_against_a_change_of_the_record_joins_when_it_asks_again() {
        let record = |address: &str| Coordinator {
            id: 1,
            address: address.to_owned(),
            directory_id: String::new(),
            standing: Standing::Voter,
            formats: 0,
        };
        let mut state = State::first("test".to_owned(), 1, vec![record("c1:1")]);
        let first = join(&state, 1, "d1", 1, Now::default());
        let value = RecordValue::Coordinator(record("c1:2"));
        let moved = Change::put(state.revision_of(&RecordKey::Coordinator(1)), value);
        let moved = Command::new("moved".to_owned(), vec![moved], Vec::new());
        apply(&mut state, 2, &moved).unwrap();
        let lost = apply(&mut state, 3, &first.unwrap().unwrap());
        assert!(matches!(lost, Err(Refusal::Conflict { .. })), "{lost:?}");
        let again = join(&state, 1, "d1", 1, Now::default()).unwrap().unwrap();
        apply(&mut state, 4, &again).unwrap();
        assert_eq!(state.coordinators[&1].value.directory_id, "d1");
    }
}
