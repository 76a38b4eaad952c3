//! A member's disk: batches wait, are flushed together, and are durable when the flush has ended. A crash keeps any first part of
//! what was being flushed and nothing of what waited. What was reported as written is never lost.

use std::collections::VecDeque;

use vt_coordinator_core::peer::{Batch, Stored};

use super::sabotage::Sabotage;
use crate::sim::random::Random;

/// One directory on one disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What a start finds.
    pub(super) stored: Stored,
    waiting: VecDeque<(u64, Batch)>,
    flushing: VecDeque<(u64, Batch)>,
    /// No space is left.
    pub(super) full: bool,
    /// A flush that would end earlier ends then.
    pub(super) stalled_until_us: u64,
    /// How long a flush takes at most.
    pub(super) flush_us_max: u64,
}

impl Disk {
    /// An empty one.
    pub(super) fn new(flush_us_max: u64) -> Self {
        Self {
            flush_us_max,
            ..Self::default()
        }
    }

    /// A batch is to be written.
    pub(super) fn write(&mut self, sequence: u64, batch: Batch) {
        self.waiting.push_back((sequence, batch));
    }

    /// Begins to flush everything that waits, if the disk is free and has space. True: it is to end later.
    pub(super) fn begin_flush(&mut self) -> bool {
        if self.full || !self.flushing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.flushing = std::mem::take(&mut self.waiting);
        true
    }

    /// How long the flush that begins now takes.
    pub(super) fn flush_us(&self, now_us: u64, random: &mut Random) -> u64 {
        let takes_us = random.between(100, self.flush_us_max.max(100));
        takes_us.max(self.stalled_until_us.saturating_sub(now_us))
    }

    /// The flush has ended: the number of the last write in it.
    pub(super) fn end_flush(&mut self, sabotage: Option<Sabotage>) -> Option<u64> {
        let last = self.flushing.back().map(|(sequence, _)| *sequence);
        for (_, batch) in self.flushing.drain(..) {
            keep(&mut self.stored, batch, sabotage);
        }
        last
    }

    /// The machine or the process is gone; returns how many writes that nobody was told of are there all the same.
    pub(super) fn crash(&mut self, random: &mut Random, sabotage: Option<Sabotage>) -> usize {
        self.waiting.clear();
        let survive = random.between(0, self.flushing.len() as u64) as usize;
        for (_, batch) in self.flushing.drain(..).take(survive) {
            keep(&mut self.stored, batch, sabotage);
        }
        self.flushing.clear();
        survive
    }
}

fn keep(stored: &mut Stored, mut batch: Batch, sabotage: Option<Sabotage>) {
    if sabotage == Some(Sabotage::ForgetVote)
        && let Some(hard_state) = &mut batch.hard_state
    {
        let entries = batch.entries.iter().chain(&stored.entries);
        let term = entries.map(|entry| entry.term).max();
        hard_state.vote = 0;
        hard_state.term = term.unwrap_or(stored.start.term);
    }
    stored.apply(&batch);
}
