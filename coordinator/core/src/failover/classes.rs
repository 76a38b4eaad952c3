//! The classes of failure: what shows them, what is done about them, within what bound; and which are only shown, or not even that.
//! Documentation is drawn from it. The code that acts stands elsewhere; a bound that is a constant there is named by it here.

use super::{
    evidence::{RESTART_PATIENCE_MS, UNRESPONSIVE_MS},
    leaving::{LOST_MS, STEP_MS},
    planned::SWITCHOVER_MS,
    writes::{
        BAD_DISK_MS, CUT_OFF_MS, HANDOVER_PAUSE_MS, HANGING_MS, SATURATED_MS, SATURATED_PAUSE_MS,
    },
};
use crate::{
    DISK_STALL_MS,
    health::{OWN_STALL_MS, SILENCE_MS},
    mass_failure::MASS_FAILURE_HOLD_MS,
};

/// What happens when the evidence is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Something is done without anybody being asked.
    Acts,
    /// It is shown, in `blocked` or by a metric, and people act.
    Shown,
    /// Neither.
    NotNoticed,
}

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name in the research that this follows; none for what only other tools know.
    pub number: &'static str,
    pub name: &'static str,
    pub evidence: &'static str,
    pub answer: Answer,
    pub action: &'static str,
    /// With `{}` for each of `bounds_ms`.
    pub bound: &'static str,
    pub bounds_ms: &'static [u64],
}

use Answer::{Acts, NotNoticed, Shown};

macro_rules! class {
    ($number:literal, $name:literal, $evidence:literal, $answer:ident, $action:literal, $bound:literal $(, $ms:expr)*) => {
        Class {
            number: $number,
            name: $name,
            evidence: $evidence,
            answer: $answer,
            action: $action,
            bound: $bound,
            bounds_ms: &[$($ms),*],
        }
    };
}

/// Every class, in the order of the research.
pub const CLASSES: &[Class] = &[
    class!(
        "F1",
        "the primary's mysqld ended",
        "the guard, its parent, saw it exit",
        Acts,
        "failover; where too few ackers answer it starts again in place",
        "at once; a start in place counts as failed after {} ms",
        RESTART_PATIENCE_MS
    ),
    class!(
        "F2",
        "the primary's host is gone or cut off",
        "its agent is silent, and most of its ackers do not hear it",
        Acts,
        "failover",
        "{} ms of silence",
        SILENCE_MS
    ),
    class!(
        "F3",
        "the primary and too many ackers are gone",
        "the same, and fewer answers than acknowledged writes need",
        Shown,
        "`blocked` names who would unblock it; nothing is lost and nothing guessed",
        "until one of them is back"
    ),
    class!(
        "F4",
        "only the coordinators do not hear the primary",
        "its agent is silent, and its ackers hear it",
        Shown,
        "nothing is done while ackers hear it; `blocked` says so",
        "none"
    ),
    class!(
        "F5",
        "a partition with the primary on the smaller side",
        "as F2",
        Acts,
        "failover; the old primary gets no acknowledgement meanwhile and is fenced when it is heard again",
        "{} ms of silence",
        SILENCE_MS
    ),
    class!(
        "F6",
        "a partition with replicas on the smaller side",
        "an acker's agent does not answer",
        Acts,
        "the primary locks it out, and it leaves the ackers; back again, it is let in once it has stopped to acknowledge",
        "{} ms; each step {} ms",
        LOST_MS,
        STEP_MS
    ),
    class!(
        "F7",
        "the primary's mysqld hangs",
        "it does not answer its agent, and most of its ackers do not hear it",
        Acts,
        "failover; the old one is killed",
        "{} ms after the answers are late",
        UNRESPONSIVE_MS
    ),
    class!(
        "F8",
        "the primary has too much to do",
        "its agent's row hangs while its disk is well",
        Acts,
        "an alarm, never a failover; a switchover when it lasts and another is fit",
        "{} ms, not again within {} ms",
        SATURATED_MS,
        SATURATED_PAUSE_MS
    ),
    class!(
        "F9",
        "the primary's disk is full",
        "the agent's block finds no space; mysqld says that it waits for space",
        Acts,
        "switchover while writes return, failover when they hang; not without an acker with a healthy disk",
        "{} ms, {} ms when they hang, not again within {} ms",
        BAD_DISK_MS,
        HANGING_MS,
        HANDOVER_PAUSE_MS
    ),
    class!(
        "F10",
        "the primary's disk stalls or fails",
        "the agent's block does not arrive, and its row hangs",
        Acts,
        "as F9; a disk that stalls while writes return is only shown",
        "{} ms, {} ms when they hang",
        BAD_DISK_MS,
        HANGING_MS
    ),
    class!(
        "F11",
        "an agent is dead, its mysqld lives",
        "the agent is silent, and the ackers hear the primary",
        Shown,
        "none: mysqld goes on under its guard, for however long; `blocked` says so",
        "none"
    ),
    class!(
        "F12",
        "a primary's host is cut off from the coordinators alone",
        "as F4",
        Shown,
        "none: it goes on serving",
        "none"
    ),
    class!(
        "F13",
        "a replica's thread has stopped",
        "the agent sees it",
        Acts,
        "the thread is started again. One that the source refuses is copied from the primary",
        "at once"
    ),
    class!(
        "",
        "a replica cannot apply what it received",
        "its applier stops on an error, and starting it again does not help",
        Acts,
        "an acker leaves the ackers first; then its data are replaced by a copy of the primary's. Meanwhile it is no successor",
        "15 s; the next copy for this reason not within 10 minutes"
    ),
    class!(
        "F14",
        "a replica has transactions that nobody kept",
        "its set against the record's history",
        Acts,
        "an acker leaves the ackers first; then its data are replaced by a copy of the primary's",
        "as soon as it is connected"
    ),
    class!(
        "F15",
        "semi-sync is set otherwise than ordered",
        "the agent sees it at each look",
        Acts,
        "set as ordered; of an open primary `vtctl events` tells from which GTIDs on writes were unprotected (`primary.unprotected`). What was acknowledged by a stranger meanwhile is not noticed",
        "at once"
    ),
    class!(
        "F16",
        "the primary is read-only",
        "the agent sees it",
        Acts,
        "the primary of the present epoch is opened again, nobody else",
        "at once"
    ),
    class!(
        "F17",
        "a replica is writable",
        "the agent sees it",
        Acts,
        "closed; what was written meanwhile is F14",
        "at once"
    ),
    class!(
        "F18",
        "two primaries",
        "a higher epoch than its own is promised by enough others",
        Acts,
        "the older one can get no acknowledgement, is fenced, and routers refuse its epoch",
        "at once"
    ),
    class!(
        "F19",
        "most coordinators are gone",
        "nobody leads",
        Shown,
        "queries go on, nothing fails over; `vt_coordinator_leader` is for an alert",
        "none"
    ),
    class!(
        "",
        "the leading coordinator's disk hangs",
        "its disk owes an answer; where there is nothing to write it is tried once a second",
        Acts,
        "another coordinator leads; `vt_coordinator_disk_stalled` is for an alert",
        "{} ms after a write began",
        DISK_STALL_MS
    ),
    class!(
        "F20",
        "a clock jumps, or a coordinator stands still",
        "its own ticks come late",
        Acts,
        "no clock of the wall decides anything; silences are counted anew after an own pause",
        "{} ms",
        OWN_STALL_MS
    ),
    class!(
        "F21",
        "mysqld dies again and again",
        "the number of its lives",
        Acts,
        "each death is F1; a start waits longer each time. The third primary that ends is told as what it may be, a statement that kills one after the other; people look for it",
        "3 within 10 minutes"
    ),
    class!(
        "F22",
        "a former primary returns",
        "its promise and the record",
        Acts,
        "what nobody acknowledged is cut off before it starts and kept (`vtctl lost list`); what cannot be cut is replaced by a copy",
        "at once"
    ),
    class!(
        "F23",
        "an account statement that waits for an acknowledgement locks everybody out",
        "the agent's row waits for acknowledgements, and most ackers run and do not hear the primary",
        Acts,
        "failover; the same for a primary that is cut off from its ackers alone",
        "{} ms after both are late",
        CUT_OFF_MS
    ),
    class!(
        "",
        "an acker is lost while its agent answers",
        "it receives nothing",
        Acts,
        "it leaves the ackers once it has proven that it acknowledges nothing any more",
        "{} ms; each step {} ms",
        LOST_MS,
        STEP_MS
    ),
    class!(
        "",
        "a host is to be maintained",
        "an operator drains it",
        Acts,
        "its primaries hand over where another is fit, else `blocked` says who is missing; in a failover it is the last choice",
        "{} ms for a switchover, not again within {} ms",
        SWITCHOVER_MS,
        HANDOVER_PAUSE_MS
    ),
    class!(
        "",
        "a primary's mysqld is to be stopped",
        "its guard was told to end (`systemctl stop vt-mysqld`)",
        Acts,
        "the guard waits while the primary hands over, and then ends mysqld cleanly; where nobody can take over, or told again, it kills it",
        "10 s"
    ),
    class!(
        "",
        "many primaries are silent at the same time",
        "more than 30 % of four or more replica sets",
        Acts,
        "silence is taken for our own and proves nothing; exits still do",
        "{} ms",
        MASS_FAILURE_HOLD_MS
    ),
    class!(
        "",
        "a replica follows the wrong source",
        "the agent sees it",
        Acts,
        "host and port are changed once it applies; what it received stays",
        "at once"
    ),
    class!(
        "",
        "an acker has forgotten what it acknowledged",
        "its host restarted since it last caught up",
        Acts,
        "its answer counts for nothing in a failover until it has caught up",
        "until then"
    ),
    class!(
        "",
        "two tablets have one server id",
        "ids follow from aliases, and two of these may collide",
        Shown,
        "the second one is refused when it registers, and its agent says so; an id that somebody sets by hand is not noticed",
        "at once"
    ),
    class!(
        "",
        "a tablet's data differ without any transaction of its own",
        "none",
        NotNoticed,
        "contents are not compared",
        "none"
    ),
    class!(
        "",
        "space runs low",
        "`vt_agent_disk_free_bytes`",
        Shown,
        "an alert; nothing is removed to make room",
        "none"
    ),
];

/// The bound with its numbers.
fn bound(class: &Class) -> String {
    let numbers = class.bounds_ms.iter();
    numbers.fold(class.bound.to_owned(), |text, ms| {
        text.replacen("{}", &ms.to_string(), 1)
    })
}

/// The table for people, as Markdown.
pub fn as_markdown() -> String {
    let mut text = String::from(
        "| class | failure | evidence | answer | action | bound |\n|---|---|---|---|---|---|\n",
    );
    for class in CLASSES {
        let answer = match class.answer {
            Acts => "acts",
            Shown => "shown",
            NotNoticed => "not noticed",
        };
        text.push_str(&format!(
            "| {} | {} | {} | {answer} | {} | {} |\n",
            class.number,
            class.name,
            class.evidence,
            class.action,
            bound(class)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_research_has_its_row() {
        let numbered: Vec<&str> = CLASSES
            .iter()
            .map(|class| class.number)
            .filter(|number| !number.is_empty())
            .collect();
        let wanted: Vec<String> = (1..=23).map(|number| format!("F{number}")).collect();
        assert_eq!(numbered, wanted);
    }

    #[test]
    fn every_number_has_its_place() {
        for class in CLASSES {
            let places = class.bound.matches("{}").count();
            assert_eq!(places, class.bounds_ms.len(), "{}", class.name);
        }
        assert!(as_markdown().contains("| 1000 ms of silence |"));
    }
}
