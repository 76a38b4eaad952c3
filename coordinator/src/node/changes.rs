//! What changed lately, for those who watch: one window for all of them, in which each reads from its own position. Nothing is kept
//! of who watches, so a slow reader costs nothing but its position.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use vt_coordinator_core::window::{Entry, Window};
use vt_proto::epoch::Revision;

/// The window as the node's loop left it last.
pub struct Changes {
    window: Mutex<Window>,
    newest: watch::Sender<Revision>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            window: Mutex::default(),
            newest: watch::Sender::new(Revision::ZERO),
        }
    }
}

impl Changes {
    /// The revision of the last change, now and whenever there is another.
    pub fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// The first `max` changes after a revision; None if some of them are forgotten.
    pub fn after(&self, revision: Revision, max: usize) -> Option<Vec<Arc<Entry>>> {
        let window = self.lock();
        let entries = window.after(revision)?;
        Some(entries.take(max).cloned().collect())
    }

    /// Takes over what the core's window has beyond this one.
    pub(super) fn publish(&self, window: &Window) {
        if *self.newest.borrow() == window.newest() {
            return;
        }
        self.lock().follow(window);
        self.newest.send_replace(window.newest());
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
