//! The agent's stream: sends reports five times a second, and at once what somebody waits for; hands over what comes down.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vt_proto::{
    report::{Replication, Report},
    topology::Endpoint,
    wire::{AgentMessage, LostAnswer, LostRequest, agent_uplink_client::AgentUplinkClient},
};
use vt_tls::files::TlsFiles;

use super::{
    desired::{Arrival, read},
    leader::{Search, dial},
    learn,
};

/// Reports go out at least so often; the coordinator calls an agent silent after some of them are missing.
const REPORT_PERIOD: Duration = Duration::from_millis(200);
/// Two urgent reports are at least so far apart.
const URGENT_SPACING: Duration = Duration::from_millis(5);
/// Reports on their way into the stream: more than this means that nobody reads, and the line is given up.
const OUTBOX_MAX: usize = 16;
/// A leader that goes is missed by thousands of agents at one moment: they look for the next one within this time.
const SPREAD: Duration = Duration::from_millis(150);
/// Not so soon as the leader counts this agent as silent: where a network lets nothing but new connections pass, writes do not pass
/// either, and the leader has to see that.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// An answer to the opening of the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// A report on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub report: Report,
    /// Somebody waits for every detail of it.
    pub hot: bool,
}

/// The line of one tablet.
pub struct Uplink {
    /// In the order in which this agent tries them.
    pub coordinators: Vec<Endpoint>,
    /// None: plaintext.
    pub tls: Option<TlsFiles>,
    pub reports: watch::Receiver<Option<Arc<Outgoing>>>,
    pub arrivals: watch::Sender<Option<Arrival>>,
    /// The cluster that the tablet belongs to; empty before the first contact.
    pub cluster_id: watch::Sender<String>,
    /// Whether a leader listens.
    pub connected: watch::Sender<bool>,
    /// What operators ask about lost transactions, with who waits for the answer.
    pub questions: mpsc::Sender<(LostRequest, oneshot::Sender<LostAnswer>)>,
}

impl Uplink {
    /// Keeps the line up until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut search = Search::new(self.coordinators.clone(), 0);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = async {
                loop {
                    let member = search.next().await;
                    let ended = self.line(&member, &mut search).await;
                    let was_up = self.connected.send_if_modified(|is| std::mem::replace(is, false));
                    if was_up {
                        sleep_until(Instant::now() + SPREAD.mul_f64(rand::random())).await;
                    }
                    tracing::debug!(member = %member.host, port = member.port, %ended, "the line to the coordinator ended");
                    search.failed(Some(&ended));
                }
            } => {}
        }
    }

    /// One stream, from its opening to its end.
    async fn line(&mut self, member: &Endpoint, search: &mut Search) -> Status {
        let channel = match dial(member, self.tls.as_ref(), KEEPALIVE).await {
            Ok(channel) => channel,
            Err(status) => return status,
        };
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        // The first report goes with the opening: the leader answers only to somebody it knows.
        let mut pace = Pace::default();
        if let Err(status) = self.send_due(&outbox, &mut pace) {
            return status;
        }
        let mut client = AgentUplinkClient::new(channel);
        let opening = client.attach(ReceiverStream::new(stream));
        let mut inbox = match timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the stream was not opened in time"),
        };
        let mut greeted = false;
        loop {
            let due = pace.due();
            tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => {
                        if !greeted {
                            greeted = true;
                            search.succeeded(member);
                            tracing::info!(member = %member.host, port = member.port, "connected to the leading coordinator");
                            self.connected.send_replace(true);
                        }
                        if let Some(request) = &message.lost_request {
                            self.answer(request.clone(), &outbox);
                        }
                        match read(message) {
                            Ok(Some(arrival)) => {
                                learn(&self.cluster_id, &arrival.cluster_id);
                                self.arrivals.send_replace(Some(arrival));
                            }
                            Ok(None) => {}
                            Err(error) => tracing::error!(%error, "a desired state is not understood; upgrade this agent"),
                        }
                    }
                    Ok(None) => return Status::unavailable("the coordinator ended the stream"),
                    Err(status) => return status,
                },
                Ok(()) = self.reports.changed() => {
                    if pace.is_urgent(self.reports.borrow_and_update().as_deref())
                        && let Err(status) = self.send_due(&outbox, &mut pace) {
                        return status;
                    }
                }
                () = sleep_until(due) => {
                    if let Err(status) = self.send_due(&outbox, &mut pace) {
                        return status;
                    }
                }
            }
        }
    }

    /// From beside the stream: a disk may hang, and reports go on.
    fn answer(&self, request: LostRequest, outbox: &mpsc::Sender<AgentMessage>) {
        let id = request.id;
        let (waiter, answered) = oneshot::channel();
        let is_asked = self.questions.try_send((request, waiter)).is_ok();
        let (outbox, cluster_id) = (outbox.clone(), self.cluster_id.borrow().clone());
        tokio::spawn(async move {
            let answer = match is_asked {
                true => answered.await.ok(),
                false => None,
            };
            let message = AgentMessage {
                cluster_id,
                report: None,
                lost_answer: Some(answer.unwrap_or_else(|| LostAnswer {
                    id,
                    error: Some("earlier questions wait for the disk".to_owned()),
                    ..LostAnswer::default()
                })),
            };
            // The stream may have ended meanwhile.
            let _ = outbox.send(message).await;
        });
    }

    fn send_due(
        &mut self,
        outbox: &mpsc::Sender<AgentMessage>,
        pace: &mut Pace,
    ) -> Result<(), Status> {
        let newest = self.reports.borrow_and_update().clone();
        let Some(outgoing) = newest else {
            // Nothing was observed yet.
            pace.sent(None);
            return Ok(());
        };
        let message = AgentMessage {
            cluster_id: self.cluster_id.borrow().clone(),
            report: Some(outgoing.report.clone().into()),
            lost_answer: None,
        };
        pace.sent(Some(&outgoing.report));
        outbox
            .try_send(message)
            .map_err(|_| Status::unavailable("the coordinator does not read the reports"))
    }
}

/// When the next report is due, and what makes one urgent.
#[derive(Default)]
struct Pace {
    last: Option<Report>,
    sent_at: Option<Instant>,
    /// An urgent one came too soon after the last.
    waits: bool,
}

impl Pace {
    fn sent(&mut self, report: Option<&Report>) {
        self.last = report.cloned();
        self.sent_at = Some(Instant::now());
        self.waits = false;
    }

    fn due(&self) -> Instant {
        let period = if self.waits {
            URGENT_SPACING
        } else {
            REPORT_PERIOD
        };
        self.sent_at.map_or_else(Instant::now, |at| at + period)
    }

    fn is_urgent(&mut self, outgoing: Option<&Outgoing>) -> bool {
        let Some(outgoing) = outgoing else {
            return false;
        };
        let differs = self
            .last
            .as_ref()
            .is_none_or(|last| differs(last, &outgoing.report, outgoing.hot));
        let spaced = self.sent_at.is_none_or(|at| at.elapsed() >= URGENT_SPACING);
        self.waits |= differs && !spaced;
        differs && spaced
    }
}

/// Whether two reports differ in what somebody may wait for. Ages and free space do not matter, but that the source is no longer
/// heard: a failover may wait for nothing else. Positions matter only when asked for.
fn differs(one: &Report, other: &Report, with_positions: bool) -> bool {
    let hears = |report: &Report| report.replication.as_ref().map(Replication::hears_source);
    let essence = |report: &Report| {
        let mut report = report.clone();
        report.disk_free_bytes = None;
        if let Some(replication) = &mut report.replication {
            replication.heartbeat_age_ms = None;
            replication.lag_ms = None;
        }
        if let Some(probe) = &mut report.write_probe {
            probe.success_age_ms = None;
            if let Some(failure) = &mut probe.failure {
                failure.since_ms = 0;
            }
        }
        if let Some(probe) = &mut report.disk_probe {
            probe.success_age_ms = None;
        }
        if let vt_proto::report::MysqldState::Unresponsive { since_ms } = &mut report.mysqld {
            *since_ms = 0;
        }
        if !with_positions {
            report.gtid = None;
        }
        report
    };
    hears(one) != hears(other) || essence(one) != essence(other)
}

#[cfg(test)]
pub(crate) mod tests {
    use vt_agent_core::{Memory, Observed, Persisted, Process, Step, report};
    use vt_proto::{
        epoch::Incarnation,
        report::{HEARTBEAT_AGE_MS, ThreadState},
        topology::{Tablet, TabletKind},
    };

    use super::*;

    /// A report that was made while all was well.
    pub(crate) fn a_report() -> Report {
        let tablet = Tablet {
            alias: "zone1-100".parse().unwrap(),
            kind: TabletKind::Replica,
            replica_set: "main".parse().unwrap(),
            mysql: Endpoint {
                host: "h".to_owned(),
                port: 1,
            },
            router: None,
        };
        let observed = Observed {
            boot_id: "boot".to_owned(),
            process: Process::Up,
            incarnation: Incarnation(1),
            fence_marker: None,
            role_marker: false,
            server: None,
            unresponsive_ms: None,
            disk_free_bytes: None,
            write_probe: None,
            disk_probe: None,
            lost: Default::default(),
            stop_asked: false,
        };
        let step = Step {
            action: None,
            blocked: None,
        };
        let (state, memory) = (Persisted::default(), Memory::default());
        report(&tablet, &observed, &state, &memory, None, &step)
    }

    #[test]
    fn a_source_that_is_no_longer_heard_is_told_at_once_and_its_age_otherwise_is_not() {
        let heard = |age_ms: u64, io: ThreadState| {
            let mut report = a_report();
            report.replication = Some(Replication {
                source: Endpoint {
                    host: "h".to_owned(),
                    port: 2,
                },
                io,
                sql: ThreadState::On,
                heartbeat_age_ms: Some(age_ms),
                lag_ms: Some(age_ms),
                error: None,
                source_uuid: None,
                stuck: false,
                applier_error: None,
            });
            report
        };
        let fresh = heard(10, ThreadState::On);
        for (age_ms, urgent) in [(HEARTBEAT_AGE_MS, false), (HEARTBEAT_AGE_MS + 1, true)] {
            let later = heard(age_ms, ThreadState::On);
            assert_eq!(differs(&fresh, &later, true), urgent, "{age_ms}");
        }
        let lost = heard(HEARTBEAT_AGE_MS + 1, ThreadState::On);
        let older = heard(5 * HEARTBEAT_AGE_MS, ThreadState::On);
        assert!(!differs(&lost, &older, true));
        assert!(differs(&fresh, &heard(10, ThreadState::Connecting), false));
    }
}
