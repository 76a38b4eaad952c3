//! What a statement waits for before it is sent: a primary that moves, or its turn before one does.
//!
//! It never chooses a server and holds no connection.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Request, Worker};
use crate::router::buffer::Place as HoldPlace;
use crate::router::error::RouterError;
use crate::router::pool::place::Place;
use crate::router::state::{Role, State};

/// While held, a statement tries again this often even if no news came: the server may be back
/// without any change of the topology.
const RETRY_PERIOD: Duration = Duration::from_millis(50);

/// How often and how long a statement was put off already.
#[derive(Debug, Default)]
pub struct Patience {
    held: Option<HoldPlace>,
    /// A broken connection may be a stale one, and the server well: the first is replaced at once.
    pub was_broken: bool,
    /// It was its turn to write to a primary that hands over soon.
    pub had_turn: bool,
    /// No replica can answer it, or none has what the session wrote.
    pub at_primary: bool,
    /// The server had forgotten the prepared statement once; twice is an error.
    pub was_forgotten: bool,
}

impl Patience {
    /// The statement's place among those that wait.
    fn place(
        &mut self,
        worker: &Worker,
        replica_set: &str,
        request: &Request,
    ) -> Result<&HoldPlace, RouterError> {
        Ok(match &mut self.held {
            Some(place) => place,
            none => none.insert(worker.hold.enter(replica_set, request.wire.len())?),
        })
    }
}

/// A write outside of a transaction, and the beginning of one, to a primary that hands over soon.
pub fn must_slow_down(
    place: &Place,
    state: &State,
    request: &Request,
    patience: &Patience,
) -> bool {
    place.is_slowed && !patience.had_turn && !request.is_read_only && !state.is_in_transaction()
}

/// Lets the statement wait for its turn, or until the topology changes. It counts as held, and never waits longer than one.
pub async fn slow_down(
    worker: &Worker,
    state: &mut State,
    place: &Place,
    request: &Request,
    patience: &mut Patience,
) -> Result<(), RouterError> {
    state.place = None;
    let replica_set = place.replica_set.to_string();
    let deadline = patience.place(worker, &replica_set, request)?.deadline();
    let mut changes = worker.topology.subscribe();
    let since = Instant::now();
    let outcome = tokio::select! {
        () = worker.hold.turn() => {
            patience.had_turn = true;
            Ok(())
        }
        _ = changes.changed() => Ok(()),
        () = sleep_until(deadline) => {
            patience.had_turn = true;
            Ok(())
        }
        () = state.process.interrupted() => Err(RouterError::Interrupted),
    };
    worker
        .metrics
        .held_seconds
        .inc_by(since.elapsed().as_secs_f64());
    outcome
}

/// Holds the statement until the topology changes or it is time to try again; fails when it was held
/// for as long as it may be.
pub async fn wait(
    worker: &Worker,
    state: &mut State,
    replica_set: &str,
    request: &Request,
    patience: &mut Patience,
    role: Role,
) -> Result<(), RouterError> {
    state.place = None;
    let place = patience.place(worker, replica_set, request)?;
    let now = Instant::now();
    if now >= place.deadline() {
        let replica_set = replica_set.to_owned();
        let waited_ms = place.time_limit().as_millis() as u64;
        return Err(match role {
            Role::Primary => RouterError::NoPrimary {
                replica_set,
                waited_ms,
            },
            role => RouterError::NoReplica {
                replica_set,
                kind: role.name(),
            },
        });
    }
    let mut changes = worker.topology.subscribe();
    state.process.set_state("Waiting for a server");
    let outcome = tokio::select! {
        _ = changes.changed() => Ok(()),
        () = sleep_until(place.deadline().min(now + RETRY_PERIOD)) => Ok(()),
        () = state.process.interrupted() => Err(RouterError::Interrupted),
    };
    state.process.set_state("");
    worker
        .metrics
        .held_seconds
        .inc_by(now.elapsed().as_secs_f64());
    outcome
}
