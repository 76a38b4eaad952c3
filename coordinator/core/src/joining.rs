//! What a member with an empty data directory is to do, by what the others say: begin a group with them, join theirs, wait, or
//! give up. It never guesses: an emptied directory that began a group of its own would forget what it had promised.

use std::collections::BTreeMap;

use vt_proto::{
    cluster::{Kinship, kinship},
    topology::{Coordinator, Standing},
};

use crate::requests::fingerprint;

/// How many members a group may begin with: an odd number, so that none is there in vain.
const FIRST_MEMBERS: [usize; 3] = [1, 3, 5];

/// Who a coordinator is by its configuration and its data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The cluster's name.
    pub cluster: String,
    pub member_id: u64,
    pub directory_id: String,
    /// All members of its configuration.
    pub members: BTreeMap<u64, String>,
}

/// What a coordinator that was asked says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub from: Introduction,
    /// None: it is in no group yet either.
    pub group: Option<Group>,
}

/// The group that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub cluster_id: String,
    pub coordinators: Vec<Coordinator>,
    pub next_coordinator: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every member begins with the same: these records, all of them voters.
    Begin {
        cluster_id: String,
        coordinators: Vec<Coordinator>,
    },
    /// The leader is to be asked to bind the directory; then as with [`Decision::Follow`].
    Join { cluster_id: String },
    /// The group knows this directory: its leader brings everything.
    Follow { cluster_id: String },
    /// Nothing now: somebody has to do something first.
    Wait(String),
    /// Never: somebody has to change something here.
    Refuse(String),
}

/// Decides by the answers of the other members of the configuration; None where one did not answer.
pub fn decide(
    me: &Introduction,
    formats: u32,
    answers: &BTreeMap<u64, Option<Answer>>,
) -> Decision {
    let heard: Vec<&Answer> = answers.values().flatten().collect();
    for answer in &heard {
        if answer.from.cluster != me.cluster {
            return Decision::Refuse(format!(
                "coordinator {} belongs to cluster {:?} and this one to {:?}: correct cluster or [members] in one of the two configurations",
                answer.from.member_id, answer.from.cluster, me.cluster
            ));
        }
    }
    let groups: Vec<&Group> = heard.iter().filter_map(|a| a.group.as_ref()).collect();
    let Some(first) = groups.first() else {
        return begin(me, formats, answers);
    };
    let related = |other: &Group| kinship(&other.cluster_id, &first.cluster_id);
    if let Some(other) = groups
        .iter()
        .find(|other| related(other) == Kinship::Foreign)
    {
        return Decision::Refuse(format!(
            "the members of this configuration are in two groups, {} and {}: correct [members]",
            first.cluster_id, other.cluster_id
        ));
    }
    by_groups(me, &newest(&groups))
}

/// Those that speak of the newest group of the cluster: what was restored or recovered has taken the place of the one before.
fn newest<'a>(groups: &[&'a Group]) -> Vec<&'a Group> {
    let is_newest = |group: &&&Group| {
        let mut others = groups.iter();
        others.all(|other| kinship(&other.cluster_id, &group.cluster_id) != Kinship::Newer)
    };
    groups.iter().filter(is_newest).copied().collect()
}

/// The members may know different states of one group; what is never taken back counts first.
fn by_groups(me: &Introduction, groups: &[&Group]) -> Decision {
    let mut decisions: Vec<Decision> = groups.iter().map(|group| by_group(me, group)).collect();
    decisions.sort_by_key(|decision| match decision {
        Decision::Follow { .. } => 0,
        Decision::Refuse(_) => 1,
        Decision::Join { .. } => 2,
        Decision::Begin { .. } | Decision::Wait(_) => 3,
    });
    decisions.swap_remove(0)
}

fn by_group(me: &Introduction, group: &Group) -> Decision {
    let (id, cluster_id) = (me.member_id, group.cluster_id.clone());
    let record = group.coordinators.iter().find(|c| c.id == id);
    let Some(record) = record else {
        return if id < group.next_coordinator {
            Decision::Refuse(format!(
                "coordinator {id} was removed from {cluster_id}, and ids are never used again: `vtctl coordinator add` names the next one"
            ))
        } else {
            Decision::Wait(format!(
                "{cluster_id} does not know coordinator {id}: `vtctl coordinator add` makes it known, with the id {}",
                group.next_coordinator
            ))
        };
    };
    if record.standing == Standing::Leaving {
        return Decision::Refuse(format!(
            "coordinator {id} is leaving {cluster_id}: `vtctl coordinator add` names the id of another one"
        ));
    }
    if record.directory_id.is_empty() {
        Decision::Join { cluster_id }
    } else if record.directory_id == me.directory_id {
        Decision::Follow { cluster_id }
    } else {
        Decision::Refuse(format!(
            "coordinator {id} of {cluster_id} had another data directory, and what it promised stands there: put that one back, \
             or replace the member with `vtctl coordinator replace {id}`"
        ))
    }
}

fn begin(me: &Introduction, formats: u32, answers: &BTreeMap<u64, Option<Answer>>) -> Decision {
    let others = me.members.keys().filter(|id| **id != me.member_id);
    let mut directories = BTreeMap::from([(me.member_id, me.directory_id.clone())]);
    let mut missing = Vec::new();
    for id in others {
        let Some(Some(answer)) = answers.get(id) else {
            missing.push(format!("{id} at {}", me.members[id]));
            continue;
        };
        if answer.from.member_id != *id || answer.from.members != me.members {
            return Decision::Wait(format!(
                "coordinator {id} at {} calls itself {} and has another list of members: compare [members] of both configurations",
                me.members[id], answer.from.member_id
            ));
        }
        directories.insert(*id, answer.from.directory_id.clone());
    }
    // Every one of them must say that it is new: one that is not there may hold the cluster's data.
    if !missing.is_empty() {
        return Decision::Wait(format!(
            "a new group begins when all of its members are there: start coordinator {}",
            missing.join(", ")
        ));
    }
    if !FIRST_MEMBERS.contains(&me.members.len()) {
        return Decision::Refuse(format!(
            "a new group has 1, 3 or 5 members, and [members] names {}",
            me.members.len()
        ));
    }
    let record = |(id, directory_id): (&u64, &String)| Coordinator {
        id: *id,
        address: me.members[id].clone(),
        directory_id: directory_id.clone(),
        standing: Standing::Voter,
        formats,
    };
    let coordinators: Vec<Coordinator> = directories.iter().map(record).collect();
    let mut text = me.cluster.clone();
    for coordinator in &coordinators {
        let (id, address) = (coordinator.id, &coordinator.address);
        text.push_str(&format!("\n{id} {address} {}", coordinator.directory_id));
    }
    Decision::Begin {
        cluster_id: format!("{}-{:016x}", me.cluster, fingerprint(text.as_bytes())),
        coordinators,
    }
}

/// Whether the id is that of a cluster of this name.
pub fn is_of(cluster_id: &str, name: &str) -> bool {
    cluster_id
        .rsplit_once('-')
        .is_some_and(|(of, _)| of == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u64) -> BTreeMap<u64, String> {
        (1..=count).map(|id| (id, format!("c{id}:1"))).collect()
    }

    fn introduction(id: u64, directory: &str, count: u64) -> Introduction {
        Introduction {
            cluster: "demo".to_owned(),
            member_id: id,
            directory_id: directory.to_owned(),
            members: members(count),
        }
    }

    fn fresh(id: u64) -> Option<Answer> {
        let from = introduction(id, &format!("d{id}"), 3);
        Some(Answer { from, group: None })
    }

    /// A member of a group in which coordinator 1 has this directory; `-` it leaves, `!` it is not there.
    fn in_group(id: u64, directory_of_1: &str, next: u64) -> Option<Answer> {
        let record = |id, directory: &str| Coordinator {
            id,
            address: format!("c{id}:1"),
            directory_id: directory.trim_end_matches('-').to_owned(),
            standing: match directory.ends_with('-') {
                true => Standing::Leaving,
                false => Standing::Voter,
            },
            formats: 1,
        };
        let mut coordinators = vec![record(2, "d2"), record(3, "d3")];
        if directory_of_1 != "!" {
            coordinators.push(record(1, directory_of_1));
        }
        Some(Answer {
            group: Some(Group {
                cluster_id: "demo-1".to_owned(),
                coordinators,
                next_coordinator: next,
            }),
            ..fresh(id).unwrap()
        })
    }

    fn decision(two: Option<Answer>, three: Option<Answer>) -> Decision {
        let answers = BTreeMap::from([(2, two), (3, three)]);
        decide(&introduction(1, "d1", 3), 1, &answers)
    }

    #[test]
    fn members_of_a_new_group_begin_alike() {
        let mut begun = Vec::new();
        for me in 1..=3 {
            let others = (1..=3).filter(|id| *id != me);
            let answers = others.map(|id| (id, fresh(id))).collect();
            begun.push(decide(&introduction(me, &format!("d{me}"), 3), 1, &answers));
        }
        assert!(
            matches!(&begun[0], Decision::Begin { coordinators, .. } if coordinators.len() == 3)
        );
        assert!(begun.iter().all(|decision| *decision == begun[0]));
        // The same configuration with other directories is another cluster.
        let again = decide(
            &introduction(1, "dx", 3),
            1,
            &BTreeMap::from([(2, fresh(2)), (3, fresh(3))]),
        );
        assert_ne!(again, begun[0]);
        let alone = decide(&introduction(1, "d1", 1), 1, &BTreeMap::new());
        assert!(matches!(alone, Decision::Begin { .. }));
    }

    #[test]
    fn an_empty_directory_never_begins_beside_a_group() {
        let follow = || Decision::Follow {
            cluster_id: "demo-1".to_owned(),
        };
        let join = || Decision::Join {
            cluster_id: "demo-1".to_owned(),
        };
        let exact = [
            (in_group(2, "d1", 4), None, follow()),
            (in_group(2, "", 4), None, join()),
            (in_group(2, "", 4), in_group(3, "d1", 4), follow()),
            // It began with the others and was stopped before it wrote that down.
            (in_group(2, "d1", 4), fresh(3), follow()),
        ];
        for (two, three, expected) in exact {
            assert_eq!(decision(two, three), expected);
        }
        let waits = [
            (None, fresh(3), "start coordinator 2 at c2:1"),
            (None, None, "start coordinator 2 at c2:1, 3 at c3:1"),
            (in_group(2, "!", 1), None, "`vtctl coordinator add`"),
        ];
        for (two, three, expected) in waits {
            let Decision::Wait(why) = decision(two, three) else {
                panic!("{expected}");
            };
            assert!(why.contains(expected), "{why}");
        }
        // Coordinator 3 is of the group that was before, and knows this directory.
        let mut after = in_group(2, "", 4);
        after.as_mut().unwrap().group.as_mut().unwrap().cluster_id = "demo-1.7".to_owned();
        assert_eq!(
            decision(after, in_group(3, "d1", 4)),
            Decision::Join {
                cluster_id: "demo-1.7".to_owned()
            }
        );
        let mut other_cluster = fresh(2);
        other_cluster.as_mut().unwrap().from.cluster = "other".to_owned();
        let mut other_group = in_group(3, "d1", 4);
        other_group
            .as_mut()
            .unwrap()
            .group
            .as_mut()
            .unwrap()
            .cluster_id = "demo-2".to_owned();
        let refusals = [
            (in_group(2, "dx", 4), None, "`vtctl coordinator replace 1`"),
            (
                in_group(2, "dx", 4),
                in_group(3, "", 4),
                "`vtctl coordinator replace 1`",
            ),
            (in_group(2, "d1-", 4), None, "is leaving"),
            (in_group(2, "!", 4), None, "was removed"),
            (other_cluster, None, "belongs to cluster \"other\""),
            (in_group(2, "d1", 4), other_group, "in two groups"),
        ];
        for (two, three, expected) in refusals {
            let Decision::Refuse(why) = decision(two, three) else {
                panic!("{expected}");
            };
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn lists_that_differ_are_told() {
        let mut two = fresh(2);
        two.as_mut().unwrap().from.members.remove(&3);
        let Decision::Wait(why) = decision(two, fresh(3)) else {
            panic!("it must wait");
        };
        assert!(why.contains("another list of members"), "{why}");
        let answers = (2..=4).map(|id| {
            let from = introduction(id, &format!("d{id}"), 4);
            (id, Some(Answer { from, group: None }))
        });
        let even = decide(&introduction(1, "d1", 4), 1, &answers.collect());
        assert!(matches!(even, Decision::Refuse(why) if why.contains("names 4")));
    }
}
