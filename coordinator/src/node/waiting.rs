//! Who waits for the node: writers for the outcome of their commands, readers for a majority's word that this member leads.

use std::collections::{BTreeMap, VecDeque};

use vt_coordinator_core::refusal::Refusal;
use vt_proto::epoch::Revision;

use super::handle::{ReadError, View, Waiter, WriteError};

/// Writers that wait at one time; each holds a proposal that is not committed yet.
const WRITES_WAITING_MAX: usize = 8_192;
/// Readers that wait at one time.
const READS_WAITING_MAX: usize = 8_192;

/// Writers by request id.
#[derive(Default)]
pub(super) struct Writes {
    waiters: BTreeMap<String, Vec<Waiter>>,
    count: usize,
}

impl Writes {
    pub(super) fn is_full(&self) -> bool {
        self.count >= WRITES_WAITING_MAX
    }

    pub(super) fn wait(&mut self, request_id: String, waiter: Waiter) {
        self.count += 1;
        self.waiters.entry(request_id).or_default().push(waiter);
    }

    pub(super) fn finish(&mut self, request_id: &str, outcome: &Result<Revision, Refusal>) {
        let outcome = outcome.clone().map_err(WriteError::Refused);
        for waiter in self.waiters.remove(request_id).unwrap_or_default() {
            self.count -= 1;
            // Who asked may have gone.
            drop(waiter.send(outcome.clone()));
        }
    }

    pub(super) fn fail_all(&mut self, error: &WriteError) {
        self.count = 0;
        for waiter in std::mem::take(&mut self.waiters).into_values().flatten() {
            drop(waiter.send(Err(error.clone())));
        }
    }

    /// Forgets those who gave up.
    pub(super) fn drop_abandoned(&mut self) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.count = self.waiters.values().map(Vec::len).sum();
    }
}

/// Readers, by how far the confirmation is. One round to the other members serves all that wait when it begins.
#[derive(Default)]
pub(super) struct Reads {
    waiting: Vec<View>,
    rounds: VecDeque<(u64, Vec<View>)>,
    confirmed: Vec<(u64, Vec<View>)>,
    last_context: u64,
    count: usize,
}

impl Reads {
    pub(super) fn ask(&mut self, view: View) {
        if self.count >= READS_WAITING_MAX {
            view(Err(ReadError::Busy));
            return;
        }
        self.count += 1;
        self.waiting.push(view);
    }

    /// The context of a new round, if anybody waits for one.
    pub(super) fn begin_round(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        self.last_context += 1;
        let views = std::mem::take(&mut self.waiting);
        self.rounds.push_back((self.last_context, views));
        Some(self.last_context)
    }

    /// The round with this context, and those before it, may be answered at `index`.
    pub(super) fn confirmed(&mut self, context: u64, index: u64) {
        while let Some((_, views)) = self.rounds.pop_front_if(|(c, _)| *c <= context) {
            self.confirmed.push((index, views));
        }
    }

    /// Who may be answered from a state at `applied`.
    pub(super) fn answerable(&mut self, applied: u64) -> Vec<View> {
        let mut answerable = Vec::new();
        let confirmed = std::mem::take(&mut self.confirmed);
        for (index, views) in confirmed {
            if index <= applied {
                answerable.extend(views);
            } else {
                self.confirmed.push((index, views));
            }
        }
        self.count -= answerable.len();
        answerable
    }

    pub(super) fn fail_all(&mut self, error: &ReadError) {
        let rounds = self.rounds.drain(..).map(|(_, views)| views);
        let confirmed = self.confirmed.drain(..).map(|(_, views)| views);
        let waiting = std::mem::take(&mut self.waiting);
        for view in rounds.chain(confirmed).flatten().chain(waiting) {
            view(Err(error.clone()));
        }
        self.count = 0;
    }
}
