//! The stream that an agent opens: reports go to the node, desired states come back, the newest only. Served by the leader.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};
use vt_proto::{
    desired::Desired,
    report::Report,
    wire::{
        AgentMessage, CoordinatorMessage, LostAnswer, LostRequest, agent_uplink_server::AgentUplink,
    },
};

use super::{
    error,
    leadership::Leadership,
    outgoing::{Item, outgoing},
    require_cluster, require_leader,
    streams::{ASKS_MAX, Ask, Claim, Streams},
};
use crate::node::{Handle, NodeStatus};

/// An agent says who it is at once.
const FIRST_REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Agents report several times a second; a stream that is silent for so long is dead, also when the network does not say so.
const SILENCE_MAX: Duration = Duration::from_secs(10);

type Outgoing = mpsc::Sender<Item<CoordinatorMessage>>;

/// The service.
pub struct Uplink {
    node: Handle,
    streams: Arc<Streams>,
    leadership: Leadership,
    stop: CancellationToken,
}

impl Uplink {
    /// The service of this node; `stop` ends its streams.
    pub fn new(
        node: Handle,
        streams: Arc<Streams>,
        leadership: Leadership,
        stop: CancellationToken,
    ) -> Self {
        Self {
            node,
            leadership,
            streams,
            stop,
        }
    }
}

#[tonic::async_trait]
impl AgentUplink for Uplink {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let status = self.node.status();
        require_leader(&status.borrow())?;
        let (outgoing, messages) = outgoing();
        let link = Link {
            node: self.node.clone(),
            streams: self.streams.clone(),
            status,
            leadership: self.leadership.clone(),
            incoming: request.into_inner(),
            outgoing: outgoing.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = link.run() => end,
                () = stop.cancelled() => error::retry("this coordinator is stopping".to_owned()),
                () = outgoing.closed() => return,
            };
            // The agent may have gone; then nobody needs the reason.
            drop(
                tokio::time::timeout(FIRST_REPORT_TIMEOUT, outgoing.send(Box::new(Err(end)))).await,
            );
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

/// One agent's stream.
struct Link {
    node: Handle,
    streams: Arc<Streams>,
    status: watch::Receiver<NodeStatus>,
    leadership: Leadership,
    incoming: Streaming<AgentMessage>,
    outgoing: Outgoing,
}

/// Gives the alias back however the stream ends.
struct Held {
    claim: Claim,
    streams: Arc<Streams>,
    node: Handle,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.streams.release(&self.claim) {
            return;
        }
        info!(tablet = %self.claim.alias, "the agent's stream has ended");
        let (node, alias) = (self.node.clone(), self.claim.alias.clone());
        tokio::spawn(async move { node.stream_ended(alias).await });
    }
}

impl Link {
    /// Serves until there is a reason to end.
    async fn run(mut self) -> Status {
        let first = match tokio::time::timeout(FIRST_REPORT_TIMEOUT, self.next()).await {
            Ok(Ok(Heard::Report(report))) => *report,
            Ok(Ok(Heard::Answer(_))) => return not_a_report(),
            Ok(Err(end)) => return end,
            Err(_) => return Status::deadline_exceeded("no report came: an agent reports at once"),
        };
        let claim = match self.streams.claim(&first, Instant::now()) {
            Ok(claim) => claim,
            Err(why) => return Status::already_exists(why),
        };
        let mut held = Held {
            claim,
            streams: self.streams.clone(),
            node: self.node.clone(),
        };
        info!(tablet = %held.claim.alias, boot_id = %first.boot_id, "an agent's stream is open");
        match self
            .hand_in(&held.claim, first)
            .await
            .and(self.refused(&held.claim).await)
        {
            Ok(()) => self.serve(&mut held.claim).await,
            Err(end) => end,
        }
    }

    async fn serve(&mut self, claim: &mut Claim) -> Status {
        let mut desired = self.node.desired(&claim.alias);
        // What was published before this stream is its first message.
        desired.mark_changed();
        let mut unsent = false;
        let mut asked = Asked::default();
        let outgoing = self.outgoing.clone();
        let lost = self.leadership.clone().lost();
        tokio::pin!(lost);
        loop {
            tokio::select! {
                heard = tokio::time::timeout(SILENCE_MAX, next(&mut self.incoming, &self.status)) => {
                    let report = match heard {
                        Ok(Ok(Heard::Report(report))) => *report,
                        Ok(Ok(Heard::Answer(answer))) => {
                            asked.answered(answer);
                            continue;
                        }
                        Ok(Err(end)) => return end,
                        Err(_) => return Status::deadline_exceeded("no report came for too long"),
                    };
                    if let Err(end) = self.hand_in(claim, report).await {
                        return end;
                    }
                }
                changed = desired.changed(), if !unsent => match changed {
                    Ok(()) => unsent = true,
                    Err(_) => return error::retry("this coordinator is stopping".to_owned()),
                },
                Some(ask) = claim.asks.recv(), if asked.unsent.is_none() => asked.ask(*ask),
                permit = outgoing.reserve(), if unsent || asked.unsent.is_some() => {
                    let Ok(permit) = permit else {
                        return Status::cancelled("the agent has gone");
                    };
                    // A question waits for what the agent is to do, and is seldom.
                    if std::mem::take(&mut unsent) {
                        if let Some(newest) = desired.borrow_and_update().as_deref() {
                            permit.send(Box::new(Ok(self.message(newest))));
                        }
                    } else if let Some(request) = asked.unsent.take() {
                        permit.send(Box::new(Ok(self.question(request))));
                    }
                }
                end = &mut lost => return end,
                () = claim.taken_over.cancelled() => {
                    return Status::aborted("a newer stream of the same agent took over");
                }
            }
        }
    }

    fn message(&self, desired: &Desired) -> CoordinatorMessage {
        let status = self.status.borrow();
        debug!(tablet = %desired.alias, generation = %desired.generation, "sending a desired state");
        CoordinatorMessage {
            cluster_id: status.cluster_id.clone(),
            leader_term: status.term,
            desired: Some(desired.clone().into()),
            lost_request: None,
        }
    }

    fn question(&self, request: LostRequest) -> CoordinatorMessage {
        let status = self.status.borrow();
        CoordinatorMessage {
            cluster_id: status.cluster_id.clone(),
            leader_term: status.term,
            desired: None,
            lost_request: Some(request),
        }
    }

    async fn next(&mut self) -> Result<Heard, Status> {
        next(&mut self.incoming, &self.status).await
    }

    async fn hand_in(&self, claim: &Claim, report: Report) -> Result<(), Status> {
        if report.tablet.alias != claim.alias {
            let message = format!(
                "one stream speaks for one tablet: {} became {}",
                claim.alias, report.tablet.alias
            );
            return Err(Status::invalid_argument(message));
        }
        self.streams.heard(claim, Instant::now());
        if self.node.report(report).await {
            return Ok(());
        }
        Err(error::retry("this coordinator is stopping".to_owned()))
    }

    /// The core may not listen to this tablet; its agent should know why. Asked after a report, which is taken before.
    async fn refused(&self, claim: &Claim) -> Result<(), Status> {
        let alias = claim.alias.clone();
        let look = self.node.read(false, move |core, _| {
            core.refused(&alias).map(ToOwned::to_owned)
        });
        match look.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(Status::already_exists(why)),
            Err(error) => Err(error::of_read(error)),
        }
    }
}

/// What an agent says.
enum Heard {
    Report(Box<Report>),
    Answer(LostAnswer),
}

fn not_a_report() -> Status {
    Status::invalid_argument("an agent's first message carries a report")
}

/// The next message; cancelling it loses nothing.
async fn next(
    incoming: &mut Streaming<AgentMessage>,
    status: &watch::Receiver<NodeStatus>,
) -> Result<Heard, Status> {
    let message = incoming.message().await?;
    let message = message.ok_or_else(|| Status::cancelled("the agent has ended its stream"))?;
    require_cluster(&status.borrow(), &message.cluster_id)?;
    match (message.report, message.lost_answer) {
        (Some(report), _) => {
            let report = Report::try_from(report).map_err(|error| error::of_conversion(&error))?;
            Ok(Heard::Report(Box::new(report)))
        }
        (None, Some(answer)) => Ok(Heard::Answer(answer)),
        (None, None) => Err(Status::invalid_argument(
            "a message of an agent carries a report or an answer",
        )),
    }
}

/// What operators have asked of one agent.
#[derive(Default)]
struct Asked {
    newest: u64,
    unsent: Option<LostRequest>,
    /// By number, the oldest first.
    waiting: VecDeque<(u64, oneshot::Sender<LostAnswer>)>,
}

impl Asked {
    /// An agent that never answers keeps nobody else from asking: the oldest question is given up.
    fn ask(&mut self, ask: Ask) {
        self.newest += 1;
        self.waiting.retain(|(_, waiter)| !waiter.is_closed());
        if self.waiting.len() >= ASKS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((self.newest, ask.answer));
        self.unsent = Some(LostRequest {
            id: self.newest,
            ..ask.request
        });
    }

    fn answered(&mut self, answer: LostAnswer) {
        let found = self.waiting.iter().position(|(id, _)| *id == answer.id);
        if let Some((_, waiter)) = found.and_then(|found| self.waiting.remove(found)) {
            // Who asked may have gone.
            drop(waiter.send(answer));
        }
    }
}

#[cfg(test)]
pub mod tests {
    use vt_proto::{
        epoch::{Epoch, Generation, Incarnation},
        report::MysqldState,
        topology::{Endpoint, Tablet, TabletKind},
    };

    use super::*;

    /// The first report of a tablet whose mysqld listens on that port.
    pub fn report(alias: &str, port: u16) -> Report {
        Report {
            tablet: Tablet {
                alias: alias.parse().unwrap(),
                kind: TabletKind::Replica,
                replica_set: "main".parse().unwrap(),
                mysql: Endpoint {
                    host: "db1".to_owned(),
                    port,
                },
                router: None,
            },
            boot_id: "boot".to_owned(),
            promised: Epoch::ZERO,
            generation: Generation::ZERO,
            mysqld: MysqldState::Running,
            incarnation: Incarnation(1),
            server_uuid: None,
            gtid: None,
            replication: None,
            super_read_only: None,
            semi_sync_source: None,
            semi_sync_replica: None,
            revoked: None,
            fenced: None,
            demoted: None,
            serving: None,
            amnesiac: false,
            schema_results: Vec::new(),
            blocked: None,
            disk_free_bytes: None,
            silent: None,
            confirmed: None,
            locked_out: None,
            prepared: None,
            write_probe: None,
            disk_probe: None,
            lost: Default::default(),
            stop_asked: false,
        }
    }
}
