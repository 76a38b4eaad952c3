//! An explanation for people: short paragraphs, one question each.

use super::{Change, Outcome, Step, Why};
use crate::output::{duration_text, or_dash, table};

/// What somebody saw is cut to so many characters: sets of transactions are long. JSON has it whole.
const SEEN_CHARACTERS_MAX: usize = 200;

impl Why {
    /// What happened, who saw what, how long it took, what was decided, who waits.
    pub fn text(&self) -> String {
        let mut parts = vec![self.head()];
        parts.extend(self.note.clone());
        if let Some(change) = &self.change {
            parts.push(change.head());
            parts.push(change.seen_text());
            parts.push(change.phases_text());
            parts.push(format!("decided\n{}", steps(&change.decided)));
            if !change.later.is_empty() {
                parts.push(change.later_text());
            }
        }
        parts.push(self.now_text());
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }

    fn head(&self) -> String {
        let serving = match self.serving {
            true => "open for writes",
            false => "not open for writes",
        };
        let primary = or_dash(self.primary.as_ref());
        format!(
            "{}: epoch {}, {}, primary {primary}, {serving}",
            self.replica_set, self.epoch, self.phase
        )
    }

    fn now_text(&self) -> String {
        if self.now.is_empty() {
            return "now\n  nobody waits for anything".to_owned();
        }
        let lines = self.now.iter();
        let lines = lines.map(|waiting| format!("\n  {}: {}", waiting.who, waiting.why));
        format!("now{}", lines.collect::<String>())
    }
}

impl Change {
    fn head(&self) -> String {
        let epoch = self
            .epoch
            .map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        let way = match (&self.from, &self.to) {
            (Some(from), Some(to)) if from != to => format!(" from {from} to {to}"),
            (Some(from), None) => format!(" from {from}"),
            (_, Some(to)) => format!(" to {to}"),
            (None, None) => String::new(),
        };
        let outcome = match self.outcome {
            Outcome::Open => format!("open after {}", duration_text(self.total_ms)),
            Outcome::TakenBack => format!("taken back after {}", duration_text(self.total_ms)),
            Outcome::Overtaken => "overtaken by another change".to_owned(),
            Outcome::UnderWay => "under way".to_owned(),
        };
        let because = &self.because;
        format!("{}{epoch}{way}: {outcome}\n  {because}", self.kind)
    }

    fn seen_text(&self) -> String {
        if self.seen.is_empty() {
            return String::new();
        }
        let lines = self.seen.iter().map(|seen| {
            let mut value: String = seen.value.chars().take(SEEN_CHARACTERS_MAX).collect();
            if value.len() < seen.value.len() {
                value.push('…');
            }
            format!("\n  {}: {value}", seen.name)
        });
        format!("seen{}", lines.collect::<String>())
    }

    fn phases_text(&self) -> String {
        if self.phases.is_empty() {
            return String::new();
        }
        let rows = self.phases.iter().map(|phase| {
            [
                format!("  {}", phase.name),
                duration_text(phase.ms),
                phase.what.to_owned(),
            ]
        });
        let measured: u64 = self.phases.iter().map(|phase| phase.ms).sum();
        let rest = (self.outcome == Outcome::Open).then(|| self.total_ms.checked_sub(measured));
        let rest = rest.flatten().map(|rest| {
            let what = "commits, and what nobody measured";
            ["  rest".to_owned(), duration_text(rest), what.to_owned()]
        });
        table(["how long", "", ""], rows.chain(rest))
    }

    fn later_text(&self) -> String {
        let more = match self.later_left_out {
            0 => String::new(),
            more => format!("\n  and {more} more, see `vtctl events`"),
        };
        format!("since then\n{}{more}", steps(&self.later))
    }
}

fn steps(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let after = duration_text(step.after_ms);
        format!(
            "  {}  +{after:8} {}: {}",
            step.time, step.kind, step.message
        )
    };
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}
