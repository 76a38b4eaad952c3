//! What must hold at the end: the group is whole again and of one mind, the history has an order, nobody broke on the way.

use std::time::{Duration, Instant};

use anyhow::ensure;
use vt_proto::wire;

use super::{
    MEMBERS,
    bed::Bed,
    clients::{RECORDS, record},
    observer::look,
    recorder::Recorder,
    register::{Failure, Register},
};
use crate::check::{
    linearizable::{self, Answer, Call, History},
    revisions::{self, Seen},
};

/// How long a healed group may take until everybody is up to date and answers.
pub const CONVERGENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What no member may ever say.
const BAD_WORDS: &[&str] = &["panicked at", "invariant", "RUST_BACKTRACE"];

/// What one member says of itself: whom it follows, and all records as it has them.
async fn mind(register: &Register, member: usize) -> Option<Mind> {
    let view = look(register, member).await?;
    let request = wire::ReadRecordsRequest {
        stale: true,
        ..wire::ReadRecordsRequest::default()
    };
    let mut client = register.records(member);
    let records = tokio::time::timeout(ANSWER_TIMEOUT, client.read(request)).await;
    let records = records.ok()?.ok()?.into_inner();
    Some((view.leader_id, view.term, records))
}

type Mind = (u64, u64, wire::ReadRecordsResponse);

/// One leader, and everybody has the same records at the same place in the log.
pub async fn converge(register: &Register) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONVERGENCE;
    loop {
        let mut minds = Vec::new();
        for member in 0..MEMBERS {
            minds.extend(mind(register, member).await);
        }
        let are_one = minds.windows(2).all(|pair| pair[0] == pair[1]);
        if minds.len() == MEMBERS && are_one && minds[0].0 != 0 {
            return Ok(());
        }
        let differ = minds.windows(2).any(|pair| {
            let (one, other) = (&pair[0].2, &pair[1].2);
            one.revision == other.revision && one.records != other.records
        });
        ensure!(!differ, "two members differ at one log index: {minds:#?}");
        ensure!(
            Instant::now() < deadline,
            "after everything was healed, the group is not of one mind within {} s; leader, term and revision of those that answer: {:?}",
            CONVERGENCE.as_secs(),
            minds
                .iter()
                .map(|(leader, term, records)| (leader, term, records.revision))
                .collect::<Vec<_>>()
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Every member answers a read of every record with the newest there is.
pub async fn read_everywhere(register: &Register, recorder: &Recorder) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONVERGENCE;
    for asked in 0..MEMBERS {
        let mut member = asked;
        for number in (0..RECORDS).step_by(2) {
            let records = vec![record(number), record(number + 1)];
            loop {
                let call = Call::Read {
                    records: records.clone(),
                };
                let id = recorder.call(u64::MAX, call);
                match register.read(member, &records, ANSWER_TIMEOUT).await {
                    Ok((index, answer)) => {
                        recorder.answer(id, answer, Some(index));
                        break;
                    }
                    Err(Failure::Elsewhere(Some(leader))) => member = leader,
                    Err(failure) => ensure!(
                        Instant::now() < deadline,
                        "member {} does not answer after everything was healed: {failure:?}",
                        member + 1
                    ),
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
    Ok(())
}

/// What is wrong with a history.
pub fn judge(history: &History, places: &[Seen]) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(revisions::check(places).err());
    found.extend(linearizable::check(history).err().map(|it| it.to_string()));
    found
}

/// What is wrong with what members said.
pub fn bad_words(bed: &Bed) -> Vec<String> {
    let mut found = Vec::new();
    for member in &bed.members {
        let said = member.said();
        let bad = said
            .lines()
            .filter(|line| BAD_WORDS.iter().any(|word| line.contains(word)));
        found.extend(bad.map(|line| format!("member {} said: {line}", member.number + 1)));
    }
    found
}

/// How much happened.
pub fn summary(history: &History) -> String {
    let (mut reads, mut written, mut conflicts, mut refused, mut open) = (0, 0, 0, 0, 0);
    for operation in history.operations() {
        match (&operation.call, operation.answer.as_ref().map(|(_, it)| it)) {
            (_, Some(Answer::Read { .. })) => reads += 1,
            (_, Some(Answer::Written { .. })) => written += 1,
            (_, Some(Answer::Conflict { .. })) => conflicts += 1,
            (_, Some(Answer::Refused)) => refused += 1,
            (Call::Write { .. }, _) => open += 1,
            (Call::Read { .. }, _) => {}
        }
    }
    format!(
        "{reads} reads, {written} writes, {conflicts} conflicts, {refused} refused, {open} writes with an open outcome"
    )
}
