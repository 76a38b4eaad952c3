//! The deciding core of vt-coordinator: `step(now, event) -> effects`.
//!
//! Absent by design: no I/O, no clock, no randomness, no threads, no tokio, no sled; time and seeds are arguments.
//! Layers, each importing only what stands to its right:
//! `lib (Core) -> intent -> invariants -> desired, routing -> failover -> health, durability, members, rounds, deliveries, window, lost, unprotected, mass_failure -> apply -> state -> requests, refusal, command -> records -> format, audit -> vt-proto`;
//! `event` and `effect` are the vocabulary of `step`; `peer` wraps raft and is driven by the shell; `codec` is the stored form.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use vt_proto::{
    desired::Desired,
    epoch::Revision,
    ids::{ReplicaSetName, TabletAlias},
    report::Report,
    topology::{AuditEvent, Phase, SchemaChangeStatus},
};

pub mod apply;
pub mod audit;
pub mod codec;
pub mod command;
pub mod deliveries;
pub mod desired;
pub mod durability;
pub mod effect;
pub mod event;
pub mod failover;
pub mod format;
pub mod health;
pub mod intent;
pub mod invariants;
pub mod joining;
pub mod lost;
pub mod mass_failure;
pub mod member;
pub mod members;
pub mod peer;
pub mod records;
pub mod refusal;
pub mod requests;
pub mod restore;
pub mod rounds;
pub mod routing;
pub mod state;
pub mod unprotected;
pub mod window;

use command::{Change, Command, RecordKey, RecordValue};
use deliveries::Deliveries;
use effect::Effect;
use event::{Event, Now};
use failover::{
    Situation, Verdict, emergency,
    membership::{self, Registration},
    schema_change,
    table::PhaseName,
    timeline::Seen,
};
use health::{Health, Heard, SILENCE_MS};
use invariants::Growth;
use lost::ToldLost;
use mass_failure::MassFailure;
use members::Members;
use requests::Outcome;
use rounds::Rounds;
use routing::{Publisher, Sources};
use state::State;
use unprotected::Unprotected;
use window::{Entry, Window};

/// The longest time between two ticks that the shell may leave.
pub const TICK_MS: u64 = 50;
/// After so long without an answer a coordinator's disk counts as stalled. A flush that waits for others, or for the caches of a
/// device, takes tenths of a second; and a leader that is dead is replaced after about as long.
pub const DISK_STALL_MS: u64 = 1_500;
/// How long a proposal may stay unanswered before another is made; the compare-and-set lets only one of them win.
pub const PROPOSAL_PATIENCE_MS: u64 = 2_000;

/// A proposal that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proposal {
    request_id: String,
    since_ms: u64,
}

/// One member's replicated state and, while it leads, what it has heard and decides from it.
#[derive(Clone, Debug)]
pub struct Core {
    state: State,
    members: Members,
    window: Window,
    growth: BTreeMap<ReplicaSetName, Growth>,
    leading: bool,
    health: Health,
    publisher: Publisher,
    rounds: Rounds,
    /// Proposals under way by the record they are about.
    proposals: BTreeMap<RecordKey, Proposal>,
    proposal_count: u64,
    deliveries: Deliveries,
    /// Since when each replica set's record is seen as it is.
    seen: BTreeMap<ReplicaSetName, Seen>,
    blocked: BTreeMap<ReplicaSetName, String>,
    /// Why a tablet's reports are not listened to; kept so that the audit says it once.
    refused: BTreeMap<TabletAlias, String>,
    mass_failure: MassFailure,
    told_lost: ToldLost,
    unprotected: Unprotected,
    /// When this leader proposed its first entry last.
    announced_ms: u64,
}

impl Core {
    /// A member with this state, not leading.
    pub fn new(state: State) -> Self {
        let mut core = Self {
            state: State::default(),
            members: Members::default(),
            window: Window::default(),
            growth: BTreeMap::new(),
            leading: false,
            health: Health::default(),
            publisher: Publisher::default(),
            rounds: Rounds::default(),
            proposals: BTreeMap::new(),
            proposal_count: 0,
            deliveries: Deliveries::default(),
            seen: BTreeMap::new(),
            blocked: BTreeMap::new(),
            refused: BTreeMap::new(),
            mass_failure: MassFailure::default(),
            told_lost: ToldLost::default(),
            unprotected: Unprotected::default(),
            announced_ms: 0,
        };
        core.install(state);
        core
    }

    /// Takes over a snapshot's state in place of its own.
    ///
    /// # Panics
    /// If the snapshot breaks an invariant, or is older than what this member has applied.
    pub fn install(&mut self, state: State) {
        assert!(
            state.applied >= self.state.applied,
            "a snapshot at {} cannot replace the state at {}",
            state.applied,
            self.state.applied
        );
        self.members = Members::of(&state);
        self.window = Window::starting_at(Revision(state.applied));
        self.state = state;
        self.growth.clear();
        let sets: Vec<ReplicaSetName> = self.state.replica_sets.keys().cloned().collect();
        for set in sets {
            self.check(&set);
        }
    }

    /// The replicated state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was heard since this member leads; empty otherwise.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Which tablets belong to which replica set.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What changed lately.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Whether this member leads.
    pub fn leading(&self) -> bool {
        self.leading
    }

    /// Why a replica set does not get where it should, and who would unblock it.
    pub fn blocked(&self, set: &ReplicaSetName) -> Option<String> {
        self.blocked.get(set).cloned()
    }

    /// Why the reports of this alias are not listened to.
    pub fn refused(&self, alias: &TabletAlias) -> Option<&str> {
        self.refused.get(alias).map(String::as_str)
    }

    /// What this tablet should become.
    pub fn desired(&self, alias: &TabletAlias) -> Option<Desired> {
        desired::desired(&self.state, &self.members, alias)
    }

    /// Takes one event; returns what is to be done, in this order.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.leading {
            self.health.wake(now);
        }
        match event {
            Event::Tick => self.tick(now, &mut effects),
            Event::LeadershipGained => self.lead(now, &mut effects),
            Event::LeadershipLost => self.follow(now),
            Event::Committed { index, command } => {
                self.committed(now, index, &command, &mut effects);
            }
            Event::Reported { report } if self.leading => {
                self.reported(now, *report, &mut effects);
            }
            Event::Reported { .. } => {}
            Event::StreamEnded { alias } => {
                self.health.stream_ended(&alias);
                // The next stream starts empty: its first report is answered with the desired state again.
                self.deliveries.forget(&alias);
            }
            Event::Relayed { snapshot } => self.publisher.relayed(snapshot),
        }
        let sources = Sources {
            state: &self.state,
            members: &self.members,
            health: &self.health,
            now,
        };
        effects.extend(self.publisher.next(sources).map(Effect::PublishRouting));
        effects
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.leading {
            return;
        }
        for alias in self.health.tick(now) {
            let tablet = self.state.tablets.get(&alias);
            if let Some(set) = tablet.map(|tablet| &tablet.value.replica_set) {
                self.publisher.set_changed(set);
                self.rounds.watch(set, true);
            }
        }
        self.proposals.retain(|_, proposal| {
            now.monotonic_ms.saturating_sub(proposal.since_ms) < PROPOSAL_PATIENCE_MS
        });
        if !self.publisher.is_started()
            && now.monotonic_ms.saturating_sub(self.announced_ms) >= PROPOSAL_PATIENCE_MS
        {
            self.announce(now, effects);
        }
        self.look_for_mass_failure(now);
        let sets = &self.state.replica_sets;
        let turn = self.rounds.turn(sets.len(), |from| {
            let rest = sets.range::<ReplicaSetName, _>((from, Bound::Unbounded));
            rest.map(|(name, _)| name)
        });
        for set in turn {
            self.decide(now, &set, effects);
        }
    }

    fn lead(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.follow(now);
        self.leading = true;
        // Nobody was heard yet.
        for set in self.state.replica_sets.keys() {
            self.rounds.watch(set, true);
        }
        self.announce(now, effects);
    }

    /// The first entry of this leader lifts the revision above everything that leaders before have published: routers hear of
    /// it when that is committed.
    fn announce(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.announced_ms = now.monotonic_ms;
        let event = AuditEvent {
            time_unix_ms: now.unix_ms,
            kind: "coordinator.leads".to_owned(),
            subject: format!("cluster/{}", self.state.cluster_id),
            message: "another coordinator leads; silences are counted from now on".to_owned(),
            evidence: Vec::new(),
        };
        let request_id = self.request_id(now, "leads");
        let command = Command::new(request_id, Vec::new(), vec![event]);
        effects.push(Effect::Propose(command));
    }

    /// Forgets everything that only a leader knows.
    fn follow(&mut self, now: Now) {
        self.leading = false;
        self.health.restart(now);
        self.publisher.stop();
        self.rounds = Rounds::default();
        self.proposals.clear();
        self.deliveries = Deliveries::default();
        self.seen.clear();
        self.blocked.clear();
        self.refused.clear();
        self.mass_failure = MassFailure::default();
    }

    fn committed(&mut self, now: Now, index: u64, command: &Command, effects: &mut Vec<Effect>) {
        let mut sets = self.sets_of(command);
        let outcome = apply::apply(&mut self.state, index, command);
        for change in &command.changes {
            self.members.refresh(&self.state, &change.key);
        }
        sets.append(&mut self.sets_of(command));
        self.remember_changes(index, command, &outcome, &sets);
        effects.push(Effect::Finished {
            request_id: command.request_id.clone(),
            outcome,
        });
        for set in &sets {
            self.check(set);
        }
        if !self.leading {
            return;
        }
        self.proposals
            .retain(|_, proposal| proposal.request_id != command.request_id);
        if !self.publisher.is_started() {
            self.publisher.start(now);
        }
        for change in &command.changes {
            self.publisher.record_changed(&change.key);
        }
        for set in &sets {
            self.publisher.set_changed(set);
            self.send_to_set(now, set, effects);
            self.decide(now, set, effects);
        }
    }

    /// For those who watch. A repeated request changes nothing.
    fn remember_changes(
        &mut self,
        index: u64,
        command: &Command,
        outcome: &Outcome,
        sets: &BTreeSet<ReplicaSetName>,
    ) {
        let revision = Revision(index);
        if *outcome != Ok(revision) {
            return;
        }
        // A replica set changes too when a shard or tablet is taken from it.
        let sets = sets.iter().cloned().map(RecordKey::ReplicaSet);
        let touched = sets.filter(|key| self.state.revision_of(key) == revision);
        let changed = command.changes.iter().map(|change| change.key.clone());
        let keys: BTreeSet<RecordKey> = changed.chain(touched).collect();
        if !keys.is_empty() {
            let entry = Entry::of(&self.state, revision, &keys);
            self.window.push(Arc::new(entry));
        }
    }

    /// The replica sets whose desired states may depend on what a command changes.
    fn sets_of(&self, command: &Command) -> BTreeSet<ReplicaSetName> {
        let mut sets = BTreeSet::new();
        for change in &command.changes {
            match &change.key {
                RecordKey::ReplicaSet(set) => drop(sets.insert(set.clone())),
                RecordKey::Tablet(alias) | RecordKey::Drain(alias) => {
                    let tablet = self.state.tablets.get(alias);
                    sets.extend(tablet.map(|tablet| tablet.value.replica_set.clone()));
                }
                RecordKey::Shard(keyspace, range) => {
                    let shard = self.state.shards.get(&(keyspace.clone(), range.clone()));
                    sets.extend(shard.map(|shard| shard.value.replica_set.clone()));
                }
                _ => {}
            }
        }
        sets
    }

    /// Asserts what must hold of a replica set. Cheap: it looks at one record and its tablets.
    fn check(&mut self, set: &ReplicaSetName) {
        let Some(record) = self.state.replica_sets.get(set) else {
            self.growth.remove(set);
            return;
        };
        if let Some(broken) = invariants::broken(&self.state, set) {
            panic!("replica set {set} breaks an invariant: {broken}");
        }
        let after = Growth {
            epoch: record.value.epoch,
            generation: failover::generation(&self.state, &self.members, set),
            phase: PhaseName::of(&record.value.phase),
        };
        if let Some(before) = self.growth.insert(set.clone(), after)
            && let Some(broken) = invariants::broken_growth(before, after)
        {
            panic!("replica set {set} breaks an invariant: {broken}");
        }
    }

    fn reported(&mut self, now: Now, report: Report, effects: &mut Vec<Effect>) {
        let alias = report.tablet.alias.clone();
        match membership::register(&self.state, &self.health, now, &report) {
            Registration::Known => drop(self.refused.remove(&alias)),
            Registration::Propose { changes, event } => {
                drop(self.refused.remove(&alias));
                let key = RecordKey::Tablet(alias.clone());
                self.propose(now, key, changes, vec![event], effects);
            }
            Registration::Refused(why) => {
                self.refuse(now, &alias, why, effects);
                return;
            }
        }
        let unprotected = self.unprotected.untold(&self.state, now, &report);
        let lost = self.told_lost.untold(&self.state, now, &report);
        if let Some(event) = unprotected.or(lost) {
            let key = RecordKey::Tablet(alias.clone());
            self.propose(now, key, Vec::new(), vec![event], effects);
        }
        let set = report.tablet.replica_set.clone();
        let has_results = !report.schema_results.is_empty();
        match self.health.report(now, report) {
            Heard::Late => return,
            Heard::AsBefore => {}
            Heard::Changed => self.publisher.set_changed(&set),
        }
        self.send(now, &alias, effects);
        if has_results {
            self.finish_schema_changes(now, effects);
        }
        self.decide(now, &set, effects);
    }

    fn refuse(&mut self, now: Now, alias: &TabletAlias, why: String, effects: &mut Vec<Effect>) {
        if self.refused.get(alias) == Some(&why) {
            return;
        }
        let event = membership::event(now, alias, "tablet.refused", why.clone());
        self.refused.insert(alias.clone(), why);
        let key = RecordKey::Tablet(alias.clone());
        self.propose(now, key, Vec::new(), vec![event], effects);
    }

    fn decide(&mut self, now: Now, set: &ReplicaSetName, effects: &mut Vec<Effect>) {
        let key = RecordKey::ReplicaSet(set.clone());
        let Some(record) = self.state.replica_sets.get(set) else {
            self.seen.remove(set);
            self.blocked.remove(set);
            self.rounds.watch(set, false);
            return;
        };
        let mass_failure = self.mass_failure.is_on(now);
        let seen = self.seen.entry(set.clone()).or_default();
        seen.look(record.revision, now);
        if self.proposals.contains_key(&key) {
            self.rounds.watch(set, true);
            return;
        }
        let mut situation = Situation {
            state: &self.state,
            members: &self.members,
            health: &self.health,
            now,
            set: record,
            since_ms: seen.since_ms,
            found_ms: seen.found_ms,
            mass_failure,
        };
        if seen.found_ms.is_none() && emergency::is_found(&situation) {
            seen.found_ms = Some(now.monotonic_ms);
            situation.found_ms = seen.found_ms;
        }
        let verdict = failover::decide(&situation);
        let primary = record.value.primary.as_ref();
        let is_well = record.value.phase == Phase::Stable
            && verdict == Verdict::Wait
            && primary.is_some_and(|primary| self.health.is_heard(primary));
        self.rounds.watch(set, !is_well);
        match verdict {
            Verdict::Wait => drop(self.blocked.remove(set)),
            Verdict::Blocked(why) => drop(self.blocked.insert(set.clone(), why)),
            Verdict::Commit {
                record: new,
                events,
                ..
            } => {
                self.blocked.remove(set);
                let change = Change::put(record.revision, RecordValue::ReplicaSet(*new));
                self.propose(now, key, vec![change], events, effects);
            }
        }
    }

    fn finish_schema_changes(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let pending = self
            .state
            .schema_changes
            .values()
            .filter(|change| change.value.status == SchemaChangeStatus::Pending);
        let finished: Vec<_> = pending
            .filter_map(|change| {
                let (changes, event) =
                    schema_change::finish(&self.state, &self.health, now, change)?;
                Some((RecordKey::SchemaChange(change.value.id), changes, event))
            })
            .collect();
        for (key, changes, event) in finished {
            self.propose(now, key, changes, vec![event], effects);
        }
    }

    /// Proposes, unless a proposal about the same record is under way.
    fn propose(
        &mut self,
        now: Now,
        key: RecordKey,
        changes: Vec<Change>,
        events: Vec<AuditEvent>,
        effects: &mut Vec<Effect>,
    ) {
        if self.proposals.contains_key(&key) {
            return;
        }
        let request_id = self.request_id(now, "core");
        self.proposals.insert(
            key,
            Proposal {
                request_id: request_id.clone(),
                since_ms: now.monotonic_ms,
            },
        );
        let command = Command::new(request_id, changes, events);
        effects.push(Effect::Propose(command));
    }

    /// Different for every proposal of every leader: two leaders cannot be at one applied index with one count at one time.
    fn request_id(&mut self, now: Now, word: &str) -> String {
        self.proposal_count += 1;
        format!(
            "{word}-{}-{}-{}",
            self.state.applied, now.unix_ms, self.proposal_count
        )
    }

    fn send_to_set(&mut self, now: Now, set: &ReplicaSetName, effects: &mut Vec<Effect>) {
        let aliases: Vec<TabletAlias> = self.members.of_set(set).cloned().collect();
        for alias in aliases {
            // An agent that this leader never heard has no stream here; its first report is answered with its desired state.
            if self.health.get(&alias).is_some() {
                self.send(now, &alias, effects);
            }
        }
    }

    /// Sends an agent its desired state if it is newer than what was sent, or was sent and not taken for a while, or long ago.
    fn send(&mut self, now: Now, alias: &TabletAlias, effects: &mut Vec<Effect>) {
        let Some(tablet) = self.state.tablets.get(alias) else {
            return;
        };
        // Almost always there is nothing to send: the number is found without making the state.
        let set = &tablet.value.replica_set;
        let generation = failover::generation(&self.state, &self.members, set);
        let taken = self
            .health
            .get(alias)
            .is_some_and(|tablet| tablet.report.generation >= generation);
        if !self.deliveries.is_due(now, alias, generation, taken) {
            return;
        }
        let Some(desired) = self.desired(alias) else {
            return;
        };
        self.deliveries.note(now, alias, generation);
        effects.push(Effect::SendDesired(Box::new(desired)));
    }

    fn look_for_mass_failure(&mut self, now: Now) {
        // A set whose primary is silent is watched since it fell silent.
        let watched = self.rounds.watched();
        let silent = watched
            .filter_map(|set| self.state.replica_sets.get(set)?.value.primary.as_ref())
            .filter(|primary| self.health.silent_ms(primary, now) > SILENCE_MS)
            .count();
        self.mass_failure
            .look(self.state.replica_sets.len(), silent, now);
    }
}

#[cfg(test)]
mod tests;
