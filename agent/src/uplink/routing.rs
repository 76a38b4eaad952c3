//! The routing snapshots: watched, handed to the router, and kept on disk for a start without any coordinator.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vt_proto::{
    routing::RoutingSnapshot,
    topology::Endpoint,
    wire::{self, WatchRoutingRequest, routing_client::RoutingClient},
};

use super::leader::{Search, dial};
use crate::guard::write_durably;

/// The snapshot's name in the agent's data directory.
pub const SNAPSHOT_FILE: &str = "routing-snapshot";
/// A file that is longer is not one of ours.
const SNAPSHOT_LENGTH_MAX: u64 = 256 << 20;
/// Health changes often, and the copy on disk is for a start without coordinators: it may be a little old.
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// An answer to the opening of the watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest snapshot on the wire.
const MESSAGE_LENGTH_MAX: usize = 256 << 20;

/// Takes each new snapshot; the router's holder of the topology.
pub trait Publish: Send + 'static {
    /// Takes it over.
    fn publish(&self, snapshot: RoutingSnapshot);
}

/// The watch of one router.
pub struct RoutingWatch<P> {
    pub coordinators: Vec<Endpoint>,
    pub start: usize,
    pub data_dir: PathBuf,
    /// For the status page of the coordinator: which router this is.
    pub router: String,
    pub cluster_id: watch::Sender<String>,
    pub publish: P,
    /// Whether a leader answers.
    pub connected: watch::Sender<bool>,
}

impl<P: Publish> RoutingWatch<P> {
    /// Watches until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut search = Search::new(self.coordinators.clone(), self.start);
        let mut saver = Saver {
            path: self.data_dir.join(SNAPSHOT_FILE),
            newest: None,
            due: None,
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = async {
                loop {
                    let member = search.next().await;
                    let ended = self.line(&member, &mut search, &mut saver).await;
                    self.connected.send_if_modified(|is| std::mem::replace(is, false));
                    tracing::debug!(member = %member.host, port = member.port, %ended, "the watch of the routing ended");
                    search.failed(Some(&ended));
                }
            } => {}
        }
        saver.save().await;
    }

    async fn line(&mut self, member: &Endpoint, search: &mut Search, saver: &mut Saver) -> Status {
        let channel = match dial(member).await {
            Ok(channel) => channel,
            Err(status) => return status,
        };
        let mut client = RoutingClient::new(channel).max_decoding_message_size(MESSAGE_LENGTH_MAX);
        let opening = client.watch(WatchRoutingRequest {
            cluster_id: self.cluster_id.borrow().clone(),
            router: self.router.clone(),
        });
        let mut inbox = match timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the watch was not opened in time"),
        };
        loop {
            let due = saver.due.unwrap_or_else(|| Instant::now() + SAVE_PERIOD);
            tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => {
                        search.succeeded(member);
                        self.connected.send_if_modified(|is| !std::mem::replace(is, true));
                        self.take(message, saver);
                    }
                    Ok(None) => return Status::unavailable("the coordinator ended the watch"),
                    Err(status) => return status,
                },
                () = sleep_until(due) => saver.save().await,
            }
        }
    }

    fn take(&mut self, message: wire::RoutingSnapshot, saver: &mut Saver) {
        let snapshot = match RoutingSnapshot::try_from(message.clone()) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, "a routing snapshot is not understood; upgrade this agent");
                return;
            }
        };
        self.cluster_id.send_if_modified(|known| {
            let first = known.is_empty();
            if first {
                known.clone_from(&snapshot.cluster_id);
            }
            first
        });
        if *self.cluster_id.borrow() != snapshot.cluster_id {
            tracing::error!(theirs = %snapshot.cluster_id, "a routing snapshot of another cluster is refused: check `coordinators`");
            return;
        }
        self.publish.publish(snapshot);
        saver.newest = Some(message);
        saver
            .due
            .get_or_insert_with(|| Instant::now() + SAVE_PERIOD);
    }
}

/// Writes the newest snapshot now and then.
struct Saver {
    path: PathBuf,
    newest: Option<wire::RoutingSnapshot>,
    due: Option<Instant>,
}

impl Saver {
    async fn save(&mut self) {
        self.due = None;
        let Some(newest) = self.newest.take() else {
            return;
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &newest)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(path = %self.path.display(), %error, "the routing snapshot is not kept");
        }
    }
}

/// A checksum before the message: half a file is not taken for a whole one.
fn write(path: &Path, snapshot: &wire::RoutingSnapshot) -> io::Result<()> {
    let body = snapshot.encode_to_vec();
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    write_durably(path, &bytes)
}

/// The snapshot of an earlier life; nothing where there is none, or none that can be used.
pub fn load(data_dir: &Path) -> Option<RoutingSnapshot> {
    let path = data_dir.join(SNAPSHOT_FILE);
    let length = fs::metadata(&path).ok()?.len();
    let read = || {
        if length > SNAPSHOT_LENGTH_MAX {
            return Err("it is too long".to_owned());
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let (sum, body) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| "it is too short".to_owned())?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err("its checksum is wrong".to_owned());
        }
        let message = wire::RoutingSnapshot::decode(body).map_err(|error| error.to_string())?;
        RoutingSnapshot::try_from(message).map_err(|error| error.to_string())
    };
    match read() {
        Ok(snapshot) => Some(snapshot),
        Err(reason) => {
            tracing::warn!(path = %path.display(), %reason, "the kept routing snapshot cannot be used");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_kept_and_a_damaged_one_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()), None);
        let snapshot = RoutingSnapshot {
            cluster_id: "c".into(),
            ..RoutingSnapshot::default()
        };
        let path = directory.path().join(SNAPSHOT_FILE);
        write(&path, &snapshot.clone().into()).unwrap();
        assert_eq!(load(directory.path()), Some(snapshot));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(load(directory.path()), None);
    }
}
