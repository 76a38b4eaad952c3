//! One session after the other on one router: each has a tag that no other has, and knows what it may see.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mysql_async::{ChangeUserOpts, Conn, Error, Row, prelude::Queryable};
use tokio::{sync::watch, time::timeout};

use super::{KEYSPACE, Log};
use crate::{cluster::login::Login, sim::random::Random};

/// Acts of a session.
const ACTS: (u64, u64) = (1, 25);
/// Every answer is there by then, also while the primary moves.
const ACT_TIME_MAX: Duration = Duration::from_secs(40);
/// Rows of a large answer, and bytes in each.
const ROWS: u64 = 1_000;
const ROW_BYTES: u64 = 1_000;
/// A slow reader waits so long in the middle of an answer.
const SLOW_MS: (u64, u64) = (10, 2_000);
/// How long the lock of a session that has left may be there still, in seconds.
const INHERIT_SECONDS: u64 = 20;
/// Locks whose sessions have left; more would say the same.
const LEFT_MAX: usize = 100;
/// The server's own, see `group_concat_max_len`.
const LIMIT_DEFAULT: u64 = 1_024;
const NO_SUCH_TABLE: u16 = 1_146;
/// What a client may be told while connections are killed and the primary moves: deadlock, lock wait, an interrupted query, and what
/// the router says of lost connections and transactions, a missing primary and a full pool.
const MAY_BE_TOLD: [u16; 12] = [
    1205, 1213, 1317, 1053, 3024, 9001, 9002, 9003, 9004, 9005, 9006, 9009,
];

/// What all sessions share.
#[derive(Clone)]
pub struct Visitors {
    seed: u64,
    log: Log,
    next_tag: Arc<AtomicU64>,
    /// Locks of sessions that have left.
    left: Arc<Mutex<VecDeque<u64>>>,
}

/// How an act ended, where it did not end well.
enum Trouble {
    /// The server or the router said so.
    Told(u16, String),
    Wrong(String),
    /// It is to leave now, without a word.
    Vanish,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => Self::Told(error.code, error.message),
            other => Self::Wrong(format!("the connection to the router: {other}")),
        }
    }
}

type Outcome = Result<(), Trouble>;

/// What a session has and must find again.
#[derive(Debug, Default)]
struct Own {
    variable: bool,
    table: bool,
    lock: bool,
    limit: Option<u64>,
    in_transaction: bool,
}

struct Guest {
    conn: Conn,
    tag: u64,
    own: Own,
    random: Random,
    login: Login,
    visitors: Visitors,
}

impl Visitors {
    pub fn new(seed: u64, log: Log) -> Self {
        Self {
            seed,
            log,
            next_tag: Arc::new(AtomicU64::new(1)),
            left: Arc::default(),
        }
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions one after the other until it is told to stop.
    pub fn come_and_go(
        &self,
        place: u64,
        login: Login,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let visitors = self.clone();
        async move {
            let mut random = Random::new(visitors.seed ^ (place + 1)).fork("visit");
            while !*stopped.borrow() {
                let conn =
                    match timeout(ACT_TIME_MAX, Conn::new(login.options(Some(KEYSPACE)))).await {
                        Ok(Ok(conn)) => conn,
                        Ok(Err(error)) => {
                            visitors.log.wrong(format!("no session: {error}"));
                            continue;
                        }
                        Err(_) => {
                            visitors.log.wrong("no session in time".to_owned());
                            continue;
                        }
                    };
                let guest = Guest {
                    conn,
                    tag: visitors.next_tag.fetch_add(1, Ordering::Relaxed),
                    own: Own::default(),
                    random: random.fork("guest"),
                    login: login.clone(),
                    visitors: visitors.clone(),
                };
                guest.stay().await;
            }
        }
    }
}

impl Guest {
    async fn stay(mut self) {
        self.visitors.log.count("session");
        for _ in 0..self.random.between(ACTS.0, ACTS.1) {
            let outcome = match timeout(ACT_TIME_MAX, self.act()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Trouble::Wrong("no answer in time".to_owned())),
            };
            match outcome {
                Ok(()) => {}
                Err(Trouble::Told(code, message)) => {
                    if !self.bear(code, &message).await {
                        return;
                    }
                }
                Err(Trouble::Wrong(what)) => {
                    self.wrong(&what);
                    return;
                }
                Err(Trouble::Vanish) => return,
            }
        }
        if self.own.lock {
            let mut left = self.visitors.left();
            left.push_back(self.tag);
            left.truncate(LEFT_MAX);
        }
        // The others vanish.
        if self.random.chance(70) {
            let _ = timeout(ACT_TIME_MAX, self.conn.disconnect()).await;
        }
    }

    fn wrong(&self, what: &str) {
        let (tag, own, port) = (self.tag, &self.own, self.login.port);
        self.visitors
            .log
            .wrong(format!("session {tag} at port {port} with {own:?}: {what}"));
    }

    /// After an error: what was of the connection is not expected any more. Returns whether the session goes on.
    async fn bear(&mut self, code: u16, message: &str) -> bool {
        self.visitors.log.error(code);
        if !MAY_BE_TOLD.contains(&code) {
            self.wrong(&format!("error {code}: {message}"));
            return false;
        }
        (self.own.variable, self.own.table, self.own.lock) = (false, false, false);
        if !std::mem::take(&mut self.own.in_transaction) {
            return true;
        }
        match timeout(ACT_TIME_MAX, self.conn.query_drop("ROLLBACK")).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                self.wrong(&format!("ROLLBACK after error {code}: {error}"));
                false
            }
            Err(_) => {
                self.wrong("ROLLBACK has no answer in time");
                false
            }
        }
    }

    async fn act(&mut self) -> Outcome {
        match self.random.between(0, 16) {
            0 => self.read_own_tag().await,
            1 => self.read_several().await,
            2 => self.execute().await,
            3 => self.execute_often().await,
            4 => self.set_variable().await,
            5 => self.read_variable().await,
            6 => self.make_table().await,
            7 => self.read_table().await,
            8 => self.set_limit().await,
            9 => self.read_limit().await,
            10 => self.insert().await,
            11 => self.transact().await,
            12 => self.take_lock().await,
            13 => self.inherit_lock().await,
            14 => self.be_warned().await,
            15 => self.begin_anew().await,
            _ => self.read_much().await,
        }
    }

    fn did(&self, what: &'static str) {
        self.visitors.log.count(what);
    }

    /// The only value of the only row.
    async fn number(&mut self, query: &str) -> Result<Option<u64>, Trouble> {
        let rows: Vec<Option<u64>> = self.conn.query(query).await?;
        match rows[..] {
            [value] => Ok(value),
            _ => Err(Trouble::Wrong(format!("{query}: {rows:?}"))),
        }
    }

    async fn expect(&mut self, query: &str, expected: Option<u64>) -> Outcome {
        match self.number(query).await? {
            found if found == expected => Ok(()),
            found => Err(Trouble::Wrong(format!(
                "{query}: {found:?} instead of {expected:?}"
            ))),
        }
    }

    async fn read_own_tag(&mut self) -> Outcome {
        self.did("read");
        self.expect(&format!("SELECT {}", self.tag), Some(self.tag))
            .await
    }

    async fn read_several(&mut self) -> Outcome {
        self.did("read of several results");
        let query = format!("SELECT {0}; SELECT {0} + 1; SELECT {0} + 2", self.tag);
        let mut results = self.conn.query_iter(query).await?;
        for expected in self.tag..self.tag + 3 {
            let found: Vec<u64> = results.collect().await?;
            if found != [expected] {
                return Err(Trouble::Wrong(format!("{found:?} instead of {expected}")));
            }
        }
        Ok(())
    }

    async fn execute(&mut self) -> Outcome {
        self.did("prepared statement");
        let asked = self.tag ^ self.random.between(0, 1 << 40);
        let text = format!("SELECT ?, {}", self.tag);
        let found: Vec<(u64, u64)> = self.conn.exec(text, (asked,)).await?;
        match found[..] == [(asked, self.tag)] {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!(
                "{found:?} instead of {asked} and the tag"
            ))),
        }
    }

    /// One statement, also after its connection was given to others; some are never closed.
    async fn execute_often(&mut self) -> Outcome {
        self.did("prepared statement, executed often");
        let statement = self
            .conn
            .prep("SELECT tag, ? FROM visit WHERE tag = ? LIMIT 3")
            .await?;
        for _ in 0..self.random.between(1, 8) {
            let salt = self.random.between(0, 1 << 40);
            let found: Vec<(u64, u64)> = self.conn.exec(&statement, (salt, self.tag)).await?;
            if found.iter().any(|row| *row != (self.tag, salt)) {
                return Err(Trouble::Wrong(format!("{found:?} with salt {salt}")));
            }
        }
        if self.random.chance(70) {
            self.conn.close(statement).await?;
        }
        Ok(())
    }

    async fn set_variable(&mut self) -> Outcome {
        self.did("user variable set");
        self.conn
            .query_drop(format!("SET @mine = {}", self.tag))
            .await?;
        self.own.variable = true;
        Ok(())
    }

    async fn read_variable(&mut self) -> Outcome {
        self.did("user variable read");
        let found = self.number("SELECT @mine").await?;
        let is_right = match self.own.variable {
            true => found == Some(self.tag),
            // It may be there still after an error.
            false => found.is_none_or(|found| found == self.tag),
        };
        match is_right {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("@mine is {found:?}"))),
        }
    }

    async fn make_table(&mut self) -> Outcome {
        if self.own.table {
            return Ok(());
        }
        self.did("temporary table made");
        self.conn
            .query_drop("DROP TEMPORARY TABLE IF EXISTS mine")
            .await?;
        self.conn
            .query_drop("CREATE TEMPORARY TABLE mine (tag BIGINT UNSIGNED)")
            .await?;
        self.conn
            .query_drop(format!("INSERT INTO mine VALUES ({})", self.tag))
            .await?;
        self.own.table = true;
        Ok(())
    }

    async fn read_table(&mut self) -> Outcome {
        self.did("temporary table read");
        let found = self.conn.query::<u64, _>("SELECT tag FROM mine").await;
        match (found, self.own.table) {
            (Ok(found), true) if found == [self.tag] => Ok(()),
            (Ok(found), false) if found.iter().all(|tag| *tag == self.tag) => Ok(()),
            (Ok(found), _) => Err(Trouble::Wrong(format!("the temporary table has {found:?}"))),
            (Err(Error::Server(error)), false) if error.code == NO_SUCH_TABLE => Ok(()),
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn set_limit(&mut self) -> Outcome {
        self.did("session variable set");
        let limit = 2_000 + self.tag;
        self.conn
            .query_drop(format!("SET SESSION group_concat_max_len = {limit}"))
            .await?;
        self.own.limit = Some(limit);
        Ok(())
    }

    async fn read_limit(&mut self) -> Outcome {
        self.did("session variable read");
        let expected = self.own.limit.unwrap_or(LIMIT_DEFAULT);
        self.expect("SELECT @@group_concat_max_len", Some(expected))
            .await
    }

    async fn insert(&mut self) -> Outcome {
        self.did("write");
        self.conn
            .query_drop(format!("INSERT INTO visit (tag) VALUES ({})", self.tag))
            .await?;
        let id = self.conn.last_insert_id();
        self.expect("SELECT LAST_INSERT_ID()", id).await?;
        let id = id.unwrap_or_default();
        self.expect(
            &format!("SELECT tag FROM visit WHERE id = {id}"),
            Some(self.tag),
        )
        .await
    }

    async fn transact(&mut self) -> Outcome {
        self.did("transaction");
        let count = format!("SELECT COUNT(*) FROM visit WHERE tag = {}", self.tag);
        self.conn.query_drop("BEGIN").await?;
        self.own.in_transaction = true;
        let before = self.number(&count).await?.unwrap_or_default();
        for _ in 0..2 {
            self.conn
                .query_drop(format!("INSERT INTO visit (tag) VALUES ({})", self.tag))
                .await?;
        }
        self.expect(&count, Some(before + 2)).await?;
        if self.random.chance(5) {
            self.did("vanished inside of a transaction");
            return Err(Trouble::Vanish);
        }
        let (end, after) = match self.random.chance(50) {
            true => ("COMMIT", before + 2),
            false => ("ROLLBACK", before),
        };
        self.conn.query_drop(end).await?;
        self.own.in_transaction = false;
        self.expect(&count, Some(after)).await
    }

    async fn take_lock(&mut self) -> Outcome {
        self.did("lock taken");
        let take = format!("SELECT GET_LOCK('soak{}', {INHERIT_SECONDS})", self.tag);
        self.expect(&take, Some(1)).await?;
        self.own.lock = true;
        Ok(())
    }

    /// Whoever has left holds no lock.
    async fn inherit_lock(&mut self) -> Outcome {
        let Some(tag) = self.visitors.left().pop_front() else {
            return Ok(());
        };
        self.did("lock inherited");
        let take = format!("SELECT GET_LOCK('soak{tag}', {INHERIT_SECONDS})");
        self.expect(&take, Some(1)).await?;
        let give = format!("SELECT RELEASE_LOCK('soak{tag}')");
        self.expect(&give, Some(1)).await
    }

    async fn be_warned(&mut self) -> Outcome {
        self.did("warning");
        let value = format!("{}x", self.tag);
        self.expect(
            &format!("SELECT CAST('{value}' AS UNSIGNED)"),
            Some(self.tag),
        )
        .await?;
        let warnings: Vec<(String, u16, String)> = self.conn.query("SHOW WARNINGS").await?;
        let is_own = |warning: &(String, u16, String)| warning.2.contains(&value);
        match warnings.len() == 1 && warnings.iter().all(is_own) {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("warnings {warnings:?}"))),
        }
    }

    async fn begin_anew(&mut self) -> Outcome {
        match self.random.chance(50) {
            true => {
                self.did("session reset");
                self.conn.reset().await?;
            }
            false => {
                self.did("user changed");
                let who = ChangeUserOpts::new()
                    .with_user(Some(self.login.user.clone()))
                    .with_pass(Some(self.login.password.clone()))
                    .with_db_name(Some(KEYSPACE.to_owned()));
                self.conn.change_user(who).await?;
            }
        }
        self.own = Own::default();
        self.expect("SELECT @mine", None).await?;
        self.expect("SELECT @@group_concat_max_len", Some(LIMIT_DEFAULT))
            .await
    }

    /// A large answer: read at once, slowly, or not to its end.
    async fn read_much(&mut self) -> Outcome {
        self.did("large answer");
        let tag = self.tag;
        let query = format!(
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
             SELECT {tag}, i, REPEAT('x', {ROW_BYTES}) FROM n"
        );
        let pause_at = self.random.chance(30).then(|| self.random.between(0, ROWS));
        let vanish_at = self.random.chance(10).then(|| self.random.between(0, ROWS));
        let pause = Duration::from_millis(self.random.between(SLOW_MS.0, SLOW_MS.1));
        let mut result = self.conn.query_iter(query).await?;
        let mut count = 0;
        while let Some(row) = result.next().await? {
            count += 1;
            if !is_whole(&row, tag, count) {
                return Err(Trouble::Wrong(format!(
                    "row {count} of a large answer: {row:?}"
                )));
            }
            if pause_at == Some(count) {
                tokio::time::sleep(pause).await;
            }
            if vanish_at == Some(count) {
                self.visitors.log.count("vanished inside of an answer");
                return Err(Trouble::Vanish);
            }
        }
        match count {
            ROWS => Ok(()),
            _ => Err(Trouble::Wrong(format!("a large answer of {count} rows"))),
        }
    }
}

fn is_whole(row: &Row, tag: u64, number: u64) -> bool {
    let text: Option<String> = row.get(2);
    (row.get(0), row.get(1)) == (Some(tag), Some(number))
        && text.is_some_and(|text| text.len() as u64 == ROW_BYTES)
}
