//! What routers watch: first what they do not know yet, then each change; a slow one skips to the newest. Served by every
//! member: a follower passes on what it hears of the leader, and ends its streams when it has lost every leader.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;
use vt_proto::{
    routing::RoutingVersion,
    wire::{RoutingUpdate, WatchRoutingRequest, routing_server::Routing},
};

use super::{
    error,
    leadership::Leadership,
    outgoing::{Item, outgoing},
    require_cluster, require_leader,
};
use crate::{
    news::{News, Piece},
    node::Handle,
};

/// Between two messages to one router: in a storm of changes it gets them together.
const SPACING: Duration = Duration::from_millis(5);

type Outgoing = mpsc::Sender<Item<RoutingUpdate>>;

/// The service.
pub struct Watches {
    node: Handle,
    leadership: Leadership,
    stop: CancellationToken,
}

impl Watches {
    /// The service of this node; `stop` ends its streams.
    pub fn new(node: Handle, leadership: Leadership, stop: CancellationToken) -> Self {
        Self {
            node,
            leadership,
            stop,
        }
    }
}

#[tonic::async_trait]
impl Routing for Watches {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<RoutingUpdate, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRoutingRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let status = self.node.status();
        require_cluster(&status.borrow(), &request.cluster_id)?;
        if request.relay {
            require_leader(&status.borrow())?;
        }
        let (news, lost) = (self.node.news(), self.node.lost());
        let after = request.after.map(Into::into);
        if !request.relay && (news.current().is_none() || is_useless(&news, &lost, after)) {
            return Err(error::retry(
                "this coordinator hears no leader: ask another".to_owned(),
            ));
        }
        debug!(router = %request.router, relay = request.relay, "a router watches");
        let (outgoing, messages) = outgoing();
        let reader = Reader {
            news,
            at: after,
            outgoing: outgoing.clone(),
        };
        let (leadership, stop) = (self.leadership.clone(), self.stop.clone());
        tokio::spawn(async move {
            let end = tokio::select! {
                end = reader.run(lost) => end,
                end = leadership.lost(), if request.relay => end,
                () = stop.cancelled() => error::retry("this coordinator is stopping".to_owned()),
                () = outgoing.closed() => return,
            };
            // Full means that a message is still under way to a slow router; dropping the channel ends the stream after it.
            drop(outgoing.try_send(Box::new(Err(end))));
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

/// Without a leader there is nothing to tell but what others may not know.
fn is_useless(news: &News, lost: &watch::Receiver<bool>, after: Option<RoutingVersion>) -> bool {
    *lost.borrow() && news.next(after).is_none()
}

/// One router: where it is, and how it is reached.
struct Reader {
    news: Arc<News>,
    at: Option<RoutingVersion>,
    outgoing: Outgoing,
}

impl Reader {
    /// Sends what is new until the router goes, or until there is no leader to hear news of.
    async fn run(mut self, mut lost: watch::Receiver<bool>) -> Status {
        let mut versions = self.news.versions();
        loop {
            versions.mark_unchanged();
            while self.news.next(self.at).is_some() {
                let Ok(permit) = self.outgoing.reserve().await else {
                    return Status::cancelled("the router has gone");
                };
                // Looked up only now: the router took its time.
                if let Some(Piece { to, update }) = self.news.next(self.at) {
                    self.at = Some(to);
                    permit.send(Box::new(Ok(update)));
                }
                sleep_until(Instant::now() + SPACING).await;
            }
            tokio::select! {
                changed = versions.changed() => if changed.is_err() {
                    return error::retry("this coordinator is stopping".to_owned());
                },
                // It has been told everything that is known here.
                _ = lost.wait_for(|lost| *lost) => {
                    return error::retry("this coordinator has lost its leader: ask another".to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vt_proto::{epoch::Revision, routing, wire::routing_update::Update};

    use super::*;
    use crate::api::outgoing::OUTGOING_MAX;

    fn publish(news: &News, health: u64) {
        let snapshot = routing::RoutingSnapshot {
            version: RoutingVersion {
                revision: Revision(1),
                health,
            },
            ..routing::RoutingSnapshot::default()
        };
        news.take(routing::RoutingUpdate {
            snapshot: Arc::new(snapshot),
            delta: None,
        });
    }

    #[tokio::test]
    async fn a_slow_reader_skips_and_a_lost_member_ends_after_what_it_knows() {
        let news = Arc::new(News::default());
        publish(&news, 1);
        let (lost, is_lost) = watch::channel(true);
        let (outgoing, mut incoming) = mpsc::channel(OUTGOING_MAX);
        let reader = |at| Reader {
            news: news.clone(),
            at,
            outgoing: outgoing.clone(),
        };
        let task = tokio::spawn(reader(None).run(is_lost.clone()));
        let message = incoming.recv().await.unwrap().unwrap();
        assert!(matches!(message.update, Some(Update::Full(_))));
        assert_eq!(task.await.unwrap().code(), tonic::Code::Unavailable);

        lost.send_replace(false);
        let at = news.current().unwrap().version;
        let task = tokio::spawn(reader(Some(at)).run(is_lost));
        for health in 2..=9 {
            publish(&news, health);
            tokio::task::yield_now().await;
        }
        // At most the one that was under way and all others together.
        let mut taken = 0;
        while *news.versions().borrow() != known(&mut incoming).await {
            taken += 1;
        }
        assert!(taken <= 1);
        lost.send_replace(true);
        assert_eq!(task.await.unwrap().code(), tonic::Code::Unavailable);
    }

    async fn known(incoming: &mut mpsc::Receiver<Item<RoutingUpdate>>) -> Option<RoutingVersion> {
        let message = incoming.recv().await.unwrap().unwrap();
        let Some(Update::Delta(body)) = message.update else {
            panic!("the reader was in the window");
        };
        let delta: vt_proto::wire::RoutingDelta = prost::Message::decode(body).unwrap();
        delta.to.map(Into::into)
    }
}
