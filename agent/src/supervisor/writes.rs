//! Writes a row to mysqld about twice a second while it is an open primary: replicated and acknowledged like any other.
//!
//! A full or stalled disk and locks inside mysqld leave reads and heartbeats healthy; only a write tells. A write that hangs is
//! not given up, since each new one would be one more that hangs in mysqld: there is one, and whoever looks judges by how long
//! ago it began.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use vt_proto::{
    ids::TabletAlias,
    report::{WriteCause, WriteFailure, WriteProbe},
};

use super::elapsed_ms;
use crate::{
    config::Secret,
    mysqld::{
        INTERNAL_SCHEMA,
        admin_conn::{AdminConn, AdminError},
    },
    replication::quoted,
};

/// Between the end of one write and the next.
const PERIOD: Duration = Duration::from_millis(500);
/// A row takes milliseconds; one that needs longer is told. One that failed is tried again before it is: a connection may be lost.
const DEADLINE: Duration = Duration::from_millis(1_000);
/// One that waits for acknowledgements waits as long as the epoch lasts.
const HANGING_LIMIT: Duration = Duration::from_secs(3_600);
/// The table is not there yet: made by the first write of a cluster, or of one that was begun by an older version.
const NO_SUCH_TABLE: [u16; 2] = [1146, 1049];

/// The end of a long wait for a lock: it was not refused, it hung.
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// The life of mysqld that is open for writes; none while none is.
pub(super) type Open = Option<u64>;

/// What has become of the writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    life: Open,
    begun: Option<Instant>,
    last_good: Option<Instant>,
    /// When the first of the failed writes began, and what the last of them said.
    failed: Option<(Instant, WriteCause, String)>,
}

/// What else is known of the server, to tell why a write hangs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    pub(super) commit_waits_for_acknowledgement: bool,
    pub(super) disk_is_full: bool,
}

impl Progress {
    fn begin(&mut self, life: Open) {
        if self.life != life {
            *self = Self::default();
        }
        self.life = life;
        self.begun = Some(Instant::now());
    }

    fn end(&mut self, outcome: Result<(), AdminError>) {
        let begun = self.begun.take().unwrap_or_else(Instant::now);
        self.failed = match outcome {
            Ok(()) => {
                self.last_good = Some(Instant::now());
                None
            }
            Err(error) => {
                let cause = match error.code() {
                    None | Some(LOCK_WAIT_TIMEOUT) => WriteCause::Unknown,
                    Some(_) => WriteCause::Refused,
                };
                let since = self.failed.take().map_or(begun, |(since, ..)| since);
                Some((since, cause, error.to_string()))
            }
        };
    }

    /// What it means now.
    pub(super) fn probe(&self, around: Around) -> WriteProbe {
        let hangs = self.begun.filter(|begun| begun.elapsed() > DEADLINE);
        let failure = match (hangs, &self.failed) {
            (Some(begun), failed) => {
                let since = failed.as_ref().map_or(begun, |(since, ..)| *since);
                let (cause, detail) = around.cause();
                Some((since, cause, detail.to_owned()))
            }
            (None, failed) => failed.clone(),
        };
        let failure = failure.filter(|(since, ..)| since.elapsed() > DEADLINE);
        WriteProbe {
            success_age_ms: self.last_good.map(elapsed_ms),
            failure: failure.map(|(since, cause, detail)| WriteFailure {
                since_ms: elapsed_ms(since),
                cause,
                detail,
            }),
        }
    }
}

impl Around {
    /// A commit waits for acknowledgements only after it is in the binary log: where one does, the disk has taken it.
    fn cause(self) -> (WriteCause, &'static str) {
        if self.commit_waits_for_acknowledgement {
            (
                WriteCause::Acknowledgements,
                "it waits for acknowledgements",
            )
        } else if self.disk_is_full {
            (WriteCause::DiskSpace, "it waits for space on the disk")
        } else {
            (WriteCause::Unknown, "it does not return")
        }
    }
}

/// Who writes, and where.
pub(super) struct Writer {
    pub(super) socket: PathBuf,
    pub(super) password: Secret,
    pub(super) alias: TabletAlias,
    /// Logged in already: where an account statement waits for an acknowledgement no login succeeds.
    pub(super) conn: Option<AdminConn>,
}

/// Starts writing whenever a life of mysqld is open; ends with `cancel`.
pub(super) fn watch_writes(
    mut writer: Writer,
    mut open: watch::Receiver<Open>,
    cancel: CancellationToken,
) -> watch::Receiver<Progress> {
    let (sender, receiver) = watch::channel(Progress::default());
    let writing = async move {
        while let Ok(life) = open.wait_for(Option::is_some).await.map(|life| *life) {
            sender.send_modify(|progress| progress.begin(life));
            let outcome = writer.write().await;
            if let Err(error) = &outcome {
                tracing::debug!(%error, "a row was not written");
            }
            sender.send_modify(|progress| progress.end(outcome));
            sleep(PERIOD).await;
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = writing => {}
        }
    });
    receiver
}

impl Writer {
    async fn write(&mut self) -> Result<(), AdminError> {
        let mut conn = match self.conn.take().filter(AdminConn::is_open) {
            Some(conn) => conn,
            None => self.log_in().await?,
        };
        let row = format!(
            "INSERT INTO `{INTERNAL_SCHEMA}`.write_probes (tablet, written_at) VALUES ('{}', UTC_TIMESTAMP(6)) \
             ON DUPLICATE KEY UPDATE written_at = UTC_TIMESTAMP(6)",
            quoted(&self.alias.to_string())
        );
        let mut outcome = conn.execute_within(&row, HANGING_LIMIT).await;
        let is_absent = |error: &AdminError| {
            error
                .code()
                .is_some_and(|code| NO_SUCH_TABLE.contains(&code))
        };
        if outcome.as_ref().is_err_and(is_absent) {
            outcome = make_table(&mut conn).await;
        }
        self.conn = Some(conn);
        outcome
    }

    /// Whoever locks the table, or everything, for longer than the deadline is told apart from a disk: by an error.
    async fn log_in(&self) -> Result<AdminConn, AdminError> {
        let mut conn = AdminConn::connect(&self.socket, self.password.expose()).await?;
        conn.execute("SET SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1")
            .await?;
        Ok(conn)
    }
}

async fn make_table(conn: &mut AdminConn) -> Result<(), AdminError> {
    for statement in [
        format!("CREATE DATABASE IF NOT EXISTS `{INTERNAL_SCHEMA}`"),
        format!(
            "CREATE TABLE IF NOT EXISTS `{INTERNAL_SCHEMA}`.write_probes (tablet VARCHAR(64) NOT NULL PRIMARY KEY, \
             written_at DATETIME(6) NOT NULL) ENGINE = InnoDB"
        ),
    ] {
        conn.execute_within(&statement, HANGING_LIMIT).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(duration: Duration) -> Option<Instant> {
        Instant::now().checked_sub(duration)
    }

    fn around(waits: bool, full: bool) -> Around {
        Around {
            commit_waits_for_acknowledgement: waits,
            disk_is_full: full,
        }
    }

    fn cause(progress: &Progress, around: Around) -> Option<WriteCause> {
        progress.probe(around).failure.map(|failure| failure.cause)
    }

    #[test]
    fn a_hanging_write_is_told_by_what_it_waits_for() {
        let mut progress = Progress::default();
        progress.begin(Some(1));
        assert_eq!(cause(&progress, around(true, true)), None, "not late yet");
        progress.begun = ago(DEADLINE * 60);
        for (waits, full, expected) in [
            (true, true, WriteCause::Acknowledgements),
            (true, false, WriteCause::Acknowledgements),
            (false, true, WriteCause::DiskSpace),
            (false, false, WriteCause::Unknown),
        ] {
            assert_eq!(cause(&progress, around(waits, full)), Some(expected));
        }
    }

    #[test]
    fn a_write_that_waited_for_a_lock_in_vain_hung() {
        for (code, expected) in [(1205, WriteCause::Unknown), (1114, WriteCause::Refused)] {
            let mut progress = Progress::default();
            progress.begin(Some(1));
            progress.begun = ago(DEADLINE * 5);
            progress.end(Err(AdminError::Refused {
                what: "a row".to_owned(),
                code,
                message: "no".to_owned(),
            }));
            progress.begin(Some(1));
            assert_eq!(cause(&progress, around(false, false)), Some(expected));
        }
    }

    #[test]
    fn failures_count_from_the_first_and_end_with_a_success_or_a_new_life() {
        let refused = || AdminError::Refused {
            what: "a row".to_owned(),
            code: 1114,
            message: "the table is full".to_owned(),
        };
        let quiet = around(false, false);
        let mut progress = Progress::default();
        progress.begin(Some(1));
        progress.end(Err(refused()));
        assert_eq!(cause(&progress, quiet), None, "it is tried again");
        progress.begin(Some(1));
        progress.end(Ok(()));
        progress.begin(Some(1));
        progress.begun = ago(DEADLINE * 60);
        progress.end(Err(refused()));
        progress.begin(Some(1));
        progress.end(Err(refused()));
        let failure = progress.probe(quiet).failure.unwrap();
        assert_eq!(failure.cause, WriteCause::Refused);
        assert!(failure.since_ms >= 60_000, "{failure:?}");
        progress.begin(Some(1));
        progress.end(Ok(()));
        assert_eq!(cause(&progress, quiet), None);
        assert!(progress.probe(quiet).success_age_ms.is_some());
        progress.end(Err(refused()));
        progress.begin(Some(2));
        let fresh = WriteProbe::default();
        assert_eq!(progress.probe(quiet), fresh, "another life of mysqld");
    }
}
