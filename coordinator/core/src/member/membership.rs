//! Who should be in the group, by its records -> the next change that brings it there. One change at a time, each safe alone.
//!
//! It only decides: the log carries the changes, and any leader goes on where another one stopped.

use std::collections::BTreeMap;

use vt_proto::topology::{Coordinator, Standing};

use crate::{
    peer::{MemberChange, MemberProgress, Membership},
    state::Versioned,
};

/// A learner that lacks no more entries than this has caught up: the rest arrives within a round trip or two.
const CAUGHT_UP_ENTRIES: u64 = 256;

/// What a leader knows when it decides.
pub(super) struct View<'a> {
    pub me: u64,
    pub records: &'a BTreeMap<u64, Versioned<Coordinator>>,
    pub membership: &'a Membership,
    pub progress: &'a [MemberProgress],
    pub commit: u64,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The group is as it should be.
    Nothing,
    /// It is not, and somebody has to do something first.
    Wait(String),
    Change(Vec<MemberChange>),
    /// The old voters leave the joint group.
    LeaveJoint,
    /// This member is to leave: another one must lead first.
    HandOver,
    /// The member has left: its record goes.
    Forget(u64),
}

impl View<'_> {
    fn is_to_vote(&self, id: u64) -> bool {
        let record = self.records.get(&id);
        record.is_some_and(|record| record.value.standing == Standing::Voter)
    }

    fn progress_of(&self, id: u64) -> Option<&MemberProgress> {
        self.progress.iter().find(|progress| progress.id == id)
    }

    fn is_active(&self, id: u64) -> bool {
        id == self.me || self.progress_of(id).is_some_and(|progress| progress.active)
    }

    fn has_caught_up(&self, id: u64) -> bool {
        self.progress_of(id).is_some_and(|progress| {
            progress.active && progress.matched + CAUGHT_UP_ENTRIES >= self.commit
        })
    }

    /// More than half of these voters were heard lately.
    fn majority_is_active(&self, voters: &[u64]) -> bool {
        let active = voters.iter().filter(|id| self.is_active(**id)).count();
        active * 2 > voters.len()
    }
}

/// The next step towards the group that the records name.
pub(super) fn next(view: &View<'_>) -> Step {
    let group = view.membership;
    // A group without records is one that is about to be told who it is.
    if view.records.is_empty() {
        return Step::Nothing;
    }
    // A leader that a change has left out, which another one began, cannot write any more once the change is through.
    if !group.voters.contains(&view.me) {
        return Step::HandOver;
    }
    if !group.voters_before.is_empty() {
        return Step::LeaveJoint;
    }
    let wanted = view.records.values().map(|record| &record.value);
    let mut wanted = wanted.filter(|record| record.standing == Standing::Voter);
    let outside = wanted.clone().filter(|record| !group.holds(record.id));
    if let Some(joined) = outside.clone().find(|r| !r.directory_id.is_empty()) {
        return Step::Change(vec![MemberChange::AddLearner(joined.id)]);
    }
    let unwanted: Vec<u64> = {
        let learners = group.learners.iter().filter(|id| !view.is_to_vote(**id));
        learners.copied().collect()
    };
    if let Some(id) = unwanted.first() {
        return Step::Change(vec![MemberChange::Remove(*id)]);
    }
    if let Some(waiting) = wanted.find(|record| !group.voters.contains(&record.id))
        && !group.learners.iter().any(|id| view.has_caught_up(*id))
    {
        let (id, address) = (waiting.id, &waiting.address);
        return Step::Wait(match group.learners.contains(&id) {
            true => format!("coordinator {id} at {address} is catching up"),
            false => format!(
                "coordinator {id} at {address} has not joined: start vt-coordinator there with an empty data directory"
            ),
        });
    }
    change_voters(view)
}

fn change_voters(view: &View<'_>) -> Step {
    let group = view.membership;
    let learners = group.learners.iter().copied();
    let ready: Vec<u64> = learners.filter(|id| view.has_caught_up(*id)).collect();
    let leaving = group.voters.iter().copied();
    let leaving: Vec<u64> = leaving.filter(|id| !view.is_to_vote(*id)).collect();
    let staying = group.voters.iter().filter(|id| !leaving.contains(id));
    let after: Vec<u64> = staying.chain(&ready).copied().collect();
    if ready.is_empty() && leaving.is_empty() {
        return match view.records.keys().find(|id| !group.holds(**id)) {
            Some(id) => Step::Forget(*id),
            None => Step::Nothing,
        };
    }
    if after.is_empty() {
        return Step::Wait("every coordinator is to leave: add another one first".to_owned());
    }
    if !view.majority_is_active(&after) {
        let silent = after.iter().filter(|id| !view.is_active(**id));
        let silent: Vec<String> = silent.map(u64::to_string).collect();
        return Step::Wait(format!(
            "the new group would have no majority: start coordinators {} first",
            silent.join(", ")
        ));
    }
    if leaving.contains(&view.me) {
        // Newcomers first, so that there is somebody to hand over to.
        let additions: Vec<_> = ready.into_iter().map(MemberChange::AddVoter).collect();
        return match additions.is_empty() {
            true => Step::HandOver,
            false => Step::Change(additions),
        };
    }
    let additions = ready.into_iter().map(MemberChange::AddVoter);
    let removals = leaving.into_iter().map(MemberChange::Remove);
    Step::Change(additions.chain(removals).collect())
}

#[cfg(test)]
mod tests {
    use vt_proto::epoch::Revision;

    use super::*;

    /// Records as text: `1` a voter, `2-` to leave, `3?` a voter that has not joined.
    fn records(text: &str) -> BTreeMap<u64, Versioned<Coordinator>> {
        let record = |word: &str| {
            let id = word.trim_end_matches(['-', '?']).parse().unwrap();
            let value = Coordinator {
                id,
                address: format!("c{id}:1"),
                directory_id: match word.ends_with('?') {
                    true => String::new(),
                    false => format!("d{id}"),
                },
                standing: match word.ends_with('-') {
                    true => Standing::Leaving,
                    false => Standing::Voter,
                },
                formats: 1,
            };
            let revision = Revision(1);
            (id, Versioned { revision, value })
        };
        text.split_whitespace().map(record).collect()
    }

    fn ids(text: &str) -> Vec<u64> {
        text.split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect()
    }

    /// Progress as text: `2` is at the end of the log, `2<` far behind, `2x` silent.
    fn progress(text: &str) -> Vec<MemberProgress> {
        let one = |word: &str| MemberProgress {
            id: word.trim_end_matches(['<', 'x']).parse().unwrap(),
            matched: if word.ends_with('<') { 1 } else { 10_000 },
            active: !word.ends_with('x'),
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn each_step_leads_towards_the_records() {
        use MemberChange::{AddLearner, AddVoter, Remove};
        let change = |changes: &[MemberChange]| Step::Change(changes.to_vec());
        // records, voters, learners, voters before, progress, step (member 1 leads)
        let cases = [
            ("1 2 3", "1 2 3", "", "", "1 2 3", Step::Nothing),
            (
                "1 2 3 4",
                "1 2 3",
                "",
                "",
                "1 2 3",
                change(&[AddLearner(4)]),
            ),
            (
                "1 2 3 4",
                "1 2 3",
                "4",
                "",
                "1 2 3 4",
                change(&[AddVoter(4)]),
            ),
            ("1 2 3-", "1 2 3", "", "", "1 2 3", change(&[Remove(3)])),
            ("1 2 3-", "1 2 3", "", "", "1 2 3x", change(&[Remove(3)])),
            ("1 2 3-", "1 2", "", "", "1 2", Step::Forget(3)),
            // A replacement is one joint change, however long the newcomer takes.
            ("1 2 3- 4", "1 2 3", "", "", "1 2", change(&[AddLearner(4)])),
            (
                "1 2 3- 4",
                "1 2 3",
                "4",
                "",
                "1 2 3x 4",
                change(&[AddVoter(4), Remove(3)]),
            ),
            ("1 2 3-", "1 2", "", "1 2 3", "1 2", Step::LeaveJoint),
            // Another leader began to remove this one.
            ("1- 2 3", "2 3", "", "1 2 3", "1 2 3", Step::HandOver),
            ("1- 2 3", "2 3", "", "", "1 2 3", Step::HandOver),
            // The leader goes last.
            ("1- 2 3", "1 2 3", "", "", "1 2 3", Step::HandOver),
            (
                "1- 2 3 4",
                "1 2 3",
                "4",
                "",
                "1 2 3 4",
                change(&[AddVoter(4)]),
            ),
            // A newcomer that is not wanted any more.
            (
                "1 2 3 4-",
                "1 2 3",
                "4",
                "",
                "1 2 3 4<",
                change(&[Remove(4)]),
            ),
            ("", "1 2 3", "", "", "1 2 3", Step::Nothing),
        ];
        for (all, voters, learners, before, heard, expected) in cases {
            let (records, progress) = (records(all), progress(heard));
            let membership = Membership {
                voters: ids(voters),
                learners: ids(learners),
                voters_before: ids(before),
            };
            let view = View {
                me: 1,
                records: &records,
                membership: &membership,
                progress: &progress,
                commit: 10_000,
            };
            assert_eq!(next(&view), expected, "{all} / {voters} / {learners}");
        }
    }

    #[test]
    fn what_would_stop_the_group_waits() {
        // records, voters, learners, progress, what the reason names
        let cases = [
            ("1 2 3 4?", "1 2 3", "", "1 2 3", "4 at c4:1 has not joined"),
            (
                "1 2 3- 4?",
                "1 2 3",
                "",
                "1 2 3",
                "4 at c4:1 has not joined",
            ),
            ("1 2 3- 4", "1 2 3", "4", "1 2 4<", "catching up"),
            ("1 2 3- 4", "1 2 3", "4", "1 2 4x", "catching up"),
            (
                "1 2 3-",
                "1 2 3",
                "",
                "1 2x 3",
                "no majority: start coordinators 2",
            ),
            ("1-", "1", "", "1", "every coordinator is to leave"),
        ];
        for (all, voters, learners, heard, expected) in cases {
            let (records, progress) = (records(all), progress(heard));
            let membership = Membership {
                voters: ids(voters),
                learners: ids(learners),
                voters_before: Vec::new(),
            };
            let view = View {
                me: 1,
                records: &records,
                membership: &membership,
                progress: &progress,
                commit: 10_000,
            };
            let Step::Wait(why) = next(&view) else {
                panic!("{all}: {:?}", next(&view));
            };
            assert!(why.contains(expected), "{why}");
        }
    }
}
