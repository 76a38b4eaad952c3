//! The sequential meaning of the records: what one operation, alone, does and says. Never knows of time.

use std::collections::BTreeMap;

use super::history::{Answer, Call, Change, Operation};

/// What a record holds if nobody ever read it: such values are all the same to the search.
const NEVER_READ: &str = "something that nobody read";

/// One record. Revisions only grow: `floor` is one that a later revision exceeds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Record<'a> {
    Absent {
        floor: u64,
    },
    At {
        revision: u64,
        value: &'a str,
    },
    /// Left by a write without an answer: the first to see its revision tells it.
    After {
        floor: u64,
        value: &'a str,
    },
}

impl<'a> Record<'a> {
    fn floor(&self) -> u64 {
        match self {
            Record::Absent { floor } | Record::After { floor, .. } => *floor,
            Record::At { revision, .. } => *revision,
        }
    }

    /// The record as it must be if its revision is this (zero: it does not exist).
    fn seen_at(&self, found: u64) -> Option<Self> {
        match self {
            Record::Absent { .. } => (found == 0).then(|| self.clone()),
            Record::At { revision, .. } => (found == *revision).then(|| self.clone()),
            Record::After { floor, value } => (found > *floor).then_some(Record::At {
                revision: found,
                value,
            }),
        }
    }

    /// The record as it must be if a read finds this.
    fn read(&self, found: Option<&(u64, String)>) -> Option<Self> {
        let Some((revision, found)) = found else {
            return self.seen_at(0);
        };
        let seen = self.seen_at(*revision)?;
        match &seen {
            Record::At { value, .. } if value == found => Some(seen),
            _ => None,
        }
    }

    /// The record after a change at a revision that is known or not.
    fn changed(&self, value: Option<&'a str>, at: Option<u64>) -> Option<Self> {
        let floor = self.floor();
        match (value, at) {
            (_, Some(revision)) if revision <= floor => None,
            (Some(value), Some(revision)) => Some(Record::At { revision, value }),
            (Some(value), None) => Some(Record::After { floor, value }),
            (None, Some(floor)) => Some(Record::Absent { floor }),
            (None, None) => Some(Record::Absent { floor: floor + 1 }),
        }
    }
}

/// All records of a partition, by their places in the list of its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State<'a>(Vec<Record<'a>>);

impl State<'_> {
    /// None of so many records exists.
    pub(super) fn without(records: usize) -> Self {
        Self(vec![Record::Absent { floor: 0 }; records])
    }

    /// The state in words.
    pub(super) fn tell(&self, names: &[&str]) -> String {
        let records = names
            .iter()
            .zip(&self.0)
            .map(|(name, record)| match record {
                Record::Absent { .. } => format!("{name} absent"),
                Record::At { revision, value } => format!("{name} = {value} at {revision}"),
                Record::After { floor, value } => format!("{name} = {value} after {floor}"),
            });
        records.collect::<Vec<_>>().join(", ")
    }
}

/// An operation as the search places it.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub(super) operation: &'a Operation,
    /// The places of the records that it touches, in the order of its call.
    places: Vec<usize>,
    /// Its answer counts. Otherwise it is a write that may have happened.
    answered: bool,
    /// Where a write without an answer took effect, if it did: somebody found a value that is its own.
    found_at: Option<u64>,
    /// A write without an answer whose values nobody found.
    never_read: bool,
    /// An earlier step that can come wherever this one can, to the same effect: it is placed first, so that of many alike only
    /// their number matters.
    stand_in: Option<usize>,
}

impl<'a> Step<'a> {
    /// The operation with its answer, if it has one; `names` are the records of the partition, in order.
    pub(super) fn of(operation: &'a Operation, names: &[&str]) -> Self {
        let records = operation.call.records().into_iter();
        let places = records.filter_map(|record| names.binary_search(&record).ok());
        Self {
            operation,
            places: places.collect(),
            answered: operation.answered().is_some(),
            found_at: None,
            never_read: false,
            stand_in: None,
        }
    }

    /// The operation as if it had not been answered; nothing if it does not matter then.
    pub(super) fn open(operation: &'a Operation, names: &[&str]) -> Option<Self> {
        let write = matches!(operation.call, Call::Write { .. });
        write.then(|| Self {
            answered: false,
            ..Self::of(operation, names)
        })
    }

    /// Whether the state of the records alone tells if this can still come. So it is with a write without an answer that
    /// expects a revision: once it came, or another came in its place, no record has that revision again.
    pub(super) fn is_told_by_state(&self) -> bool {
        !self.answered && self.changes().iter().any(|change| change.expected != 0)
    }

    pub(super) fn stand_in(&self) -> Option<usize> {
        self.stand_in
    }

    fn changes(&self) -> &'a [Change] {
        match &self.operation.call {
            Call::Write { changes } => changes,
            Call::Read { .. } => &[],
        }
    }

    /// The values that it writes, with the places of their records.
    fn values(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let both = self.places.iter().zip(self.changes());
        both.filter_map(|(place, change)| Some((*place, change.value.as_deref()?)))
    }

    /// The values that it found, with the places of their records and their revisions.
    fn found(&self) -> impl Iterator<Item = ((usize, &'a str), u64)> {
        let found = match &self.operation.answer {
            Some((_, Answer::Read { found })) if self.answered => found.as_slice(),
            _ => &[],
        };
        let both = self.places.iter().zip(found);
        both.filter_map(|(place, found)| {
            let (revision, value) = found.as_ref()?;
            Some(((*place, value.as_str()), *revision))
        })
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn answered_at(&self) -> Option<u64> {
        self.answered.then(|| self.operation.answered()).flatten()
    }

    /// The state after this operation, if it can come next. One without an answer comes only if it changes something.
    pub(super) fn take(&self, state: &State<'a>) -> Option<State<'a>> {
        let answer = self.operation.answer.as_ref().map(|(_, answer)| answer);
        match (&self.operation.call, answer.filter(|_| self.answered)) {
            (Call::Read { .. }, Some(Answer::Read { found })) => {
                let mut after = state.clone();
                for (place, found) in self.places.iter().zip(found) {
                    after.0[*place] = after.0[*place].read(found.as_ref())?;
                }
                Some(after)
            }
            (Call::Write { changes }, Some(Answer::Written { revision })) => {
                self.write(state, changes, Some(*revision))
            }
            (Call::Write { changes }, None) => self.write(state, changes, self.found_at),
            (Call::Write { changes }, Some(Answer::Conflict { record, found })) => {
                let at = changes.iter().position(|c| c.record == *record)?;
                if changes[at].expected == *found {
                    return None;
                }
                let place = self.places[at];
                let seen = state.0[place].seen_at(*found)?;
                let mut after = state.clone();
                after.0[place] = seen;
                Some(after)
            }
            _ => None,
        }
    }

    fn write(
        &self,
        state: &State<'a>,
        changes: &'a [Change],
        at: Option<u64>,
    ) -> Option<State<'a>> {
        // Most writes that may have happened cannot come next: tell it before anything is copied.
        let mut both = changes.iter().zip(&self.places);
        if !both.all(|(change, place)| state.0[*place].seen_at(change.expected).is_some()) {
            return None;
        }
        let mut after = state.clone();
        for (change, place) in changes.iter().zip(&self.places) {
            let before = after.0[*place].seen_at(change.expected)?;
            let value = change.value.as_deref();
            let value = value.map(|value| if self.never_read { NEVER_READ } else { value });
            after.0[*place] = before.changed(value, at)?;
        }
        Some(after)
    }
}

/// What all operations together tell of the writes without answers, in order of their calls: where they took effect, if they
/// did, and which of them are alike. Without it the search would try every set of them.
pub(super) fn put_together(mut steps: Vec<Step<'_>>) -> Vec<Step<'_>> {
    let found: BTreeMap<(usize, &str), u64> = steps.iter().flat_map(Step::found).collect();
    let mut writers: BTreeMap<(usize, &str), u32> = BTreeMap::new();
    for value in steps.iter().flat_map(Step::values) {
        *writers.entry(value).or_default() += 1;
    }
    let mut last_alike: BTreeMap<Vec<(usize, u64, bool)>, usize> = BTreeMap::new();
    for (at, step) in steps.iter_mut().enumerate() {
        if step.answered {
            continue;
        }
        let values: Vec<_> = step.values().collect();
        let mut own = values.iter().filter(|value| writers[*value] == 1);
        step.found_at = own.find_map(|value| found.get(value)).copied();
        step.never_read = !values.iter().any(|value| found.contains_key(value));
        if step.never_read {
            let both = step.places.iter().zip(step.changes());
            let shape =
                both.map(|(place, change)| (*place, change.expected, change.value.is_some()));
            step.stand_in = last_alike.insert(shape.collect(), at);
        }
    }
    steps
}
