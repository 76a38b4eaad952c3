//! The routing state: watched, handed to the router, and kept on disk for a start without any coordinator.
//!
//! Every member serves it: one is taken at random, so that routers spread. What is known already is not asked for again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
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
    cluster::Kinship,
    convert::{UpdateError, read_update},
    routing::RoutingSnapshot,
    topology::Endpoint,
    wire::{self, WatchRoutingRequest, routing_client::RoutingClient},
};
use vt_tls::files::TlsFiles;

use super::{
    leader::{Search, dial},
    learn,
};
use crate::guard::write_durably;

/// The snapshot's name in the agent's data directory.
pub const SNAPSHOT_FILE: &str = "routing-snapshot";
/// A file that is longer is not one of ours.
const SNAPSHOT_LENGTH_MAX: u64 = 256 << 20;
/// The copy on disk is for a start without coordinators: it may be a little old.
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// Health alone changes often and is soon out of date: it may be older.
const SAVE_PERIOD_HEALTH: Duration = Duration::from_secs(30);
/// A watch that has lasted so long is one, also when there was nothing new; one that ends sooner is a failed attempt.
const SETTLED: Duration = Duration::from_secs(1);
/// A member that is cut off is noticed sooner than a primary is replaced: until then the router does not learn of the new one.
const KEEPALIVE: Duration = Duration::from_millis(450);
/// An answer to the opening of the watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest snapshot on the wire.
const MESSAGE_LENGTH_MAX: usize = 256 << 20;

/// Takes each new snapshot; the router's holder of the topology.
pub trait Publish: Send + 'static {
    /// Takes it over.
    fn publish(&self, snapshot: Arc<RoutingSnapshot>);
}

/// The watch of one router.
pub struct RoutingWatch<P> {
    /// In the order in which this router tries them.
    pub coordinators: Vec<Endpoint>,
    /// None: plaintext.
    pub tls: Option<TlsFiles>,
    pub data_dir: PathBuf,
    /// What an earlier life kept.
    pub known: Option<Arc<RoutingSnapshot>>,
    /// For the log of the coordinator: which router this is.
    pub router: String,
    pub cluster_id: watch::Sender<String>,
    pub publish: P,
    /// Whether a coordinator answers.
    pub connected: watch::Sender<bool>,
}

impl<P: Publish> RoutingWatch<P> {
    /// Watches until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut search = Search::new(self.coordinators.clone(), 0);
        let mut saver = Saver {
            path: self.data_dir.join(SNAPSHOT_FILE),
            kept: self.known.clone(),
            newest: None,
            due: None,
            turn: Arc::default(),
        };
        loop {
            let line = async {
                let member = search.next().await;
                let ended = self.line(&member, &mut search, &mut saver).await;
                (member, ended)
            };
            let (member, ended) = tokio::select! {
                () = cancel.cancelled() => break,
                over = line => over,
            };
            self.connected
                .send_if_modified(|is| std::mem::replace(is, false));
            tracing::debug!(member = %member.host, port = member.port, %ended, "the watch of the routing ended");
            search.failed(Some(&ended));
            // It may take long until there is another line, and this process may not live so long.
            saver.save().await;
        }
        saver.save().await;
    }

    async fn line(&mut self, member: &Endpoint, search: &mut Search, saver: &mut Saver) -> Status {
        let channel = match dial(member, self.tls.as_ref(), KEEPALIVE).await {
            Ok(channel) => channel,
            Err(status) => return status,
        };
        let mut client = RoutingClient::new(channel).max_decoding_message_size(MESSAGE_LENGTH_MAX);
        let opening = client.watch(WatchRoutingRequest {
            cluster_id: self.cluster_id.borrow().clone(),
            router: self.router.clone(),
            after: self.known.as_ref().map(|known| known.version.into()),
            relay: false,
        });
        let mut inbox = match timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the watch was not opened in time"),
        };
        let settled = sleep_until(Instant::now() + SETTLED);
        tokio::pin!(settled);
        let mut is_settled = false;
        loop {
            let due = saver.due.unwrap_or_else(|| Instant::now() + SAVE_PERIOD);
            let heard = tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => match self.take(message, saver) {
                        Ok(()) => true,
                        Err(status) => return status,
                    },
                    Ok(None) => return Status::unavailable("the coordinator ended the watch"),
                    Err(status) => return status,
                },
                () = &mut settled, if !is_settled => true,
                () = sleep_until(due) => {
                    saver.save().await;
                    false
                }
            };
            if heard && !is_settled {
                is_settled = true;
                search.succeeded(member);
                self.connected
                    .send_if_modified(|is| !std::mem::replace(is, true));
            }
        }
    }

    fn take(&mut self, message: wire::RoutingUpdate, saver: &mut Saver) -> Result<(), Status> {
        let snapshot = match read_update(message, self.known.as_deref()) {
            Ok(update) => update.snapshot,
            Err(error) => {
                if matches!(error, UpdateError::LeadsOnFromElsewhere(_)) {
                    // The whole state is asked for next.
                    self.known = None;
                    tracing::warn!(%error, "routing news do not fit; asking for all of them");
                } else {
                    tracing::error!(%error, "routing news are not understood; upgrade this agent");
                }
                return Err(Status::data_loss(error.to_string()));
            }
        };
        match learn(&self.cluster_id, &snapshot.cluster_id) {
            Kinship::Same | Kinship::Newer => {}
            Kinship::Older => {
                tracing::error!(theirs = %snapshot.cluster_id, ours = %*self.cluster_id.borrow(),
                    "the routing state of an older group is refused: stop its coordinators for good");
                return Err(Status::permission_denied("it serves an older group"));
            }
            Kinship::Foreign => {
                tracing::error!(theirs = %snapshot.cluster_id, "the routing state of another cluster is refused: check `coordinators`");
                return Err(Status::permission_denied("it serves another cluster"));
            }
        }
        self.known = Some(snapshot.clone());
        self.publish.publish(snapshot.clone());
        saver.take(snapshot);
        Ok(())
    }
}

/// Writes the newest snapshot now and then.
struct Saver {
    path: PathBuf,
    /// What is on disk.
    kept: Option<Arc<RoutingSnapshot>>,
    /// What is not on disk yet, also while it is being written: whoever awaits that may be cancelled.
    newest: Option<Arc<RoutingSnapshot>>,
    due: Option<Instant>,
    /// One writer at a time: one that nobody awaits any more goes on by itself.
    turn: Arc<Mutex<()>>,
}

impl Saver {
    fn take(&mut self, snapshot: Arc<RoutingSnapshot>) {
        let revision = snapshot.version.revision;
        let is_kept = |kept: &Arc<RoutingSnapshot>| kept.version.revision == revision;
        let period = match self.kept.as_ref().is_some_and(is_kept) {
            true => SAVE_PERIOD_HEALTH,
            false => SAVE_PERIOD,
        };
        let due = Instant::now() + period;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.newest = Some(snapshot);
    }

    async fn save(&mut self) {
        self.due = None;
        let Some(newest) = self.newest.clone() else {
            return;
        };
        let (path, snapshot, turn) = (self.path.clone(), newest.clone(), self.turn.clone());
        let write = move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            write(&path, &snapshot)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                self.kept = Some(newest);
                self.newest = None;
            }
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "the routing state is not kept");
            }
            // The runtime is ending.
            Err(_) => {}
        }
    }
}

/// A checksum before the message: half a file is not taken for a whole one.
fn write(path: &Path, snapshot: &RoutingSnapshot) -> io::Result<()> {
    let body = wire::RoutingSnapshot::from(snapshot).encode_to_vec();
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
mod tests;
