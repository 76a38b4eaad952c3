//! What routers know and what they should hear next: the newest routing state and a window of the changes that led there.
//!
//! Nobody has a queue here: a subscriber is a version, and what leads on from it is looked up when it can take something.
//! Bodies are encoded once for all of them. It never decides what is news; versions here never go backwards.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::{Message, bytes::Bytes};
use tokio::sync::watch;
use vt_proto::{
    routing::{RoutingDelta, RoutingSnapshot, RoutingUpdate, RoutingVersion},
    wire::{self, routing_update::Update},
};

/// Changes that are kept for those who are a little behind: some minutes while little happens.
const DELTAS_MAX: usize = 1_024;
/// And their bytes; who is further behind is served better by the whole state.
const DELTA_BYTES_MAX: usize = 4 << 20;
/// Changes up to this size are always sent in place of the whole state.
const SMALL_BYTES: usize = 64 << 10;

/// One message, and where its receiver is then.
#[derive(Clone, Debug)]
pub struct Piece {
    pub to: RoutingVersion,
    pub update: wire::RoutingUpdate,
}

/// The newest state and the changes before it.
#[derive(Default)]
pub struct News {
    inner: Mutex<Inner>,
    /// The whole state, encoded; taken longer than `inner`, by those who read.
    full: Mutex<Option<Full>>,
    changed: watch::Sender<Option<RoutingVersion>>,
}

#[derive(Default)]
struct Inner {
    current: Option<Arc<RoutingSnapshot>>,
    window: VecDeque<Step>,
    window_bytes: usize,
    /// What leads to the newest version from another that many are at.
    merged: Option<Step>,
}

#[derive(Clone)]
struct Step {
    delta: Arc<RoutingDelta>,
    body: Bytes,
}

#[derive(Clone)]
struct Full {
    version: RoutingVersion,
    body: Bytes,
}

impl Step {
    fn of(delta: Arc<RoutingDelta>) -> Self {
        let body = wire::RoutingDelta::from(&*delta).encode_to_vec().into();
        Self { delta, body }
    }

    fn piece(&self) -> Piece {
        Piece {
            to: self.delta.to,
            update: wire::RoutingUpdate {
                update: Some(Update::Delta(self.body.clone())),
            },
        }
    }
}

impl Full {
    fn of(snapshot: &RoutingSnapshot) -> Self {
        Self {
            version: snapshot.version,
            body: wire::RoutingSnapshot::from(snapshot).encode_to_vec().into(),
        }
    }

    fn piece(&self) -> Piece {
        Piece {
            to: self.version,
            update: wire::RoutingUpdate {
                update: Some(Update::Full(self.body.clone())),
            },
        }
    }
}

impl News {
    /// The newest state.
    pub fn current(&self) -> Option<Arc<RoutingSnapshot>> {
        self.lock().current.clone()
    }

    /// Its version, now and whenever it changes.
    pub fn versions(&self) -> watch::Receiver<Option<RoutingVersion>> {
        self.changed.subscribe()
    }

    /// Takes news over, unless they are older than what is known.
    pub fn take(&self, update: RoutingUpdate) {
        let RoutingUpdate { snapshot, delta } = update;
        let version = snapshot.version;
        let mut inner = self.lock();
        if let Some(current) = &inner.current {
            if snapshot.version <= current.version {
                return;
            }
            // The news of a new leader need not lead on from what was heard here.
            let delta = delta.filter(|delta| delta.from == current.version);
            let delta =
                delta.unwrap_or_else(|| Arc::new(RoutingDelta::between(current, &snapshot)));
            inner.push(Step::of(delta));
        }
        inner.current = Some(snapshot);
        drop(inner);
        self.changed.send_replace(Some(version));
    }

    /// What leads on from a version: the changes since, or the whole state. None where there is nothing newer.
    pub fn next(&self, after: Option<RoutingVersion>) -> Option<Piece> {
        let current = {
            let mut inner = self.lock();
            let current = inner.current.clone()?;
            if let Some(after) = after {
                if after >= current.version {
                    return None;
                }
                if let Some(step) = inner.since(after) {
                    return Some(step.piece());
                }
            }
            current
        };
        Some(self.whole(&current, after).piece())
    }

    /// The whole state as it was encoded last, if the few changes since are at hand; else encoded now. Whoever has heard more of another
    /// member takes nothing older, and could not take the changes since that either.
    fn whole(&self, current: &RoutingSnapshot, after: Option<RoutingVersion>) -> Full {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let leads_on = |kept: &&Full| after.is_none_or(|after| kept.version > after);
        if let Some(kept) = full.as_ref().filter(leads_on) {
            let inner = self.lock();
            let is_newest = kept.version >= current.version;
            let small = kept.body.len().max(SMALL_BYTES);
            if is_newest
                || inner
                    .bytes_since(kept.version)
                    .is_some_and(|bytes| bytes < small)
            {
                return kept.clone();
            }
        }
        let new = Full::of(current);
        *full = Some(new.clone());
        new
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, step: Step) {
        self.window_bytes += step.body.len();
        self.window.push_back(step);
        self.merged = None;
        while self.window.len() > DELTAS_MAX || self.window_bytes > DELTA_BYTES_MAX {
            let Some(oldest) = self.window.pop_front() else {
                return;
            };
            self.window_bytes -= oldest.body.len();
        }
    }

    fn position(&self, from: RoutingVersion) -> Option<usize> {
        self.window
            .binary_search_by(|step| step.delta.from.cmp(&from))
            .ok()
    }

    fn bytes_since(&self, from: RoutingVersion) -> Option<usize> {
        let steps = self.window.range(self.position(from)?..);
        Some(steps.map(|step| step.body.len()).sum())
    }

    /// All changes since that version as one.
    fn since(&mut self, from: RoutingVersion) -> Option<Step> {
        let position = self.position(from)?;
        if position + 1 == self.window.len() {
            return self.window.back().cloned();
        }
        if let Some(merged) = self
            .merged
            .as_ref()
            .filter(|merged| merged.delta.from == from)
        {
            return Some(merged.clone());
        }
        let deltas = self.window.range(position..).map(|step| &*step.delta);
        let step = Step::of(Arc::new(RoutingDelta::merged(deltas)?));
        self.merged = Some(step.clone());
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use vt_proto::{
        epoch::{Epoch, Revision},
        routing::{ReplicaSetRoute, ServingState},
    };

    use super::*;

    /// The state of that revision: two replica sets change at a time, one after the other of `sets`.
    fn snapshot(revision: u64, sets: u64) -> Arc<RoutingSnapshot> {
        let mut names: Vec<String> = (0..sets).map(|n| format!("rs-{n}")).collect();
        names.sort();
        let set = |name: String| {
            let number: u64 = name[3..].parse().unwrap();
            let turn = (revision + sets - number) / sets;
            Arc::new(ReplicaSetRoute {
                name: name.parse().unwrap(),
                epoch: Epoch(turn),
                state: ServingState::Serving,
                primary: None,
                replicas: Vec::new(),
            })
        };
        Arc::new(RoutingSnapshot {
            cluster_id: "c".to_owned(),
            version: RoutingVersion {
                revision: Revision(revision),
                health: 0,
            },
            keyspaces: Vec::new(),
            replica_sets: names.into_iter().map(set).collect(),
            users: Vec::new(),
        })
    }

    fn publish(news: &News, from: Option<u64>, revision: u64, sets: u64) {
        let snapshot = snapshot(revision, sets);
        let delta = from.map(|from| {
            let from = self::snapshot(from, sets);
            Arc::new(RoutingDelta::between(&from, &snapshot))
        });
        news.take(RoutingUpdate { snapshot, delta });
    }

    /// A reader that takes one piece; whether it was the whole state.
    fn read(news: &News, known: &mut Option<RoutingSnapshot>) -> Option<bool> {
        let piece = news.next(known.as_ref().map(|known| known.version))?;
        let (is_full, next) = match piece.update.update.unwrap() {
            Update::Full(body) => {
                let message = wire::RoutingSnapshot::decode(body).unwrap();
                (true, RoutingSnapshot::try_from(message).unwrap())
            }
            Update::Delta(body) => {
                let message = wire::RoutingDelta::decode(body).unwrap();
                let delta = RoutingDelta::try_from(message).unwrap();
                (false, known.as_ref().unwrap().apply(&delta).unwrap())
            }
        };
        assert_eq!(next.version, piece.to);
        *known = Some(next);
        Some(is_full)
    }

    #[test]
    fn readers_at_every_distance_come_to_the_newest() {
        let sets = 50;
        let news = News::default();
        assert!(news.next(None).is_none());
        let mut readers = Vec::new();
        for revision in 1..=3_000_u64 {
            let before = (revision > 1).then_some(revision - 1);
            publish(&news, before, revision, sets);
            if revision % 100 == 0 {
                let mut reader = None;
                while read(&news, &mut reader).is_some() {}
                readers.push((revision, reader));
            }
        }
        for (revision, mut reader) in readers {
            let pieces: Vec<bool> = std::iter::from_fn(|| read(&news, &mut reader)).collect();
            let in_window = revision + DELTAS_MAX as u64 >= 3_000;
            if revision == 3_000 {
                assert!(pieces.is_empty(), "nothing newer");
            } else if in_window {
                assert_eq!(
                    pieces,
                    [false],
                    "one message for all changes since {revision}"
                );
            } else {
                assert!(pieces[0] && pieces.len() <= 2, "{revision}: {pieces:?}");
            }
            assert_eq!(reader.unwrap(), *snapshot(3_000, sets));
        }
    }

    #[test]
    fn the_window_is_bounded_in_bytes_too() {
        let news = News::default();
        for revision in 1..=200 {
            let snapshot = snapshot(revision * 4_000, 4_000);
            news.take(RoutingUpdate {
                snapshot,
                delta: None,
            });
        }
        let inner = news.lock();
        assert!(inner.window_bytes <= DELTA_BYTES_MAX);
        assert!(inner.window.len() < 199);
        let bytes: usize = inner.window.iter().map(|step| step.body.len()).sum();
        assert_eq!(bytes, inner.window_bytes);
    }

    #[test]
    fn versions_never_go_back_and_a_gap_is_bridged() {
        let news = News::default();
        publish(&news, None, 5, 10);
        publish(&news, Some(3), 4, 10);
        assert_eq!(*news.current().unwrap(), *snapshot(5, 10));
        let mut reader = None;
        assert_eq!(read(&news, &mut reader), Some(true));
        // The next leader leads on from what was never heard here.
        publish(&news, Some(7), 9, 10);
        assert_eq!(read(&news, &mut reader), Some(false));
        assert_eq!(reader.unwrap(), *snapshot(9, 10));
        // Who knows more than this member waits until it knows as much.
        let ahead = RoutingVersion {
            revision: Revision(11),
            health: 0,
        };
        assert!(news.next(Some(ahead)).is_none());
    }

    /// Another leader told it of what never came here; what is kept of the whole state is older than that.
    #[test]
    fn who_knows_more_than_what_is_kept_is_not_taken_back() {
        let news = News::default();
        publish(&news, None, 1, 10);
        assert_eq!(read(&news, &mut None), Some(true));
        publish(&news, Some(1), 9, 10);
        let mut reader = Some((*snapshot(5, 10)).clone());
        assert_eq!(read(&news, &mut reader), Some(true));
        assert_eq!(reader.unwrap(), *snapshot(9, 10));
    }

    #[test]
    fn the_whole_state_is_encoded_once_for_many() {
        let news = News::default();
        publish(&news, None, 1, 10);
        let bodies: Vec<Bytes> = (2..5)
            .map(|revision| {
                let piece = news.next(None).unwrap();
                publish(&news, Some(revision - 1), revision, 10);
                match piece.update.update.unwrap() {
                    Update::Full(body) => body,
                    Update::Delta(_) => panic!("a reader without a version gets the whole"),
                }
            })
            .collect();
        assert!(
            bodies
                .iter()
                .all(|body| body.as_ptr() == bodies[0].as_ptr())
        );
    }
}
