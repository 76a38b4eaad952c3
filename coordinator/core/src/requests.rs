//! Which requests were applied and what came of them: bounded, the oldest forgotten first, found by id without a walk.

use std::collections::{BTreeSet, VecDeque};

use vt_proto::epoch::Revision;

use crate::refusal::Refusal;

/// What a command came to.
pub type Outcome = Result<Revision, Refusal>;

/// Outcomes by request id, in order of application.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    order: VecDeque<(String, Outcome)>,
    /// Fingerprint and number of every id in `order`, and of no other: to find one, few texts are compared.
    index: BTreeSet<(u64, u64)>,
    /// The number of the oldest.
    first: u64,
}

/// Equal where the same is remembered in the same order.
impl PartialEq for Requests {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Requests {}

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
        let print = fingerprint(id.as_bytes());
        let mut alike = self.index.range((print, 0)..=(print, u64::MAX));
        let found = alike.find_map(|(_, number)| {
            let position = usize::try_from(number - self.first).ok()?;
            self.order.get(position).filter(|(known, _)| known == id)
        });
        found.map(|(_, outcome)| outcome)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        let each = self.order.iter();
        each.map(|(id, outcome)| (id.as_str(), outcome))
    }

    /// Remembers one more, and forgets the oldest ones beyond `max`. False, and nothing changes, if the id is known.
    pub(crate) fn push(&mut self, id: String, outcome: Outcome, max: usize) -> bool {
        if self.get(&id).is_some() {
            return false;
        }
        let number = self.first + self.order.len() as u64;
        self.index.insert((fingerprint(id.as_bytes()), number));
        self.order.push_back((id, outcome));
        while self.order.len() > max
            && let Some((oldest, _)) = self.order.pop_front()
        {
            self.index
                .remove(&(fingerprint(oldest.as_bytes()), self.first));
            self.first += 1;
        }
        true
    }
}

/// A number that tells byte strings apart (FNV-1a, 64 bits): no key, no platform, no library version in it. Not for secrets.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_found_and_the_oldest_forgotten() {
        const MAX: usize = 3;
        let mut requests = Requests::default();
        for revision in 1..=10 {
            let id = format!("request-{revision}");
            assert!(requests.push(id.clone(), Ok(Revision(revision)), MAX));
            assert!(!requests.push(id, Ok(Revision(99)), MAX), "it is known");
        }
        let of = |revision: u64| requests.get(&format!("request-{revision}"));
        assert_eq!(of(7), None);
        for revision in 8..=10 {
            assert_eq!(of(revision), Some(&Ok(Revision(revision))));
        }
        assert_eq!((requests.len(), requests.index.len()), (MAX, MAX));
        let mut again = Requests::default();
        for (id, outcome) in requests.iter() {
            assert!(again.push(id.to_owned(), outcome.clone(), MAX));
        }
        assert_eq!(again, requests, "the numbers do not matter");
        assert!(requests.push("request-7".to_owned(), Ok(Revision(11)), MAX));
        assert_ne!(again, requests);
    }
}
