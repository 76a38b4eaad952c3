//! One member of the coordinators' group: where it is, in which directory it lives, whether it is to stay. It names nothing.

use std::num::NonZeroU16;

use vt_proto::{
    convert::ConvertError,
    topology::{Coordinator, Standing},
    wire,
};

use super::Record;

impl Record for Coordinator {
    type Key = u64;
    type Wire = wire::Coordinator;
    type WireKey = u64;
    const NOUN: &'static str = "coordinator";
    const WRITTEN_BY: Option<&'static str> =
        Some("`vtctl coordinator add` and `vtctl coordinator remove`");

    fn key_to_wire(id: u64) -> u64 {
        id
    }

    fn key_from_wire(id: u64) -> Result<u64, ConvertError> {
        Ok(id)
    }

    fn validate(old: Option<&Self>, new: &Self) -> Result<(), String> {
        let refuse = |reason: &str| Err(format!("coordinator {}: {reason}", new.id));
        if new.id == 0 {
            return refuse("ids start at 1");
        }
        let address = new.address.rsplit_once(':');
        let address = address.filter(|(host, _)| !host.is_empty());
        if address.is_none_or(|(_, port)| port.parse::<NonZeroU16>().is_err()) {
            return refuse("its address must be host:port");
        }
        let Some(old) = old else {
            return Ok(());
        };
        // What voted from one directory has promised things that another directory does not know.
        if !old.directory_id.is_empty() && old.directory_id != new.directory_id {
            return refuse("it lives in another directory for good: add a new coordinator instead");
        }
        if old.standing == Standing::Leaving && new.standing != Standing::Leaving {
            return refuse("it is leaving and may be gone already: add a new coordinator instead");
        }
        Ok(())
    }
}
