//! Finds the leader among the coordinators: asks one after the other, follows the address that a non-leader names.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tonic::{
    Status,
    transport::{Channel, Endpoint as Dial},
};
use vt_proto::topology::Endpoint;
use vt_tls::{dial::connect, files::TlsFiles};

/// The metadata key under which a member that is not the leader names it.
pub const LEADER_KEY: &str = "vitrail-leader";
/// A member that does not take a connection so soon is asked later.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The first pause after a whole round in vain, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Whom to ask next, and when.
#[derive(Debug)]
pub struct Search {
    members: Vec<Endpoint>,
    next: usize,
    /// Named by a member; asked before the others, once.
    hint: Option<Endpoint>,
    /// Attempts since the last success.
    failures: u32,
}

impl Search {
    /// Starts at a member of the caller's choice, so that not everybody begins with the first.
    pub fn new(members: Vec<Endpoint>, start: usize) -> Self {
        assert!(!members.is_empty(), "the configuration names coordinators");
        let next = start % members.len();
        Self {
            members,
            next,
            hint: None,
            failures: 0,
        }
    }

    /// The member to ask now, after the pause that is due.
    pub async fn next(&mut self) -> Endpoint {
        if let Some(hint) = self.hint.take() {
            return hint;
        }
        if let Some(pause) = self.pause() {
            sleep_until(Instant::now() + pause).await;
        }
        let member = self.members[self.next].clone();
        self.next = (self.next + 1) % self.members.len();
        member
    }

    /// Between rounds, not between members: one of them is the leader most of the time.
    fn pause(&self) -> Option<Duration> {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let rounds = self.failures / members;
        if rounds == 0 || !self.failures.is_multiple_of(members) {
            return None;
        }
        let doubled = PAUSE_MIN.saturating_mul(1 << (rounds - 1).min(10));
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        Some(doubled.min(PAUSE_MAX).mul_f64(jitter))
    }

    /// The member answered as leader.
    pub fn succeeded(&mut self, member: &Endpoint) {
        self.failures = 0;
        // When its line breaks, it is the first to be asked again: most breaks are short.
        if let Some(index) = self.members.iter().position(|other| other == member) {
            self.next = index;
        }
    }

    /// The member did not answer, or is not the leader; then it may name it.
    pub fn failed(&mut self, status: Option<&Status>) {
        self.failures = self.failures.saturating_add(1);
        let named = status.and_then(named_leader);
        // Two members that name each other must not keep us running in a circle without a pause.
        if self.failures <= HINTS_MAX {
            self.hint = named;
        } else if let Some(named) = named
            && let Some(index) = self.members.iter().position(|member| *member == named)
        {
            self.next = index;
        }
    }
}

/// Hints followed at once before pauses apply.
const HINTS_MAX: u32 = 3;

fn named_leader(status: &Status) -> Option<Endpoint> {
    let text = status.metadata().get(LEADER_KEY)?.to_str().ok()?;
    crate::config::parse_endpoint(text).ok()
}

/// Opens a channel to a member: with the agent's certificate, or in plaintext where it has none. One that is gone without a word
/// is noticed after twice `keepalive`: a ping, and no answer.
pub async fn dial(
    member: &Endpoint,
    tls: Option<&TlsFiles>,
    keepalive: Duration,
) -> Result<Channel, Status> {
    let unavailable =
        |error: String| Status::unavailable(format!("{}:{}: {error}", member.host, member.port));
    let host = match member.host.contains(':') {
        true => format!("[{}]", member.host),
        false => member.host.clone(),
    };
    let endpoint = Dial::from_shared(format!("http://{host}:{}", member.port))
        .map_err(|error| unavailable(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let connected = connect(endpoint, tls).await;
    let distrusted = connected.as_ref().err().filter(|error| error.refused);
    tell(member, distrusted.map(|error| error.what.as_str()));
    connected.map_err(|error| unavailable(error.what))
}

/// Members that do not trust this agent, or that it does not trust, and what was told of them: once for each reason, since
/// they are tried again and again.
static TOLD: Mutex<BTreeMap<(String, u16), String>> = Mutex::new(BTreeMap::new());
/// A configuration names a handful of members.
const TOLD_MAX: usize = 64;

fn tell(member: &Endpoint, distrust: Option<&str>) {
    let key = (member.host.clone(), member.port);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(why) = distrust else {
        told.remove(&key);
        return;
    };
    if told.get(&key).is_some_and(|before| before == why) || told.len() >= TOLD_MAX {
        return;
    }
    tracing::error!(member = %member.host, port = member.port, why, "a coordinator and this agent do not trust each other");
    told.insert(key, why.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port,
        }
    }

    fn not_leader(text: &str) -> Status {
        let mut status = Status::failed_precondition("not the leader");
        status
            .metadata_mut()
            .insert(LEADER_KEY, text.parse().unwrap());
        status
    }

    #[tokio::test]
    async fn a_hint_is_followed_and_pauses_grow() {
        let mut search = Search::new(vec![member(1), member(2), member(3)], 1);
        assert_eq!(search.next().await, member(2));
        search.failed(Some(&not_leader("127.0.0.1:3")));
        assert_eq!(search.next().await, member(3));
        search.succeeded(&member(3));
        assert_eq!(search.next().await, member(3), "the last leader first");
        let mut pauses = Vec::new();
        for _ in 0..60 {
            search.failed(None);
            pauses.extend(search.pause());
        }
        assert_eq!(pauses.len(), 60 / 3, "one after each round");
        assert!(pauses[0] <= PAUSE_MIN, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX), "{pauses:?}");
        assert!(*pauses.last().unwrap() >= PAUSE_MAX / 2, "{pauses:?}");
    }
}
