//! Stands before every service: who calls is looked up in the table of roles, and what operators do is written down. It changes no
//! request and no answer.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response},
    middleware::{Next, from_fn_with_state},
};
use tonic::{Code, Status, service::Routes};
use tracing::{info, warn};
use vt_tls::{listen::Peer, role::Role};

use super::{
    admission::{Admission, admit},
    caller::{self, Call},
    roles::{Right, right},
};

/// The log's part that audits; a filter can send it elsewhere or leave it out.
const AUDIT: &str = "vt_coordinator::audit";

/// The same services, behind the guard.
pub fn guarded(routes: Routes) -> Routes {
    // One layer for all of it: each costs every call a box or two.
    let guard = from_fn_with_state(Admission::default(), guard);
    Routes::from(routes.into_axum_router().layer(guard))
}

async fn guard(
    admission: State<Admission>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let method = request.uri().path().trim_start_matches('/');
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Status::unauthenticated("who calls is not known").into_http();
    };
    let Some((method, right)) = right(method) else {
        let message = format!("this coordinator does not know the call {method}");
        return Status::unimplemented(message).into_http();
    };
    // Where tonic looks for the address.
    request.extensions_mut().insert(peer.tcp());
    let refused = refusal(&peer, right, method);
    let call = Arc::new(Call::new(peer, method));
    if let Some(refused) = refused {
        warn!(caller = %call.who(), method = call.method(), reason = refused.message(), "a call was refused");
        return refused.into_http();
    }
    if !right.audited() {
        return next.run(request).await;
    }
    let began = Instant::now();
    let serving = admit(admission, request, next);
    let response = caller::within(call.clone(), serving).await;
    write_down(&call, code(&response), began);
    response
}

/// Why this caller may not.
fn refusal(peer: &Peer, right: Right, method: &str) -> Option<Status> {
    // In plaintext nobody can say who he is; it is for loopback alone.
    let identity = peer.identity.as_ref()?;
    let allowed = right.roles();
    if identity.role.is_some_and(|role| allowed.contains(&role)) {
        return None;
    }
    let needed: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
    Some(Status::permission_denied(format!(
        "{method} needs a certificate of the role {}; this one is of '{}' ({}): use another certificate, or issue one with `vtctl pki issue {}`",
        needed.join(" or "),
        identity.unit,
        identity.name,
        allowed
            .first()
            .map_or("operator", |role: &Role| role.as_str()),
    )))
}

/// An error stands in the headers; what succeeds says so in the trailers, after this.
fn code(response: &Response<Body>) -> Code {
    let header = response.headers().get("grpc-status");
    header.map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

fn write_down(call: &Call, code: Code, began: Instant) {
    let (request_id, subject) = call.noted();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(
        target: AUDIT,
        role = call.role(),
        name = call.name(),
        peer = %call.address(),
        method = call.method(),
        request_id,
        subject,
        code = ?code,
        duration_ms,
        "admin call"
    );
}

#[cfg(test)]
mod tests {
    use vt_tls::role::Identity;

    use super::*;

    fn peer(role: Option<Role>) -> Peer {
        Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            identity: Some(Identity {
                role,
                unit: role.map_or("clown", Role::as_str).into(),
                name: "bo".into(),
            }),
        }
    }

    #[test]
    fn each_right_is_for_its_roles_alone() {
        let rights = [
            (Right::Read, "operator viewer"),
            (Right::Write, "operator"),
            (Right::Member, "coordinator"),
            (Right::Agent, "agent"),
            (Right::Routing, "agent coordinator"),
            (Right::Anybody, "agent coordinator operator viewer"),
        ];
        for (right, expected) in rights {
            let may = |role: &Role| refusal(&peer(Some(*role)), right, "m").is_none();
            let roles: Vec<_> = Role::ALL
                .into_iter()
                .filter(may)
                .map(Role::as_str)
                .collect();
            assert_eq!(roles.join(" "), expected, "{right:?}");
            assert!(refusal(&peer(None), right, "m").is_some());
        }
        let refused = refusal(&peer(Some(Role::Viewer)), Right::Write, "m").unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        for words in ["role operator", "'viewer' (bo)"] {
            assert!(refused.message().contains(words), "{refused}");
        }
    }
}
