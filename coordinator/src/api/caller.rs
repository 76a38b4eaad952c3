//! Who makes the call that is being served, for the audit: carried along with the task that serves it. Decides nothing.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tonic::Request;
use vt_coordinator_core::command::{Command, RecordKey};
use vt_proto::wire;
use vt_tls::listen::Peer;

/// Under this name an audit event says who asked for what it tells.
pub const REQUESTED_BY: &str = "requested_by";

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// One call.
pub struct Call {
    peer: Peer,
    method: &'static str,
    /// Its request id and what it is about, once the request has been read.
    noted: Mutex<(String, String)>,
}

impl Call {
    pub fn new(peer: Peer, method: &'static str) -> Self {
        Self {
            peer,
            method,
            noted: Mutex::default(),
        }
    }

    pub fn method(&self) -> &'static str {
        self.method
    }

    pub fn address(&self) -> IpAddr {
        self.peer.address.ip().to_canonical()
    }

    /// The role as it stands in the certificate.
    pub fn role(&self) -> &str {
        let identity = self.peer.identity.as_ref();
        identity.map_or("plaintext", |identity| &identity.unit)
    }

    /// The name in the certificate.
    pub fn name(&self) -> &str {
        let identity = self.peer.identity.as_ref();
        identity.map_or("", |identity| &identity.name)
    }

    /// As audit events name the caller.
    pub fn who(&self) -> String {
        let space = if self.name().is_empty() { "" } else { " " };
        format!(
            "{}{space}{} from {}",
            self.role(),
            self.name(),
            self.address()
        )
    }

    /// Request id and subject.
    pub fn noted(&self) -> (String, String) {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.clone()
    }
}

/// Serves a call; what is called inside knows whose it is.
pub async fn within<T>(call: Arc<Call>, serving: impl Future<Output = T>) -> T {
    CALL.scope(call, serving).await
}

/// The message of a request, noted for the audit.
pub fn take<T: Subject>(request: Request<T>) -> T {
    let message = request.into_inner();
    // Outside of a call, as in tests of a service alone, there is nobody to note it for.
    let _ = CALL.try_with(|call| {
        let note = (message.request_id().to_owned(), message.subject());
        *call.noted.lock().unwrap_or_else(PoisonError::into_inner) = note;
    });
    message
}

/// The call that is served here; none in tests of a service alone.
pub fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// The same command, whose audit events say who asked for it.
#[must_use]
pub fn signed(mut command: Command, call: Option<&Call>) -> Command {
    if let Some(call) = call
        && !command.events.is_empty()
    {
        let who = call.who();
        for event in &mut command.events {
            event.evidence.push((REQUESTED_BY.to_owned(), who.clone()));
        }
    }
    command
}

/// What the audit says of a request.
pub trait Subject {
    /// Empty where requests of this kind have none.
    fn request_id(&self) -> &str {
        ""
    }

    /// The record it is about, as in `keyspace/commerce`; empty where it is about none.
    fn subject(&self) -> String {
        String::new()
    }
}

fn of(kind: &str, name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!("{kind}/{name}"),
    }
}

/// `message: kind, field that names the record[, request_id]`.
macro_rules! subjects {
    ($($message:ident: $kind:literal $field:ident $($request_id:ident)?;)*) => {
        $(impl Subject for wire::$message {
            $(fn request_id(&self) -> &str {
                &self.$request_id
            })?

            fn subject(&self) -> String {
                of($kind, &self.$field.to_string())
            }
        })*
    };
}

subjects! {
    CreateKeyspaceRequest: "keyspace" name request_id;
    DeleteKeyspaceRequest: "keyspace" name request_id;
    ListReplicaSetsRequest: "replica-set" name;
    ListTabletsRequest: "tablet" alias;
    ReadLostRequest: "tablet" tablet;
    ForgetLostRequest: "tablet" tablet request_id;
    SwitchoverRequest: "replica-set" replica_set request_id;
    SetDurabilityRequest: "replica-set" replica_set request_id;
    ApplySchemaRequest: "keyspace" keyspace request_id;
    GetSchemaChangeRequest: "schema-change" id;
    GetVschemaRequest: "keyspace" keyspace;
    ApplyVschemaRequest: "keyspace" keyspace request_id;
    ListUsersRequest: "user" name;
    CreateUserRequest: "user" name request_id;
    ChangeUserRequest: "user" name request_id;
    DropUserRequest: "user" name request_id;
    AddCoordinatorRequest: "coordinator" address request_id;
    RemoveCoordinatorRequest: "coordinator" id request_id;
    ReplaceCoordinatorRequest: "coordinator" id request_id;
    SetCoordinatorAddressRequest: "coordinator" id request_id;
    TransferLeadershipRequest: "coordinator" to;
}

impl Subject for wire::ListCoordinatorsRequest {}
impl Subject for wire::CoordinatorStatusRequest {}
impl Subject for wire::BackupTopologyRequest {}

impl Subject for wire::GetClusterRequest {}
impl Subject for wire::ListKeyspacesRequest {}

impl Subject for wire::SetDrainedRequest {
    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn subject(&self) -> String {
        of("tablet", &self.tablets.join(","))
    }
}

impl Subject for wire::WriteRecordsRequest {
    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn subject(&self) -> String {
        let keys = self.changes.iter().map(|change| change.key.clone());
        of_keys(keys)
    }
}

impl Subject for wire::ReadRecordsRequest {
    fn subject(&self) -> String {
        match self.kinds.as_slice() {
            [] => of_keys(self.keys.iter().cloned().map(Some)),
            kinds => kinds.join(" "),
        }
    }
}

impl Subject for wire::WatchRecordsRequest {
    fn subject(&self) -> String {
        self.kinds.join(" ")
    }
}

/// The first, and how many more. What is no key is refused later; here it is a question mark.
fn of_keys(mut keys: impl ExactSizeIterator<Item = Option<wire::RecordKey>>) -> String {
    let Some(first) = keys.next() else {
        return String::new();
    };
    let first = RecordKey::from_wire(first).map_or("?".to_owned(), |key| key.to_string());
    match keys.len() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl Subject for wire::ListEventsRequest {
    fn subject(&self) -> String {
        self.subject.clone()
    }
}
