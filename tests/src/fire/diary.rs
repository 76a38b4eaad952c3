//! What was done when, and what was found to be wrong meanwhile; also said aloud at once. Never judges.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Both, with times since it was begun.
#[derive(Debug)]
pub struct Diary {
    began: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    entries: Vec<String>,
    findings: Vec<String>,
}

impl Diary {
    pub fn begin(began: Instant) -> Self {
        Self {
            began,
            pages: Mutex::default(),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn note(&self, what: &str) {
        let line = format!("{:>7} ms  {what}", self.began.elapsed().as_millis());
        println!("{line}");
        self.pages().entries.push(line);
    }

    /// Something is wrong.
    pub fn find(&self, what: String) {
        self.note(&format!("FOUND {what}"));
        self.pages().findings.push(what);
    }

    pub fn entries(&self) -> Vec<String> {
        self.pages().entries.clone()
    }

    pub fn findings(&self) -> Vec<String> {
        self.pages().findings.clone()
    }
}
