//! Invariant 1: never two tablets of a replica set that can acknowledge writes at the same true time.

use std::collections::BTreeMap;

use vt_proto::epoch::Epoch;

use super::Violation;

/// Every OK that was given, by its order in true time.
#[derive(Debug, Default)]
pub struct OnePrimary {
    highest: Epoch,
    primary_of: BTreeMap<Epoch, usize>,
}

impl OnePrimary {
    /// The epoch of the newest acknowledgement, and who gave it.
    pub fn newest(&self) -> Option<(Epoch, usize)> {
        let tablet = self.primary_of.get(&self.highest)?;
        Some((self.highest, *tablet))
    }

    /// A tablet said OK to a client in this epoch. `kept`: the newest primary has the write too.
    ///
    /// A late OK of an ended epoch is right if the write is kept: its acknowledgements were given before the epoch was
    /// revoked, and only the old primary, asleep, had not read them.
    pub fn acknowledged(
        &mut self,
        tablet: usize,
        epoch: Epoch,
        kept: bool,
    ) -> Result<(), Violation> {
        if epoch < self.highest {
            if kept {
                return Ok(());
            }
            return Err(format!(
                "tablet {tablet} acknowledged in epoch {epoch} after an acknowledgement in epoch {}",
                self.highest
            ));
        }
        self.highest = epoch;
        match self.primary_of.insert(epoch, tablet) {
            Some(other) if other != tablet => Err(format!(
                "tablets {other} and {tablet} both acknowledged in epoch {epoch}"
            )),
            _ => Ok(()),
        }
    }

    /// The tablets that could acknowledge at this moment.
    pub fn able(&self, tablets: &[usize]) -> Result<(), Violation> {
        if tablets.len() > 1 {
            return Err(format!(
                "tablets {tablets:?} can acknowledge at the same time"
            ));
        }
        Ok(())
    }
}
