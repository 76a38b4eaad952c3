//! Writes to mysqld's disk now and then, beside the loop: a full or stalled disk leaves every read healthy.

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::mysqld::probe::{DiskProbe, DiskState};

/// Between two probes.
const PERIOD: Duration = Duration::from_millis(500);
/// A block takes milliseconds; a device that needs longer serves nobody.
const LIMIT: Duration = Duration::from_millis(1_000);
/// One late block may be chance.
const FAILURES_MIN: u32 = 2;

/// Since when the disk is bad, and how.
pub(super) type Badness = Option<(Instant, String)>;

/// Starts probing; ends with `cancel`.
pub(super) fn watch_disk(
    directory: PathBuf,
    cancel: CancellationToken,
) -> watch::Receiver<Badness> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut probe = DiskProbe::new(&directory);
        let mut failures = 0;
        let mut since = Instant::now();
        loop {
            let started = Instant::now();
            let why = match probe.probe(LIMIT).await {
                DiskState::Good { .. } => None,
                DiskState::Stalled => Some("a write to its disk does not return".to_owned()),
                DiskState::Full => Some("its disk is full".to_owned()),
                DiskState::Failed(error) => Some(format!("a write to its disk fails: {error}")),
            };
            match why {
                None => {
                    failures = 0;
                    sender.send_if_modified(|bad| bad.take().is_some());
                }
                Some(why) => {
                    if failures == 0 {
                        since = started;
                    }
                    failures += 1;
                    if failures >= FAILURES_MIN {
                        sender.send_replace(Some((since, why)));
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(PERIOD) => {}
            }
        }
    });
    receiver
}
