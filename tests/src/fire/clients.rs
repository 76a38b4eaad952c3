//! Clients that read and write a few hot records through any member, all the time. A write whose outcome is not known is sent
//! again with its request id to another member, until its client loses patience: then its outcome stays open. Records what it
//! was told, judges nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    MEMBERS,
    diary::Diary,
    recorder::Recorder,
    register::{Failure, Register},
};
use crate::{
    check::linearizable::{Answer, Call, Change},
    sim::random::Random,
};

/// Clients at once.
pub const CLIENTS: usize = 12;
/// Records in all; two after each other are read and written together now and then.
pub const RECORDS: usize = 6;
/// How long a client waits for one answer, in milliseconds: shorter than an election or longer.
const ANSWER_MS: (u64, u64) = (100, 2_000);
/// How long a client goes on asking for the outcome of a write: most of them longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Percent of the writes whose clients lose patience at the first answer that does not come.
const IMPATIENT_PERCENT: u64 = 10;
/// Percent of the writes that delete.
const DELETES_PERCENT: u64 = 10;
/// Between two operations of a client, in milliseconds.
const THINK_MS: (u64, u64) = (0, 15);
/// Before a request is sent again.
const AGAIN: Duration = Duration::from_millis(30);

/// What all clients share.
#[derive(Clone)]
pub struct Stage {
    pub recorder: Arc<Recorder>,
    pub diary: Arc<Diary>,
    /// No further operations; those under way are brought to their end.
    pub stop: Arc<AtomicBool>,
}

/// One of them.
pub struct Client {
    number: u64,
    random: Random,
    register: Register,
    stage: Stage,
    /// Revisions as far as this client knows; zero for a record that does not exist.
    known: BTreeMap<String, u64>,
    writes: u64,
    /// Whom it asked last, as long as that one answers.
    member: usize,
}

/// The name of a record.
pub fn record(number: usize) -> String {
    format!("k{number}")
}

impl Client {
    pub fn new(number: u64, random: Random, register: Register, stage: Stage) -> Self {
        Self {
            number,
            random,
            register,
            stage,
            known: BTreeMap::new(),
            writes: 0,
            member: number as usize % MEMBERS,
        }
    }

    /// Until it is told to stop.
    pub async fn run(mut self) {
        while !self.stage.stop.load(Ordering::Relaxed) {
            if self.random.chance(45) {
                self.read().await;
            } else {
                self.write().await;
            }
            let pause = self.random.between(THINK_MS.0, THINK_MS.1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn pick_member(&mut self) -> usize {
        self.member = self.random.between(0, MEMBERS as u64 - 1) as usize;
        self.member
    }

    fn limit(&mut self) -> Duration {
        Duration::from_millis(self.random.between(ANSWER_MS.0, ANSWER_MS.1))
    }

    /// One record or a pair.
    fn records(&mut self) -> Vec<String> {
        let number = self.random.between(0, RECORDS as u64 - 1) as usize;
        if self.random.chance(20) {
            let first = number / 2 * 2;
            return vec![record(first), record(first + 1)];
        }
        vec![record(number)]
    }

    async fn read(&mut self) {
        let records = self.records();
        let member = self.pick_member();
        self.read_at(member, records).await;
    }

    async fn read_at(&mut self, member: usize, records: Vec<String>) {
        let limit = self.limit();
        let call = Call::Read {
            records: records.clone(),
        };
        let id = self.stage.recorder.call(self.number, call);
        match self.register.read(member, &records, limit).await {
            Ok((index, answer)) => {
                self.learn(&records, &answer);
                self.stage.recorder.answer(id, answer, Some(index));
            }
            Err(Failure::Elsewhere(Some(leader))) => self.member = leader,
            Err(failure) => self.complain(failure),
        }
    }

    fn learn(&mut self, records: &[String], answer: &Answer) {
        if let Answer::Read { found } = answer {
            for (record, found) in records.iter().zip(found) {
                let revision = found.as_ref().map_or(0, |(revision, _)| *revision);
                self.known.insert(record.clone(), revision);
            }
        }
    }

    fn complain(&self, failure: Failure) {
        if let Failure::Unforeseen(text) = failure {
            let number = self.number;
            self.stage
                .diary
                .find(format!("client {number} was told: {text}"));
        }
    }

    async fn write(&mut self) {
        let records = self.records();
        // Half of the writes go by what the client remembers.
        if self.random.chance(50) {
            let member = self.pick_member();
            self.read_at(member, records.clone()).await;
        }
        self.writes += 1;
        let request_id = format!("client-{}-{}", self.number, self.writes);
        let deletes = self.random.chance(DELETES_PERCENT);
        let change = |record: &String| {
            let expected = self.known.get(record).copied().unwrap_or(0);
            Change {
                record: record.clone(),
                expected,
                value: (expected == 0 || !deletes).then(|| request_id.clone()),
            }
        };
        let changes: Vec<_> = records.iter().map(change).collect();
        let call = Call::Write {
            changes: changes.clone(),
        };
        let id = self.stage.recorder.call(self.number, call);
        let Some(answer) = self.insist(&request_id, &changes).await else {
            return;
        };
        match &answer {
            Answer::Written { revision } => {
                for change in &changes {
                    let known = if change.value.is_some() { *revision } else { 0 };
                    self.known.insert(change.record.clone(), known);
                }
            }
            Answer::Conflict { record, found } => {
                self.known.insert(record.clone(), *found);
            }
            _ => {}
        }
        self.stage.recorder.answer(id, answer, None);
    }

    /// Sends a write again and again, with the same request id, until its outcome is known or the client gives up.
    async fn insist(&mut self, request_id: &str, changes: &[Change]) -> Option<Answer> {
        let patience = if self.random.chance(IMPATIENT_PERCENT) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let deadline = Instant::now() + patience;
        let mut member = if self.random.chance(50) {
            self.member
        } else {
            self.pick_member()
        };
        loop {
            let limit = self.limit();
            let answer = self
                .register
                .write(member, request_id, changes, limit)
                .await;
            match answer {
                Ok(answer) => return Some(answer),
                // Nothing was done, so asking the leader is no loss of patience.
                Err(Failure::Elsewhere(Some(leader))) => {
                    member = leader;
                    self.member = leader;
                }
                Err(failure @ Failure::Unforeseen(_)) => {
                    self.complain(failure);
                    return None;
                }
                Err(_) => member = self.pick_member(),
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
