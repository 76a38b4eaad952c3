//! One subscriber's way through the changes: a position in the node's window, and no queue. Who fell out of the window gets one full
//! state and goes on from there.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{Mutex, watch};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vt_coordinator_core::{
    Core,
    records::RecordKind,
    window::{self, Delta, Entry},
};
use vt_proto::{epoch::Revision, wire::RecordsUpdate};

use super::error;
use crate::node::Handle;

/// Changes of the window that are put into one update at most: a reader that is behind catches up in few messages.
const UPDATE_ENTRIES_MAX: usize = 256;
/// Bytes of one update: below what clients take in one message unless told otherwise (4 MiB).
const UPDATE_BYTES_MAX: usize = 1 << 20;

/// A whole state at a revision, encoded.
struct Full {
    revision: Revision,
    deltas: Vec<Delta>,
}

/// Full states, one for all who need one at the same time.
#[derive(Clone)]
pub struct Fulls {
    node: Handle,
    newest: Arc<Mutex<Option<Arc<Full>>>>,
}

impl Fulls {
    pub fn new(node: Handle) -> Self {
        Self {
            node,
            newest: Arc::default(),
        }
    }

    /// A full state from which the window goes on.
    async fn get(&self) -> Result<Arc<Full>, Status> {
        let mut newest = self.newest.lock().await;
        if let Some(full) = newest.as_ref()
            && self.node.changes().after(full.revision, 0).is_some()
        {
            return Ok(full.clone());
        }
        let look = |core: &Core, _: &_| {
            Arc::new(Full {
                revision: Revision(core.state().applied),
                deltas: window::full(core.state()),
            })
        };
        let full = self.node.read(false, look).await.map_err(error::of_read)?;
        *newest = Some(full.clone());
        Ok(full)
    }
}

/// Where one subscriber is.
pub struct Reader {
    fulls: Fulls,
    newest: watch::Receiver<Revision>,
    kinds: BTreeSet<RecordKind>,
    position: Revision,
    /// A full state under way, and how much of it was sent.
    full: Option<(Arc<Full>, usize)>,
}

impl Reader {
    /// A subscriber that has everything up to `after` (0: nothing) and wants these kinds (none: all).
    pub fn new(fulls: Fulls, after: u64, kinds: BTreeSet<RecordKind>) -> Self {
        Self {
            newest: fulls.node.changes().newest(),
            fulls,
            kinds,
            position: Revision(after),
            full: None,
        }
    }

    async fn next(&mut self) -> Result<RecordsUpdate, Status> {
        loop {
            if let Some((full, sent)) = self.full.take() {
                return Ok(self.part(full, sent));
            }
            // What comes after this look wakes the wait below.
            self.newest.mark_unchanged();
            let entries = match self.position {
                Revision::ZERO => None,
                after => self.fulls.node.changes().after(after, UPDATE_ENTRIES_MAX),
            };
            match entries {
                None => self.full = Some((self.fulls.get().await?, 0)),
                Some(entries) if entries.is_empty() => {
                    let changed = self.newest.changed().await;
                    changed.map_err(|_| stopping())?;
                }
                Some(entries) => {
                    if let Some(update) = self.update(&entries) {
                        return Ok(update);
                    }
                }
            }
        }
    }

    /// The next part of a full state.
    fn part(&mut self, full: Arc<Full>, sent: usize) -> RecordsUpdate {
        let mut update = RecordsUpdate {
            revision: full.revision.0,
            full: true,
            ..RecordsUpdate::default()
        };
        let mut bytes = 0;
        let mut position = sent;
        for delta in &full.deltas[sent..] {
            if bytes >= UPDATE_BYTES_MAX {
                update.more = true;
                break;
            }
            position += 1;
            bytes += self.add(&mut update, delta);
        }
        if update.more {
            self.full = Some((full, position));
        } else {
            self.position = full.revision;
        }
        update
    }

    /// The next changes as one update; None if none of them is of a kind that is watched.
    fn update(&mut self, entries: &[Arc<Entry>]) -> Option<RecordsUpdate> {
        let mut update = RecordsUpdate::default();
        let mut bytes = 0;
        for entry in entries {
            if bytes >= UPDATE_BYTES_MAX {
                break;
            }
            for delta in &entry.deltas {
                bytes += self.add(&mut update, delta);
            }
            self.position = entry.revision;
        }
        update.revision = self.position.0;
        // Nothing to say, unless so much passed by that the caller could not go on from its last update.
        let silent = update.changes.is_empty() && entries.len() < UPDATE_ENTRIES_MAX;
        (!silent).then_some(update)
    }

    fn add(&self, update: &mut RecordsUpdate, delta: &Delta) -> usize {
        if !self.kinds.is_empty() && !self.kinds.contains(&delta.kind) {
            return 0;
        }
        update.changes.push(delta.bytes.clone());
        delta.bytes.len()
    }
}

fn stopping() -> Status {
    error::retry("this coordinator is stopping".to_owned())
}

type Next = Pin<Box<dyn Future<Output = (Reader, Result<RecordsUpdate, Status>)> + Send>>;

/// The updates of one subscriber, made when they are asked for.
pub struct Updates {
    /// None after the last one.
    next: Option<Next>,
    stop: CancellationToken,
}

impl Updates {
    /// All that the reader finds, until `stop`.
    pub fn new(reader: Reader, stop: CancellationToken) -> Self {
        let next = Some(next_of(reader, stop.clone()));
        Self { next, stop }
    }
}

fn next_of(mut reader: Reader, stop: CancellationToken) -> Next {
    Box::pin(async move {
        let update = tokio::select! {
            update = reader.next() => update,
            () = stop.cancelled() => Err(stopping()),
        };
        (reader, update)
    })
}

impl Stream for Updates {
    type Item = Result<RecordsUpdate, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (reader, update) = ready!(next.as_mut().poll(context));
        self.next = update.is_ok().then(|| next_of(reader, self.stop.clone()));
        Poll::Ready(Some(update))
    }
}
