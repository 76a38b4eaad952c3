//! One member of the coordinators' group: where it is, in which directory it lives, whether it is to stay. It names nothing.

use std::{collections::BTreeMap, num::NonZeroU16};

use vt_proto::{
    convert::ConvertError,
    topology::{Coordinator, Standing},
    wire,
};

use super::Record;

/// Members of one group, those that leave included. More make each write slower and nothing safer.
pub const COORDINATORS_MAX: usize = 7;

/// What must hold of all of them together, as a command leaves them.
pub(crate) fn check_group<'a>(group: impl Iterator<Item = &'a Coordinator>) -> Result<(), String> {
    let mut at: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut count, mut stay) = (0, false);
    for record in group {
        count += 1;
        stay |= record.standing == Standing::Voter;
        if let Some(other) = at.insert(&record.address, record.id) {
            return Err(format!(
                "the address {} is that of coordinator {other} and cannot be that of {} too",
                record.address, record.id
            ));
        }
    }
    if !stay {
        return Err("at least one coordinator must stay: add another one first".to_owned());
    }
    if count > COORDINATORS_MAX {
        return Err(format!(
            "a group has at most {COORDINATORS_MAX} coordinators, those that leave included: remove one first"
        ));
    }
    Ok(())
}

impl Record for Coordinator {
    type Key = u64;
    type Wire = wire::Coordinator;
    type WireKey = u64;
    const NOUN: &'static str = "coordinator";
    const WRITTEN_BY: Option<&'static str> =
        Some("`vtctl coordinator add` and `vtctl coordinator remove`");

    fn key_to_wire(id: u64) -> u64 {
        id
    }

    fn key_from_wire(id: u64) -> Result<u64, ConvertError> {
        Ok(id)
    }

    fn validate(old: Option<&Self>, new: &Self) -> Result<(), String> {
        let refuse = |reason: &str| Err(format!("coordinator {}: {reason}", new.id));
        if new.id == 0 {
            return refuse("ids start at 1");
        }
        let address = new.address.rsplit_once(':');
        let address = address.filter(|(host, _)| !host.is_empty());
        if address.is_none_or(|(_, port)| port.parse::<NonZeroU16>().is_err()) {
            return refuse("its address must be host:port");
        }
        let Some(old) = old else {
            return Ok(());
        };
        // What voted from one directory has promised things that another directory does not know.
        if !old.directory_id.is_empty() && old.directory_id != new.directory_id {
            return refuse("it lives in another directory for good: add a new coordinator instead");
        }
        if old.standing == Standing::Leaving && new.standing != Standing::Leaving {
            return refuse("it is leaving and may be gone already: add a new coordinator instead");
        }
        Ok(())
    }
}
