//! Which agent streams are open: one for each alias. The same host takes its own old stream over; another host has to wait until
//! the first is silent. What operators ask an agent goes by its stream.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use vt_proto::{
    ids::TabletAlias,
    report::Report,
    topology::Endpoint,
    wire::{LostAnswer, LostRequest},
};

/// A stream that brought no report for so long does not keep another host away: agents report several times a second.
const HELD: Duration = Duration::from_secs(3);

/// Questions on their way to one agent, and as many that wait for its answer: an operator asks one after the other.
pub const ASKS_MAX: usize = 2;

/// A question to an agent, and who waits for the answer.
pub struct Ask {
    pub request: LostRequest,
    pub answer: oneshot::Sender<LostAnswer>,
}

/// Where an agent speaks from. Its data directory's lock lets only one agent speak for one mysqld.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    boot_id: String,
    mysql: Endpoint,
}

struct Open {
    origin: Origin,
    number: u64,
    last_report: Instant,
    taken_over: CancellationToken,
    asks: mpsc::Sender<Box<Ask>>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    open: BTreeMap<TabletAlias, Open>,
}

/// The open streams of this member.
#[derive(Default)]
pub struct Streams {
    inner: Mutex<Inner>,
}

/// One stream's hold on its alias.
pub struct Claim {
    pub alias: TabletAlias,
    number: u64,
    /// Cancelled when a newer stream of the same agent takes over.
    pub taken_over: CancellationToken,
    /// What is asked of this agent. Boxed, for a channel makes room for many items at once.
    pub asks: mpsc::Receiver<Box<Ask>>,
}

impl Streams {
    /// Takes the alias of the first report of a stream, or says who holds it.
    pub fn claim(&self, report: &Report, now: Instant) -> Result<Claim, String> {
        let alias = report.tablet.alias.clone();
        let origin = Origin {
            boot_id: report.boot_id.clone(),
            mysql: report.tablet.mysql.clone(),
        };
        let mut inner = self.lock();
        if let Some(open) = inner.open.get(&alias) {
            if open.origin != origin && now.duration_since(open.last_report) < HELD {
                let Endpoint { host, port } = &open.origin.mysql;
                return Err(format!(
                    "the agent of the mysqld at {host}:{port} speaks as {alias} now: give one of the two another alias"
                ));
            }
            open.taken_over.cancel();
        }
        inner.next += 1;
        let number = inner.next;
        let taken_over = CancellationToken::new();
        let (asking, asks) = mpsc::channel(ASKS_MAX);
        let open = Open {
            origin,
            number,
            last_report: now,
            taken_over: taken_over.clone(),
            asks: asking,
        };
        inner.open.insert(alias.clone(), open);
        Ok(Claim {
            alias,
            number,
            taken_over,
            asks,
        })
    }

    /// Asks an agent, if it has a stream here that is not busy with other questions. Who asks hears of the stream's end.
    pub fn ask(
        &self,
        alias: &TabletAlias,
        request: LostRequest,
    ) -> Option<oneshot::Receiver<LostAnswer>> {
        let (answer, answered) = oneshot::channel();
        let ask = Box::new(Ask { request, answer });
        let asks = self.lock().open.get(alias)?.asks.clone();
        asks.try_send(ask).ok().map(|()| answered)
    }

    /// Notes that the stream brought a report.
    pub fn heard(&self, claim: &Claim, now: Instant) {
        let mut inner = self.lock();
        let open = inner.open.get_mut(&claim.alias);
        if let Some(open) = open.filter(|open| open.number == claim.number) {
            open.last_report = now;
        }
    }

    /// The stream has ended; says whether the alias has no stream now.
    pub fn release(&self, claim: &Claim) -> bool {
        let mut inner = self.lock();
        let own = inner
            .open
            .get(&claim.alias)
            .is_some_and(|open| open.number == claim.number);
        if own {
            inner.open.remove(&claim.alias);
        }
        own
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::tests::report;

    #[test]
    fn the_same_agent_takes_over_and_another_waits() {
        let streams = Streams::default();
        let start = Instant::now();
        let mine = report("zone1-100", 3306);
        let first = streams.claim(&mine, start).unwrap();
        let second = streams.claim(&mine, start).unwrap();
        assert!(first.taken_over.is_cancelled() && !second.taken_over.is_cancelled());
        assert!(
            !streams.release(&first),
            "the alias has a stream: the second"
        );

        let other = report("zone1-100", 3307);
        let refused = streams.claim(&other, start).err().unwrap();
        assert!(refused.contains("db1:3306"), "{refused}");
        streams.heard(&second, start + HELD);
        assert!(streams.claim(&other, start + HELD).is_err());
        let third = streams.claim(&other, start + HELD + HELD).unwrap();
        assert!(second.taken_over.is_cancelled());
        assert!(streams.release(&third));
        assert!(streams.claim(&mine, start).is_ok());
    }
}
