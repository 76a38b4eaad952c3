//! The history as clients experience it, by one clock. Never judges.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::check::linearizable::{Answer, Call, History, OperationId};

/// A history that many clients write at once.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn begin(began: Instant) -> Self {
        Self {
            began,
            history: Mutex::default(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A client asks now.
    pub fn call(&self, client: u64, call: Call) -> OperationId {
        let mut history = self.history();
        history.call(client, self.now_us(), call)
    }

    /// It is answered now.
    pub fn answer(&self, id: OperationId, answer: Answer) {
        let mut history = self.history();
        history.answer(id, self.now_us(), answer);
    }

    /// Everything so far.
    pub fn so_far(&self) -> History {
        self.history().clone()
    }
}
