//! Whether a desired state that arrived may be followed. Never acts on it.

use vt_proto::{
    cluster::{Kinship, kinship},
    desired::Desired,
    epoch::{Epoch, Generation},
    ids::TabletAlias,
    topology::Tablet,
};

use crate::{
    memory::Memory,
    persisted::{Persisted, Record},
};

/// Why a desired state is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the coordinator speaks for cluster {theirs}, this tablet belongs to {ours}: check `coordinators`, or empty the agent's data directory to move it"
    )]
    ForeignCluster { ours: String, theirs: String },
    #[error(
        "the coordinator speaks for {theirs}, and the group {ours} has taken its place: stop that coordinator for good"
    )]
    OlderGroup { ours: String, theirs: String },
    #[error("the desired state is for {theirs}, this is {ours}: two agents use one alias")]
    OtherTablet {
        ours: TabletAlias,
        theirs: TabletAlias,
    },
    #[error("the desired state has generation {theirs}, generation {ours} is known already")]
    OlderGeneration {
        ours: Generation,
        theirs: Generation,
    },
    #[error("the desired state has epoch {theirs}, epoch {ours} is promised already")]
    OlderEpoch { ours: Epoch, theirs: Epoch },
}

/// Accepts or refuses a desired state. On first contact, and where a newer group has
/// taken the place of the one that was known, there is something to persist before it is followed.
pub fn accept(
    persisted: &Persisted,
    memory: &Memory,
    alias: &TabletAlias,
    cluster_id: &str,
    desired: &Desired,
) -> Result<Option<Record>, Refusal> {
    let known = persisted.cluster_id.as_deref();
    let relation = known.map_or(Kinship::Newer, |ours| kinship(cluster_id, ours));
    let (ours, theirs) = (known.unwrap_or_default().to_owned(), cluster_id.to_owned());
    match relation {
        Kinship::Same | Kinship::Newer => {}
        Kinship::Older => return Err(Refusal::OlderGroup { ours, theirs }),
        Kinship::Foreign => return Err(Refusal::ForeignCluster { ours, theirs }),
    }
    if desired.alias != *alias {
        return Err(Refusal::OtherTablet {
            ours: alias.clone(),
            theirs: desired.alias.clone(),
        });
    }
    let heard = memory.heard(persisted);
    if desired.generation < heard {
        return Err(Refusal::OlderGeneration {
            ours: heard,
            theirs: desired.generation,
        });
    }
    if desired.epoch < persisted.promised {
        return Err(Refusal::OlderEpoch {
            ours: persisted.promised,
            theirs: desired.epoch,
        });
    }
    Ok((relation == Kinship::Newer).then_some(Record::Joined { cluster_id: theirs }))
}

/// Why a kept desired state is not gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfDate {
    #[error("it is of cluster {kept}, this tablet belongs to {}", ours.as_deref().unwrap_or("none"))]
    Cluster { kept: String, ours: Option<String> },
    #[error("it is for {kept}, this is {ours}")]
    Tablet { kept: String, ours: String },
    #[error("it is of epoch {kept}, epoch {promised} is promised")]
    Epoch { kept: Epoch, promised: Epoch },
    #[error("it has generation {kept}, generation {known} was acted on")]
    Generation { kept: Generation, known: Generation },
}

/// Whether a desired state that an earlier life kept may be gone on with: only the very one that was acted on last.
pub fn recall(
    persisted: &Persisted,
    tablet: &Tablet,
    cluster_id: &str,
    kept: &Desired,
) -> Result<(), OutOfDate> {
    if persisted.cluster_id.as_deref() != Some(cluster_id) {
        return Err(OutOfDate::Cluster {
            kept: cluster_id.to_owned(),
            ours: persisted.cluster_id.clone(),
        });
    }
    if (&kept.alias, &kept.replica_set) != (&tablet.alias, &tablet.replica_set) {
        return Err(OutOfDate::Tablet {
            kept: format!("{} of {}", kept.alias, kept.replica_set),
            ours: format!("{} of {}", tablet.alias, tablet.replica_set),
        });
    }
    // A newer promise wins; a newer order than was ever promised means that the promise was lost.
    if kept.epoch != persisted.promised {
        return Err(OutOfDate::Epoch {
            kept: kept.epoch,
            promised: persisted.promised,
        });
    }
    if kept.generation != persisted.generation {
        return Err(OutOfDate::Generation {
            kept: kept.generation,
            known: persisted.generation,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vt_proto::desired::Goal;

    use super::*;

    #[test]
    fn older_foreign_and_misdirected_states_are_refused() {
        let alias: TabletAlias = "zone1-100".parse().unwrap();
        let persisted = Persisted {
            cluster_id: Some("a.3".into()),
            promised: Epoch(5),
            generation: Generation(9),
            ..Persisted::default()
        };
        for (name, cluster_id, to, generation, epoch, accepted) in [
            ("same", "a.3", "zone1-100", 9, 5, true),
            ("newer", "a.3", "zone1-100", 10, 6, true),
            ("newer group", "a.4", "zone1-100", 10, 6, true),
            ("older group", "a", "zone1-100", 10, 6, false),
            ("foreign", "b", "zone1-100", 10, 6, false),
            ("other tablet", "a.3", "zone1-101", 10, 6, false),
            ("older generation", "a.3", "zone1-100", 8, 6, false),
            (
                "older epoch of a newer group",
                "a.4",
                "zone1-100",
                10,
                4,
                false,
            ),
            ("older epoch", "a.3", "zone1-100", 10, 4, false),
        ] {
            let desired = Desired {
                alias: to.parse().unwrap(),
                replica_set: "main".parse().unwrap(),
                generation: Generation(generation),
                epoch: Epoch(epoch),
                replicas: Vec::new(),
                goal: Goal::Standby,
            };
            let answer = accept(&persisted, &Memory::default(), &alias, cluster_id, &desired);
            assert_eq!(answer.is_ok(), accepted, "{name}");
            let first = accept(
                &Persisted::default(),
                &Memory::default(),
                &alias,
                cluster_id,
                &desired,
            );
            assert_eq!(
                matches!(first, Ok(Some(Record::Joined { .. }))),
                to == "zone1-100",
                "{name}: first contact joins"
            );
        }
    }
}
