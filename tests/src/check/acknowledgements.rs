//! What invariant 2 rests on: a tablet that answers a failover with intact data has everything that it ever acknowledged.

use std::collections::BTreeMap;

use vt_proto::{gtid::GtidSet, report::Report};

use super::Violation;

/// What each tablet has acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    given: BTreeMap<usize, GtidSet>,
}

impl Acknowledgements {
    /// A tablet acknowledged these.
    pub fn gave(&mut self, tablet: usize, transactions: &GtidSet) {
        let given = self.given.entry(tablet).or_default();
        *given = given.union(transactions);
    }

    /// Its data were replaced by a copy that has these.
    pub fn copied(&mut self, tablet: usize, executed: &GtidSet) {
        if let Some(given) = self.given.get_mut(&tablet) {
            let lost = given.subtract(executed);
            *given = given.subtract(&lost);
        }
    }

    /// Its agent says this.
    pub fn told(&mut self, tablet: usize, report: &Report) -> Result<(), Violation> {
        let Some(gtid) = &report.gtid else {
            return Ok(());
        };
        if report.amnesiac {
            self.copied(tablet, &gtid.received);
            return Ok(());
        }
        let given = self.given.get(&tablet);
        let missing = given.map(|given| given.subtract(&gtid.received));
        match missing.filter(|missing| report.revoked.is_some() && !missing.is_empty()) {
            Some(missing) => Err(format!(
                "tablet {tablet} says that its data are intact and lacks {missing}, which it acknowledged"
            )),
            None => Ok(()),
        }
    }
}
