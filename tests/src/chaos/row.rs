//! A row of the fault matrix, and all of them: see `rows`. It does nothing.

use super::{
    rows,
    step::{Step, Who},
};

/// Until the cluster is whole again after everything was healed.
const WHOLE_MS: u64 = 60_000;
/// No gap: what writers see of each other on a busy machine.
pub const UNNOTICED_MS: u64 = 200;
/// More epochs than any row makes, where their number does not matter.
const EPOCHS_ANY: u64 = 99;

/// What is done and what must hold. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Row {
    /// As in the list of scenarios; a letter where one scenario has several.
    pub number: &'static str,
    pub name: &'static str,
    /// What must hold, for people.
    pub expected: &'static str,
    pub steps: &'static [Step],
    /// The host of the coordinator that leads when it begins.
    pub leader: Who,
    /// Each is the [`Step::Swept`] of a trial; one trial if there are none.
    pub swept: &'static [u64],
    /// The fewest and the most new epochs.
    pub epochs: (u64, u64),
    /// The longest time between two writes, from the first step until it is healed.
    pub gap_ms: Option<u64>,
    pub whole_ms: u64,
    /// How often a soak draws it; 0: never.
    pub weight: u32,
    /// The bed is of no use after it.
    pub spoils_bed: bool,
    /// A soak plays nothing beside it.
    pub alone: bool,
    /// A soak plays it no second time.
    pub once: bool,
}

/// A row in which nothing may move and nobody may notice, unless it says otherwise.
pub const fn row(
    number: &'static str,
    name: &'static str,
    expected: &'static str,
    steps: &'static [Step],
) -> Row {
    Row {
        number,
        name,
        expected,
        steps,
        leader: Who::First,
        swept: &[],
        epochs: (0, 0),
        gap_ms: Some(UNNOTICED_MS),
        whole_ms: WHOLE_MS,
        weight: 1,
        spoils_bed: false,
        alone: false,
        once: false,
    }
}

impl Row {
    /// Another primary within so long.
    pub const fn moves(mut self, gap_ms: u64) -> Self {
        self.epochs = (1, 1);
        self.gap_ms = Some(gap_ms);
        self
    }

    pub const fn epochs(mut self, fewest: u64, most: u64) -> Self {
        self.epochs = (fewest, most);
        self
    }

    /// Whoever serves afterwards.
    pub const fn any_epochs(mut self) -> Self {
        self.epochs = (0, EPOCHS_ANY);
        self
    }

    pub const fn gap(mut self, gap_ms: u64) -> Self {
        self.gap_ms = Some(gap_ms);
        self
    }

    /// Writes stop until somebody helps.
    pub const fn any_gap(mut self) -> Self {
        self.gap_ms = None;
        self
    }

    pub const fn leader(mut self, leader: Who) -> Self {
        self.leader = leader;
        self
    }

    pub const fn swept(mut self, swept: &'static [u64]) -> Self {
        self.swept = swept;
        self
    }

    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    pub const fn spoils_bed(mut self) -> Self {
        self.spoils_bed = true;
        self
    }

    pub const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Whether it is asked for by this number, with or without its letter, or by its name.
    pub fn is_called(&self, word: &str) -> bool {
        let letter = |rest: &str| rest.chars().all(|it| it.is_ascii_lowercase());
        let by_number = self.number.strip_prefix(word).is_some_and(letter);
        by_number || self.name == word
    }
}

/// All rows that are played, in order.
pub fn all() -> Vec<&'static Row> {
    let mut all: Vec<_> = rows::ALL.iter().copied().flatten().collect();
    let number = |row: &&Row| {
        let digits = row
            .number
            .trim_end_matches(|it: char| it.is_ascii_lowercase());
        digits.parse::<u32>().unwrap_or(u32::MAX)
    };
    all.sort_by_key(|row| (number(row), row.number));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_played_or_out_and_says_what_it_is() {
        let all = all();
        let numbers: Vec<_> = all.iter().map(|row| row.number).collect();
        let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
        assert_eq!(distinct.len(), numbers.len(), "{numbers:?}");
        for number in 1..=rows::SCENARIOS {
            let number = number.to_string();
            let is_played = all.iter().any(|row| row.is_called(&number));
            let is_out = rows::OUT.iter().any(|(out, _)| *out == number);
            assert!(is_played != is_out, "scenario {number}");
        }
        for (number, _) in rows::KNOWN {
            assert!(numbers.contains(number), "{number} is no row");
        }
        for row in all {
            let swept = row.steps.contains(&Step::Swept);
            assert_eq!(swept, !row.swept.is_empty(), "row {}", row.number);
            assert!(row.steps.iter().any(|step| !step.is_expectation()));
        }
    }

    #[test]
    fn rows_are_called_by_number_and_name() {
        let some = row("4b", "host-frozen", "", &[]);
        for (word, called) in [
            ("4", true),
            ("4b", true),
            ("4a", false),
            ("host-frozen", true),
        ] {
            assert_eq!(some.is_called(word), called, "{word}");
        }
        assert!(!row("43", "", "", &[]).is_called("4"));
    }
}
