//! The history as clients experience it, by one clock. Never judges.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::check::{
    linearizable::{Answer, Call, History, OperationId},
    revisions::Seen,
};

/// A history that many clients write at once.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    history: Mutex<History>,
    places: Mutex<Vec<Seen>>,
}

impl Recorder {
    pub fn begin(began: Instant) -> Self {
        Self {
            began,
            history: Mutex::default(),
            places: Mutex::default(),
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

    /// It is answered now, from this place in the log if that is known.
    pub fn answer(&self, id: OperationId, answer: Answer, read_at: Option<u64>) {
        let (is_write, index) = match &answer {
            Answer::Written { revision } => (true, Some(*revision)),
            _ => (false, read_at),
        };
        let mut history = self.history();
        let answered = self.now_us();
        history.answer(id, answered, answer);
        let called = history.operation(id).called;
        drop(history);
        if let Some(index) = index {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.push(Seen {
                called,
                answered,
                index,
                is_write,
            });
        }
    }

    /// The places in the log that answers told.
    pub fn places(&self) -> Vec<Seen> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.clone()
    }

    /// Everything so far.
    pub fn so_far(&self) -> History {
        self.history().clone()
    }
}
