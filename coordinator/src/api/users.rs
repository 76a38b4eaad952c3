//! Users of routers, as operators see and change them. Hashes come in and never go out.

use tonic::{Response, Status};
use vt_coordinator_core::{
    Core,
    event::Now,
    intent::{self, Alteration},
    state::Versioned,
};
use vt_proto::{
    convert::{grants, parse, parse_unless_empty, password_hashes},
    ids::UserName,
    user::User,
    wire,
};

use super::{
    admin::answer,
    error,
    write::{CONFLICTS_MAX, write},
};
use crate::node::Handle;

fn name(text: &str) -> Result<UserName, Status> {
    parse("name", text).map_err(|error| error::of_conversion(&error))
}

/// The named user, or all.
pub(super) async fn list(
    node: &Handle,
    request: wire::ListUsersRequest,
) -> Result<Response<wire::ListUsersResponse>, Status> {
    let name: Option<UserName> =
        parse_unless_empty("name", &request.name).map_err(|error| error::of_conversion(&error))?;
    let look = move |core: &Core, _: &_| {
        let users = core.state().users.values();
        users
            .filter(|user| name.as_ref().is_none_or(|name| user.value.name == *name))
            .map(view)
            .collect()
    };
    let users = node.read(!request.stale, look).await;
    let users = users.map_err(error::of_read)?;
    Ok(Response::new(wire::ListUsersResponse { users }))
}

fn view(user: &Versioned<User>) -> wire::UserView {
    let grants = user.value.grants.iter();
    wire::UserView {
        name: user.value.name.to_string(),
        revision: user.revision.0,
        grants: grants
            .map(|(place, rights)| (place, *rights).into())
            .collect(),
        connections_max: user.value.connections_max,
        statements_per_second_max: user.value.statements_per_second_max,
    }
}

pub(super) async fn create(
    node: &Handle,
    request: wire::CreateUserRequest,
) -> Result<Response<wire::WriteResponse>, Status> {
    let invalid = |error| error::of_conversion(&error);
    let user = User {
        name: name(&request.name)?,
        password: password_hashes(&request.native_hash, &request.sha2_hash).map_err(invalid)?,
        grants: grants(request.grants).map_err(invalid)?,
        connections_max: request.connections_max,
        statements_per_second_max: request.statements_per_second_max,
    };
    let make = move |core: &Core, id: &str, now: Now| {
        intent::create_user(core.state(), user.clone(), id, now)
    };
    answer(write(node, request.request_id, CONFLICTS_MAX, make).await?)
}

pub(super) async fn change(
    node: &Handle,
    request: wire::ChangeUserRequest,
) -> Result<Response<wire::WriteResponse>, Status> {
    let invalid = |error| error::of_conversion(&error);
    let name = name(&request.name)?;
    let has_password = !request.native_hash.is_empty() || !request.sha2_hash.is_empty();
    let password = has_password
        .then(|| password_hashes(&request.native_hash, &request.sha2_hash))
        .transpose()
        .map_err(invalid)?;
    let limit = |limit: u32| (limit > 0).then_some(limit);
    let listed = |messages| grants(messages).map(|grants| grants.into_iter().collect());
    let alteration = Alteration {
        password,
        granted: listed(request.granted).map_err(invalid)?,
        revoked: listed(request.revoked).map_err(invalid)?,
        connections_max: request.connections_max.map(limit),
        statements_per_second_max: request.statements_per_second_max.map(limit),
    };
    let make = move |core: &Core, id: &str, now: Now| {
        intent::alter_user(core.state(), &name, &alteration, id, now)
    };
    answer(write(node, request.request_id, CONFLICTS_MAX, make).await?)
}

pub(super) async fn drop_one(
    node: &Handle,
    request: wire::DropUserRequest,
) -> Result<Response<wire::WriteResponse>, Status> {
    let name = name(&request.name)?;
    let make =
        move |core: &Core, id: &str, now: Now| intent::drop_user(core.state(), &name, id, now);
    answer(write(node, request.request_id, CONFLICTS_MAX, make).await?)
}
