//! Snapshots on their way to a member that is far behind: cut into chunks, a few under way at one time, checked as a whole.
//!
//! A lost chunk is sent again from where the receiver is. Nothing here decides when a snapshot is needed: raft does.

use std::collections::BTreeMap;

use vt_proto::wire::{RaftMessage, SnapshotChunk, SnapshotProgress};

/// Bytes of one chunk: heartbeats on the same connection wait for no more than a few of them.
pub const CHUNK_BYTES: usize = 128 << 10;
/// Bytes sent and not acknowledged.
const WINDOW_BYTES: u64 = 1 << 20;
/// Bytes that all snapshots together may take of one tick: 40 MiB a second, so that what clients write comes first.
const TICK_BYTES: u64 = 2 << 20;
/// Ticks without progress after which what was not acknowledged is sent again.
const RESEND_TICKS: u32 = 10;
/// Ticks without progress after which raft is told that the snapshot did not arrive.
const GIVE_UP_TICKS: u32 = 100;
/// Bytes of a snapshot that is taken in: more than the topology may ever have.
pub const SNAPSHOT_BYTES_MAX: u64 = 512 << 20;
/// Ticks after which a snapshot that does not go on is forgotten by its receiver.
const FORGET_TICKS: u32 = 4 * GIVE_UP_TICKS;

/// A snapshot on its way out.
struct Outgoing {
    /// The message that brings it, without the data.
    message: RaftMessage,
    data: Vec<u8>,
    checksum: u32,
    sent: u64,
    acknowledged: u64,
    /// The last chunk was sent, which matters where it is an empty one.
    complete: bool,
    idle_ticks: u32,
}

/// What is under way, by receiver.
#[derive(Default)]
pub(super) struct Senders {
    outgoing: BTreeMap<u64, Outgoing>,
    budget_bytes: u64,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GoesOn,
    Arrived,
}

fn key_of(message: &RaftMessage) -> (u64, u64) {
    let snapshot = message.snapshot.as_ref();
    snapshot.map_or((0, 0), |snapshot| (snapshot.index, snapshot.term))
}

impl Senders {
    /// Begins to send the snapshot in the message, in place of any other to the same member.
    pub(super) fn start(&mut self, mut message: RaftMessage) {
        let data = message.snapshot.as_mut();
        let data = data.map_or_else(Vec::new, |s| std::mem::take(&mut s.data));
        let to = message.to;
        let outgoing = Outgoing {
            message,
            checksum: checksum(&data),
            data,
            sent: 0,
            acknowledged: 0,
            complete: false,
            idle_ticks: 0,
        };
        self.outgoing.insert(to, outgoing);
    }

    /// The receiver says how far it is.
    pub(super) fn progress(&mut self, from: u64, progress: &SnapshotProgress) -> Option<Fate> {
        let outgoing = self.outgoing.get_mut(&from)?;
        if key_of(&outgoing.message) != (progress.index, progress.term) {
            return None;
        }
        if progress.received_bytes >= outgoing.data.len() as u64 && outgoing.complete {
            self.outgoing.remove(&from);
            return Some(Fate::Arrived);
        }
        if progress.received_bytes > outgoing.acknowledged {
            outgoing.acknowledged = progress.received_bytes;
            outgoing.idle_ticks = 0;
        } else if progress.received_bytes < outgoing.acknowledged {
            // It was restarted and has to begin again.
            outgoing.acknowledged = progress.received_bytes;
            outgoing.sent = progress.received_bytes;
            outgoing.complete = false;
        }
        Some(Fate::GoesOn)
    }

    /// Members whose snapshots do not get on, to be forgotten; the budget of the next tick begins.
    pub(super) fn tick(&mut self) -> Vec<u64> {
        self.budget_bytes = TICK_BYTES;
        for outgoing in self.outgoing.values_mut() {
            outgoing.idle_ticks += 1;
            if outgoing.idle_ticks.is_multiple_of(RESEND_TICKS) {
                outgoing.sent = outgoing.acknowledged;
                outgoing.complete = false;
            }
        }
        let lost = self.outgoing.iter();
        let lost = lost.filter(|(_, outgoing)| outgoing.idle_ticks >= GIVE_UP_TICKS);
        let lost: Vec<u64> = lost.map(|(to, _)| *to).collect();
        for to in &lost {
            self.outgoing.remove(to);
        }
        lost
    }

    /// The chunks that may leave now.
    pub(super) fn chunks(&mut self) -> Vec<(u64, SnapshotChunk)> {
        let mut chunks = Vec::new();
        for (to, outgoing) in &mut self.outgoing {
            let total = outgoing.data.len() as u64;
            while !outgoing.complete
                && outgoing.sent - outgoing.acknowledged < WINDOW_BYTES
                && self.budget_bytes > 0
            {
                let from = usize::try_from(outgoing.sent).unwrap_or(usize::MAX);
                let piece = &outgoing.data[from..];
                let piece = &piece[..piece.len().min(CHUNK_BYTES)];
                let size = piece.len() as u64;
                chunks.push((
                    *to,
                    SnapshotChunk {
                        snapshot: Some(outgoing.message.clone()),
                        total_bytes: total,
                        offset: outgoing.sent,
                        data: piece.to_vec(),
                        checksum: outgoing.checksum,
                    },
                ));
                outgoing.sent += size;
                outgoing.complete = outgoing.sent >= total;
                self.budget_bytes = self.budget_bytes.saturating_sub(size.max(1));
            }
        }
        chunks
    }

    /// This member leads no more.
    pub(super) fn clear(&mut self) {
        self.outgoing.clear();
    }
}

/// A snapshot on its way in.
struct Incoming {
    message: RaftMessage,
    total_bytes: u64,
    checksum: u32,
    data: Vec<u8>,
    idle_ticks: u32,
}

/// Puts one snapshot together.
#[derive(Default)]
pub(super) struct Receiver {
    incoming: Option<Incoming>,
}

impl Receiver {
    /// Takes a chunk. Returns what to answer and, if it was the last one, the message with the whole snapshot.
    pub(super) fn take(&mut self, chunk: SnapshotChunk) -> (SnapshotProgress, Option<RaftMessage>) {
        let message = chunk.snapshot.unwrap_or_default();
        let (index, term) = key_of(&message);
        let same = |incoming: &Incoming| {
            let known = &incoming.message;
            let same_sender = (known.from, known.term) == (message.from, message.term);
            same_sender
                && key_of(known) == (index, term)
                && (incoming.total_bytes, incoming.checksum) == (chunk.total_bytes, chunk.checksum)
        };
        if !self.incoming.as_ref().is_some_and(same) {
            self.incoming = Some(Incoming {
                message,
                total_bytes: chunk.total_bytes,
                checksum: chunk.checksum,
                data: Vec::new(),
                idle_ticks: 0,
            });
        }
        let progress = |received_bytes| SnapshotProgress {
            index,
            term,
            received_bytes,
        };
        let Some(incoming) = &mut self.incoming else {
            return (progress(0), None);
        };
        incoming.idle_ticks = 0;
        if chunk.offset == incoming.data.len() as u64 {
            incoming.data.extend_from_slice(&chunk.data);
        }
        let received = incoming.data.len() as u64;
        if received < incoming.total_bytes {
            return (progress(received), None);
        }
        let whole = self.incoming.take();
        let good = |incoming: &Incoming| {
            incoming.data.len() as u64 == incoming.total_bytes
                && checksum(&incoming.data) == incoming.checksum
        };
        let Some(incoming) = whole.filter(good) else {
            return (progress(0), None);
        };
        let mut message = incoming.message;
        if let Some(snapshot) = &mut message.snapshot {
            snapshot.data = incoming.data;
        }
        (progress(received), Some(message))
    }

    /// Forgets a snapshot that does not go on.
    pub(super) fn tick(&mut self) {
        if let Some(incoming) = &mut self.incoming {
            incoming.idle_ticks += 1;
            if incoming.idle_ticks >= FORGET_TICKS {
                self.incoming = None;
            }
        }
    }
}

fn checksum(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

#[cfg(test)]
mod tests {
    use vt_proto::wire::RaftSnapshot;

    use super::*;

    fn message(bytes: usize) -> RaftMessage {
        let data = (0..bytes).map(|at| (at % 251) as u8).collect();
        RaftMessage {
            from: 1,
            to: 2,
            term: 3,
            snapshot: Some(RaftSnapshot {
                index: 9,
                term: 3,
                conf_state: None,
                data,
            }),
            ..RaftMessage::default()
        }
    }

    /// Carries chunks and answers; `lose` says which of them do not arrive. Returns the snapshot and the bytes it took.
    fn carry(bytes: usize, mut lose: impl FnMut(usize) -> bool) -> (Option<RaftMessage>, usize) {
        let (mut senders, mut receiver) = (Senders::default(), Receiver::default());
        senders.start(message(bytes));
        let (mut number, mut carried) = (0, 0);
        for _ in 0..1_000 {
            assert!(senders.tick().is_empty(), "given up");
            receiver.tick();
            for (to, chunk) in senders.chunks() {
                assert_eq!(to, 2);
                number += 1;
                carried += chunk.data.len();
                if lose(number) {
                    continue;
                }
                let (progress, whole) = receiver.take(chunk);
                if !lose(number + 1_000_000) {
                    senders.progress(2, &progress);
                }
                if whole.is_some() {
                    return (whole, carried);
                }
            }
        }
        (None, carried)
    }

    #[test]
    fn a_snapshot_arrives_whole_whatever_is_lost() {
        for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 << 20] {
            let (whole, carried) = carry(bytes, |_| false);
            assert_eq!(whole, Some(message(bytes)), "{bytes}");
            assert_eq!(carried, bytes, "nothing twice");
            let (whole, carried) = carry(bytes, |number| number % 3 == 1);
            assert_eq!(whole, Some(message(bytes)), "{bytes} with losses");
            // It goes on from where it was, not from the start.
            assert!(carried <= 12 * bytes.max(CHUNK_BYTES), "{carried}");
        }
    }

    #[test]
    fn a_damaged_snapshot_is_not_taken() {
        let (mut senders, mut receiver) = (Senders::default(), Receiver::default());
        senders.start(message(100));
        senders.tick();
        let (_, mut chunk) = senders.chunks().remove(0);
        chunk.data[50] ^= 1;
        let (progress, whole) = receiver.take(chunk);
        assert_eq!((progress.received_bytes, whole), (0, None));
        assert_eq!(senders.progress(2, &progress), Some(Fate::GoesOn));
    }

    #[test]
    fn a_receiver_that_never_answers_is_given_up() {
        let mut senders = Senders::default();
        senders.start(message(10 << 20));
        let mut bytes = 0;
        for _ in 0..GIVE_UP_TICKS - 1 {
            assert_eq!(senders.tick(), Vec::<u64>::new());
            bytes += senders
                .chunks()
                .iter()
                .map(|c| c.1.data.len())
                .sum::<usize>();
        }
        assert_eq!(senders.tick(), [2]);
        let rounds = (GIVE_UP_TICKS / RESEND_TICKS) as usize;
        assert!(bytes <= rounds * WINDOW_BYTES as usize, "bounded: {bytes}");
    }
}
