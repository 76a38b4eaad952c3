//! One coordinator as a pure machine: its raft peer, the deciding core, who waits for what, snapshots, and who is in the group.
//!
//! The shell hands in what happened with [`Member::take`], as much as there is, and then asks once with [`Member::advance`]
//! what follows: one flush and one message carry everything that was taken in together. Never does I/O and reads no clock, so
//! that a simulator drives the same machine as the program.

use std::collections::{BTreeMap, VecDeque};

use vt_proto::wire;

use crate::{
    Core,
    codec::{self, CodecError},
    command::Command,
    effect::Effect,
    event::{Event, Now},
    peer::{Membership, Peer, PeerConfig, PeerError, ProposeError, Stored},
    state::State,
};

mod advance;
mod formats;
mod group;
mod input;
mod leadership;
mod membership;
mod stall;
mod status;
mod transfer;
mod waiting;

pub use input::{
    Input, MessageRefused, Output, ReadError, StopReason, Token, TransferError, WriteError,
};
pub use status::{MemberStatus, NodeStatus, Part};
pub use transfer::{CHUNK_BYTES, SNAPSHOT_BYTES_MAX};

use stall::Patience;
use transfer::{Receiver, Senders};
use waiting::{Reads, Writes};

/// Who a member is.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    pub cluster_id: String,
    pub id: u64,
    /// Names its data directory, for ever.
    pub directory_id: String,
    /// Where other members serve gRPC, for as long as this one knows no records of them.
    pub contacts: BTreeMap<u64, String>,
    /// Different in each life: of election time-outs, and of what must not be mistaken for something of an earlier life.
    pub seed: u64,
    pub limits: Limits,
}

/// When the log is cut. Simulations make all of it small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries applied since the last snapshot that make the next one due.
    pub snapshot_every_entries: u64,
    /// Bytes of the log that make a snapshot due.
    pub log_bytes: u64,
    /// Entries that stay in the log behind a snapshot, for members that are a little behind.
    pub tail_entries: u64,
    /// Bytes that these may take.
    pub tail_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Far fewer than one of a hundred writes then waits for one.
            snapshot_every_entries: 50_000,
            log_bytes: 32 << 20,
            tail_entries: 5_000,
            tail_bytes: 8 << 20,
        }
    }
}

/// A member that cannot go on: what it stores or receives makes no sense to this version.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("the stored snapshot cannot be read")]
    StoredSnapshot(#[source] CodecError),
    #[error("the leader's snapshot cannot be read")]
    Snapshot(#[source] CodecError),
    #[error("log entry {index} cannot be applied")]
    Entry {
        index: u64,
        #[source]
        source: CodecError,
    },
    #[error(
        "the data directory is of cluster {bound}, and the topology in it of {held}: a recovery was interrupted, so do it again with `vt-coordinator recover`"
    )]
    Halfway { bound: String, held: String },
    #[error("the stored log cannot be used")]
    Peer(#[from] PeerError),
}

/// A batch on its way to the disk, with what follows when it is there.
struct InFlight {
    sequence: u64,
    /// The number of the ready value that it came from; a snapshot of our own has none.
    number: Option<u64>,
    messages: Vec<wire::RaftMessage>,
}

/// How often something happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub proposals: u64,
    pub commands_refused: u64,
    pub snapshots_taken: u64,
    pub snapshots_installed: u64,
}

/// One member.
pub struct Member {
    config: MemberConfig,
    peer: Peer,
    core: Core,
    outputs: Vec<Output>,
    in_flight: VecDeque<InFlight>,
    next_sequence: u64,
    writes: Writes,
    reads: Reads,
    senders: Senders,
    receiver: Receiver,
    /// Who is in the group, as applied.
    membership: Membership,
    membership_waits: Option<String>,
    membership_due: bool,
    /// The term in which this member leads, if it does.
    leads_term: Option<u64>,
    /// The core knows that it leads.
    core_leads: bool,
    applied: u64,
    snapshot_index: u64,
    /// Decisions up to here were told in an earlier life.
    told_up_to: u64,
    last_heard_ms: BTreeMap<u64, u64>,
    /// Since nobody was heard.
    lonely_ticks: u32,
    /// The newest format that each of the others understands.
    heard_formats: BTreeMap<u64, u32>,
    patience: Patience,
    disk_full: bool,
    /// Since it leads with a full disk.
    full_ticks: u32,
    /// Another member has said that this one was removed.
    removed: bool,
    /// The group that has taken the place of this one, if another member spoke for it.
    successor: Option<String>,
    stopping_ticks: Option<u32>,
    stopped: bool,
    counts: Counts,
}

impl Member {
    /// The member as it was when `stored` was persisted; one that stored nothing waits to be told by a leader what there is.
    pub fn new(
        config: MemberConfig,
        stored: Stored,
        logger: &slog::Logger,
    ) -> Result<Self, MemberError> {
        let snapshot_index = stored.snapshot.as_ref().map_or(0, |s| s.index);
        let state = match &stored.snapshot {
            Some(snapshot) => {
                codec::decode_state(&snapshot.data).map_err(MemberError::StoredSnapshot)?
            }
            None => State::new(config.cluster_id.clone()),
        };
        if state.cluster_id != config.cluster_id {
            return Err(MemberError::Halfway {
                bound: config.cluster_id,
                held: state.cluster_id,
            });
        }
        let told_up_to = stored.last_index();
        let peer_config = PeerConfig {
            id: config.id,
            seed: config.seed,
        };
        let peer = Peer::new(&peer_config, stored, logger)?;
        Ok(Self {
            membership: peer.membership(),
            reads: Reads::new(config.id, config.seed),
            config,
            peer,
            core: Core::new(state),
            outputs: Vec::new(),
            in_flight: VecDeque::new(),
            next_sequence: 1,
            writes: Writes::default(),
            senders: Senders::default(),
            receiver: Receiver::default(),
            membership_waits: None,
            membership_due: true,
            leads_term: None,
            core_leads: false,
            applied: snapshot_index,
            snapshot_index,
            told_up_to,
            last_heard_ms: BTreeMap::new(),
            lonely_ticks: 0,
            heard_formats: BTreeMap::new(),
            patience: Patience::default(),
            disk_full: false,
            full_ticks: 0,
            removed: false,
            successor: None,
            stopping_ticks: None,
            stopped: false,
            counts: Counts::default(),
        })
    }

    /// The deciding core with the replicated state.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// How often things happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Leads, and has applied everything that was ever committed.
    pub fn leads(&self) -> bool {
        self.core_leads
    }

    /// The term in which it is.
    pub fn term(&self) -> u64 {
        self.peer.term()
    }

    /// The log index up to which everything is applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Who is in the group, as applied.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Takes in something that happened; what follows from it is said by [`Member::advance`], except for answers.
    pub fn take(&mut self, now: Now, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::Message(message) => self.message(now, *message),
            Input::Propose {
                token,
                command,
                deadline_ms,
            } => self.propose_for(now, token, &command, deadline_ms),
            Input::Read { token, of_leader } => self.read(now, token, of_leader),
            Input::Report(report) => self.step(now, Event::Reported { report }),
            Input::StreamEnded(alias) => self.step(now, Event::StreamEnded { alias }),
            Input::Relayed(snapshot) => self.step(now, Event::Relayed { snapshot }),
            Input::Written { sequence } => self.written(sequence),
            Input::Unreachable(id) => self.peer.unreachable(id),
            Input::DiskFull(full) => self.set_disk_full(full),
            Input::Transfer { token, to } => self.transfer(token, to),
            Input::Stop => self.stop(),
        }
    }

    fn tick(&mut self, now: Now) {
        self.watch_disk();
        self.peer.tick();
        self.step(now, Event::Tick);
        self.writes.tick(now.monotonic_ms, &mut self.outputs);
        self.reads.tick(now.monotonic_ms, &mut self.outputs);
        self.receiver.tick();
        for to in self.senders.tick() {
            self.peer.snapshot_sent(to, false);
        }
        self.knock_if_lonely();
        self.give_leadership_away();
        self.membership_due = true;
        if let Some(ticks) = &mut self.stopping_ticks {
            *ticks = ticks.saturating_sub(1);
        }
    }

    fn read(&mut self, now: Now, token: Token, of_leader: bool) {
        if of_leader && self.leads_term.is_none() {
            let leader = self.leader_address();
            let outcome = Err(ReadError::NotLeader { leader });
            self.outputs.push(Output::Readable { token, outcome });
            return;
        }
        self.reads
            .ask(token, of_leader, now.monotonic_ms, &mut self.outputs);
    }

    fn propose_for(&mut self, now: Now, token: Token, command: &Command, deadline_ms: Option<u64>) {
        let late = deadline_ms.is_some_and(|deadline_ms| now.monotonic_ms > deadline_ms);
        let outcome = if late {
            Err(WriteError::Late)
        } else if self.writes.is_full() {
            Err(WriteError::Busy)
        } else if self.disk_full {
            Err(WriteError::DiskFull)
        } else {
            self.propose(command)
        };
        match outcome {
            Ok(()) => {
                let request_id = command.request_id.clone();
                self.writes.wait(request_id, token, now.monotonic_ms);
            }
            Err(error) => self.outputs.push(Output::Done {
                token,
                outcome: Err(error),
            }),
        }
    }

    fn propose(&mut self, command: &Command) -> Result<(), WriteError> {
        let proposed = self.peer.propose(codec::encode_command(command));
        proposed.map_err(|error| match error {
            ProposeError::NotLeader => WriteError::NotLeader {
                leader: self.leader_address(),
            },
            ProposeError::Busy => WriteError::Busy,
            ProposeError::TooLarge => WriteError::TooLarge,
        })?;
        self.counts.proposals += 1;
        Ok(())
    }

    /// One event for the core, and everything that follows from it.
    fn step(&mut self, now: Now, event: Event) {
        for effect in self.core.step(now, event) {
            match effect {
                // Where it is not taken, the core proposes again as long as it sees reason to.
                Effect::Propose(command) => drop(self.propose(&command)),
                Effect::Finished {
                    request_id,
                    outcome,
                } => {
                    self.counts.commands_refused += u64::from(outcome.is_err());
                    self.writes.finish(&request_id, &outcome, &mut self.outputs);
                }
                Effect::SendDesired(desired) => self.outputs.push(Output::SendDesired(desired)),
                Effect::PublishRouting(update) => {
                    self.outputs.push(Output::PublishRouting(update));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
