//! That a tablet's host is to be maintained. It needs its tablet when it is asked for, and does not hold it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::TabletAlias,
    topology::Drain,
    wire,
};

use super::{Record, RecordKey};

impl Record for Drain {
    type Key = TabletAlias;
    type Wire = wire::Drain;
    type WireKey = String;
    const NOUN: &'static str = "drain";
    const WRITTEN_BY: Option<&'static str> = Some("`vtctl host drain` and `vtctl host undrain`");

    fn key_to_wire(alias: TabletAlias) -> String {
        alias.to_string()
    }

    fn key_from_wire(alias: String) -> Result<TabletAlias, ConvertError> {
        parse("key.drain", &alias)
    }

    fn needs(&self, created: bool, _format: u32) -> Vec<RecordKey> {
        let tablet = created.then(|| RecordKey::Tablet(self.alias.clone()));
        tablet.into_iter().collect()
    }
}
