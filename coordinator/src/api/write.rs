//! How a write is made: planned from what this member knows, proposed, and told. The compare-and-set protects what was planned from
//! old knowledge; only a refusal is confirmed by the group before it is told. Retries of one request id are applied once.

use tonic::Status;
use vt_coordinator_core::{
    Core, apply::remembered, command::Command, event::Now, refusal::Refusal,
};
use vt_proto::epoch::Revision;

use super::{admission::deadline_ms, caller::signed, error};
use crate::node::{Handle, WriteError};

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
        let mut made = plan(node, false, id.clone(), make.clone()).await?;
        if matches!(made, Plan::Refuse(_)) {
            // What this member knew may be old, or it may not lead any more.
            made = plan(node, true, id, make.clone()).await?;
        }
        let (outcome, command) = match made {
            Plan::Refuse(status) => return Err(status),
            Plan::Done(outcome) => (outcome.map_err(WriteError::Refused), None),
            Plan::Propose(command) => {
                let command = signed(command);
                let outcome = node.propose_until(command.clone(), deadline_ms()).await;
                (outcome, Some(command))
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

async fn plan<F>(node: &Handle, confirmed: bool, id: String, make: F) -> Result<Plan, Status>
where
    F: Fn(&Core, &str, Now) -> Result<Command, Status> + Send + 'static,
{
    let look = move |core: &Core, now| match remembered(core.state(), &id) {
        Some(outcome) => Plan::Done(outcome),
        None => make(core, &id, now).map_or_else(Plan::Refuse, Plan::Propose),
    };
    let looked = node.read(confirmed, move |core, status| {
        super::require_leader(status)?;
        Ok(look(core, status.now))
    });
    looked.await.map_err(error::of_read)?
}

/// Each attempt is a request of its own: what was refused as a conflict stays refused under its id.
fn attempt_id(request_id: &str, attempt: usize) -> String {
    match attempt {
        0 => request_id.to_owned(),
        _ => format!("{request_id}#{attempt}"),
    }
}
