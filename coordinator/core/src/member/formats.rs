//! What each member says that it understands goes into its record, so that the group's format grows once all are upgraded.

use vt_proto::topology::Coordinator;

use super::Member;
use crate::{
    command::{Change, Command, RecordValue},
    format,
    state::Versioned,
};

impl Member {
    /// Writes down what one of the members understands, if that is not known yet.
    pub(super) fn formats_turn(&mut self) {
        let mut records = self.core.state().coordinators.values();
        let news = records.find_map(|record| {
            let formats = self.formats_of(record.value.id)?;
            (formats != record.value.formats).then(|| (record.clone(), formats))
        });
        if let Some((record, formats)) = news {
            let command = learn(record, formats);
            // One that is not taken is proposed again at the next tick.
            drop(self.propose(&command));
        }
    }

    fn formats_of(&self, id: u64) -> Option<u32> {
        if id == self.config.id {
            return Some(format::NEWEST);
        }
        self.heard_formats.get(&id).copied()
    }
}

fn learn(record: Versioned<Coordinator>, formats: u32) -> Command {
    let id = record.value.id;
    let value = Coordinator {
        formats,
        ..record.value
    };
    // The same for every attempt at the same record, so that it is applied once.
    let request_id = format!("formats-{id}-{}-{formats}", record.revision);
    let change = Change::put(record.revision, RecordValue::Coordinator(value));
    Command::new(request_id, vec![change], Vec::new())
}
