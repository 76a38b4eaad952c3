//! Carries a command to one server: waits while the primary moves, repeats what certainly did not run,
//! and says so when nobody can know.
//!
//! It never repeats a statement that may have run, unless running it twice does no harm.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use vt_planner::Traits;
use vt_wire::ServerStatus;
use vt_wire::error_code::{self, ErrorCode};
use vt_wire::scanner::Summary;

use super::attempt::{Attempt, Parts, Why, endpoint_text};
use super::patience::{Patience, must_slow_down, slow_down, wait};
use super::reads::has_own_writes;
use super::route::{Resolution, resolve};
use super::{Failure, PreparedUse, Request, Worker};
use crate::router::error::RouterError;
use crate::router::pool::CheckoutError;
use crate::router::pool::align::{self, AlignError, Wanted, align};
use crate::router::pool::connection::{ConnectError, Connection, InsertId};
use crate::router::pool::place::Place;
use crate::router::pool::settings::Untracked;
use crate::router::socket::Channel;
use crate::router::state::{Broken, Lease, Role, State, TransactionEnd};

/// Carries `request` out and its answer to the client.
pub async fn run(
    worker: &Worker,
    state: &mut State,
    client: &mut Channel,
    request: &mut Request,
) -> Result<Summary, Failure> {
    let mut patience = Patience::default();
    loop {
        let Lease {
            mut connection,
            place,
        } = acquire(worker, state, request, &mut patience).await?;
        let mut parts = Parts {
            worker,
            place: &place,
            connection: &mut connection,
            client,
            state,
        };
        match parts.run(request).await {
            Attempt::Answered(summary) => {
                settle(
                    worker,
                    state,
                    Lease { connection, place },
                    request,
                    &summary,
                );
                return Ok(summary);
            }
            Attempt::Client(error) => {
                worker.pool.abandon(place.endpoint(), connection);
                return Err(Failure::Client(error));
            }
            Attempt::Refused(error) => {
                keep_if_whole(worker, state, connection, place);
                return Err(error.into());
            }
            Attempt::NotRun(Why::UnknownStatement) if !patience.was_forgotten => {
                patience.was_forgotten = true;
                state.lease = Some(Lease { connection, place });
            }
            Attempt::NotRun(Why::UnknownStatement) => {
                keep_if_whole(worker, state, connection, place);
                return Err(RouterError::UnknownStatement(0).into());
            }
            Attempt::NotRun(why) => {
                drop(connection);
                survive_loss(state, place.replica_set.to_string(), request)?;
                before_next(worker, state, &place, request, &mut patience, why).await?;
            }
            Attempt::Lost { sent_any, boundary } => {
                drop(connection);
                after_loss(state, &place, request, sent_any, boundary)?;
                before_next(worker, state, &place, request, &mut patience, Why::Broken).await?;
            }
        }
    }
}

/// After an attempt that may be repeated: what to do before the next.
async fn before_next(
    worker: &Worker,
    state: &mut State,
    place: &Place,
    request: &Request,
    patience: &mut Patience,
    why: Why,
) -> Result<(), RouterError> {
    if why == Why::ReadOnly && !place.is_primary() {
        // It writes although it reads alone by its text.
        patience.at_primary = true;
        return Ok(());
    }
    if why == Why::Broken {
        // What lies idle beside a broken connection is likely broken as well.
        drop(place.bucket.take_stale(Instant::now(), Duration::ZERO));
        if !std::mem::replace(&mut patience.was_broken, true) {
            return Ok(());
        }
        if !place.is_primary() {
            worker.shun(place.endpoint());
            return Ok(());
        }
    }
    wait(
        worker,
        state,
        &place.replica_set.to_string(),
        request,
        patience,
        Role::Primary,
    )
    .await
}

/// A connection for the statement, aligned with the session; waits for a primary if need be.
async fn acquire(
    worker: &Worker,
    state: &mut State,
    request: &Request,
    patience: &mut Patience,
) -> Result<Lease, RouterError> {
    loop {
        let resolution = resolve(worker, state, request, patience.at_primary);
        if state.lease.is_none() && state.is_pinned() {
            // Its connection could not be used again, which was found between two statements.
            survive_loss(state, resolution.replica_set(), request)?;
        }
        if let Resolution::Ready(place) = &resolution
            && must_slow_down(place, state, request, patience)
        {
            let place = Rc::clone(place);
            slow_down(worker, state, &place, request, patience).await?;
            continue;
        }
        if let Some(lease) = state.lease.take() {
            match keep_lease(worker, state, lease, &resolution).await? {
                Kept::Yes(lease) => match check_reads(worker, state, lease, patience).await? {
                    Some(lease) => return Ok(lease),
                    None => continue,
                },
                Kept::No => continue,
                Kept::Later => {}
            }
        }
        let place = match resolution {
            Resolution::Ready(place) => place,
            Resolution::Refuse(error) => return Err(error),
            Resolution::Wait {
                role: Role::Replica,
                ..
            } if state.role() == Role::Split => {
                patience.at_primary = true;
                continue;
            }
            Resolution::Wait { replica_set, role } => {
                wait(worker, state, &replica_set, request, patience, role).await?;
                continue;
            }
        };
        let lent = tokio::select! {
            biased;
            lent = checkout(worker, state, &place, request) => lent?,
            () = state.process.interrupted() => return Err(RouterError::Interrupted),
        };
        match lent {
            Some(connection) => {
                let lease = Lease { connection, place };
                if let Some(lease) = check_reads(worker, state, lease, patience).await? {
                    return Ok(lease);
                }
            }
            None if place.is_primary() => {
                wait(
                    worker,
                    state,
                    &place.replica_set.to_string(),
                    request,
                    patience,
                    Role::Primary,
                )
                .await?;
            }
            None => worker.shun(place.endpoint()),
        }
    }
}

/// Lets a read wait until its replica has what the session wrote. `None`: another server has to answer.
async fn check_reads(
    worker: &Worker,
    state: &mut State,
    mut lease: Lease,
    patience: &mut Patience,
) -> Result<Option<Lease>, RouterError> {
    let has = tokio::select! {
        biased;
        has = has_own_writes(worker, state, &mut lease) => has,
        // The connection is in the middle of the wait: nobody uses it again.
        () = state.process.interrupted() => return Err(RouterError::Interrupted),
    };
    if has == Ok(true) {
        return Ok(Some(lease));
    }
    if state.is_bound() {
        let replica_set = lease.place.replica_set.to_string();
        let waited_ms = state.variables.read_wait(&worker.reads).as_millis() as u64;
        keep_if_whole(worker, state, lease.connection, lease.place);
        return Err(RouterError::ReplicaBehind {
            replica_set,
            waited_ms,
        });
    }
    if has.is_ok() {
        worker.pool.put_back(&lease.place.bucket, lease.connection);
    }
    patience.at_primary = true;
    Ok(None)
}

/// May the session go on with the connection it holds?
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one match; a box would be an allocation for each statement of a transaction"
)]
enum Kept {
    Yes(Lease),
    /// It was let go: find another.
    No,
    /// The primary moves: the session still holds the connection, the statement waits.
    Later,
}

async fn keep_lease(
    worker: &Worker,
    state: &mut State,
    mut lease: Lease,
    resolution: &Resolution,
) -> Result<Kept, RouterError> {
    let place = match resolution {
        Resolution::Ready(place) if Rc::ptr_eq(place, &lease.place) => return Ok(Kept::Yes(lease)),
        Resolution::Ready(place) => place,
        // What runs already may come to its end while the primary moves.
        _ if state.is_in_transaction() => return Ok(Kept::Yes(lease)),
        Resolution::Wait { .. } => {
            state.lease = Some(lease);
            return Ok(Kept::Later);
        }
        Resolution::Refuse(error) => {
            state.lease = Some(lease);
            return Err(error.clone());
        }
    };
    let same_set = place.replica_set == lease.place.replica_set;
    if same_set
        && place.bucket.key.endpoint == lease.place.bucket.key.endpoint
        && place.bucket.key.purpose == lease.place.bucket.key.purpose
    {
        align(&mut lease.connection, wanted(state, place))
            .await
            .map_err(|error| align_failed(place, &state.user, error))?;
        lease.place = Rc::clone(place);
        return Ok(Kept::Yes(lease));
    }
    if state.is_in_transaction() && same_set {
        return Ok(Kept::Yes(lease));
    }
    if state.is_in_transaction() || (state.pins.state && !same_set) {
        let (first, second) = (
            lease.place.replica_set.to_string(),
            place.replica_set.to_string(),
        );
        state.lease = Some(lease);
        return Err(RouterError::SeveralReplicaSets { first, second });
    }
    if state.is_bound() {
        // The connection ends, and what only it held is lost with it.
        return Ok(Kept::No);
    }
    // Nobody else may ask for the warnings of this session.
    lease.connection.needs_reset |= state.pins.diagnostics;
    worker.pool.put_back(&lease.place.bucket, lease.connection);
    Ok(Kept::No)
}

fn wanted<'a>(state: &'a State, place: &'a Place) -> Wanted<'a> {
    Wanted {
        session: state.id,
        collation: state.collation,
        settings: &state.settings,
        schema: place.schema.as_ref(),
        capabilities: place.bucket.key.capabilities,
        insert_id: &state.insert_id,
    }
}

/// What a client is told whose database the server does not let the router use.
fn refused_database(place: &Place, user: &str, code: ErrorCode) -> Option<RouterError> {
    let database = place.schema.as_deref().unwrap_or_default().to_owned();
    match code {
        error_code::BAD_DATABASE => Some(RouterError::UnknownDatabase(database)),
        error_code::DATABASE_ACCESS_DENIED => Some(RouterError::DatabaseDenied {
            user: user.to_owned(),
            database,
        }),
        _ => None,
    }
}

fn align_failed(place: &Place, user: &str, error: AlignError) -> RouterError {
    if let AlignError::Refused { code, .. } = error
        && let Some(error) = refused_database(place, user, code)
    {
        return error;
    }
    let reason = match error {
        AlignError::Refused { code, message } => format!("error {code}: {message}"),
        AlignError::Replace(error) => error.to_string(),
    };
    RouterError::BackendRefused {
        endpoint: endpoint_text(place),
        reason,
    }
}

/// Takes a connection from the pool and aligns it. `None`: the server is not there now.
async fn checkout(
    worker: &Worker,
    state: &State,
    place: &Rc<Place>,
    request: &Request,
) -> Result<Option<Connection>, RouterError> {
    loop {
        let lent = worker
            .pool
            .checkout(&place.bucket, state.id, place.schema.as_ref())
            .await;
        let mut connection = match lent {
            Ok(connection) => connection,
            Err(CheckoutError::Exhausted { size }) => {
                return Err(RouterError::PoolExhausted {
                    endpoint: endpoint_text(place),
                    size,
                    waited_ms: worker.pool.wait_ms(),
                });
            }
            Err(CheckoutError::Connect(error)) => return connect_failed(place, &state.user, error),
        };
        let is_own = connection.owner == Some(state.id);
        if !is_own
            && request
                .traits
                .intersects(Traits::ROW_COUNT | Traits::FOUND_ROWS)
            && state.has_run
        {
            worker.pool.put_back(&place.bucket, connection);
            return Err(RouterError::DiagnosticsLost);
        }
        match align(&mut connection, wanted(state, place)).await {
            Ok(()) => return Ok(Some(connection)),
            // A connection that went stale in the pool: the next is newer, or new.
            Err(AlignError::Replace(error)) => {
                tracing::debug!(%error, "a pooled connection is replaced")
            }
            Err(refused) => return Err(align_failed(place, &state.user, refused)),
        }
    }
}

fn connect_failed(
    place: &Place,
    user: &str,
    error: ConnectError,
) -> Result<Option<Connection>, RouterError> {
    if let ConnectError::Refused { code, .. } = error
        && let Some(error) = refused_database(place, user, code)
    {
        return Err(error);
    }
    let reason = match error {
        ConnectError::Unreachable(_) | ConnectError::TimedOut => return Ok(None),
        // These pass: the server starts, stops, or is crowded for the moment.
        ConnectError::Refused {
            code:
                error_code::TOO_MANY_CONNECTIONS
                | error_code::SERVER_SHUTDOWN
                | error_code::OFFLINE_MODE,
            ..
        } => return Ok(None),
        other => other.to_string(),
    };
    tracing::warn!(endpoint = %endpoint_text(place), %reason, "a server refuses the router");
    Err(RouterError::BackendRefused {
        endpoint: endpoint_text(place),
        reason,
    })
}

/// The connection is gone and the statement did not run. Fails if the session lost more than that.
fn survive_loss(
    state: &mut State,
    replica_set: String,
    request: &Request,
) -> Result<(), RouterError> {
    if state.is_in_transaction() {
        state.status = state.status.without(ServerStatus::IN_TRANSACTION);
        state.pins.cursors.clear();
        // COMMIT and ROLLBACK end the transaction, and with it the error.
        if request.ends_transaction.is_none() {
            state.broken = Some(Broken::Replaced {
                replica_set: replica_set.clone(),
            });
        }
        return Err(RouterError::TransactionLost { replica_set });
    }
    if state.is_bound() && request.ends_transaction == Some(TransactionEnd::Rollback) {
        // There is nothing to roll back. What else is gone, the next statement is told.
        return Err(RouterError::TransactionLost { replica_set });
    }
    if state.is_bound() {
        state.lose_connection();
        return Err(RouterError::SessionStateLost { replica_set });
    }
    let asks_back = Traits::DIAGNOSTICS | Traits::ROW_COUNT | Traits::FOUND_ROWS;
    if std::mem::take(&mut state.pins.diagnostics) && request.traits.intersects(asks_back) {
        return Err(RouterError::DiagnosticsLost);
    }
    Ok(())
}

/// The statement was sent and its answer did not come whole. Returns if it may be repeated.
fn after_loss(
    state: &mut State,
    place: &Place,
    request: &Request,
    sent_any: bool,
    boundary: Option<u8>,
) -> Result<(), Failure> {
    let commits = request.ends_transaction == Some(TransactionEnd::Commit)
        || request.traits.intersects(Traits::IMPLICIT_COMMIT);
    // Without autocommit nothing stays of a statement that no commit follows.
    let is_harmless = !commits && (request.is_read_only || !state.is_autocommit());
    let in_transaction = state.is_in_transaction();
    let error = match survive_loss(state, place.replica_set.to_string(), request) {
        Err(error) if is_harmless || (in_transaction && !commits) => error,
        Ok(()) if is_harmless && !sent_any => return Ok(()),
        _ => RouterError::OutcomeUnknown {
            replica_set: place.replica_set.to_string(),
        },
    };
    match (sent_any, boundary) {
        (false, _) => Err(error.into()),
        (true, Some(sequence)) => Err(Failure::AnswerAfterPart(error, sequence)),
        (true, None) => Err(Failure::Client(std::io::ErrorKind::UnexpectedEof.into())),
    }
}

/// After an answer: what the session is now, and whether it keeps the connection.
fn settle(worker: &Worker, state: &mut State, lease: Lease, request: &Request, summary: &Summary) {
    let Lease {
        mut connection,
        place,
    } = lease;
    state.has_run = true;
    if summary.results > 0 {
        let kept = ServerStatus::IN_TRANSACTION
            .with(ServerStatus::AUTOCOMMIT)
            .with(ServerStatus::NO_BACKSLASH_ESCAPES)
            .with(ServerStatus::IN_TRANSACTION_READONLY);
        state.status = ServerStatus(summary.status.0 & kept.0);
        state.lex.no_backslash_escapes = state.status.contains(ServerStatus::NO_BACKSLASH_ESCAPES);
    }
    if summary.last_insert_id != 0 || request.traits.intersects(Traits::SETS_LAST_INSERT_ID) {
        if summary.last_insert_id != 0 {
            state.insert_id.set(summary.last_insert_id);
        }
        connection.insert_id = InsertId::OfOwner(Rc::clone(&state.insert_id));
    }
    pin(state, request, summary);
    // Whether the session lost more than a connection, its next statement finds out.
    keep_if_whole(worker, state, connection, place);
}

fn pin(state: &mut State, request: &Request, summary: &Summary) {
    let until_reset = Traits::INTO_VARIABLE
        | Traits::ASSIGNS_USER_VARIABLE
        | Traits::TEMPORARY_TABLE
        | Traits::ADVISORY_LOCK
        | Traits::TABLE_LOCK
        | Traits::HANDLER
        | Traits::XA
        | Traits::TEXT_PREPARE;
    let is_error = summary.error.is_some();
    if request.untracked > Untracked::Nothing || request.traits.intersects(until_reset) {
        state.pins.state = true;
    }
    // A statement without tables does not begin it. One that does so by itself cannot be told from that, and keeps it needlessly.
    let is_over =
        request.ends_transaction.is_some() || request.traits.intersects(Traits::IMPLICIT_COMMIT);
    state.pins.next_transaction = !state.is_in_transaction()
        && (request.traits.intersects(Traits::NEXT_TRANSACTION)
            || (state.pins.next_transaction && !is_over));
    state.chooses_reports |= request.untracked == Untracked::Reports && !is_error;
    let asks_only = request.traits.intersects(Traits::DIAGNOSTICS);
    state.pins.diagnostics = is_error
        || summary.warnings > 0
        || request.traits.intersects(Traits::SQL_CALC_FOUND_ROWS)
        || (asks_only && state.pins.diagnostics);
    if let Some(PreparedUse::Execute(id) | PreparedUse::Continue(id)) = request.prepared {
        let is_open = summary.status.contains(ServerStatus::CURSOR_EXISTS)
            && !summary.status.contains(ServerStatus::LAST_ROW_SENT)
            && !is_error;
        if is_open {
            state.pins.cursors.insert(id);
        } else {
            state.pins.cursors.remove(&id);
        }
    }
}

fn keep_if_whole(worker: &Worker, state: &mut State, connection: Connection, place: Rc<Place>) {
    if !connection.is_at_boundary() {
        return;
    }
    if state.is_pinned() {
        state.lease = Some(Lease { connection, place });
    } else {
        worker.pool.put_back(&place.bucket, connection);
    }
}

/// Takes the session's connection away from it: reset in the background, then anybody's.
pub fn release(worker: &Rc<Worker>, state: &mut State) {
    let Some(Lease {
        mut connection,
        place,
    }) = state.lease.take()
    else {
        return;
    };
    if !connection.is_at_boundary() {
        return;
    }
    let worker = Rc::clone(worker);
    let collation = state.collation;
    tokio::task::spawn_local(async move {
        if align::reset(&mut connection, collation).await.is_ok() {
            worker.pool.put_back(&place.bucket, connection);
        }
    });
}
