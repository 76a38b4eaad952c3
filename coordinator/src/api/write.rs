//! How a write is made: planned from what this member knows, proposed, and told. The compare-and-set protects what was planned from
//! old knowledge. A refusal is planned again from what the group confirms; where the caller gave a request id it is then proposed too,
//! so that it stands for that id. Retries of one request id are applied once.

use tonic::Status;
use vt_coordinator_core::{
    Core,
    apply::REQUEST_ID_LENGTH_MAX,
    command::Command,
    event::Now,
    intent::{self, Attempt, Plan},
    refusal::Refusal,
};
use vt_proto::epoch::Revision;

use super::{
    admission::deadline_ms,
    caller::{Call, current, signed},
    error,
};
use crate::node::{Handle, NodeStatus, WriteError};

/// How often an intent is made anew when somebody else changed its records meanwhile. More means a fight, which is the
/// operator's to know.
pub(super) const CONFLICTS_MAX: usize = 3;
/// A write whose caller read the revisions itself: a conflict is the caller's to know.
pub(super) const ONCE: usize = 1;

/// What a write did; no command if it was an earlier request that did it.
pub(super) struct Written {
    pub revision: u64,
    pub command: Option<Command>,
}

/// Makes a command from the newest state and proposes it; anew, up to `attempts` times, when it lost against another one.
pub(super) async fn write<F>(
    node: &Handle,
    request_id: String,
    attempts: usize,
    make: F,
) -> Result<Written, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Refusal> + Clone + Send + 'static,
{
    let named = !request_id.is_empty();
    let request_id = match named {
        true => request_id,
        false => format!("api-{:032x}", rand::random::<u128>()),
    };
    // Nothing is remembered of a longer one, so it is refused before anything that depends on the state.
    let longest = attempt_id(&request_id, attempts.saturating_sub(1)).len();
    if longest > REQUEST_ID_LENGTH_MAX {
        let excess = longest - REQUEST_ID_LENGTH_MAX;
        let message = format!("the request id is {excess} bytes too long");
        return Err(Status::invalid_argument(message));
    }
    let mut conflict = None;
    for number in 0..attempts {
        let attempt = Attempt {
            request_id: attempt_id(&request_id, number),
            named,
            confirmed: false,
        };
        let mut made = propose(node, attempt.clone(), make.clone()).await?;
        if matches!(made.0, Plan::Refuse(_)) {
            // What this member knew may be old, or it may not lead any more.
            made = propose_confirmed(node, attempt, make.clone()).await?;
        }
        let (outcome, command) = match made {
            (Plan::Refuse(refusal), _) => return Err(error::of_refusal(&refusal)),
            (Plan::Done(outcome), _) => (outcome.map_err(WriteError::Refused), None),
            (Plan::Propose(command), outcome) => {
                (outcome.unwrap_or(Err(WriteError::Unknown)), Some(command))
            }
        };
        match outcome {
            Ok(Revision(revision)) => return Ok(Written { revision, command }),
            Err(WriteError::Refused(refusal @ Refusal::Conflict { .. })) => {
                conflict = Some(refusal);
            }
            Err(other) => return Err(error::of_write(other)),
        }
    }
    let message = "the records changed again and again";
    Err(conflict.map_or_else(
        || Status::aborted(message),
        |refusal| error::of_refusal(&refusal),
    ))
}

/// What a plan says, and what came of it if it was proposed.
type Proposed = (Plan, Option<Result<Revision, WriteError>>);

/// Plans with what this member knows, and proposes in the same turn of its loop.
async fn propose<F>(node: &Handle, attempt: Attempt, make: F) -> Result<Proposed, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Refusal> + Send + 'static,
{
    let call = current();
    let plan = move |core: &Core, status: &NodeStatus| {
        let plan = plan(core, status, &attempt, make, call.as_deref());
        let command = match &plan {
            Ok(Plan::Propose(command)) => Some(command.clone()),
            _ => None,
        };
        (plan, command)
    };
    let proposed = node.plan(deadline_ms(), plan).await;
    let (plan, outcome) = proposed.map_err(error::of_read)?;
    Ok((plan?, outcome))
}

/// Plans with what the group confirms to be the newest state, then proposes.
async fn propose_confirmed<F>(
    node: &Handle,
    mut attempt: Attempt,
    make: F,
) -> Result<Proposed, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Refusal> + Send + 'static,
{
    attempt.confirmed = true;
    let call = current();
    let look =
        move |core: &Core, status: &NodeStatus| plan(core, status, &attempt, make, call.as_deref());
    let plan = node.read(true, look).await.map_err(error::of_read)??;
    let outcome = match &plan {
        Plan::Propose(command) => Some(node.propose_until(command.clone(), deadline_ms()).await),
        Plan::Done(_) | Plan::Refuse(_) => None,
    };
    Ok((plan, outcome))
}

/// An error where this member does not lead.
fn plan<F>(
    core: &Core,
    status: &NodeStatus,
    attempt: &Attempt,
    make: F,
    call: Option<&Call>,
) -> Result<Plan, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Refusal>,
{
    super::require_leader(status)?;
    let make = || {
        let made = make(core, &attempt.request_id, status.now);
        made.map(|command| signed(command, call))
    };
    Ok(intent::plan(core.state(), attempt, make))
}

/// Each attempt is a request of its own: what was refused as a conflict stays refused under its id.
fn attempt_id(request_id: &str, attempt: usize) -> String {
    match attempt {
        0 => request_id.to_owned(),
        _ => format!("{request_id}#{attempt}"),
    }
}
