//! Who is connected to this router and what it runs: what SHOW PROCESSLIST shows, and where KILL finds whom to tell.
//!
//! It ends nobody: a session is told, and ends by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// So much of a running text is kept to be shown; the rest of a longer one is cut off.
const TEXT_LENGTH_MAX: usize = 1024;

/// What a session is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// What it runs now.
    Query,
    /// Itself.
    Connection,
}

/// The sessions of one router, over all its threads.
#[derive(Debug, Default)]
pub struct Processlist {
    /// As many as clients may be connected.
    processes: Mutex<BTreeMap<u32, Arc<Process>>>,
}

/// One session, as others see it.
#[derive(Debug)]
pub struct Process {
    /// The number that CONNECTION_ID() shows.
    pub id: u32,
    pub peer: SocketAddr,
    pub entered: Instant,
    /// 0: nothing; else a [`Kill`] and one.
    order: AtomicU8,
    told: Notify,
    activity: Mutex<Activity>,
}

/// Why the next statement of a session needs the connection of its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptFor {
    pub transaction: bool,
    pub state: bool,
    pub next_transaction: bool,
    pub cursor: bool,
    pub diagnostics: bool,
}

impl KeptFor {
    /// In words.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        let reasons = [
            (self.transaction, "an open transaction"),
            (self.state, "state that only that connection has"),
            (self.next_transaction, "what its next transaction shall be"),
            (self.cursor, "an open cursor"),
            (self.diagnostics, "warnings or errors to be asked for"),
        ];
        let reasons = reasons.into_iter();
        reasons.filter_map(|(holds, why)| holds.then_some(why))
    }
}

/// What a session does.
#[derive(Debug, Clone)]
pub struct Activity {
    pub user: String,
    pub database: Option<String>,
    /// As the server names commands: `Query`, `Sleep`.
    pub command: &'static str,
    pub since: Instant,
    /// What it waits for; empty: nothing that is known.
    pub state: &'static str,
    /// The text that runs, cut off at a bound.
    pub text: Vec<u8>,
    /// After its last command.
    pub kept_for: KeptFor,
    /// Since when the transaction is open that its last command left open.
    pub transaction_since: Option<Instant>,
}

/// A place in the list, for as long as it lives.
#[derive(Debug)]
pub struct Listed {
    list: Arc<Processlist>,
    process: Arc<Process>,
}

impl Processlist {
    /// Enters a session.
    #[must_use]
    pub fn enter(self: &Arc<Self>, id: u32, peer: SocketAddr) -> Listed {
        let process = Arc::new(Process {
            id,
            peer,
            entered: Instant::now(),
            order: AtomicU8::new(0),
            told: Notify::new(),
            activity: Mutex::new(Activity {
                user: String::new(),
                database: None,
                command: "Connect",
                since: Instant::now(),
                state: "",
                text: Vec::new(),
                kept_for: KeptFor::default(),
                transaction_since: None,
            }),
        });
        self.lock().insert(id, Arc::clone(&process));
        Listed {
            list: Arc::clone(self),
            process,
        }
    }

    #[must_use]
    pub fn find(&self, id: u32) -> Option<Arc<Process>> {
        self.lock().get(&id).cloned()
    }

    /// Everybody, by number.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Process>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut processes = self.list.lock();
        // Numbers come round after four billion sessions.
        if processes
            .get(&self.process.id)
            .is_some_and(|listed| Arc::ptr_eq(listed, &self.process))
        {
            processes.remove(&self.process.id);
        }
    }
}

impl Process {
    /// Tells the session. That its connection is to end is not taken back by a lesser word.
    pub fn kill(&self, kill: Kill) {
        self.order.fetch_max(kill as u8 + 1, Ordering::Release);
        self.told.notify_one();
    }

    /// What the session was told to end.
    #[must_use]
    pub fn order(&self) -> Option<Kill> {
        match self.order.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Kill::Query),
            _ => Some(Kill::Connection),
        }
    }

    /// Returns when the statement that runs is to end. Only the session itself may wait for it.
    pub async fn interrupted(&self) {
        while self.order().is_none() {
            self.told.notified().await;
        }
    }

    /// Returns when the session is to end. Only the session itself may wait for it.
    pub async fn ended(&self) {
        while self.order() != Some(Kill::Connection) {
            self.told.notified().await;
        }
    }

    /// A command begins. That one before it was to end counts no more.
    pub fn begin(&self, command: &'static str, text: &[u8]) {
        let one_statement = Kill::Query as u8 + 1;
        // Loses only against a word that says more.
        let _ = self
            .order
            .compare_exchange(one_statement, 0, Ordering::Acquire, Ordering::Relaxed);
        let mut activity = self.lock();
        activity.command = command;
        activity.since = Instant::now();
        activity.text.clear();
        activity
            .text
            .extend_from_slice(&text[..text.len().min(TEXT_LENGTH_MAX)]);
    }

    /// The command is over, and the session holds this.
    pub fn end(&self, kept_for: KeptFor, transaction_since: Option<Instant>) {
        let mut activity = self.lock();
        activity.command = "Sleep";
        activity.since = Instant::now();
        activity.text.clear();
        activity.kept_for = kept_for;
        activity.transaction_since = transaction_since;
    }

    /// Between two commands, what the session holds has become this.
    pub fn hold(&self, kept_for: KeptFor, transaction_since: Option<Instant>) {
        let mut activity = self.lock();
        activity.kept_for = kept_for;
        activity.transaction_since = transaction_since;
    }

    /// Shows what the session waits for; empty: nothing more.
    pub fn set_state(&self, state: &'static str) {
        self.lock().state = state;
    }

    pub fn set_user(&self, user: &str) {
        user.clone_into(&mut self.lock().user);
    }

    pub fn set_database(&self, database: Option<String>) {
        self.lock().database = database;
    }

    #[must_use]
    pub fn activity(&self) -> Activity {
        self.lock().clone()
    }

    #[must_use]
    pub fn is_of(&self, user: &str) -> bool {
        self.lock().user == user
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_over(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn listed(list: &Arc<Processlist>, id: u32) -> Listed {
        list.enter(id, "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn who_leaves_is_listed_no_more() {
        let list = Arc::new(Processlist::default());
        let (first, second) = (listed(&list, 1), listed(&list, 2));
        assert_eq!(list.all().len(), 2);
        drop(first);
        assert!(list.find(1).is_none());
        // A number that came round belongs to the newer session.
        let newer = listed(&list, 2);
        drop(second);
        assert!(list.find(2).is_some());
        drop(newer);
        assert!(list.all().is_empty());
    }

    #[test]
    fn a_statement_is_ended_and_the_next_is_not() {
        let list = Arc::new(Processlist::default());
        let listed = listed(&list, 1);
        let process = listed.process();
        process.begin("Query", b"SELECT SLEEP(9)");
        assert!(!is_over(process.interrupted()));
        process.kill(Kill::Query);
        assert!(is_over(process.interrupted()) && !is_over(process.ended()));
        process.end(KeptFor::default(), None);
        process.begin("Query", b"SELECT 1");
        assert!(!is_over(process.interrupted()));
        assert_eq!(process.activity().text, b"SELECT 1");
    }

    #[test]
    fn a_connection_that_is_to_end_ends() {
        let list = Arc::new(Processlist::default());
        let listed = listed(&list, 1);
        let process = listed.process();
        process.kill(Kill::Connection);
        process.kill(Kill::Query);
        process.begin("Query", &[b'x'; 2 * TEXT_LENGTH_MAX]);
        assert!(is_over(process.interrupted()) && is_over(process.ended()));
        assert_eq!(process.activity().text.len(), TEXT_LENGTH_MAX);
    }
}
