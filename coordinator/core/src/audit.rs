//! The audit: decisions and intents with their evidence, bounded by count and by bytes, the oldest forgotten first.

use std::{collections::VecDeque, ops::Deref};

use vt_proto::topology::AuditEvent;

/// Events with their sequence numbers, oldest first. To be read as what it is: a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    events: VecDeque<(u64, AuditEvent)>,
    bytes: usize,
}

impl Deref for Audit {
    type Target = VecDeque<(u64, AuditEvent)>;

    fn deref(&self) -> &Self::Target {
        &self.events
    }
}

impl Audit {
    /// Adds the newest.
    pub fn push(&mut self, sequence: u64, event: AuditEvent) {
        self.bytes += bytes(&event);
        self.events.push_back((sequence, event));
    }

    /// Forgets the oldest ones beyond these bounds.
    pub(crate) fn trim(&mut self, count_max: usize, bytes_max: usize) {
        while (self.events.len() > count_max || self.bytes > bytes_max)
            && let Some((_, oldest)) = self.events.pop_front()
        {
            self.bytes -= bytes(&oldest);
        }
    }
}

/// What an event takes, without what is the same for all.
fn bytes(event: &AuditEvent) -> usize {
    let evidence = event.evidence.iter();
    let evidence: usize = evidence.map(|(name, value)| name.len() + value.len()).sum();
    event.kind.len() + event.subject.len() + event.message.len() + evidence
}
