//! A replica set: where it stands and its tablets.

use serde::Serialize;
use vt_proto::wire;

use super::{
    tablet::{self, Tablet, short_gtid},
    unless_empty,
};
use crate::output::{list, or_dash, table};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaSet {
    pub name: String,
    pub epoch: u64,
    pub phase: &'static str,
    /// Who is to become primary, why the one before was revoked, or which acker leaves.
    pub phase_detail: Option<String>,
    pub primary: Option<String>,
    pub serving: bool,
    pub blocked: Option<String>,
    /// The policy, and what of it is not kept yet.
    pub durability: String,
    /// Acknowledgements behind each write.
    pub acks: u32,
    /// More of them, which are asked for.
    pub raising: Option<u32>,
    pub ackers: Vec<String>,
    pub start_gtid: String,
    pub revision: u64,
    pub history: Vec<FinishedEpoch>,
    pub tablets: Vec<Tablet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FinishedEpoch {
    pub epoch: u64,
    pub primary: String,
    pub kept: String,
}

impl From<wire::ReplicaSetView> for ReplicaSet {
    fn from(view: wire::ReplicaSetView) -> Self {
        let set = view.replica_set.unwrap_or_default();
        let durability = durability(&set);
        let absent = absent(&set);
        let (phase, phase_detail) = phase(set.phase);
        let phase_detail = phase_detail.or(absent);
        let finished = |it: wire::FinishedEpoch| FinishedEpoch {
            epoch: it.epoch,
            primary: it.primary,
            kept: it.kept,
        };
        Self {
            name: set.name,
            epoch: set.epoch,
            phase,
            phase_detail,
            primary: unless_empty(set.primary),
            serving: view.serving,
            blocked: unless_empty(view.blocked),
            acks: acks(set.durability),
            raising: set.raising.map(|raising| raising.acks),
            durability,
            ackers: set.ackers,
            start_gtid: set.start_gtid,
            revision: view.revision,
            history: set.history.into_iter().map(finished).collect(),
            tablets: view.tablets.into_iter().map(Into::into).collect(),
        }
    }
}

fn phase(phase: Option<wire::Phase>) -> (&'static str, Option<String>) {
    use wire::phase::Phase;
    match phase.and_then(|phase| phase.phase) {
        Some(Phase::Forming(_)) => ("forming", None),
        Some(Phase::Stable(_)) => ("stable", None),
        Some(Phase::Switching(it)) => ("switching", Some(format!("to {}", it.candidate))),
        Some(Phase::Revoking(it)) => ("revoking", Some(format!("{}: {}", it.previous, it.reason))),
        Some(Phase::Establishing(_)) => ("establishing", None),
        None => ("unknown", None),
    }
}

/// Who leaves, and who may not connect.
fn absent(set: &wire::ReplicaSet) -> Option<String> {
    let mut words = Vec::new();
    let leaving = set.leaving.as_ref();
    if let Some(wire::Leaving { acker, silent }) = leaving {
        let step = match silent {
            true => "it acknowledges nothing any more, and others confirm what it had",
            false if set.locked_out.contains(acker) => {
                "the primary locks it out, since its agent does not answer"
            }
            false => "it is to prove that it acknowledges nothing any more",
        };
        words.push(format!("and lost acker {acker} leaves: {step}"));
    }
    let others = set.locked_out.iter();
    let others = others.filter(|alias| leaving.is_none_or(|it| it.acker != **alias));
    let others: Vec<&str> = others.map(String::as_str).collect();
    if !others.is_empty() {
        words.push(format!(
            "and {} may not connect until its agent answers",
            others.join(", ")
        ));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn semi_sync(durability: Option<wire::Durability>) -> Option<wire::SemiSync> {
    let wire::durability::Policy::SemiSync(semi_sync) = durability?.policy?;
    Some(semi_sync)
}

fn acks(durability: Option<wire::Durability>) -> u32 {
    semi_sync(durability).map_or(0, |it| it.acks)
}

fn durability(set: &wire::ReplicaSet) -> String {
    let Some(policy) = semi_sync(set.durability) else {
        return "unknown".to_owned();
    };
    let plural = if policy.acks == 1 { "" } else { "s" };
    let mut text = format!("semi-sync, {} ack{plural}", policy.acks);
    if policy.cross_cell {
        text.push_str(" from other cells");
        let cell = |alias: &str| alias.rsplit_once('-').map(|(cell, _)| cell.to_owned());
        let own = cell(&set.primary);
        let near: Vec<&str> = set
            .ackers
            .iter()
            .map(String::as_str)
            .filter(|acker| own.is_some() && cell(acker) == own)
            .collect();
        if !near.is_empty() {
            text.push_str(&format!(
                "; not yet: {} still acknowledges",
                near.join(", ")
            ));
        }
    }
    if let Some(raising) = &set.raising {
        text.push_str(&format!(
            "; {} are asked for and not there yet",
            raising.acks
        ));
    }
    text
}

impl ReplicaSet {
    /// What is missing until a primary serves and all the others replicate; nothing if it is whole.
    pub fn missing(&self, tablets: usize) -> Option<String> {
        let Some(primary) = &self.primary else {
            let known = format!("{} of {tablets} tablets known", self.tablets.len());
            let why = self
                .blocked
                .as_ref()
                .map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!(
                "replica set {} has no primary yet ({known}){why}",
                self.name
            ));
        };
        if !self.serving {
            let why = self
                .blocked
                .as_ref()
                .map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!("primary {primary} is opening{why}"));
        }
        let behind: Vec<_> = self
            .tablets
            .iter()
            .filter(|tablet| tablet.alias != *primary && !tablet.replicates())
            .collect();
        if self.tablets.len() < tablets || !behind.is_empty() {
            let replicating = self.tablets.len().saturating_sub(1 + behind.len());
            let trouble = behind
                .iter()
                .find_map(|tablet| Some(format!(": {}: {}", tablet.alias, tablet.trouble()?)));
            let trouble = trouble.unwrap_or_default();
            return Some(format!(
                "primary {primary} serves; {replicating} of {} replicas replicate{trouble}",
                tablets - 1
            ));
        }
        None
    }

    fn phase_text(&self) -> String {
        match &self.phase_detail {
            Some(detail) => format!("{} {detail}", self.phase),
            None => self.phase.to_owned(),
        }
    }

    /// Everything about one replica set.
    pub fn text(&self) -> String {
        let mut items = vec![
            ("replica set", self.name.clone()),
            ("epoch", self.epoch.to_string()),
            ("phase", self.phase_text()),
            ("primary", or_dash(self.primary.as_ref())),
            (
                "serving",
                if self.serving { "yes" } else { "no" }.to_owned(),
            ),
            ("durability", self.durability.clone()),
            ("ackers", or_dash(Some(self.ackers.join(", ")))),
            ("epoch starts at", short_gtid(&self.start_gtid)),
        ];
        if let Some(blocked) = &self.blocked {
            items.push(("blocked", blocked.clone()));
        }
        format!("{}\n\n{}", list(&items), tablet::table(&self.tablets))
    }
}

/// One line for each replica set.
pub fn summary(sets: &[ReplicaSet]) -> String {
    let row = |set: &ReplicaSet| {
        [
            set.name.clone(),
            set.epoch.to_string(),
            set.phase_text(),
            or_dash(set.primary.as_ref()),
            if set.serving { "yes" } else { "no" }.to_owned(),
            set.tablets.len().to_string(),
            set.ackers.len().to_string(),
            or_dash(set.blocked.as_ref()),
        ]
    };
    let headers = [
        "REPLICA SET",
        "EPOCH",
        "PHASE",
        "PRIMARY",
        "SERVING",
        "TABLETS",
        "ACKERS",
        "BLOCKED",
    ];
    table(headers, sets.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::tablet::tests::replica;

    fn view() -> wire::ReplicaSetView {
        let primary = wire::TabletView {
            role: "primary".to_owned(),
            acker: false,
            ..replica("zone1-100")
        };
        wire::ReplicaSetView {
            replica_set: Some(wire::ReplicaSet {
                name: "main".to_owned(),
                epoch: 2,
                phase: Some(wire::Phase {
                    phase: Some(wire::phase::Phase::Stable(wire::Stable {})),
                }),
                primary: "zone1-100".to_owned(),
                durability: Some(wire::Durability {
                    policy: Some(wire::durability::Policy::SemiSync(wire::SemiSync {
                        acks: 1,
                        cross_cell: false,
                    })),
                }),
                ackers: vec!["zone1-101".to_owned()],
                ..wire::ReplicaSet::default()
            }),
            revision: 9,
            serving: true,
            blocked: String::new(),
            tablets: vec![primary, replica("zone1-101")],
        }
    }

    #[test]
    fn a_policy_tells_what_of_it_is_not_kept_yet() {
        let mut set = view().replica_set.unwrap();
        assert_eq!(durability(&set), "semi-sync, 1 ack");
        set.durability = Some(wire::Durability {
            policy: Some(wire::durability::Policy::SemiSync(wire::SemiSync {
                acks: 2,
                cross_cell: true,
            })),
        });
        set.raising = Some(wire::Raising {
            acks: 3,
            ordered: true,
        });
        assert_eq!(
            durability(&set),
            "semi-sync, 2 acks from other cells; not yet: zone1-101 still acknowledges; 3 are asked for and not there yet"
        );
        set.ackers = vec!["zone2-1".to_owned()];
        set.raising = None;
        assert_eq!(durability(&set), "semi-sync, 2 acks from other cells");
    }

    #[test]
    fn a_whole_set_misses_nothing() {
        assert_eq!(ReplicaSet::from(view()).missing(2), None);
        let third = ReplicaSet::from(view()).missing(3).unwrap();
        assert_eq!(third, "primary zone1-100 serves; 1 of 2 replicas replicate");
    }

    #[test]
    fn what_is_missing_is_said() {
        type Break = fn(&mut wire::ReplicaSetView);
        let cases: [(&str, Break); 3] = [
            (
                "no primary yet (2 of 2 tablets known): nobody is there",
                |view| {
                    view.replica_set.as_mut().unwrap().primary.clear();
                    view.blocked = "nobody is there".to_owned();
                },
            ),
            ("primary zone1-100 is opening", |view| view.serving = false),
            ("0 of 1 replicas replicate: zone1-101: disk full", |view| {
                let report = view.tablets[1].report.as_mut().unwrap();
                report.replication = None;
                report.blocked = Some("disk full".to_owned());
            }),
        ];
        for (words, spoil) in cases {
            let mut view = view();
            spoil(&mut view);
            let missing = ReplicaSet::from(view).missing(2).unwrap();
            assert!(missing.contains(words), "{missing}");
        }
    }

    #[test]
    fn an_acker_that_leaves_is_shown() {
        for (silent, words) in [(false, "is to prove"), (true, "others confirm")] {
            let mut view = view();
            view.replica_set.as_mut().unwrap().leaving = Some(wire::Leaving {
                acker: "zone1-102".to_owned(),
                silent,
            });
            let text = ReplicaSet::from(view).text();
            assert!(
                text.contains("stable and lost acker zone1-102 leaves"),
                "{text}"
            );
            assert!(text.contains(words), "{text}");
        }
        for (leaves, words) in [
            (true, "the primary locks it out"),
            (false, "zone1-102 may not connect until"),
        ] {
            let mut view = view();
            let set = view.replica_set.as_mut().unwrap();
            set.locked_out = vec!["zone1-102".to_owned()];
            set.leaving = leaves.then(|| wire::Leaving {
                acker: "zone1-102".to_owned(),
                silent: false,
            });
            let text = ReplicaSet::from(view).text();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn texts_show_set_and_tablets() {
        let text = ReplicaSet::from(view()).text();
        for words in [
            "epoch            2",
            "phase            stable",
            "durability       semi-sync, 1 ack",
            "zone1-101",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        let summary = summary(&[view().into()]);
        assert!(summary.starts_with("REPLICA SET"), "{summary}");
    }
}
