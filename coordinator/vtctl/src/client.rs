//! The admin API as commands use it: finds the leader, follows it, retries what may be retried, within one time limit.
//! Every write carries a request id, so a retried write is applied once.

use std::{
    error::Error as _,
    future::Future,
    time::{Duration, Instant},
};

use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use vt_proto::wire::{admin_client::AdminClient, records_client::RecordsClient};
use vt_tls::{
    dial::{DialError, connect},
    files::TlsFiles,
};

use crate::failure::{Failure, Kind};

/// The metadata key in which a follower names the leader.
const LEADER_KEY: &str = "vitrail-leader";
/// The metadata key that says whether the same request may be sent again.
const RETRYABLE_KEY: &str = "vitrail-retryable";
/// A member that has not accepted a connection by then is tried again later: others may be alive.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One attempt; longer than the leader's own limit for a proposal, so that its answer is heard.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between attempts grow from the first to the second: an election takes about a second.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(800);
/// The largest answer: far above the design limit of the topology's lists, far below the memory of a host.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection to the leader, whoever it is.
pub struct Client {
    addresses: Vec<String>,
    /// None: plaintext.
    tls: Option<TlsFiles>,
    timeout: Duration,
    /// Members in a row that do not accept our certificate, or whose certificate we do not accept.
    distrust: usize,
    /// The member that answered last, and the connection to it.
    connected: Option<(String, Channel)>,
    /// Which of `addresses` is tried next.
    next: usize,
}

/// What one failed attempt means.
enum Verdict {
    /// This member is the leader.
    Follow(String),
    /// Another attempt may succeed.
    Retry(String),
    Final(Failure),
}

impl Client {
    /// A client of the coordinators at these addresses (`host:port`); connects on first use.
    pub fn new(addresses: Vec<String>, tls: Option<TlsFiles>, timeout: Duration) -> Self {
        assert!(
            !addresses.is_empty(),
            "a client without addresses reaches nobody"
        );
        Self {
            addresses,
            tls,
            timeout,
            distrust: 0,
            connected: None,
            next: 0,
        }
    }

    /// Sends a request to the leader; `send` is the call of the admin API.
    pub async fn call<Q, A, F, R>(&mut self, request: Q, send: F) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(AdminClient<Channel>, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let send = |channel, request| {
            let admin = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            send(admin, request)
        };
        self.send(request, send).await
    }

    /// The same for the API of records, which every member serves.
    pub async fn call_records<Q, A, F, R>(&mut self, request: Q, send: F) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(RecordsClient<Channel>, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let send = |channel, request| {
            let records = RecordsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            send(records, request)
        };
        self.send(request, send).await
    }

    async fn send<Q, A, F, R>(&mut self, request: Q, send: F) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = BACKOFF_MIN;
        let mut follow = None;
        loop {
            let attempt = self.attempt(request.clone(), &send, follow.take(), deadline);
            let (pause, why) = match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(Verdict::Final(failure)) => return Err(failure),
                Err(Verdict::Follow(leader)) => {
                    let why = format!("the leader is said to be {leader}");
                    follow = Some(leader);
                    (BACKOFF_MIN, why)
                }
                Err(Verdict::Retry(why)) => (backoff, why),
            };
            if Instant::now() + pause >= deadline {
                return Err(self.unreachable(&why));
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt<Q, A, F, R>(
        &mut self,
        request: Q,
        send: &F,
        leader: Option<String>,
        deadline: Instant,
    ) -> Result<A, Verdict>
    where
        F: Fn(Channel, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let (address, channel) = self.connection(leader).await?;
        let limit = deadline
            .saturating_duration_since(Instant::now())
            .min(ATTEMPT_TIMEOUT);
        let mut request = Request::new(request);
        request.set_timeout(limit);
        // The small extra lets the member's own answer to an expired deadline arrive.
        let answer =
            tokio::time::timeout(limit + BACKOFF_MIN, send(channel.clone(), request)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.connected = Some((address, channel));
                Ok(answer.into_inner())
            }
            Ok(Err(status)) => Err(judge(&address, &status)),
            Err(_) => Err(Verdict::Retry(format!("{address} did not answer in time"))),
        }
    }

    /// The connection to use: to the named leader, else the one that worked, else the next member in turn.
    async fn connection(&mut self, leader: Option<String>) -> Result<(String, Channel), Verdict> {
        let connected = self.connected.take();
        let address = match (leader, connected) {
            (None, Some(connected)) => return Ok(connected),
            (Some(leader), _) => leader,
            (None, None) => {
                self.next += 1;
                self.addresses[(self.next - 1) % self.addresses.len()].clone()
            }
        };
        match open(&address, self.tls.as_ref()).await {
            Ok(channel) => {
                self.distrust = 0;
                Ok((address, channel))
            }
            Err(error) if error.refused => {
                self.distrust += 1;
                if self.distrust < self.addresses.len() {
                    return Err(Verdict::Retry(format!("{address}: {}", error.what)));
                }
                // All of them: the certificate will not get better by waiting.
                Err(Verdict::Final(distrusted(&address, &error)))
            }
            Err(error) => Err(Verdict::Retry(format!("{address}: {}", error.what))),
        }
    }

    fn unreachable(&self, why: &str) -> Failure {
        let seconds = self.timeout.as_secs_f32();
        let members = self.addresses.join(", ");
        let message = format!("no leading coordinator among {members} within {seconds} s: {why}");
        Failure::new(Kind::Unreachable, message).next(
            "see that a majority of the coordinators runs (`vtctl local status` for a local cluster), \
             that --coordinators names them, that --tls-dir is given where they speak TLS, or give it longer with --timeout",
        )
    }
}

async fn open(address: &str, tls: Option<&TlsFiles>) -> Result<Channel, DialError> {
    let failed = |what: String| DialError {
        what,
        refused: false,
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| failed("this is no address of a coordinator: write host:port".to_owned()))?;
    let connecting = connect(endpoint.connect_timeout(CONNECT_TIMEOUT), tls);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|_| Err(failed("no connection in time".to_owned())))
}

fn distrusted(address: &str, error: &DialError) -> Failure {
    let message = format!("{address}: {}", error.what);
    Failure::new(Kind::Refused, message).next(
        "see that --tls-dir (VT_TLS_DIR) names the certificate, key and CA of this cluster; `vtctl pki show` lists what was issued",
    )
}

/// A connection to one coordinator, whether it leads or not.
pub async fn dial(address: &str, tls: Option<&TlsFiles>) -> Result<Channel, Failure> {
    open(address, tls)
        .await
        .map_err(|error| match error.refused {
            true => distrusted(address, &error),
            false => Failure::new(Kind::Unreachable, format!("{address}: {}", error.what))
                .next("see that a coordinator runs there and that the address is right"),
        })
}

/// What the refusal of one coordinator that was asked for itself means.
pub fn failure_of(address: &str, status: &Status) -> Failure {
    match judge(address, status) {
        Verdict::Final(failure) => failure,
        Verdict::Retry(why) => Failure::new(Kind::Unreachable, why),
        Verdict::Follow(leader) => Failure::new(Kind::Refused, format!("{address} does not lead"))
            .next(format!("ask {leader}")),
    }
}

/// An id for a write: the same one in every retry of it.
pub fn request_id() -> String {
    format!("vtctl-{:032x}", rand::random::<u128>())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn judge(address: &str, status: &Status) -> Verdict {
    let text = |key| {
        status
            .metadata()
            .get(key)
            .and_then(|value| value.to_str().ok())
    };
    if let Some(leader) = text(LEADER_KEY).filter(|leader| !leader.is_empty()) {
        return Verdict::Follow(leader.to_owned());
    }
    // A status with a source was made on this side: the connection broke.
    let broken = status.source().is_some();
    let late = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    );
    if broken || late || text(RETRYABLE_KEY) == Some("true") {
        let why = status
            .source()
            .map_or_else(|| status.message().to_owned(), root_cause);
        return Verdict::Retry(format!("{address}: {why}"));
    }
    let kind = match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::InvalidArgument => Kind::Usage,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition | Code::PermissionDenied => {
            Kind::Refused
        }
        _ => Kind::Failed,
    };
    Verdict::Final(Failure::new(kind, status.message()))
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn with(code: Code, key: &'static str, value: &str) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert(key, value.parse().unwrap());
        Status::with_metadata(code, "why", metadata)
    }

    #[test]
    fn statuses_are_followed_retried_or_final() {
        let shown = |status: &Status| match judge("a:1", status) {
            Verdict::Follow(leader) => format!("follow {leader}"),
            Verdict::Retry(why) => format!("retry {why}"),
            Verdict::Final(failure) => format!("{:?} {failure}", failure.kind),
        };
        let cases = [
            (
                with(Code::FailedPrecondition, LEADER_KEY, "b:2"),
                "follow b:2",
            ),
            (
                with(Code::FailedPrecondition, LEADER_KEY, ""),
                "Refused why",
            ),
            (
                with(Code::Internal, RETRYABLE_KEY, "true"),
                "retry a:1: why",
            ),
            (Status::unavailable("why"), "retry a:1: why"),
            (Status::deadline_exceeded("why"), "retry a:1: why"),
            (Status::not_found("why"), "NotFound why"),
            (Status::invalid_argument("why"), "Usage why"),
            (Status::already_exists("why"), "Refused why"),
            (Status::aborted("why"), "Refused why"),
            (Status::permission_denied("why"), "Refused why"),
            (Status::internal("why"), "Failed why"),
        ];
        for (status, expected) in cases {
            assert_eq!(shown(&status), expected);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_within_the_time_limit() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let mut client = Client::new(vec![address.clone()], None, Duration::from_millis(200));
        let request = vt_proto::wire::GetClusterRequest { stale: false };
        let send = |mut admin: AdminClient<Channel>, request| async move {
            admin.get_cluster(request).await
        };
        let failure = client.call(request, send).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Unreachable);
        assert!(failure.message.contains(&address), "{failure}");
    }
}
