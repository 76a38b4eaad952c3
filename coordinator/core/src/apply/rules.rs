//! What a record may become, and which records must exist beside it. Looks at records only, never at health or time.
//! What differs from kind to kind stands with the kind, in `records/`.

use std::collections::BTreeMap;

use vt_proto::{epoch::Revision, topology::Coordinator};

use super::Refusal;
use crate::{
    command::{Change, RecordKey, RecordValue},
    records::coordinator,
    state::State,
};

/// Records as a command leaves them: present with a value, deleted without.
pub(super) type After<'a> = BTreeMap<&'a RecordKey, Option<&'a RecordValue>>;

/// Whether a record may go from `old` to `new`. None means that it does not exist.
pub fn validate_change(
    old: Option<&RecordValue>,
    new: Option<&RecordValue>,
) -> Result<(), Refusal> {
    let valid = new.map_or(Ok(()), |new| new.validate(old));
    valid.map_err(Refusal::invalid)
}

/// Ids that the state hands out are used once, in order, and never again.
pub(super) fn check_id(state: &State, change: &Change) -> Result<(), Refusal> {
    let Some((id, next)) = state.numbering(&change.key) else {
        return Ok(());
    };
    let created = change.value.is_some() && state.revision_of(&change.key) == Revision::ZERO;
    if created && (id < next || id == u64::MAX) {
        return Err(Refusal::invalid(format!(
            "{} {id} was there before: the next one is {next}",
            change.key.kind().noun(),
        )));
    }
    Ok(())
}

/// Whether the coordinators' group makes sense as the command leaves it, if it touches it at all.
pub(super) fn check_group(state: &State, after: &After<'_>) -> Result<(), Refusal> {
    let id_of = |key: &RecordKey| match key {
        RecordKey::Coordinator(id) => Some(*id),
        _ => None,
    };
    let touched: BTreeMap<u64, Option<&Coordinator>> = after
        .iter()
        .filter_map(|(key, value)| {
            let record = value.and_then(|value| match value {
                RecordValue::Coordinator(record) => Some(record),
                _ => None,
            });
            Some((id_of(key)?, record))
        })
        .collect();
    if touched.is_empty() {
        return Ok(());
    }
    let kept = state.coordinators.values().map(|record| &record.value);
    let kept = kept.filter(|record| !touched.contains_key(&record.id));
    coordinator::check_group(kept.chain(touched.values().copied().flatten()))
        .map_err(Refusal::invalid)
}

/// Whether every record that the command touches finds, after the command, the records that it names, and none goes that another
/// one names.
pub(super) fn check_references(state: &State, after: &After<'_>) -> Result<(), Refusal> {
    let mut held = None;
    for (key, value) in after {
        match value {
            Some(value) => {
                let created = state.revision_of(key) == Revision::ZERO;
                for needed in value.needs(created, state.format) {
                    need(state, after, key, &needed)?;
                }
            }
            None if key.kind().is_held() => {
                let held = held.get_or_insert_with(|| holders(state, after));
                if let Some(by) = held.get(key) {
                    return Err(Refusal::invalid(key.held(by)));
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// What is held, and the first record that holds it, as the command leaves them.
fn holders(state: &State, after: &After<'_>) -> BTreeMap<RecordKey, RecordKey> {
    let mut holders = BTreeMap::new();
    state.each_hold(|by, holds| {
        let holds = match after.get(&by) {
            None => holds,
            Some(value) => value.map_or(Vec::new(), |value| value.holds(state.format)),
        };
        for held in holds {
            holders.entry(held).or_insert_with(|| by.clone());
        }
    });
    holders
}

fn need(
    state: &State,
    after: &After<'_>,
    who: &RecordKey,
    needed: &RecordKey,
) -> Result<(), Refusal> {
    let exists = match after.get(needed) {
        Some(value) => value.is_some(),
        None => state.revision_of(needed) > Revision::ZERO,
    };
    if exists {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "{who} names {} {}, which does not exist: {}",
        needed.kind().noun(),
        needed.name(),
        needed.kind().when_missing()
    )))
}
