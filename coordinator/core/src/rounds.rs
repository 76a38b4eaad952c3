//! Which replica sets a tick looks at: those that time alone may change, and a slice of all the others.
//!
//! Reports and commits are answered where they come in; a tick is for silences and patience. It says whom to look at and
//! decides nothing.

use std::{collections::BTreeSet, ops::Bound};

use vt_proto::ids::ReplicaSetName;

/// Sets looked at by one tick because something of them waits: more than this at once is a failure of many, and then each is
/// looked at by every n-th tick.
pub const WATCHED_PER_TICK_MAX: usize = 512;
/// Within so many ticks every replica set is looked at, whatever is known of it.
pub const ROUND_TICKS: usize = 20;
/// And at least so many of them by each tick.
pub const SLICE_MIN: usize = 32;

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    watched: BTreeSet<ReplicaSetName>,
    /// Where the last ticks ended.
    watched_up_to: Option<ReplicaSetName>,
    all_up_to: Option<ReplicaSetName>,
}

impl Rounds {
    /// Looks at this set with the ticks, or only in its turn.
    pub fn watch(&mut self, set: &ReplicaSetName, is_watched: bool) {
        if !is_watched {
            self.watched.remove(set);
        } else if !self.watched.contains(set) {
            self.watched.insert(set.clone());
        }
    }

    /// Those that time alone may change.
    pub fn watched(&self) -> impl Iterator<Item = &ReplicaSetName> {
        self.watched.iter()
    }

    /// Whom this tick looks at; `all` is every replica set in order from a name on.
    pub fn turn<'a, I>(
        &mut self,
        count: usize,
        all: impl Fn(Bound<&ReplicaSetName>) -> I,
    ) -> BTreeSet<ReplicaSetName>
    where
        I: Iterator<Item = &'a ReplicaSetName>,
    {
        let watched = |from: Bound<&ReplicaSetName>| {
            self.watched
                .range::<ReplicaSetName, _>((from, Bound::Unbounded))
        };
        let mut turn = BTreeSet::new();
        let up_to = next(
            &mut turn,
            &self.watched_up_to,
            WATCHED_PER_TICK_MAX,
            watched,
        );
        self.watched_up_to = up_to;
        let slice = count.div_ceil(ROUND_TICKS).max(SLICE_MIN);
        self.all_up_to = next(&mut turn, &self.all_up_to, slice, all);
        turn
    }
}

/// Takes the next names after where the last turn ended, and from the start when the end is reached. Returns the last one.
fn next<'a, I>(
    turn: &mut BTreeSet<ReplicaSetName>,
    up_to: &Option<ReplicaSetName>,
    count: usize,
    names: impl Fn(Bound<&ReplicaSetName>) -> I,
) -> Option<ReplicaSetName>
where
    I: Iterator<Item = &'a ReplicaSetName>,
{
    let after = up_to.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let before = |name: &&ReplicaSetName| up_to.as_ref().is_some_and(|up_to| *name <= up_to);
    let round = names(after).chain(names(Bound::Unbounded).take_while(before));
    let mut last = None;
    for name in round.take(count) {
        turn.insert(name.clone());
        last = Some(name);
    }
    last.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ReplicaSetName {
        format!("rs-{number:04}").parse().unwrap()
    }

    fn turn(rounds: &mut Rounds, all: &BTreeSet<ReplicaSetName>) -> BTreeSet<ReplicaSetName> {
        rounds.turn(all.len(), |from| {
            all.range::<ReplicaSetName, _>((from, Bound::Unbounded))
        })
    }

    #[test]
    fn few_are_looked_at_by_every_tick_and_many_within_a_round() {
        for (count, ticks) in [
            (0, 1),
            (1, 1),
            (SLICE_MIN, 1),
            (100, 4),
            (3_000, ROUND_TICKS),
        ] {
            let all: BTreeSet<_> = (0..count).map(name).collect();
            let mut rounds = Rounds::default();
            for _ in 0..3 {
                let mut seen = BTreeSet::new();
                for _ in 0..ticks {
                    let turn = turn(&mut rounds, &all);
                    assert!(turn.len() <= count.div_ceil(ROUND_TICKS).max(SLICE_MIN));
                    seen.extend(turn);
                }
                assert_eq!(seen, all, "{count} sets");
            }
        }
    }

    #[test]
    fn what_is_watched_is_looked_at_at_once_also_when_it_is_much() {
        for (watched, ticks) in [(1, 1), (WATCHED_PER_TICK_MAX, 1), (3_000, 6)] {
            let all: BTreeSet<_> = (0..5_000).map(name).collect();
            let mut rounds = Rounds::default();
            for number in 0..watched {
                rounds.watch(&name(number), true);
            }
            let mut seen = BTreeSet::new();
            for _ in 0..ticks {
                let turn = turn(&mut rounds, &all);
                assert!(turn.len() <= WATCHED_PER_TICK_MAX + 5_000 / ROUND_TICKS);
                seen.extend(turn);
            }
            assert!(
                rounds.watched().all(|name| seen.contains(name)),
                "{watched}"
            );
            rounds.watch(&name(0), false);
            assert_eq!(rounds.watched().count(), watched - 1);
        }
    }
}
