//! A group that begins again from an old copy: nobody gets orders below a promise, and nothing that was acknowledged is lost.

use vt_proto::topology::{Coordinator, Standing};

use super::*;
use crate::{
    command::Command,
    failover::restored::SETTLE_MS,
    peer::Stored,
    restore::{RestoreError, replayed, restored},
};

/// Long after everything that happens here.
const LATER_MS: u64 = 1_800_000_000_000;

fn me() -> Coordinator {
    Coordinator {
        id: 1,
        address: "a:1".to_owned(),
        directory_id: "new".to_owned(),
        standing: Standing::Voter,
        formats: 1,
    }
}

impl Stage {
    /// The coordinators are lost and begin again from `copy`; the tablets are as they are.
    fn begin_again(&mut self, copy: State) {
        let state = restored(copy, me(), "in a test", LATER_MS).unwrap();
        self.index = state.applied;
        self.core = Core::new(state);
        self.effects.clear();
        self.step(Event::LeadershipGained);
    }

    fn epoch(&self) -> Epoch {
        self.set(0).epoch
    }

    /// The tablets do what they are told, until the set is stable again; whoever is `gone` does nothing.
    fn heal(&mut self, gone: &[u32]) {
        for _ in 0..20 {
            self.pass(400, gone);
            for index in (0..3).filter(|index| !gone.contains(index)) {
                let Some(desired) = self.core.desired(&alias(index)) else {
                    continue;
                };
                let report = self.report(index);
                if desired.epoch < report.promised {
                    continue;
                }
                match desired.goal {
                    Goal::Revoke => self.revoke(index),
                    Goal::Fence => {
                        self.revoke(index);
                        let report = self.report(index);
                        report.fenced = Some(desired.epoch);
                        report.serving = None;
                    }
                    Goal::Primary { .. } => self.serve(index),
                    Goal::Replica { source, .. } => {
                        let from = u32::from(source.port) - 3300;
                        let gtid = self.report(from).gtid.clone();
                        self.report(index).gtid = gtid;
                        self.report(index).serving = None;
                        self.replicate(index, from);
                    }
                    _ => {}
                }
            }
            if self.set(0).phase == Phase::Stable {
                return;
            }
        }
        panic!("{:?}: {:?}", self.set(0), self.core.blocked(&set_name(0)));
    }
}

/// Tablet 0 was primary of epoch 1 when the copy was made; since then epochs went up to `promised` and 2 is primary.
fn moved_on(promised: u64) -> (Stage, State) {
    let mut stage = Stage::stable(1);
    let copy = stage.core.state().clone();
    for (index, received) in [(0, "A:1-9"), (1, "A:1-9,C:1-4"), (2, "A:1-9,C:1-5")] {
        stage.position(index, received, received);
        let report = stage.report(index);
        report.promised = Epoch(promised);
        report.serving = None;
    }
    stage.report(2).serving = Some(Epoch(promised));
    stage.report(2).replication = None;
    for replica in [0, 1] {
        stage.replicate(replica, 2);
        stage.report(replica).promised = Epoch(promised);
    }
    (stage, copy)
}

#[test]
fn everything_that_only_grows_goes_on_above() {
    let stage = Stage::stable(1);
    let copy = stage.core.state().clone();
    let first = restored(copy.clone(), me(), "", LATER_MS).unwrap();
    assert!(first.applied > copy.applied + 1_000_000_000);
    assert!(first.applied < 1 << 53, "exact in JSON");
    assert!(
        first
            .records()
            .all(|record| record.revision.0 == first.applied)
    );
    assert!(
        first.next_event > copy.next_event && first.next_schema_change > copy.next_schema_change
    );
    // The same copy once more, a second later: above the first group however much it wrote.
    let again = restored(copy, me(), "", LATER_MS + 1_000).unwrap();
    assert!(again.applied >= first.applied + 1_000_000);
    // And a copy of the group that was restored.
    let later = restored(first.clone(), me(), "", LATER_MS).unwrap();
    assert!(later.applied > first.applied);
    let error = restored(first, me(), "", 5).unwrap_err();
    assert!(matches!(error, RestoreError::Clock { .. }), "{error}");
}

#[test]
fn only_the_one_that_begins_is_in_the_group() {
    let mut copy = Stage::stable(1).core.state().clone();
    for id in 1..=3 {
        let old = Coordinator {
            id,
            address: format!("old-{id}:1"),
            directory_id: "old".to_owned(),
            ..me()
        };
        copy.put(Revision(1), RecordValue::Coordinator(old));
    }
    let state = restored(copy, me(), "", LATER_MS).unwrap();
    assert_eq!(state.coordinators.len(), 1);
    assert_eq!(state.coordinators[&1].value, me());
    assert_eq!(state.next_coordinator, 4, "ids are never used again");
}

#[test]
fn nobody_gets_orders_before_the_epoch_is_above_every_promise() {
    let (mut stage, copy) = moved_on(7);
    stage.begin_again(copy);
    stage.everybody_reports();
    assert_eq!(stage.core.desired(&alias(0)), None);
    stage.pass(SETTLE_MS - 400, &[]);
    assert_eq!(stage.epoch(), Epoch(1));
    stage.pass(800, &[]);
    assert_eq!(stage.epoch(), Epoch(8));
    assert_eq!(
        stage.goal(2),
        Goal::Fence,
        "who serves is fenced, not who the copy says"
    );
    assert_eq!(stage.goal(0), Goal::Revoke);
    assert!(stage.kinds().contains(&"failover.raise".to_owned()));
}

#[test]
fn what_was_acknowledged_after_the_copy_is_kept() {
    // With and without failovers since the copy, with everybody there and with one tablet lost.
    for promised in [1, 2, 7] {
        for gone in [&[][..], &[0], &[1]] {
            let (mut stage, copy) = moved_on(promised);
            stage.begin_again(copy);
            stage.heal(gone);
            let set = stage.set(0);
            assert!(set.epoch > Epoch(promised), "{promised} {gone:?}");
            // The primary and tablet 1 have 4, so it was acknowledged; 5 is on the primary alone.
            let acknowledged = gtids("A:1-9,C:1-4");
            assert!(
                set.start_gtid.contains(&acknowledged),
                "{promised} {gone:?}"
            );
            assert!(set.ackers.len() <= 2);
        }
    }
}

#[test]
fn too_few_answers_wait_for_more() {
    let (mut stage, copy) = moved_on(7);
    stage.begin_again(copy);
    stage.pass(10_000, &[1, 2]);
    assert_eq!(stage.epoch(), Epoch(1));
    let blocked = stage.core.blocked(&set_name(0)).unwrap();
    assert!(
        blocked.contains("1 tablets answer and 2 are needed"),
        "{blocked}"
    );
}

#[test]
fn a_promise_that_is_heard_late_raises_the_epoch_again() {
    let (mut stage, copy) = moved_on(1);
    stage.begin_again(copy);
    stage.report(1).promised = Epoch(9);
    stage.heal(&[1]);
    assert_eq!(stage.epoch(), Epoch(2));
    stage.heal(&[]);
    assert!(stage.epoch() > Epoch(9) || stage.set(0).phase == Phase::Stable);
    stage.pass(2_000, &[]);
    stage.heal(&[]);
    assert_eq!(stage.epoch(), Epoch(10));
}

#[test]
fn what_a_survivor_stored_is_replayed_to_the_end() {
    let state = State::first("test".to_owned(), 1, vec![me()]);
    let mut stored = Stored::bootstrap(vec![1], 1, crate::codec::encode_state(&state));
    let put = |id: u64| Coordinator {
        id,
        address: format!("b{id}:1"),
        ..me()
    };
    for (index, id) in [(2, 2), (4, 3)] {
        let value = RecordValue::Coordinator(put(id));
        let change = Change::put(Revision::ZERO, value);
        let command = Command::new(format!("r{index}"), vec![change], Vec::new());
        let entry = |index, data| vt_proto::wire::RaftEntry {
            index,
            term: 1,
            data,
            ..Default::default()
        };
        stored
            .entries
            .push(entry(index, crate::codec::encode_command(&command)));
        stored.entries.push(entry(index + 1, Vec::new()));
    }
    let replayed = replayed(&stored).unwrap();
    assert_eq!(replayed.applied, 5);
    assert_eq!(replayed.coordinators.len(), 3);
}
