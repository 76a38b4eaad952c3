//! Linearizability of the coordinators' records: whether one order of all operations, each between its call and its answer,
//! explains what every client saw. Wing and Gong's search with Lowe's memory of what was tried, one partition of records at a time.
//!
//! Records that an operation touches together are checked together, so that a batch that was half applied shows. An operation
//! without an answer may have happened at any time after its call, or never. Never looks at the code under test: it reads histories,
//! of simulated groups and of real ones.

use std::{collections::BTreeMap, fmt};

mod history;
mod model;
mod search;

pub use history::{Answer, Call, Change, History, Operation, OperationId};

use model::Step;
use search::{Furthest, Searched};

/// States that the search may remember for one partition before it gives up: some seconds and some hundred megabytes.
pub const STATES_MAX: usize = 2_000_000;
/// Operations that an explanation shows on either side of the place where no order goes on.
const EXPLAINED_MAX: usize = 12;

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No order explains it.
    NotLinearizable(String),
    /// The search was given up: nothing is known, which is as bad.
    Undecided(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotLinearizable(why) => write!(f, "not linearizable: {why}"),
            Failure::Undecided(why) => write!(f, "undecided: {why}"),
        }
    }
}

/// Whether the history is linearizable, every partition of it; the first that is not explains why.
pub fn check(history: &History) -> Result<(), Failure> {
    check_within(history, STATES_MAX)
}

/// The same with another bound on the states that are remembered for one partition.
pub fn check_within(history: &History, states_max: usize) -> Result<(), Failure> {
    for partition in partitions(history) {
        let names = records_of(&partition);
        let steps = partition.iter().map(|o| Step::of(o, &names));
        let steps = model::put_together(steps.collect());
        match search::search(&steps, names.len(), states_max) {
            Searched::Found => {}
            Searched::GaveUp => {
                return Err(Failure::Undecided(format!(
                    "{} operations on {} have more than {states_max} states; last: {}",
                    partition.len(),
                    names.join(", "),
                    partition.last().map(|o| o.to_string()).unwrap_or_default()
                )));
            }
            Searched::None(_) => return Err(explain(&partition, states_max)),
        }
    }
    Ok(())
}

/// The operations that matter, by groups of records that are touched together, in order of their calls.
fn partitions(history: &History) -> Vec<Vec<&Operation>> {
    let mut group_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let operations = || history.operations().iter().filter(|o| o.matters());
    for operation in operations() {
        let records = operation.call.records();
        let mut known: Vec<usize> = records
            .iter()
            .filter_map(|r| group_of.get(r))
            .copied()
            .collect();
        known.sort_unstable();
        known.dedup();
        let mut all: Vec<&str> = records;
        for group in &known {
            all.append(&mut groups[*group]);
        }
        all.sort_unstable();
        all.dedup();
        let home = known.first().copied().unwrap_or(groups.len());
        if home == groups.len() {
            groups.push(Vec::new());
        }
        group_of.extend(all.iter().map(|record| (*record, home)));
        groups[home] = all;
    }
    let mut parts = vec![Vec::new(); groups.len()];
    for operation in operations() {
        let first = operation
            .call
            .records()
            .first()
            .and_then(|r| group_of.get(r));
        if let Some(group) = first {
            parts[*group].push(operation);
        }
    }
    for part in &mut parts {
        part.sort_by_key(|o| o.called);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn records_of<'a>(partition: &[&'a Operation]) -> Vec<&'a str> {
    let mut records: Vec<&str> = partition.iter().flat_map(|o| o.call.records()).collect();
    records.sort_unstable();
    records.dedup();
    records
}

/// The partition as it was known when `answers` of its operations had been answered: what was open then is open here.
fn prefix<'a>(partition: &[&'a Operation], names: &[&str], answers: usize) -> Vec<Step<'a>> {
    let mut times: Vec<u64> = partition.iter().filter_map(|o| o.answered()).collect();
    times.sort_unstable();
    let end = times
        .get(answers.saturating_sub(1))
        .copied()
        .unwrap_or(u64::MAX);
    let begun = partition.iter().filter(|o| o.called <= end);
    let steps = begun.filter_map(|o| match o.answered() {
        Some(at) if at <= end => Some(Step::of(o, names)),
        _ => Step::open(o, names),
    });
    model::put_together(steps.collect())
}

/// Finds the answer at which it became impossible (no earlier prefix is impossible) and tells how far an order gets.
fn explain(partition: &[&Operation], states_max: usize) -> Failure {
    let names = records_of(partition);
    let total = partition.iter().filter(|o| o.answered().is_some()).count();
    let (mut possible, mut impossible) = (0, total);
    while possible + 1 < impossible {
        let middle = possible.midpoint(impossible);
        match search::search(&prefix(partition, &names, middle), names.len(), states_max) {
            Searched::None(_) => impossible = middle,
            Searched::Found | Searched::GaveUp => possible = middle,
        }
    }
    let steps = prefix(partition, &names, impossible);
    let Searched::None(furthest) = search::search(&steps, names.len(), states_max) else {
        return Failure::NotLinearizable(
            "an order fails that could not be made shorter".to_owned(),
        );
    };
    Failure::NotLinearizable(tell(&names, &steps, &furthest))
}

fn tell(names: &[&str], steps: &[Step<'_>], furthest: &Furthest<'_>) -> String {
    let answered = |o: &&Operation| o.answered().unwrap_or(u64::MAX);
    let known = steps
        .iter()
        .filter(|s| s.is_answered())
        .map(|s| s.operation);
    let last = known.max_by_key(answered);
    let mut lines = vec![format!(
        "records {}: no order of the first {} operations explains the answer of\n    {}",
        names.join(", "),
        steps.len(),
        last.map(|o| o.to_string()).unwrap_or_default()
    )];
    lines.push("  the order that gets furthest ends with".to_owned());
    let shown = furthest.order.len().saturating_sub(EXPLAINED_MAX);
    let order = furthest.order[shown..].iter();
    lines.extend(order.map(|at| format!("    {}", steps[*at].operation)));
    lines.push(format!("  which leaves {}", furthest.state.tell(names)));
    lines.push("  and none of these can be next".to_owned());
    let rest = (0..steps.len()).filter(|at| !furthest.order.contains(at));
    let rest = rest.filter(|at| steps[*at].is_answered());
    let rest = rest.take(EXPLAINED_MAX);
    lines.extend(rest.map(|at| format!("    {}", steps[at].operation)));
    lines.join("\n")
}

#[cfg(test)]
mod tests;
