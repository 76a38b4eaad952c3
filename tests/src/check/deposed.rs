//! No failover where none is allowed: nobody is deposed who was well and heard.

use std::collections::BTreeMap;

use vt_proto::epoch::Epoch;

use super::Violation;

/// What was wrong with a primary so long ago is no reason any more: the longest wait for a proof is 5 s, and it is reported and decided.
const REASON_AGE_MS_MAX: u64 = 7_000;

/// When something was wrong with each tablet last, and the newest epoch that was revoked.
#[derive(Debug, Default)]
pub struct Deposed {
    impaired_ms: BTreeMap<usize, u64>,
    epoch: Epoch,
}

impl Deposed {
    /// Something is wrong with this tablet, or between its agent and the coordinators.
    pub fn impaired(&mut self, tablet: usize, now_ms: u64) {
        self.impaired_ms.insert(tablet, now_ms);
    }

    /// The epoch before this one is revoked.
    pub fn revoked(
        &mut self,
        tablet: usize,
        epoch: Epoch,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), Violation> {
        if epoch <= self.epoch {
            return Ok(());
        }
        self.epoch = epoch;
        let impaired_ms = self.impaired_ms.get(&tablet);
        match impaired_ms {
            Some(at_ms) if now_ms - at_ms <= REASON_AGE_MS_MAX => Ok(()),
            _ => Err(format!(
                "tablet {tablet} was well, and is deposed for epoch {epoch} because {reason}"
            )),
        }
    }
}
