//! Which desired states were sent, and when one is sent again. It sends nothing.

use std::collections::BTreeMap;

use vt_proto::{epoch::Generation, ids::TabletAlias};

use crate::event::Now;

/// How long an agent may take to report a newer generation before its desired state is sent again.
pub const RESEND_MS: u64 = 500;
/// And this often in any case: an agent that restarted holds the number of its desired state and not the state.
pub const REMIND_MS: u64 = 5_000;

/// What was sent to each agent last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    sent: BTreeMap<TabletAlias, (Generation, u64)>,
}

impl Deliveries {
    /// Whether to send: what is newer than what was sent, or was sent and not taken for a while, or long ago.
    pub fn is_due(
        &self,
        now: Now,
        alias: &TabletAlias,
        generation: Generation,
        is_taken: bool,
    ) -> bool {
        match self.sent.get(alias) {
            Some((sent, at_ms)) if *sent == generation => {
                let pause_ms = if is_taken { REMIND_MS } else { RESEND_MS };
                now.monotonic_ms.saturating_sub(*at_ms) >= pause_ms
            }
            _ => true,
        }
    }

    /// It is sent now.
    pub fn note(&mut self, now: Now, alias: &TabletAlias, generation: Generation) {
        self.sent
            .insert(alias.clone(), (generation, now.monotonic_ms));
    }

    /// The next stream of this agent starts empty.
    pub fn forget(&mut self, alias: &TabletAlias) {
        self.sent.remove(alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_sent_when_it_is_new_not_taken_or_old() {
        let alias: TabletAlias = "zone1-100".parse().unwrap();
        let at = |monotonic_ms| Now {
            monotonic_ms,
            unix_ms: 0,
        };
        let mut deliveries = Deliveries::default();
        assert!(deliveries.is_due(at(0), &alias, Generation(3), false));
        deliveries.note(at(1_000), &alias, Generation(3));
        for (now_ms, generation, is_taken, is_due) in [
            (1_000, 3, false, false),
            (1_000, 4, true, true),
            (1_000 + RESEND_MS, 3, false, true),
            (1_000 + RESEND_MS, 3, true, false),
            (1_000 + REMIND_MS, 3, true, true),
        ] {
            let found = deliveries.is_due(at(now_ms), &alias, Generation(generation), is_taken);
            assert_eq!(found, is_due, "{now_ms} {generation} {is_taken}");
        }
        deliveries.forget(&alias);
        assert!(deliveries.is_due(at(1_000), &alias, Generation(3), true));
    }
}
