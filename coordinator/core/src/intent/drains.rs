//! Hosts that are to be maintained. What follows from it is decided in `failover/drain`.

use vt_proto::{epoch::Revision, ids::TabletAlias, topology::Drain};

use super::{event, missing, refuse};
use crate::{
    command::{Change, Command, RecordKey, RecordValue},
    event::Now,
    format,
    refusal::Refusal,
    state::State,
};

/// The tablets of one host are drained, or no longer. What is so already stays as it is.
pub fn set_drained(
    state: &State,
    aliases: &[TabletAlias],
    drained: bool,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    if state.format < format::DRAINS {
        return refuse(
            "some coordinators do not know of drained tablets yet: upgrade all of them first"
                .to_owned(),
        );
    }
    if aliases.is_empty() {
        return refuse("name at least one tablet".to_owned());
    }
    let mut command = Command::new(request_id.to_owned(), Vec::new(), Vec::new());
    for alias in aliases {
        let Some(tablet) = state.tablets.get(alias) else {
            return missing(format!("there is no tablet {alias}"));
        };
        let known = state.drains.get(alias).map(|drain| drain.revision);
        let (change, kind, what) = match (known, drained) {
            (None, true) => {
                let drain = Drain {
                    alias: alias.clone(),
                };
                let change = Change::put(Revision::ZERO, RecordValue::Drain(drain));
                (change, "tablet.drained", "is drained")
            }
            (Some(revision), false) => {
                let change = Change::delete(revision, RecordKey::Drain(alias.clone()));
                (change, "tablet.undrained", "is no longer drained")
            }
            _ => continue,
        };
        // Told where the consequences are told.
        let set = RecordKey::ReplicaSet(tablet.value.replica_set.clone());
        let message = format!("{alias} {what}");
        command.changes.push(change);
        command.events.push(event(now, kind, &set, message));
    }
    Ok(command)
}
