//! What revisions must keep although no order is searched: they are places in one log, so that true time and they agree.
//! Sees whole histories, over all records at once.

use std::collections::BTreeMap;

use super::Violation;

/// When something was asked and answered, and the place in the log from which it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub called: u64,
    pub answered: u64,
    /// The revision of a write, the applied index of a linearizable read.
    pub index: u64,
    pub is_write: bool,
}

/// Every write has a revision of its own; whatever begins after an answer stands behind it in the log.
pub fn check(all: &[Seen]) -> Result<(), Violation> {
    let mut by_revision = BTreeMap::new();
    for seen in all.iter().filter(|seen| seen.is_write) {
        if let Some(other) = by_revision.insert(seen.index, seen) {
            return Err(format!(
                "revision {} was given to two writes, asked at {} and at {}",
                seen.index, other.called, seen.called
            ));
        }
    }
    let mut answers: Vec<&Seen> = all.iter().collect();
    answers.sort_by_key(|seen| seen.answered);
    let mut calls: Vec<&Seen> = all.iter().collect();
    calls.sort_by_key(|seen| seen.called);
    let mut answered = answers.into_iter().peekable();
    let mut highest: Option<&Seen> = None;
    for seen in calls {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered < seen.called) {
            if highest.is_none_or(|highest| earlier.index > highest.index) {
                highest = Some(earlier);
            }
        }
        let Some(before) = highest else { continue };
        let too_low = seen.index < before.index || (seen.is_write && seen.index == before.index);
        if too_low {
            return Err(format!(
                "a {} asked at {} stands at {} in the log; one at {} had been answered at {} already",
                if seen.is_write { "write" } else { "read" },
                seen.called,
                seen.index,
                before.index,
                before.answered
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_log_follow_true_time() {
        let write = |called, answered, index| Seen {
            called,
            answered,
            index,
            is_write: true,
        };
        let read = |called, answered, index| Seen {
            called,
            answered,
            index,
            is_write: false,
        };
        for (what, history, right) in [
            (
                "in order",
                vec![write(0, 1, 3), read(2, 3, 3), write(4, 5, 4)],
                true,
            ),
            (
                "at once, in any order",
                vec![write(0, 9, 4), write(1, 8, 3), read(2, 7, 2)],
                true,
            ),
            (
                "one revision twice",
                vec![write(0, 9, 3), write(1, 8, 3)],
                false,
            ),
            (
                "a read goes back",
                vec![read(0, 1, 5), read(2, 3, 4)],
                false,
            ),
            (
                "a read misses a write",
                vec![write(0, 1, 5), read(2, 3, 4)],
                false,
            ),
            (
                "a write at a place that was read",
                vec![read(0, 1, 5), write(2, 3, 5)],
                false,
            ),
            (
                "a write goes back",
                vec![write(0, 1, 5), write(2, 3, 4)],
                false,
            ),
        ] {
            assert_eq!(check(&history).is_ok(), right, "{what}");
        }
    }
}
