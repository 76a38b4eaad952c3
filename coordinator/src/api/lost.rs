//! What operators do with transactions that were cut off and are kept on the hosts: asked of the agent, over the stream that it has
//! open to the leader. Rows of users pass through here, and are neither kept nor logged.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Response, Status};
use vt_coordinator_core::{Core, event::Now, intent};
use vt_proto::{
    convert::parse,
    gtid::GtidSet,
    ids::TabletAlias,
    wire::{self, LostAnswer, LostRequest, lost_request::What},
};

use super::{
    error, require_leader,
    streams::Streams,
    write::{CONFLICTS_MAX, write},
};
use crate::node::Handle;

/// An agent reads a piece of a file; longer than a busy disk takes, shorter than vtctl waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Of one piece, well below what a message may be.
const PIECE_BYTES_MAX: u32 = 1 << 20;

/// A piece of what is kept.
pub(super) async fn read(
    node: &Handle,
    streams: &Streams,
    request: wire::ReadLostRequest,
) -> Result<Response<wire::ReadLostResponse>, Status> {
    require_leader(&node.status().borrow())?;
    let alias = alias(&request.tablet)?;
    let piece = wire::ReadLost {
        offset: request.offset,
        length_max: PIECE_BYTES_MAX,
    };
    let answer = ask(streams, &alias, request.directory, What::Read(piece)).await?;
    Ok(Response::new(wire::ReadLostResponse {
        content: answer.content,
        total_bytes: answer.total_bytes,
    }))
}

/// Told in the audit, then done: what is gone without a word is never to be found.
pub(super) async fn forget(
    node: &Handle,
    streams: &Streams,
    request: wire::ForgetLostRequest,
) -> Result<Response<wire::WriteResponse>, Status> {
    let alias = alias(&request.tablet)?;
    let gtids: GtidSet =
        parse("gtids", &request.gtids).map_err(|error| error::of_conversion(&error))?;
    let (tablet, directory) = (alias.clone(), request.directory.clone());
    let make = move |core: &Core, id: &str, now: Now| {
        intent::forget_lost(core.state(), &tablet, &directory, &gtids, id, now)
    };
    let written = write(node, request.request_id, CONFLICTS_MAX, make).await?;
    let what = What::Forget(wire::ForgetLost {
        gtids: request.gtids,
    });
    ask(streams, &alias, request.directory, what).await?;
    let revision = written.revision;
    Ok(Response::new(wire::WriteResponse { revision }))
}

fn alias(text: &str) -> Result<TabletAlias, Status> {
    parse("tablet", text).map_err(|error| error::of_conversion(&error))
}

async fn ask(
    streams: &Streams,
    alias: &TabletAlias,
    directory: String,
    what: What,
) -> Result<LostAnswer, Status> {
    let request = LostRequest {
        id: 0,
        directory,
        what: Some(what),
    };
    let Some(answered) = streams.ask(alias, request) else {
        return Err(error::retry(format!(
            "the agent of {alias} is not connected to the leader, or is being asked already"
        )));
    };
    let answer = timeout(ANSWER_TIMEOUT, answered).await.map_err(|_| {
        Status::failed_precondition(format!(
            "the agent of {alias} did not answer within {} s: its disk hangs, or it is of a version that cannot",
            ANSWER_TIMEOUT.as_secs()
        ))
    })?;
    let answer = answer.map_err(|_| error::retry(format!("the stream of {alias} has ended")))?;
    match answer.error {
        Some(why) => Err(Status::failed_precondition(format!("{alias}: {why}"))),
        None => Ok(answer),
    }
}
