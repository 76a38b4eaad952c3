//! Who is in the coordinators' group and who should be, as the admin API shows and changes it. The core's intents decide what may be
//! asked for; the leader's member brings it about.

use tonic::{Response, Status};
use vt_coordinator_core::{
    Core,
    command::{Command, RecordKey, RecordValue},
    event::Now,
    intent::coordinators,
    member::Part,
    state::State,
};
use vt_proto::wire;

use super::{
    error,
    write::{CONFLICTS_MAX, Written, write},
};
use crate::node::{Handle, MemberStatus, NodeStatus, TransferError};

type Answer = Result<Response<wire::CoordinatorResponse>, Status>;

/// The group as it is and as it should be.
pub(super) async fn list(
    node: &Handle,
    request: wire::ListCoordinatorsRequest,
) -> Result<Response<wire::ListCoordinatorsResponse>, Status> {
    let look = |core: &Core, status: &NodeStatus| view(core.state(), status);
    let view = node.read(!request.stale, look).await;
    view.map(Response::new).map_err(error::of_read)
}

fn view(state: &State, status: &NodeStatus) -> wire::ListCoordinatorsResponse {
    let member = |member: &MemberStatus| {
        let record = state.coordinators.get(&member.id);
        wire::MemberView {
            coordinator: record.map(|record| record.value.clone().into()),
            revision: record.map_or(0, |record| record.revision.0),
            part: part(member.part).to_owned(),
            leader: status.leader_id == Some(member.id),
            matched_index: member.matched,
            last_heard_ms: member.last_heard_ms,
        }
    };
    wire::ListCoordinatorsResponse {
        cluster_id: status.cluster_id.clone(),
        term: status.term,
        commit_index: status.commit,
        leader_id: status.leader_id.unwrap_or(0),
        answered_by: status.id,
        waits_for: status.membership_waits.clone().unwrap_or_default(),
        members: status.members.iter().map(member).collect(),
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Joining => "joining",
        Part::Learner => "learner",
        Part::Voter => "voter",
        Part::Leaving => "leaving",
    }
}

pub(super) async fn add(node: &Handle, request: wire::AddCoordinatorRequest) -> Answer {
    let address = request.address;
    let asked = address.clone();
    let make =
        move |core: &Core, id: &str, now: Now| coordinators::add(core.state(), &asked, id, now);
    let written = write(node, request.request_id, CONFLICTS_MAX, make).await?;
    joined(node, written, address).await
}

pub(super) async fn replace(node: &Handle, request: wire::ReplaceCoordinatorRequest) -> Answer {
    let (old, address) = (request.id, request.address);
    let asked = address.clone();
    let make = move |core: &Core, id: &str, now: Now| {
        coordinators::replace(core.state(), old, &asked, id, now)
    };
    let written = write(node, request.request_id, CONFLICTS_MAX, make).await?;
    joined(node, written, address).await
}

pub(super) async fn remove(node: &Handle, request: wire::RemoveCoordinatorRequest) -> Answer {
    let old = request.id;
    let make =
        move |core: &Core, id: &str, now: Now| coordinators::remove(core.state(), old, id, now);
    let written = write(node, request.request_id, CONFLICTS_MAX, make).await?;
    answer(written.revision, old)
}

pub(super) async fn set_address(
    node: &Handle,
    request: wire::SetCoordinatorAddressRequest,
) -> Answer {
    let (old, address) = (request.id, request.address);
    let make = move |core: &Core, id: &str, now: Now| {
        coordinators::set_address(core.state(), old, &address, id, now)
    };
    let written = write(node, request.request_id, CONFLICTS_MAX, make).await?;
    answer(written.revision, old)
}

pub(super) async fn transfer(
    node: &Handle,
    request: wire::TransferLeadershipRequest,
) -> Result<Response<wire::TransferLeadershipResponse>, Status> {
    let to = (request.to != 0).then_some(request.to);
    match node.transfer_leadership(to).await {
        Ok(to) => Ok(Response::new(wire::TransferLeadershipResponse { to })),
        Err(TransferError::NotLeader { leader }) => Err(error::not_leader(leader)),
        Err(nobody @ TransferError::Nobody { .. }) => {
            Err(Status::failed_precondition(nobody.to_string()))
        }
    }
}

fn answer(revision: u64, id: u64) -> Answer {
    Ok(Response::new(wire::CoordinatorResponse { revision, id }))
}

/// The id that the new one was given: by the command, or, where an earlier try of the request made it, by its address.
async fn joined(node: &Handle, written: Written, address: String) -> Answer {
    let Written { revision, command } = written;
    if let Some(id) = command.as_ref().and_then(created) {
        return answer(revision, id);
    }
    let find = move |core: &Core, _: &NodeStatus| {
        let records = &core.state().coordinators;
        let found = records
            .values()
            .rev()
            .find(|it| it.value.address == address);
        found.map(|record| record.value.id)
    };
    let id = node.read(true, find).await.map_err(error::of_read)?;
    let gone = || Status::not_found("it was added and is gone again: see the events");
    answer(revision, id.ok_or_else(gone)?)
}

fn created(command: &Command) -> Option<u64> {
    let made = command.changes.iter().rev();
    let mut ids = made.filter_map(|change| match (&change.key, &change.value) {
        (RecordKey::Coordinator(id), Some(RecordValue::Coordinator(_)))
            if change.expected == vt_proto::epoch::Revision::ZERO =>
        {
            Some(*id)
        }
        _ => None,
    });
    ids.next()
}
