//! Which requests were applied and what came of them: bounded, the oldest forgotten first, found by id without a walk.

use std::collections::{BTreeMap, VecDeque};

use vt_proto::epoch::Revision;

use crate::refusal::Refusal;

/// What a command came to.
pub type Outcome = Result<Revision, Refusal>;

/// Outcomes by request id, in order of application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    order: VecDeque<String>,
    /// Of every id in `order`, and of no other.
    outcomes: BTreeMap<String, Outcome>,
}

impl Requests {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What came of a request, if that is still known.
    pub fn get(&self, id: &str) -> Option<&Outcome> {
        self.outcomes.get(id)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.order
            .iter()
            .filter_map(|id| Some((id.as_str(), self.outcomes.get(id)?)))
    }

    /// Remembers one more, and forgets the oldest ones beyond `max`. False, and nothing changes, if the id is known.
    pub(crate) fn push(&mut self, id: String, outcome: Outcome, max: usize) -> bool {
        if self.outcomes.contains_key(&id) {
            return false;
        }
        self.outcomes.insert(id.clone(), outcome);
        self.order.push_back(id);
        while self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
        true
    }
}
