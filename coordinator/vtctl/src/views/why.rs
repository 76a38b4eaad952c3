//! Why a replica set is as it is: the last change of its primary, or that of an epoch, told from the events of the audit and from what
//! is known now. A pure function of both.

use serde::Serialize;
use vt_proto::wire;

use super::{
    event::{Event, Evidence},
    replica_set::ReplicaSet,
};

mod text;

/// Events after a change that are told with it; more are for `vtctl events`.
const LATER_EVENTS_MAX: usize = 8;
/// What begins a change.
const BEGINNINGS: [&str; 7] = [
    "failover.form",
    "failover.revoke",
    "failover.raise",
    "switchover.asked",
    "switchover.disk",
    "switchover.load",
    "switchover.drain",
];
/// What ends it.
const OPEN: &str = "failover.open";
const TAKEN_BACK: &str = "switchover.taken_back";
/// What is measured, by the name in the evidence, in the order in which it happens; and what people call it.
const PHASES: [(&str, &str, &str); 6] = [
    (
        "detect_ms",
        "detect",
        "first sign of trouble until the decision",
    ),
    (
        "switching_ms",
        "switch",
        "until the old primary was closed and the new one had everything",
    ),
    (
        "promise_ms",
        "promise",
        "until enough had stopped to follow it to know every acknowledged write",
    ),
    (
        "drain_ms",
        "drain",
        "until the new primary had applied what it had received",
    ),
    // Before it was told in two parts.
    ("revoking_ms", "revoke", "promise and drain together"),
    (
        "establishing_ms",
        "open",
        "until the first row of the new epoch was acknowledged",
    ),
];
/// Evidence that is told elsewhere.
const TOLD_ELSEWHERE: [&str; 5] = [
    "step",
    "trigger",
    "epoch",
    "primary_before",
    "primary_after",
];

/// An explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    pub replica_set: String,
    pub epoch: u64,
    pub phase: &'static str,
    pub primary: Option<String>,
    pub serving: bool,
    /// Unset where no event tells of one.
    pub change: Option<Change>,
    /// Why there is nothing, or not everything, to tell.
    pub note: Option<String>,
    pub now: Vec<Waiting>,
}

/// One change of the primary, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// "first primary", "failover", "switchover" or "restored".
    pub kind: &'static str,
    pub outcome: Outcome,
    /// The epoch that it begins, or, taken back, in which it was tried.
    pub epoch: Option<u64>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub because: String,
    /// Who saw what.
    pub seen: Vec<Evidence>,
    pub phases: Vec<Phase>,
    /// From the first sign of trouble to the end, or to the newest event.
    pub total_ms: u64,
    pub decided: Vec<Step>,
    pub later: Vec<Step>,
    /// Later events that are not told.
    pub later_left_out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Open,
    TakenBack,
    /// Another change began before this one was over.
    Overtaken,
    UnderWay,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    pub name: &'static str,
    pub ms: u64,
    pub what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub sequence: u64,
    pub time: String,
    /// Since the first decision.
    pub after_ms: u64,
    pub kind: String,
    pub message: String,
}

/// What does not get on, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub who: String,
    pub why: String,
}

/// Events that belong together.
struct Story<'a> {
    events: Vec<&'a wire::EventView>,
    /// Whether its first event is known.
    has_beginning: bool,
    overtaken: bool,
}

/// Explains the last change, or the one that began `epoch`. `events` are those of this replica set, oldest first; `oldest` is the number
/// of the oldest event that is kept of anything.
pub fn explain(
    set: &ReplicaSet,
    events: &[wire::EventView],
    oldest: u64,
    epoch: Option<u64>,
) -> Why {
    let stories = stories(events);
    let story = match epoch {
        None => stories.last(),
        Some(epoch) => begun(&stories, epoch),
    };
    let change = story.map(|story| change(set, story, events));
    let is_cut = story.is_none_or(|story| !story.has_beginning);
    Why {
        replica_set: set.name.clone(),
        epoch: set.epoch,
        phase: set.phase,
        primary: set.primary.clone(),
        serving: set.serving,
        note: is_cut.then(|| note(set, epoch, oldest, story.is_some())),
        change,
        now: waiting(set),
    }
}

/// The change that began an epoch, else the last that was tried in it.
fn begun<'a, 'b>(stories: &'b [Story<'a>], epoch: u64) -> Option<&'b Story<'a>> {
    let of_epoch = || stories.iter().rev().filter(|it| it.epoch() == Some(epoch));
    let taken_back = |it: &&Story<'_>| it.outcome() == Outcome::TakenBack;
    of_epoch()
        .find(|it| !taken_back(it))
        .or_else(|| of_epoch().next())
}

fn stories(events: &[wire::EventView]) -> Vec<Story<'_>> {
    let mut stories: Vec<Story<'_>> = Vec::new();
    let mut is_under_way = false;
    for event in events {
        let kind = kind(event);
        // A revocation goes on in a higher epoch where somebody promised one.
        let goes_on = is_under_way && kind == "failover.raise";
        if BEGINNINGS.contains(&kind) && !goes_on {
            if let Some(last) = stories.last_mut() {
                last.overtaken = is_under_way;
            }
            stories.push(Story {
                events: vec![event],
                has_beginning: true,
                overtaken: false,
            });
            is_under_way = true;
            continue;
        }
        let is_part = kind.starts_with("failover.") || kind.starts_with("switchover.");
        if stories.is_empty() && is_part {
            stories.push(Story {
                events: Vec::new(),
                has_beginning: false,
                overtaken: false,
            });
            is_under_way = true;
        }
        if let Some(last) = stories.last_mut().filter(|_| is_under_way) {
            last.events.push(event);
            is_under_way = ![OPEN, TAKEN_BACK].contains(&kind);
        }
    }
    stories
}

impl Story<'_> {
    fn outcome(&self) -> Outcome {
        match self.events.last().map(|event| kind(event)) {
            Some(OPEN) => Outcome::Open,
            Some(TAKEN_BACK) => Outcome::TakenBack,
            _ if self.overtaken => Outcome::Overtaken,
            _ => Outcome::UnderWay,
        }
    }

    /// What its last event with such evidence says.
    fn said(&self, name: &str) -> Option<&str> {
        let mut newest = self.events.iter().rev();
        newest.find_map(|event| said(event, name))
    }

    /// What its first event with such evidence says: when it opens, the new primary is the one before.
    fn said_first(&self, name: &str) -> Option<&str> {
        self.events.iter().find_map(|event| said(event, name))
    }

    /// By the evidence; by the words of the message in events of versions before.
    fn epoch(&self) -> Option<u64> {
        let said = self.said("epoch").and_then(|epoch| epoch.parse().ok());
        said.or_else(|| {
            let mut newest = self.events.iter().rev();
            newest.find_map(|event| {
                let message = &event.event.as_ref()?.message;
                let (_, rest) = message.split_once("primary of epoch ")?;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            })
        })
    }
}

fn change(set: &ReplicaSet, story: &Story<'_>, events: &[wire::EventView]) -> Change {
    let first = story.events.first().copied();
    let last = story.events.last().copied();
    let began_ms = first.map_or(0, time_ms);
    let detect_ms: u64 = first
        .and_then(|event| said(event, "detect_ms")?.parse().ok())
        .unwrap_or(0);
    let epoch = story.epoch();
    let finished = |epoch: u64| {
        let mut history = set.history.iter();
        let found = history.find(|finished| finished.epoch == epoch);
        found.map(|finished| finished.primary.clone())
    };
    let (known_from, known_to) = match epoch {
        Some(epoch) if epoch == set.epoch => (finished(epoch - 1), set.primary.clone()),
        Some(epoch) => (finished(epoch.saturating_sub(1)), finished(epoch)),
        None => (None, None),
    };
    let owned = |said: Option<&str>| said.map(str::to_owned);
    let later = events.iter().filter(|event| {
        last.is_some_and(|last| event.sequence > last.sequence) && !story.overtaken
    });
    let later: Vec<Step> = later.map(|event| step(event, began_ms)).collect();
    let mut steps = later.into_iter();
    let told: Vec<Step> = steps.by_ref().take(LATER_EVENTS_MAX).collect();
    Change {
        kind: first.map_or("change", |event| match kind(event) {
            "failover.form" => "first primary",
            "failover.raise" => "restored",
            kind if kind.starts_with("switchover.") => "switchover",
            _ => "failover",
        }),
        outcome: story.outcome(),
        epoch,
        from: owned(story.said_first("primary_before")).or(known_from),
        to: owned(story.said("primary_after")).or(known_to),
        because: first.map_or_else(String::new, message),
        seen: story.events.iter().flat_map(|event| seen(event)).collect(),
        phases: phases(story),
        total_ms: detect_ms + last.map_or(0, time_ms).saturating_sub(began_ms),
        decided: story.events.iter().map(|it| step(it, began_ms)).collect(),
        later: told,
        later_left_out: steps.count(),
    }
}

fn phases(story: &Story<'_>) -> Vec<Phase> {
    let in_parts = story.said("promise_ms").is_some();
    let measured = PHASES
        .iter()
        .filter(|(key, ..)| !(in_parts && *key == "revoking_ms"));
    measured
        .filter_map(|(key, name, what)| {
            let ms = story.said(key)?.parse().ok()?;
            Some(Phase { name, ms, what })
        })
        .collect()
}

fn seen(event: &wire::EventView) -> Vec<Evidence> {
    let all = Event::from(event.clone()).evidence.into_iter();
    all.filter(|it| !it.name.ends_with("_ms") && !TOLD_ELSEWHERE.contains(&it.name.as_str()))
        .collect()
}

fn step(event: &wire::EventView, began_ms: u64) -> Step {
    let Event {
        sequence,
        time,
        kind,
        message,
        ..
    } = Event::from(event.clone());
    Step {
        sequence,
        time,
        after_ms: time_ms(event).saturating_sub(began_ms),
        kind,
        message,
    }
}

/// Why there is nothing to tell, or only its end.
fn note(set: &ReplicaSet, epoch: Option<u64>, oldest: u64, has_end: bool) -> String {
    let forgotten = format!("the log keeps the newest events, from number {oldest} on");
    if has_end {
        return format!("how it began is forgotten: {forgotten}");
    }
    match epoch {
        Some(epoch) if epoch > set.epoch => {
            format!(
                "epoch {epoch} has not begun: the present one is {}",
                set.epoch
            )
        }
        Some(epoch) if oldest > 1 => {
            let mut history = set.history.iter();
            let primary = history.find(|finished| finished.epoch == epoch);
            let primary = primary.map_or_else(String::new, |finished| {
                format!("; its primary was {}", finished.primary)
            });
            format!("what happened in epoch {epoch} is forgotten: {forgotten}{primary}")
        }
        Some(epoch) => {
            format!("no event tells of epoch {epoch}: nothing changed the primary in it")
        }
        None if oldest > 1 => {
            format!(
                "how it came about is forgotten: {forgotten}; nothing changed the primary since"
            )
        }
        None => "the primary was never changed".to_owned(),
    }
}

/// Who waits now, and for what or whom.
fn waiting(set: &ReplicaSet) -> Vec<Waiting> {
    let of_set = set.blocked.iter().map(|why| Waiting {
        who: format!("replica set {}", set.name),
        why: why.clone(),
    });
    let of_tablets = set.tablets.iter().filter_map(|tablet| {
        let silent = (!tablet.connected).then(|| "its agent is not connected".to_owned());
        let why: Vec<String> = silent.into_iter().chain(tablet.trouble()).collect();
        (!why.is_empty()).then(|| Waiting {
            who: tablet.alias.clone(),
            why: why.join("; "),
        })
    });
    of_set.chain(of_tablets).collect()
}

fn kind(event: &wire::EventView) -> &str {
    event.event.as_ref().map_or("", |event| &event.kind)
}

fn message(event: &wire::EventView) -> String {
    let event = event.event.as_ref();
    event.map_or_else(String::new, |event| event.message.clone())
}

fn time_ms(event: &wire::EventView) -> u64 {
    event.event.as_ref().map_or(0, |event| event.time_unix_ms)
}

fn said<'a>(event: &'a wire::EventView, name: &str) -> Option<&'a str> {
    let mut evidence = event.event.as_ref()?.evidence.iter();
    let found = evidence.find(|evidence| evidence.name == name)?;
    Some(&found.value)
}

#[cfg(test)]
mod tests;
