//! Reads that replicas answer: which statements may go there, and that a session finds there what it wrote before.
//!
//! It never sends a read; it waits on the connection that will.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use vt_planner::Traits;
use vt_proto::topology::{Endpoint, TabletKind};
use vt_wire::command::encode_query;
use vt_wire::packet::put_packet;
use vt_wire::result_set::TextResult;
use vt_wire::scanner::Answer;

use super::{PreparedUse, Request, Worker};
use crate::router::metrics::ReadOutcome;
use crate::router::pool::connection::Connection;
use crate::router::state::{Lease, Role, State, Written};

/// How long a session's own writes are awaited on a replica, unless configured: replicas of a healthy cluster need a few
/// milliseconds, and an application that waits longer gains nothing over asking the primary.
pub const READ_WAIT_DEFAULT: Duration = Duration::from_millis(200);
/// For the way there and back, on top of what the server waits.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// What a replica was seen to have it keeps, unless its data are replaced: that takes longer than this.
const APPLIED_TIME: Duration = Duration::from_secs(1);

/// The tablets that shall run this statement of a session whose database names `declared`.
pub fn role_for(state: &State, request: &Request, declared: Role, at_primary: bool) -> Role {
    match declared {
        Role::Primary | Role::Rdonly => declared,
        Role::Replica | Role::Split if at_primary => Role::Primary,
        Role::Replica => Role::Replica,
        // What it asks about is known where the statement before it ran.
        Role::Split if request.traits.intersects(Traits::DEPENDS_ON_PREVIOUS) => {
            match &state.lease {
                Some(lease) if !lease.place.is_primary() => Role::Replica,
                _ => Role::Primary,
            }
        }
        Role::Split if may_leave_primary(state, request) => Role::Replica,
        Role::Split => Role::Primary,
    }
}

/// Nothing may depend on the connection, on a transaction or on statements before it.
fn may_leave_primary(state: &State, request: &Request) -> bool {
    let (is_read_only, traits) = match request.prepared {
        Some(PreparedUse::Prepare(id)) => state
            .statements
            .get(&id)
            .map_or((false, Traits::NONE), |it| (it.is_read_only, it.traits)),
        _ => (request.is_read_only, request.traits),
    };
    is_read_only
        && !traits.intersects(
            Traits::DEPENDS_ON_PREVIOUS | Traits::READS_USER_VARIABLE | Traits::CONNECTION_ID,
        )
        && request.ends_transaction.is_none()
        && state.is_autocommit()
        && !state.is_bound()
}

/// Whether the replica at the end of `lease` has what the session wrote; waits for it, but no longer than configured. An error:
/// the connection cannot be used any more.
pub async fn has_own_writes(worker: &Worker, state: &State, lease: &mut Lease) -> Result<bool, ()> {
    let Some(written) = &state.written else {
        return Ok(true);
    };
    let is_new_read = lease.place.kind == Some(TabletKind::Replica) && !state.is_in_transaction();
    let endpoint = lease.place.endpoint();
    let wait = state.variables.read_wait(&worker.reads);
    if !is_new_read || wait.is_zero() || worker.applied.has(endpoint, written) {
        return Ok(true);
    }
    let limit = wait + ANSWER_TIME;
    let asked = timeout(limit, ask(&mut lease.connection, written, wait)).await;
    let has = asked.unwrap_or(Err(()));
    let outcome = match has {
        Ok(true) => {
            worker.applied.note(endpoint, written);
            ReadOutcome::awaited
        }
        Ok(false) | Err(()) => ReadOutcome::behind,
    };
    worker.metrics.count_read(outcome);
    has
}

async fn ask(connection: &mut Connection, written: &Written, wait: Duration) -> Result<bool, ()> {
    let sql = format!(
        "SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', {:.3})",
        written.text(),
        wait.as_secs_f64()
    );
    let payload = encode_query(sql.as_bytes(), connection.capabilities);
    let mut commands = std::mem::take(&mut connection.outstanding);
    put_packet(&mut commands, 0, &payload);
    let answers = connection.exchange(&commands, &[Answer::Results]).await;
    let answer = answers.map_err(drop)?.into_iter().next().ok_or(())?;
    if answer.error.is_some() {
        return Ok(false);
    }
    let result = TextResult::parse(&answer.wire, connection.capabilities).map_err(drop)?;
    let value = result.rows.first().and_then(|row| row.first());
    Ok(matches!(value, Some(Some(value)) if value == b"0"))
}

/// Up to where each replica was seen to have applied what one server wrote: what is before it need not be asked for again.
#[derive(Debug, Default)]
pub struct Applied {
    seen: RefCell<BTreeMap<Endpoint, Seen>>,
}

#[derive(Debug)]
struct Seen {
    source: Vec<u8>,
    number: u64,
    at: Instant,
}

impl Applied {
    fn has(&self, endpoint: &Endpoint, written: &Written) -> bool {
        let Some((source, number)) = written.last() else {
            return false;
        };
        self.seen.borrow().get(endpoint).is_some_and(|seen| {
            seen.source == source && seen.number >= number && seen.at.elapsed() < APPLIED_TIME
        })
    }

    fn note(&self, endpoint: &Endpoint, written: &Written) {
        let Some((source, number)) = written.last() else {
            return;
        };
        let mut all = self.seen.borrow_mut();
        all.retain(|_, seen| seen.at.elapsed() < APPLIED_TIME);
        let is_newer = |seen: &Seen| seen.source == source && seen.number > number;
        if !all.get(endpoint).is_some_and(is_newer) {
            let seen = Seen {
                source: source.to_vec(),
                number,
                at: Instant::now(),
            };
            all.insert(endpoint.clone(), seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        Written::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_replica_has_it_is_not_asked_for_again() {
        let applied = Applied::default();
        let endpoint = |port| Endpoint {
            host: "db".to_owned(),
            port,
        };
        applied.note(&endpoint(1), &written("a-b:7"));
        applied.note(&endpoint(1), &written("a-b:5"));
        for (port, text, expected) in [
            (1, "a-b:7", true),
            (1, "a-b:1", true),
            (1, "a-b:8", false),
            (1, "c:1", false),
            (1, "a-b:1-3,c:1", false),
            (2, "a-b:1", false),
        ] {
            assert_eq!(
                applied.has(&endpoint(port), &written(text)),
                expected,
                "{text}"
            );
        }
    }
}
