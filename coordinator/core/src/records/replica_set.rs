//! The tablets that replicate from one primary: which phases and epochs may follow each other. It names nothing that must exist;
//! shards and tablets name it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::ReplicaSetName,
    topology::{HISTORY_EPOCHS_MAX, Phase, ReplicaSet},
    wire,
};

use super::{Record, RecordKey};

impl Record for ReplicaSet {
    type Key = ReplicaSetName;
    type Wire = wire::ReplicaSet;
    type WireKey = String;
    const NOUN: &'static str = "replica set";
    const WRITTEN_BY: Option<&'static str> =
        Some("`vtctl replica-set switchover`, and reports of agents");
    const IS_HELD: bool = true;
    const WHEN_MISSING: &'static str = "start an agent with a tablet in it first";

    fn key_to_wire(name: ReplicaSetName) -> String {
        name.to_string()
    }

    fn key_from_wire(name: String) -> Result<ReplicaSetName, ConvertError> {
        parse("key.replica_set", &name)
    }

    fn validate(old: Option<&Self>, new: &Self) -> Result<(), String> {
        validate_replica_set(new)?;
        old.map_or(Ok(()), |old| validate_epoch(old, new))
    }

    fn held(name: &str, by: &RecordKey) -> String {
        format!("replica set {name} still holds {by}: move or delete that first")
    }
}

/// What must hold for a replica set at any time.
fn validate_replica_set(set: &ReplicaSet) -> Result<(), String> {
    let refuse = |reason: &str| Err(format!("replica set {}: {reason}", set.name));
    if set.durability.acks() == 0 {
        return refuse("at least one acknowledgement must stand behind each write");
    }
    if set.history.len() > HISTORY_EPOCHS_MAX {
        return refuse("it remembers too many finished epochs");
    }
    if set.history.windows(2).any(|w| w[0].epoch >= w[1].epoch) {
        return refuse("its finished epochs are not in order");
    }
    if set
        .history
        .last()
        .is_some_and(|last| last.epoch >= set.epoch)
    {
        return refuse("an epoch that is not over stands among the finished ones");
    }
    if let Some(raising) = set.raising {
        if raising.acks <= set.durability.acks() {
            return refuse("what is to be raised is not more than what is there");
        }
        if raising.ordered && (set.phase != Phase::Stable || set.leaving.is_some()) {
            return refuse("its policy changes only while it is stable and no acker leaves");
        }
    }
    if let Some(leaving) = &set.leaving {
        let acker = &leaving.acker;
        if set.phase != Phase::Stable {
            return refuse("an acker leaves only while it is stable");
        }
        if !set.ackers.contains(acker) || set.primary.as_ref() == Some(acker) {
            return refuse("who leaves is not one of its ackers");
        }
    }
    match (&set.phase, &set.primary) {
        (Phase::Forming | Phase::Revoking { .. }, Some(_)) => {
            refuse("nobody is primary while it is forming or revoking")
        }
        (Phase::Stable | Phase::Switching { .. } | Phase::Establishing, None) => {
            refuse("this phase needs a primary")
        }
        (Phase::Switching { candidate, .. }, Some(primary)) if candidate == primary => {
            refuse("the candidate is the primary already")
        }
        _ => Ok(()),
    }
}

/// Which phases may follow each other, within an epoch and into a later one.
fn validate_epoch(old: &ReplicaSet, new: &ReplicaSet) -> Result<(), String> {
    use Phase::{Establishing, Forming, Revoking, Stable, Switching};
    let refuse = |reason: String| Err(format!("replica set {}: {reason}", new.name));
    if new.epoch < old.epoch {
        return refuse(format!(
            "epoch {} cannot follow epoch {}",
            new.epoch, old.epoch
        ));
    }
    let same_epoch = new.epoch == old.epoch;
    let legal = match (&old.phase, &new.phase) {
        // A primaryship begins with an epoch of its own.
        (Forming, Establishing) => !same_epoch,
        (Forming, Forming)
        | (Stable, Stable | Switching { .. })
        | (Switching { .. }, Stable | Switching { .. })
        | (Establishing, Stable | Establishing)
        | (Revoking { .. }, Establishing) => same_epoch,
        (Switching { .. }, Establishing)
        | (Stable | Switching { .. } | Establishing, Revoking { .. }) => !same_epoch,
        (Revoking { .. }, Revoking { .. }) => true,
        _ => false,
    };
    if !legal {
        return refuse(format!(
            "{} in epoch {} cannot become {} in epoch {}",
            phase_word(&old.phase),
            old.epoch,
            phase_word(&new.phase),
            new.epoch
        ));
    }
    if same_epoch && old.primary.is_some() && old.primary != new.primary {
        return refuse(format!("epoch {} has a primary already", new.epoch));
    }
    Ok(())
}

fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Forming => "forming",
        Phase::Stable => "stable",
        Phase::Switching { .. } => "switching",
        Phase::Revoking { .. } => "revoking",
        Phase::Establishing => "establishing",
    }
}
