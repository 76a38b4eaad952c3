//! Transactions that hosts keep and that an operator has decided about. Nothing of them is recorded: only the audit tells.

use vt_proto::{gtid::GtidSet, ids::TabletAlias};

use super::{event, missing};
use crate::{
    command::{Command, RecordKey},
    event::Now,
    refusal::Refusal,
    state::State,
};

/// The audit of an order to remove them.
pub fn forget_lost(
    state: &State,
    alias: &TabletAlias,
    directory: &str,
    gtids: &GtidSet,
    request_id: &str,
    now: Now,
) -> Result<Command, Refusal> {
    let Some(tablet) = state.tablets.get(alias) else {
        return missing(format!("there is no tablet {alias}"));
    };
    // Told where it was told that they are kept.
    let set = RecordKey::ReplicaSet(tablet.value.replica_set.clone());
    let message = format!("{gtids}, kept on the host of {alias} in {directory}, are to be removed");
    let mut told = event(now, "lost.forget", &set, message);
    told.evidence = [
        ("tablet", alias.to_string()),
        ("directory", directory.to_owned()),
        ("gtids", gtids.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Ok(super::command(request_id, Vec::new(), told))
}
