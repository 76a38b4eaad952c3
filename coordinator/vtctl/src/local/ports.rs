//! Whether ports are free. A look, not a reservation: whoever comes in between is told of by the daemon that then fails.

use std::{io, net::TcpListener, time::Duration};

use tokio::time::{Instant, sleep};

use super::cluster::HOST;

/// How long a process that was killed may keep its ports: its first thread is gone before its last one is.
const CLOSING_MAX: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Those of the ports that somebody else listens on, or that may not be used.
pub fn taken(ports: impl IntoIterator<Item = u16>) -> Vec<(u16, io::Error)> {
    let try_port = |port| {
        TcpListener::bind((HOST, port))
            .err()
            .map(|error| (port, error))
    };
    ports.into_iter().filter_map(try_port).collect()
}

/// Those that are taken even when processes that have just ended had time to close theirs.
pub async fn still_taken(ports: &[u16]) -> Vec<(u16, io::Error)> {
    let end = Instant::now() + CLOSING_MAX;
    loop {
        let taken = taken(ports.iter().copied());
        if taken.is_empty() || Instant::now() >= end {
            return taken;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_being_closed_is_waited_for() {
        let holder = TcpListener::bind((HOST, 0)).unwrap();
        let ports = [holder.local_addr().unwrap().port()];
        // The first look comes before the port is closed.
        let (still, ()) = tokio::join!(still_taken(&ports), async move { drop(holder) });
        assert!(still.is_empty(), "{still:?}");
    }

    #[test]
    fn a_taken_port_is_seen() {
        let holder = TcpListener::bind((HOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        assert_eq!(taken([port]).len(), 1);
    }
}
