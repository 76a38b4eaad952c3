//! How a write is made: planned from what this member knows, proposed, and told. The compare-and-set protects what was planned from
//! old knowledge; only a refusal is confirmed by the group before it is told. Retries of one request id are applied once.

use tonic::Status;
use vt_coordinator_core::{
    Core, apply::remembered, command::Command, event::Now, refusal::Refusal,
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

/// What came of a look at the state before a write.
enum Plan {
    /// The same request was applied before.
    Done(Result<Revision, Refusal>),
    Propose(Command),
    Refuse(Status),
}

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
    F: Fn(&Core, &str, Now) -> Result<Command, Status> + Clone + Send + 'static,
{
    let request_id = if request_id.is_empty() {
        format!("api-{:032x}", rand::random::<u128>())
    } else {
        request_id
    };
    let mut conflict = None;
    for attempt in 0..attempts {
        let id = attempt_id(&request_id, attempt);
        let mut made = propose(node, id.clone(), make.clone()).await?;
        if matches!(made.0, Plan::Refuse(_)) {
            // What this member knew may be old, or it may not lead any more.
            made = propose_confirmed(node, id, make.clone()).await?;
        }
        let (outcome, command) = match made {
            (Plan::Refuse(status), _) => return Err(status),
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
async fn propose<F>(node: &Handle, id: String, make: F) -> Result<Proposed, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Status> + Send + 'static,
{
    let call = current();
    let plan = move |core: &Core, status: &NodeStatus| {
        let plan = plan(core, status, &id, make, call.as_deref());
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
async fn propose_confirmed<F>(node: &Handle, id: String, make: F) -> Result<Proposed, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Status> + Send + 'static,
{
    let call = current();
    let look =
        move |core: &Core, status: &NodeStatus| plan(core, status, &id, make, call.as_deref());
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
    id: &str,
    make: F,
    call: Option<&Call>,
) -> Result<Plan, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Status>,
{
    super::require_leader(status)?;
    if let Some(outcome) = remembered(core.state(), id) {
        return Ok(Plan::Done(outcome));
    }
    let made = make(core, id, status.now);
    Ok(made.map_or_else(Plan::Refuse, |command| Plan::Propose(signed(command, call))))
}

/// Each attempt is a request of its own: what was refused as a conflict stays refused under its id.
fn attempt_id(request_id: &str, attempt: usize) -> String {
    match attempt {
        0 => request_id.to_owned(),
        _ => format!("{request_id}#{attempt}"),
    }
}
