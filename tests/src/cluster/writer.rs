//! Writers that remember what was acknowledged, and the check that finds it all afterwards.
//!
//! Every attempt writes a new unique id. An attempt ends as acknowledged (OK received), refused (an error that says it did not happen)
//! or unknown (the connection broke, or the router said so). Acknowledged ids must be found, refused ones must not; none may appear
//! twice. Each row says which server wrote it, so that one can see afterwards whether two of them did at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use mysql_async::{Conn, prelude::Queryable};
use tokio::task::JoinSet;

use crate::cluster::login::Login;

/// No statement may take longer: above the router's own bound for holding statements, so that its error is seen.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(20);
/// A new connection must be there by then.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause before connecting again, so that a dead router is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Errors that are kept word for word.
const ERRORS_KEPT_MAX: usize = 20;

/// What the writers have seen so far.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub acknowledged: BTreeSet<u64>,
    /// Attempts whose outcome the client cannot know.
    pub unknown: BTreeSet<u64>,
    /// Attempts that were refused with an error.
    pub refused: u64,
    /// Those of them that reached a server.
    pub refused_ids: BTreeSet<u64>,
    /// When each acknowledged attempt began and ended.
    pub times: BTreeMap<u64, (Instant, Instant)>,
    /// The longest time between two successful writes of all writers together.
    pub longest_gap: Duration,
    pub errors: Vec<String>,
    last_success: Option<Instant>,
}

impl Ledger {
    fn note(&mut self, id: u64, began: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => {
                let now = Instant::now();
                let gap = self
                    .last_success
                    .map_or(Duration::ZERO, |last| now.duration_since(last));
                self.longest_gap = self.longest_gap.max(gap);
                self.last_success = Some(now);
                self.acknowledged.insert(id);
                self.times.insert(id, (began, now));
            }
            Outcome::Refused(error) => {
                self.refused_ids.insert(id);
                self.refuse(error);
            }
            Outcome::Unknown(error) => {
                self.unknown.insert(id);
                self.keep_error(error);
            }
        }
    }

    fn refuse(&mut self, error: String) {
        self.refused += 1;
        self.keep_error(error);
    }

    fn keep_error(&mut self, error: String) {
        if self.errors.len() < ERRORS_KEPT_MAX {
            self.errors.push(error);
        }
    }

    /// Errors of any kind that clients saw.
    pub fn client_errors(&self) -> u64 {
        self.refused + self.unknown.len() as u64
    }
}

enum Outcome {
    Acknowledged,
    Refused(String),
    Unknown(String),
}

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Creates the table if it is not there and starts `per_login` writers on each login.
    pub async fn start(logins: &[Login], keyspace: &str, per_login: usize) -> anyhow::Result<Self> {
        let first = logins
            .first()
            .context("name at least one router to write through")?;
        let mut connection = connect(first, keyspace).await?;
        let create = "CREATE TABLE IF NOT EXISTS acknowledged_write (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, payload VARCHAR(64) NOT NULL)";
        connection
            .query_drop(create)
            .await
            .context("create the table acknowledged_write")?;
        let newest: Option<u64> = connection
            .query_first("SELECT COALESCE(MAX(id), 0) FROM acknowledged_write")
            .await?;
        let next = Arc::new(AtomicU64::new(newest.unwrap_or(0) + 1));
        let mut writers = Self {
            stop: Arc::default(),
            ledger: Arc::default(),
            tasks: JoinSet::new(),
        };
        for login in logins
            .iter()
            .flat_map(|login| std::iter::repeat_n(login, per_login))
        {
            let (login, keyspace, next) = (login.clone(), keyspace.to_owned(), next.clone());
            let (stop, ledger) = (writers.stop.clone(), writers.ledger.clone());
            writers.tasks.spawn(async move {
                write_until_stopped(&login, &keyspace, &next, &stop, &ledger).await
            });
        }
        Ok(writers)
    }

    /// The same with an empty table: what an earlier run wrote was looked for, and is gone.
    pub async fn start_anew(
        logins: &[Login],
        keyspace: &str,
        per_login: usize,
    ) -> anyhow::Result<Self> {
        let first = logins.first();
        let first = first.context("name at least one router to write through")?;
        let mut connection = connect(first, keyspace).await?;
        let drop_table = "DROP TABLE IF EXISTS acknowledged_write";
        let dropped = connection.query_drop(drop_table).await;
        dropped.context("drop the table acknowledged_write")?;
        drop(connection);
        Self::start(logins, keyspace, per_login).await
    }

    /// What has been seen until now.
    pub fn so_far(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    /// How many writes were acknowledged until now.
    pub fn count(&self) -> usize {
        lock(&self.ledger).acknowledged.len()
    }

    /// Whether so many more are acknowledged within the limit.
    pub async fn go_on(&self, more: usize, limit: Duration) -> bool {
        let wanted = self.count() + more;
        let deadline = Instant::now() + limit;
        while self.count() < wanted {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// The longest time between two successful writes until now, and the time since the last one where that is longer.
    pub fn longest_gap(&self) -> Duration {
        let ledger = lock(&self.ledger);
        let since = ledger
            .last_success
            .map_or(Duration::ZERO, |it| it.elapsed());
        ledger.longest_gap.max(since)
    }

    /// Forgets the gaps until now.
    pub fn forget_gaps(&self) {
        let mut ledger = lock(&self.ledger);
        ledger.longest_gap = Duration::ZERO;
        ledger.last_success = Some(Instant::now());
    }

    /// Lets every writer end its attempt and returns what all have seen.
    pub async fn finish(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        lock(&self.ledger).clone()
    }
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn connect(login: &Login, keyspace: &str) -> anyhow::Result<Conn> {
    let connecting = Conn::new(login.options(Some(keyspace)));
    let connection = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
    connection
        .context("wait for a connection")?
        .with_context(|| format!("connect to {}:{}", login.host, login.port))
}

async fn write_until_stopped(
    login: &Login,
    keyspace: &str,
    next: &AtomicU64,
    stop: &AtomicBool,
    ledger: &Mutex<Ledger>,
) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let mut live = match connection.take() {
            Some(live) => live,
            None => match connect(login, keyspace).await {
                Ok(live) => live,
                Err(error) => {
                    lock(ledger).refuse(format!("{error:#}"));
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    continue;
                }
            },
        };
        let id = next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let outcome = write_once(&mut live, id).await;
        if !matches!(outcome, Outcome::Unknown(_)) {
            connection = Some(live);
        }
        lock(ledger).note(id, began, outcome);
    }
}

async fn write_once(connection: &mut Conn, id: u64) -> Outcome {
    // Which server this is stays in the row.
    let insert = format!("INSERT INTO acknowledged_write (id, payload) VALUES ({id}, @@server_id)");
    match tokio::time::timeout(STATEMENT_TIME_MAX, connection.query_drop(insert)).await {
        Ok(Ok(())) => Outcome::Acknowledged,
        Ok(Err(mysql_async::Error::Server(error)))
            if !error.message.contains("outcome unknown") =>
        {
            Outcome::Refused(error.to_string())
        }
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown("no answer in time".to_owned()),
    }
}

/// All ids that a server has, with the server that wrote each.
pub async fn found(login: &Login, database: &str) -> anyhow::Result<BTreeMap<u64, String>> {
    let mut connection = login.connect(Some(database)).await?;
    let found: Vec<(u64, String)> = connection
        .query("SELECT id, payload FROM acknowledged_write")
        .await
        .context("read what was written")?;
    Ok(found.into_iter().collect())
}

/// The acknowledged ids that a server does not have.
pub async fn missing(
    login: &Login,
    database: &str,
    ledger: &Ledger,
) -> anyhow::Result<BTreeSet<u64>> {
    let found = found(login, database).await?;
    let is_missing = |id: &&u64| !found.contains_key(id);
    let missing = ledger.acknowledged.iter().filter(is_missing);
    Ok(missing.copied().collect())
}
