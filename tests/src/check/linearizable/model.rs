//! The sequential meaning of the records: what one operation, alone, does and says. Never knows of time.

use std::{collections::BTreeMap, fmt};

use super::history::{Answer, Call, Change, Operation};

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
    fn changed(&self, change: &'a Change, at: Option<u64>) -> Option<Self> {
        let floor = self.floor();
        match (&change.value, at) {
            (_, Some(revision)) if revision <= floor => None,
            (Some(value), Some(revision)) => Some(Record::At { revision, value }),
            (Some(value), None) => Some(Record::After { floor, value }),
            (None, Some(floor)) => Some(Record::Absent { floor }),
            (None, None) => Some(Record::Absent { floor: floor + 1 }),
        }
    }
}

/// All records of a partition that were ever written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State<'a>(BTreeMap<&'a str, Record<'a>>);

impl<'a> State<'a> {
    fn record(&self, name: &str) -> Record<'a> {
        let absent = Record::Absent { floor: 0 };
        self.0.get(name).cloned().unwrap_or(absent)
    }

    fn set(&mut self, name: &'a str, record: Record<'a>) {
        if record != (Record::Absent { floor: 0 }) {
            self.0.insert(name, record);
        }
    }
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "no record");
        }
        for (at, (name, record)) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match record {
                Record::Absent { .. } => write!(f, "{comma}{name} absent")?,
                Record::At { revision, value } => {
                    write!(f, "{comma}{name} = {value} at {revision}")?
                }
                Record::After { floor, value } => {
                    write!(f, "{comma}{name} = {value} after {floor}")?;
                }
            }
        }
        Ok(())
    }
}

/// An operation as the search places it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) operation: &'a Operation,
    /// Its answer counts. Otherwise it is a write that may have happened.
    answered: bool,
}

impl<'a> Step<'a> {
    pub(super) fn of(operation: &'a Operation) -> Self {
        Self {
            operation,
            answered: operation.answered().is_some(),
        }
    }

    /// The operation as if it had not been answered; nothing if it does not matter then.
    pub(super) fn open(operation: &'a Operation) -> Option<Self> {
        let write = matches!(operation.call, Call::Write { .. });
        write.then_some(Self {
            operation,
            answered: false,
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
            (Call::Read { records }, Some(Answer::Read { found })) => {
                let mut after = state.clone();
                for (name, found) in records.iter().zip(found) {
                    after.set(name, after.record(name).read(found.as_ref())?);
                }
                Some(after)
            }
            (Call::Write { changes }, Some(Answer::Written { revision })) => {
                write(state, changes, Some(*revision))
            }
            (Call::Write { changes }, None) => write(state, changes, None),
            (Call::Write { changes }, Some(Answer::Conflict { record, found })) => {
                let change = changes.iter().find(|c| c.record == *record)?;
                if change.expected == *found {
                    return None;
                }
                let mut after = state.clone();
                after.set(&change.record, after.record(record).seen_at(*found)?);
                Some(after)
            }
            _ => None,
        }
    }
}

fn write<'a>(state: &State<'a>, changes: &'a [Change], at: Option<u64>) -> Option<State<'a>> {
    // Most writes that may have happened cannot come next: tell it before anything is copied.
    let fits = |change: &Change| {
        let record = state.0.get(change.record.as_str());
        let seen = record.map(|record| record.seen_at(change.expected).is_some());
        seen.unwrap_or(change.expected == 0)
    };
    if !changes.iter().all(fits) {
        return None;
    }
    let mut after = state.clone();
    for change in changes {
        let before = after.record(&change.record).seen_at(change.expected)?;
        after.set(&change.record, before.changed(change, at)?);
    }
    Some(after)
}
