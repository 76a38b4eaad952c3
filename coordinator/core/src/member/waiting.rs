//! Who waits for a member: writers for the outcome of their commands, readers for a majority's word on what the newest state is.

use std::collections::{BTreeMap, VecDeque};

use vt_proto::epoch::Revision;

use super::{Output, ReadError, Token, WriteError};
use crate::refusal::Refusal;

/// Writers that wait at one time; each holds a proposal that is not committed yet.
const WRITES_WAITING_MAX: usize = 8_192;
/// How long a write may wait for its outcome: longer than an election, so that most are answered.
const WRITE_PATIENCE_MS: u64 = 6_000;
/// Readers that wait at one time.
const READS_WAITING_MAX: usize = 8_192;
/// How long a read may wait for a majority.
const READ_PATIENCE_MS: u64 = 5_000;
/// After so long without an answer the question is asked again: it, or the answer, or the leader may be lost.
const ASK_AGAIN_MS: u64 = 200;

#[derive(Clone, Copy)]
struct Writer {
    token: Token,
    since_ms: u64,
}

/// Writers by request id.
#[derive(Default)]
pub(super) struct Writes {
    waiting: BTreeMap<String, Vec<Writer>>,
    count: usize,
}

impl Writes {
    pub(super) fn is_full(&self) -> bool {
        self.count >= WRITES_WAITING_MAX
    }

    pub(super) fn wait(&mut self, request_id: String, token: Token, now_ms: u64) {
        self.count += 1;
        let writer = Writer {
            token,
            since_ms: now_ms,
        };
        self.waiting.entry(request_id).or_default().push(writer);
    }

    pub(super) fn finish(
        &mut self,
        request_id: &str,
        outcome: &Result<Revision, Refusal>,
        outputs: &mut Vec<Output>,
    ) {
        for writer in self.waiting.remove(request_id).unwrap_or_default() {
            self.count -= 1;
            outputs.push(Output::Done {
                token: writer.token,
                outcome: outcome.clone().map_err(WriteError::Refused),
            });
        }
    }

    pub(super) fn fail_all(&mut self, error: &WriteError, outputs: &mut Vec<Output>) {
        self.count = 0;
        for writer in std::mem::take(&mut self.waiting).into_values().flatten() {
            outputs.push(Output::Done {
                token: writer.token,
                outcome: Err(error.clone()),
            });
        }
    }

    /// Answers those who waited too long: their proposals may be lost.
    pub(super) fn tick(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        self.waiting.retain(|_, writers| {
            writers.retain(|writer| {
                let waits = now_ms.saturating_sub(writer.since_ms) < WRITE_PATIENCE_MS;
                if !waits {
                    outputs.push(Output::Done {
                        token: writer.token,
                        outcome: Err(WriteError::Unknown),
                    });
                }
                waits
            });
            !writers.is_empty()
        });
        self.count = self.waiting.values().map(Vec::len).sum();
    }
}

#[derive(Clone, Copy)]
struct Reader {
    token: Token,
    of_leader: bool,
    since_ms: u64,
}

struct Round {
    context: Vec<u8>,
    asked_ms: u64,
    readers: Vec<Reader>,
}

/// Readers, by how far the confirmation is. One question serves all that wait when it is asked.
pub(super) struct Reads {
    waiting: Vec<Reader>,
    rounds: VecDeque<Round>,
    confirmed: Vec<(u64, Vec<Reader>)>,
    /// Makes contexts different from those of other members and of earlier lives.
    life: Vec<u8>,
    last_context: u64,
    count: usize,
}

impl Reads {
    /// `seed` is different in each life of a member.
    pub(super) fn new(id: u64, seed: u64) -> Self {
        let mut life = id.to_be_bytes().to_vec();
        life.extend(seed.to_be_bytes());
        Self {
            waiting: Vec::new(),
            rounds: VecDeque::new(),
            confirmed: Vec::new(),
            life,
            last_context: 0,
            count: 0,
        }
    }

    pub(super) fn ask(
        &mut self,
        token: Token,
        of_leader: bool,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        if self.count >= READS_WAITING_MAX {
            let outcome = Err(ReadError::Busy);
            outputs.push(Output::Readable { token, outcome });
            return;
        }
        self.count += 1;
        self.waiting.push(Reader {
            token,
            of_leader,
            since_ms: now_ms,
        });
    }

    /// The context of a new question, if anybody waits for one.
    pub(super) fn begin_round(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            return None;
        }
        self.last_context += 1;
        let mut context = self.life.clone();
        context.extend(self.last_context.to_be_bytes());
        self.rounds.push_back(Round {
            context: context.clone(),
            asked_ms: now_ms,
            readers: std::mem::take(&mut self.waiting),
        });
        Some(context)
    }

    /// The question with this context, and those asked before it, may be answered at `index`.
    pub(super) fn confirmed(&mut self, context: &[u8], index: u64) {
        let Some(position) = self.rounds.iter().position(|r| r.context == context) else {
            return;
        };
        for round in self.rounds.drain(..=position) {
            self.confirmed.push((index, round.readers));
        }
    }

    /// Who may look at a state at `applied`.
    pub(super) fn answer(&mut self, applied: u64, outputs: &mut Vec<Output>) {
        if self.confirmed.is_empty() {
            return;
        }
        for (index, readers) in std::mem::take(&mut self.confirmed) {
            if index > applied {
                self.confirmed.push((index, readers));
                continue;
            }
            self.count -= readers.len();
            outputs.extend(readers.into_iter().map(|reader| Output::Readable {
                token: reader.token,
                outcome: Ok(()),
            }));
        }
    }

    /// Asks again what was not answered for a while, and answers those who waited too long.
    pub(super) fn tick(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        while let Some(round) = self
            .rounds
            .pop_front_if(|round| now_ms.saturating_sub(round.asked_ms) >= ASK_AGAIN_MS)
        {
            self.waiting.extend(round.readers);
        }
        let error = ReadError::TimedOut;
        self.fail(&error, outputs, |reader| {
            now_ms.saturating_sub(reader.since_ms) >= READ_PATIENCE_MS
        });
    }

    /// Answers those who wait for something that only a leader knows.
    pub(super) fn fail_of_leader(&mut self, error: &ReadError, outputs: &mut Vec<Output>) {
        self.fail(error, outputs, |reader| reader.of_leader);
    }

    pub(super) fn fail_all(&mut self, error: &ReadError, outputs: &mut Vec<Output>) {
        self.fail(error, outputs, |_| true);
    }

    fn fail(
        &mut self,
        error: &ReadError,
        outputs: &mut Vec<Output>,
        which: impl Fn(&Reader) -> bool,
    ) {
        let mut sieve = |readers: &mut Vec<Reader>| {
            readers.retain(|reader| {
                let fails = which(reader);
                if fails {
                    outputs.push(Output::Readable {
                        token: reader.token,
                        outcome: Err(error.clone()),
                    });
                }
                !fails
            });
            readers.len()
        };
        let mut count = sieve(&mut self.waiting);
        for round in &mut self.rounds {
            count += sieve(&mut round.readers);
        }
        for (_, readers) in &mut self.confirmed {
            count += sieve(readers);
        }
        self.count = count;
    }
}
