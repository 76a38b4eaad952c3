//! The phases of a replica set and the only ways between them, each with the reason why. Documentation is drawn from it.

use std::fmt;

use vt_proto::topology::Phase;

/// A phase without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhaseName {
    Forming,
    Stable,
    Switching,
    Revoking,
    Establishing,
}

impl PhaseName {
    /// All of them.
    pub const ALL: [PhaseName; 5] = [
        PhaseName::Forming,
        PhaseName::Stable,
        PhaseName::Switching,
        PhaseName::Revoking,
        PhaseName::Establishing,
    ];

    /// The name of this phase.
    pub fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Forming => PhaseName::Forming,
            Phase::Stable => PhaseName::Stable,
            Phase::Switching { .. } => PhaseName::Switching,
            Phase::Revoking { .. } => PhaseName::Revoking,
            Phase::Establishing => PhaseName::Establishing,
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What makes a replica set change its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Enough tablets run and their data are in one line.
    TabletsGathered,
    /// The primary is dead, and enough ackers answer to find every acknowledged write.
    PrimaryDead,
    /// The primary's mysqld exited, its agent answers, and too few ackers answer for a failover.
    PrimaryExitedAlone,
    /// A replica replicates and is level with the primary.
    ReplicaCaughtUp,
    /// An acker was lost for a while, and enough others acknowledge.
    AckerLost,
    /// The lost acker, or the primary that locks it out, has proven that it acknowledges nothing any more.
    AckerSilent,
    /// A row that was written after that proof is acknowledged.
    AckerReplaced,
    /// The others are too few now, or the proof takes too long.
    AckerNeeded,
    /// More acknowledgements are asked for, and as many ackers replicate.
    AcksOrdered,
    /// A row that was written under that order is acknowledged by so many.
    AcksConfirmed,
    /// It was not in time.
    AcksGivenUp,
    /// One that was locked out has stopped by an order on its disk.
    ReplicaReadmitted,
    /// An operator asks for another primary.
    SwitchoverAsked,
    /// The primary's disk is full or fails, and its writes still return.
    DiskFailing,
    /// The primary's writes hang for long although its disk is well.
    PrimarySaturated,
    /// The primary's host is drained, or its mysqld is about to be stopped, and another tablet is fit.
    PrimaryDrained,
    /// The candidate has applied almost all, or has had its time.
    CandidateNear,
    /// The primary is read-only and the candidate has everything.
    PrimaryDemoted,
    /// The primary or the candidate did not get ready in time.
    SwitchoverFailed,
    /// Too few ackers have intact data, and the former primary is down behind its fence.
    DataMissing,
    /// Nobody can acknowledge the old epoch, every acknowledged write is found, and a candidate has applied them all.
    CandidateDrained,
    /// The new primary is open: its first own row is acknowledged.
    PrimaryOpen,
    /// The coordinators began again from a copy, and a tablet has promised an epoch that may come after the record's.
    PromiseAhead,
}

/// One way from a phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub from: PhaseName,
    pub trigger: Trigger,
    pub to: PhaseName,
    pub epoch: EpochChange,
    /// Why this step is safe and needed, in one sentence.
    pub why: &'static str,
}

/// What the step does to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochChange {
    Same,
    Next,
}

const fn row(
    from: PhaseName,
    trigger: Trigger,
    to: PhaseName,
    epoch: EpochChange,
    why: &'static str,
) -> Row {
    Row {
        from,
        trigger,
        to,
        epoch,
        why,
    }
}

use EpochChange::{Next, Same};
use PhaseName::{Establishing, Forming, Revoking, Stable, Switching};

/// Every way there is. What is not here does not happen.
pub const TABLE: &[Row] = &[
    row(
        Forming,
        Trigger::TabletsGathered,
        Establishing,
        Next,
        "No primary was ever open in this record, so there is nothing to revoke; the largest of sets in one line has everything.",
    ),
    row(
        Stable,
        Trigger::PrimaryDead,
        Revoking,
        Next,
        "From this commit on the old epoch can never be stable again; enough ackers answer to finish what it begins.",
    ),
    row(
        Stable,
        Trigger::PrimaryExitedAlone,
        Stable,
        Same,
        "Without enough ackers only the primary's own data are known to have every acknowledged write, so it may start again, and opens when k ackers hold all of it.",
    ),
    row(
        Stable,
        Trigger::ReplicaCaughtUp,
        Stable,
        Same,
        "It is recorded as acker before it may acknowledge, so the record is never stronger than the truth.",
    ),
    row(
        Stable,
        Trigger::AckerLost,
        Stable,
        Same,
        "Only an order is given: it stops to acknowledge, or the primary locks it out, and it counts as acker until nothing depends on it.",
    ),
    row(
        Stable,
        Trigger::AckerSilent,
        Stable,
        Same,
        "Its thread is stopped under an order on its disk, or the primary has locked its account and has no connection of it; from this commit on a new row of the primary is acknowledged by others alone.",
    ),
    row(
        Stable,
        Trigger::AckerReplaced,
        Stable,
        Same,
        "The row comes after everything that it ever acknowledged, so that k of the others have all of that.",
    ),
    row(
        Stable,
        Trigger::AckerNeeded,
        Stable,
        Same,
        "It counted as acker all the time, so it may acknowledge again.",
    ),
    row(
        Stable,
        Trigger::AcksOrdered,
        Stable,
        Same,
        "The primary waits for more than the record says, so the record is the weaker one.",
    ),
    row(
        Stable,
        Trigger::AcksConfirmed,
        Stable,
        Same,
        "Whoever acknowledged the row has everything before it, so that so many have every acknowledged write.",
    ),
    row(
        Stable,
        Trigger::AcksGivenUp,
        Stable,
        Same,
        "The record never said more than it says now; the primary goes back to it.",
    ),
    row(
        Stable,
        Trigger::ReplicaReadmitted,
        Stable,
        Same,
        "Its thread is stopped under an order on its disk and starts again only without acknowledging, until it is recorded.",
    ),
    row(
        Stable,
        Trigger::SwitchoverAsked,
        Switching,
        Same,
        "The primary stays primary until it says that it is read-only, so the step can be taken back.",
    ),
    row(
        Stable,
        Trigger::DiskFailing,
        Switching,
        Same,
        "Its writes will hang soon, and then nothing can be handed over any more; until it is read-only the step can be taken back.",
    ),
    row(
        Stable,
        Trigger::PrimarySaturated,
        Switching,
        Same,
        "Nobody can write to it anyway; until it is read-only the step can be taken back.",
    ),
    row(
        Stable,
        Trigger::PrimaryDrained,
        Switching,
        Same,
        "It is a switchover that nobody has to ask for: until the primary is read-only the step can be taken back.",
    ),
    row(
        Switching,
        Trigger::CandidateNear,
        Switching,
        Same,
        "What the candidate has not applied, and the binary log that it begins for its replicas, would keep writers waiting: so they are slowed until little of it is left, and then held.",
    ),
    row(
        Switching,
        Trigger::PrimaryDemoted,
        Establishing,
        Next,
        "The old primary is read-only and will not reopen without a newer desired state, so its final set is where the new epoch begins.",
    ),
    row(
        Switching,
        Trigger::SwitchoverFailed,
        Stable,
        Same,
        "Nothing was given up yet: the old primary reopens in its epoch and nobody waits longer than the limit.",
    ),
    row(
        Switching,
        Trigger::PrimaryDead,
        Revoking,
        Next,
        "The primary died while it was to hand over: its acknowledged writes are found as after any other death.",
    ),
    row(
        Revoking,
        Trigger::DataMissing,
        Revoking,
        Same,
        "The former primary has every write that it acknowledged, so it starts closed, behind its promise, to be read.",
    ),
    row(
        Revoking,
        Trigger::CandidateDrained,
        Establishing,
        Same,
        "The old epoch can get no acknowledgement any more and the candidate has applied everything that ever got one.",
    ),
    row(
        Establishing,
        Trigger::PrimaryOpen,
        Stable,
        Same,
        "Its first row of the epoch is acknowledged, so everything before is on enough ackers too.",
    ),
    row(
        Establishing,
        Trigger::PrimaryDead,
        Revoking,
        Next,
        "It may have been open for a moment, so the epoch is revoked like any other and another one begins.",
    ),
    row(
        Establishing,
        Trigger::PrimaryExitedAlone,
        Establishing,
        Same,
        "Too few ackers have the start of the epoch, so the chosen primary starts again in place.",
    ),
    row(
        Establishing,
        Trigger::ReplicaCaughtUp,
        Establishing,
        Same,
        "The chosen ackers may be gone for good; one more that is level with the primary lets it open.",
    ),
    row(
        Stable,
        Trigger::PromiseAhead,
        Revoking,
        Next,
        "A tablet takes no orders below its promise, so the epoch goes above it, and the primary is revoked like a dead one.",
    ),
    row(
        Switching,
        Trigger::PromiseAhead,
        Revoking,
        Next,
        "Nothing was given up yet: the primary is revoked like a dead one, in an epoch above every promise.",
    ),
    row(
        Establishing,
        Trigger::PromiseAhead,
        Revoking,
        Next,
        "It may have been open for a moment, so it is revoked like any other, in an epoch above every promise.",
    ),
    row(
        Revoking,
        Trigger::PromiseAhead,
        Revoking,
        Next,
        "Answers count for the epoch that was asked for, so they are asked for again in one above every promise.",
    ),
];

/// The phase that follows; nothing if the table has no such row.
pub fn next(from: PhaseName, trigger: Trigger) -> Option<PhaseName> {
    TABLE
        .iter()
        .find(|row| row.from == from && row.trigger == trigger)
        .map(|row| row.to)
}

/// Whether some row leads from one phase to the other; used on what was committed.
pub fn leads(from: PhaseName, to: PhaseName, epoch_grew: bool) -> bool {
    let epoch = if epoch_grew { Next } else { Same };
    TABLE
        .iter()
        .any(|row| row.from == from && row.to == to && row.epoch == epoch)
}

/// The table for people, as Markdown with a diagram.
pub fn as_markdown() -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Forming\n");
    for row in TABLE {
        text.push_str(&format!(
            "    {} --> {}: {}\n",
            row.from,
            row.to,
            words(row.trigger)
        ));
    }
    text.push_str(
        "```\n\n| phase | what happened | next phase | epoch | why |\n|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let epoch = match row.epoch {
            Same => "same",
            Next => "next",
        };
        text.push_str(&format!(
            "| {} | {} | {} | {epoch} | {} |\n",
            row.from,
            words(row.trigger),
            row.to,
            row.why
        ));
    }
    text
}

/// `PrimaryDead` as `primary dead`.
pub fn words(trigger: Trigger) -> String {
    let mut text = String::new();
    for letter in format!("{trigger:?}").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_row_and_a_sentence() {
        for (index, row) in TABLE.iter().enumerate() {
            let same = |other: &&Row| other.from == row.from && other.trigger == row.trigger;
            assert_eq!(TABLE.iter().filter(same).count(), 1, "row {index}");
            assert!(row.why.ends_with('.'), "row {index} ends its sentence");
        }
    }

    #[test]
    fn only_new_epochs_leave_a_primary_behind() {
        for row in TABLE {
            if row.to == Revoking && row.from != Revoking {
                assert_eq!(row.epoch, Next, "revoking starts an epoch: {row:?}");
            }
        }
        assert_eq!(next(Revoking, Trigger::PrimaryDead), None);
        assert!(!leads(Revoking, Stable, false));
    }

    #[test]
    fn the_drawing_has_every_row() {
        let drawing = as_markdown();
        assert_eq!(
            drawing.lines().filter(|l| l.contains(" --> ")).count(),
            TABLE.len() + 1
        );
        assert!(drawing.contains("primary exited alone"));
    }
}
