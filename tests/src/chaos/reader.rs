//! Readers: what they read from a primary that was open must be there at the end. They write nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mysql_async::{Conn, prelude::Queryable};
use tokio::task::JoinSet;

use super::KEYSPACE;
use crate::cluster::login::Login;

/// Rows that are read at once: the newest.
const ROWS: usize = 20;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that does not answer by then is connected to anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that somebody writes past all routers have numbers from here on.
pub const STRANGERS: u64 = 1 << 60;

/// Readers at work.
pub struct Readers {
    seen: Arc<Mutex<BTreeSet<u64>>>,
    tasks: JoinSet<()>,
}

impl Readers {
    /// One for each server.
    pub fn start(logins: Vec<Login>) -> Self {
        let mut readers = Self {
            seen: Arc::default(),
            tasks: JoinSet::new(),
        };
        for login in logins {
            let seen = readers.seen.clone();
            readers.tasks.spawn(async move {
                loop {
                    let reading = read(&login, &seen);
                    drop(reading.await);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        readers
    }

    /// Everything that they have read of a server that was open.
    pub async fn finish(mut self) -> BTreeSet<u64> {
        self.tasks.shutdown().await;
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads until something fails.
async fn read(login: &Login, seen: &Mutex<BTreeSet<u64>>) -> anyhow::Result<()> {
    let connecting = Conn::new(login.options(Some(KEYSPACE)));
    let mut session = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await??;
    // In the same statement, so that it is true of these rows.
    let query = format!(
        "SELECT id, @@GLOBAL.read_only OR @@GLOBAL.super_read_only FROM acknowledged_write ORDER BY id DESC LIMIT {ROWS}"
    );
    loop {
        let rows: Vec<(u64, bool)> =
            tokio::time::timeout(ANSWER_TIMEOUT, session.query(&query)).await??;
        let open = rows
            .into_iter()
            .filter(|(id, closed)| !closed && *id < STRANGERS);
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(open.map(|(id, _)| id));
        tokio::time::sleep(PAUSE).await;
    }
}
