//! What no member may do, watched from outside after every step: it knows the true log (what the first member applied at each
//! index), replays it itself, and compares.

use std::collections::{BTreeMap, BTreeSet};

use vt_coordinator_core::{
    apply, codec,
    command::Command,
    peer::{Batch, Membership, Stored},
    state::State,
};
use vt_proto::wire::{MemberMessage, RaftEntry, member_message::Body};

use super::operator;
use crate::check::{
    Violation,
    linearizable::{self, Answer, History, OperationId},
    revisions::{self, Seen},
};

/// Steps of a member between two comparisons of its whole state; its newest changes are compared after each step.
const WHOLE_EVERY: u64 = 32;
/// Entries applied in one step that mean a snapshot, or a start: then too.
const WHOLE_JUMP: u64 = 12;

/// The type of entries that carry commands.
const NORMAL: u32 = 0;
/// The types of messages that only leaders send: entries and heartbeats.
const OF_LEADERS: [u32; 2] = [1, 6];

/// What is known of one member from outside.
#[derive(Debug, Default)]
struct View {
    /// Every entry that it holds or held, by index, in its newest form.
    log: BTreeMap<u64, RaftEntry>,
    applied: u64,
    membership: Membership,
    /// The true log replayed up to what it has applied.
    replayed: State,
    looks: u64,
}

/// An entry of the true log.
#[derive(Debug)]
struct Entry {
    raw: RaftEntry,
    /// What it says, if it is a command.
    command: Option<Command>,
    first_by: u64,
}

/// All knowledge about all members.
#[derive(Debug, Default)]
pub(super) struct Judge {
    initial: State,
    /// Who is in the group after each entry that changed it, as the first member that came there said.
    memberships: BTreeMap<u64, Membership>,
    /// What was applied at each index, and by whom first.
    log: BTreeMap<u64, Entry>,
    /// The true log replayed to its end.
    state: State,
    leaders: BTreeMap<u64, u64>,
    views: BTreeMap<u64, View>,
    /// Where each request took effect.
    effects: BTreeMap<String, u64>,
    /// Requests whose clients were told that they have no effect.
    refused: BTreeSet<String>,
    /// Acknowledged writes: request id and revision.
    acknowledged: Vec<(String, u64)>,
    seen: Vec<Seen>,
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) id: u64,
    pub(super) term: u64,
    pub(super) leads: bool,
    pub(super) applied: u64,
    pub(super) membership: &'a Membership,
    pub(super) state: &'a State,
}

impl Judge {
    /// The state with which all begin, at this index.
    pub(super) fn new(initial: State) -> Self {
        Self {
            state: initial.clone(),
            initial,
            ..Self::default()
        }
    }

    /// The state after everything that was ever applied.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Who is in the group after the last change of it; nothing if there was none.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.memberships.values().next_back()
    }

    /// How many writes clients were told of.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many terms had a leader.
    pub(super) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A member starts from this.
    pub(super) fn started(&mut self, id: u64, stored: &Stored) -> Result<(), Violation> {
        let applied = stored.snapshot.as_ref().map_or(0, |s| s.index);
        let entries = stored.entries.iter().map(|e| (e.index, e.clone()));
        let view = View {
            log: entries.collect(),
            applied,
            membership: Membership::default(),
            replayed: self.replay(applied)?,
            looks: 0,
        };
        self.views.insert(id, view);
        Ok(())
    }

    /// A member asks for this to be written.
    pub(super) fn wrote(&mut self, id: u64, batch: &Batch) {
        let view = self.views.entry(id).or_default();
        if batch.reset {
            view.log.clear();
        }
        if let Some(first) = batch.entries.first() {
            view.log.split_off(&first.index);
            let entries = batch.entries.iter().map(|e| (e.index, e.clone()));
            view.log.extend(entries);
        }
    }

    /// A member says something to another. What only a leader says shows it before it has committed anything.
    pub(super) fn spoke(&mut self, message: &MemberMessage) -> Result<(), Violation> {
        match &message.body {
            Some(Body::Raft(raft)) if OF_LEADERS.contains(&raft.message_type) => {
                self.leads(raft.from, raft.term)
            }
            _ => Ok(()),
        }
    }

    fn leads(&mut self, id: u64, term: u64) -> Result<(), Violation> {
        match *self.leaders.entry(term).or_insert(id) {
            leader if leader == id => Ok(()),
            leader => Err(format!(
                "members {leader} and {id} both lead in term {term}"
            )),
        }
    }

    /// Looks at a member after a step.
    pub(super) fn look(&mut self, said: Said<'_>) -> Result<(), Violation> {
        let id = said.id;
        if said.leads {
            self.leads(id, said.term)?;
        }
        let before = self.views.entry(id).or_default().applied;
        if said.applied < before {
            return Err(format!(
                "member {id} went back from {before} to {}",
                said.applied
            ));
        }
        let before = before.max(self.initial.applied);
        if said.applied <= before {
            return Ok(());
        }
        for index in before + 1..=said.applied {
            self.applied(id, index)?;
        }
        let Some(view) = self.views.get_mut(&id) else {
            return Ok(());
        };
        for index in before + 1..=said.applied {
            replay_one(&mut view.replayed, index, &self.log[&index]);
        }
        let group_before = std::mem::replace(&mut view.membership, said.membership.clone());
        view.applied = said.applied;
        view.looks += 1;
        let whole = view.looks.is_multiple_of(WHOLE_EVERY) || said.applied > before + WHOLE_JUMP;
        let entry = &self.log[&said.applied];
        same(said, &view.replayed, entry, whole)?;
        self.group_changed(said, before, &group_before)
    }

    /// Groups are the same for all at one index, and one change never makes two quorums that do not meet.
    fn group_changed(
        &mut self,
        said: Said<'_>,
        before: u64,
        group_before: &Membership,
    ) -> Result<(), Violation> {
        let entries = (before + 1..=said.applied).map(|index| &self.log[&index].raw);
        let changes: Vec<u64> = entries
            .filter(|entry| entry.entry_type != NORMAL)
            .map(|entry| entry.index)
            .collect();
        let Some(last) = changes.last() else {
            return Ok(());
        };
        let known = self.memberships.entry(*last);
        let known = known.or_insert_with(|| said.membership.clone());
        if known != said.membership {
            return Err(format!(
                "after entry {last} member {} sees the group {:?} and others {known:?}",
                said.id, said.membership
            ));
        }
        if changes.len() > 1 || group_before.voters.is_empty() {
            return Ok(());
        }
        match operator::disjoint_quorums(group_before, said.membership) {
            Some((one, other)) => Err(format!(
                "entry {last} goes from a group that {one:?} can decide in to one that {other:?} can"
            )),
            None => Ok(()),
        }
    }

    /// A member has applied the entry at this index.
    fn applied(&mut self, id: u64, index: u64) -> Result<(), Violation> {
        let Some(view) = self.views.get_mut(&id) else {
            return Ok(());
        };
        let mine = view.log.remove(&index);
        match (self.log.get(&index), mine) {
            (Some(known), Some(mine)) if known.raw != mine => Err(format!(
                "members {} and {id} applied different entries at {index}: of terms {} and {}, {} and {} bytes",
                known.first_by,
                known.raw.term,
                mine.term,
                known.raw.data.len(),
                mine.data.len()
            )),
            (Some(_), _) => Ok(()),
            (None, None) => Err(format!(
                "member {id} applied {index}, which nobody has shown"
            )),
            (None, Some(mine)) => {
                let entry = Entry {
                    command: command(&mine)?,
                    raw: mine,
                    first_by: id,
                };
                self.log.insert(index, entry);
                self.took_effect(index)
            }
        }
    }

    /// The true log has grown by one entry.
    fn took_effect(&mut self, index: u64) -> Result<(), Violation> {
        let entry = &self.log[&index];
        let Some(command) = &entry.command else {
            return Ok(());
        };
        let events = self.state.next_event;
        replay_one(&mut self.state, index, entry);
        let moved = |change: &vt_coordinator_core::command::Change| {
            change.value.is_some() && self.state.revision_of(&change.key).0 == index
        };
        if self.state.next_event == events && !command.changes.iter().any(moved) {
            return Ok(());
        }
        let id = &command.request_id;
        if self.refused.contains(id) {
            return Err(format!(
                "request {id} took effect at {index} after it was told that it would not"
            ));
        }
        match self.effects.insert(id.clone(), index) {
            Some(before) => Err(format!(
                "request {id} took effect at {before} and again at {index}"
            )),
            None => Ok(()),
        }
    }

    /// A client was told that its request has no effect.
    pub(super) fn refused(&mut self, request_id: &str) -> Result<(), Violation> {
        self.refused.insert(request_id.to_owned());
        match self.effects.get(request_id) {
            Some(index) => Err(format!(
                "request {request_id} was told that it has no effect and took effect at {index}"
            )),
            None => Ok(()),
        }
    }

    /// The true log from its beginning up to this index.
    fn replay(&self, up_to: u64) -> Result<State, Violation> {
        let mut state = self.initial.clone();
        for index in self.initial.applied + 1..=up_to {
            match self.log.get(&index) {
                Some(entry) => replay_one(&mut state, index, entry),
                None => {
                    return Err(format!(
                        "a snapshot at {up_to} covers {index}, which nobody has applied"
                    ));
                }
            }
        }
        Ok(state)
    }

    /// A client was told that something stands, or was read, at this index.
    pub(super) fn answered(
        &mut self,
        history: &History,
        id: OperationId,
        index: u64,
        request_id: &str,
    ) {
        let operation = history.operation(id);
        let Some((answered, answer)) = &operation.answer else {
            return;
        };
        let is_write = matches!(answer, Answer::Written { .. });
        self.seen.push(Seen {
            called: operation.called,
            answered: *answered,
            index,
            is_write,
        });
        if is_write {
            self.acknowledged.push((request_id.to_owned(), index));
        }
    }

    /// Looks back over the whole story.
    pub(super) fn at_end(&self, history: &History) -> Result<(), Violation> {
        for (request_id, revision) in &self.acknowledged {
            let entry = self.log.get(revision);
            let command = entry.and_then(|entry| entry.command.as_ref());
            // Under a sabotage each attempt has a name of its own, which begins with that of the request.
            let is_it = |command: &Command| {
                let rest = command.request_id.strip_prefix(request_id);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            };
            if !command.is_some_and(is_it) {
                return Err(format!(
                    "write {request_id} was acknowledged at {revision}, where the log has something else"
                ));
            }
        }
        revisions::check(&self.seen)?;
        linearizable::check(history).map_err(|failure| failure.to_string())
    }
}

fn command(entry: &RaftEntry) -> Result<Option<Command>, Violation> {
    if entry.entry_type != NORMAL || entry.data.is_empty() {
        return Ok(None);
    }
    let command = codec::decode_command(&entry.data);
    command
        .map(Some)
        .map_err(|error| format!("entry {}: {error}", entry.index))
}

fn replay_one(state: &mut State, index: u64, entry: &Entry) {
    if let Some(command) = &entry.command {
        // Whether it was refused is part of the state that is compared.
        drop(apply::apply(state, index, command));
    }
}

/// A member's state against the log replayed from its beginning: what the entry at `index` did, or everything.
fn same(said: Said<'_>, replayed: &State, entry: &Entry, whole: bool) -> Result<(), Violation> {
    let command = entry.command.as_ref();
    let request_id = command.map_or("", |command| &command.request_id);
    let newest = |state: &State| {
        let outcome = state.requests.get(request_id).cloned();
        (
            state.applied,
            state.next_event,
            state.requests.len(),
            outcome,
        )
    };
    if newest(said.state) != newest(replayed) || (whole && said.state != replayed) {
        return Err(format!(
            "the state of member {} at {} is not that of the log replayed from its beginning: {:?}, not {:?}",
            said.id,
            said.applied,
            newest(said.state),
            newest(replayed)
        ));
    }
    Ok(())
}
