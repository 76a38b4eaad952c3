//! Small writes to the agent's own directory, whose disk may stall: the agent goes on, and never more than one write hangs.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};

/// A file of a few hundred bytes takes milliseconds; a busy disk may take seconds, and no one that works takes this long.
const LIMIT: Duration = Duration::from_secs(10);

/// One place that is written to, by one write at a time.
#[derive(Clone, Debug, Default)]
pub struct DiskWrites {
    under_way: Arc<Mutex<()>>,
}

impl DiskWrites {
    /// Carries out a write on a thread of its own. One that is late is told as failed and may take effect later, but never after a
    /// write that was begun after it.
    pub async fn run<T: Send + 'static>(
        &self,
        write: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_within(LIMIT, write).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        write: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let late = |text: &'static str| io::Error::new(io::ErrorKind::TimedOut, text);
        let Ok(turn) = self.under_way.clone().try_lock_owned() else {
            return Err(late(
                "a write before has not returned: the disk of the agent's directory is stalled",
            ));
        };
        let writing = tokio::task::spawn_blocking(move || {
            let written = write();
            drop(turn);
            written
        });
        match timeout(limit, writing).await {
            Ok(written) => written.map_err(io::Error::other)?,
            Err(_) => Err(late(
                "a write does not return: the disk of the agent's directory is stalled",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_write_that_hangs_is_the_only_one() {
        let writes = DiskWrites::default();
        let (release, released) = mpsc::channel::<()>();
        let (ended, mut end) = tokio::sync::mpsc::channel(1);
        let hangs = writes
            .run_within(Duration::from_millis(1), move || {
                let _ = released.recv();
                let _ = ended.blocking_send(());
                Ok(())
            })
            .await;
        assert_eq!(hangs.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let second = writes.run(|| Ok(())).await;
        assert!(second.unwrap_err().to_string().contains("a write before"));
        drop(release);
        end.recv().await.unwrap();
        // Its turn ends right after its last word.
        drop(writes.under_way.lock().await);
        assert_eq!(writes.run(|| Ok(7)).await.unwrap(), 7);
    }
}
