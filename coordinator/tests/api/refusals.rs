//! What operators ask for and is refused from the leader's state stays refused under the request's id: on its way may still be an
//! earlier attempt, which arrives when the state has become one that it fits.

use vt_proto::wire::{
    AddCoordinatorRequest, ApplySchemaRequest, ApplyVschemaRequest, CreateKeyspaceRequest,
    DeleteKeyspaceRequest, ListCoordinatorsRequest, ListKeyspacesRequest, RemoveCoordinatorRequest,
    SwitchoverRequest, TransferLeadershipRequest,
};

use super::*;

type Admin = AdminClient<Channel>;

/// One request, as every attempt sends it.
#[derive(Clone, Debug)]
enum Ask {
    Create(CreateKeyspaceRequest),
    Delete(DeleteKeyspaceRequest),
    Schema(ApplySchemaRequest),
    Vschema(ApplyVschemaRequest),
    Switchover(SwitchoverRequest),
    Add(AddCoordinatorRequest),
    Remove(RemoveCoordinatorRequest),
}

impl Ask {
    async fn send(self, admin: &mut Admin) -> Result<(), Status> {
        match self {
            Ask::Create(request) => admin.create_keyspace(request).await.map(drop),
            Ask::Delete(request) => admin.delete_keyspace(request).await.map(drop),
            Ask::Schema(request) => admin.apply_schema(request).await.map(drop),
            Ask::Vschema(request) => admin.apply_vschema(request).await.map(drop),
            Ask::Switchover(request) => admin.switchover(request).await.map(drop),
            Ask::Add(request) => admin.add_coordinator(request).await.map(drop),
            Ask::Remove(request) => admin.remove_coordinator(request).await.map(drop),
        }
    }
}

fn create(name: &str, request_id: &str) -> Ask {
    Ask::Create(CreateKeyspaceRequest {
        name: name.to_owned(),
        replica_set: "main".to_owned(),
        request_id: request_id.to_owned(),
    })
}

fn delete(name: &str, expected_revision: u64, request_id: &str) -> Ask {
    Ask::Delete(DeleteKeyspaceRequest {
        name: name.to_owned(),
        force: false,
        expected_revision,
        request_id: request_id.to_owned(),
    })
}

fn vschema(table: &str, request_id: &str) -> Ask {
    let tables = [(table.to_owned(), "{}".to_owned())];
    Ask::Vschema(ApplyVschemaRequest {
        keyspace: "late".to_owned(),
        tables: tables.into(),
        replace: false,
        request_id: request_id.to_owned(),
    })
}

/// What does not fit a group with the keyspace `commerce` at a revision, and fits after [`turn`]; and why it is refused.
fn late(commerce: u64, address: &str) -> Vec<(Ask, Code)> {
    let schema = ApplySchemaRequest {
        keyspace: "late".to_owned(),
        statements: vec!["CREATE TABLE a (b INT)".to_owned()],
        request_id: "schema".to_owned(),
    };
    // Nobody is its primary yet: this one is for the text alone.
    let switchover = SwitchoverRequest {
        replica_set: "main".to_owned(),
        candidate: String::new(),
        request_id: "switchover".to_owned(),
    };
    let add = AddCoordinatorRequest {
        address: address.to_owned(),
        request_id: "add".to_owned(),
    };
    let remove = RemoveCoordinatorRequest {
        id: 4,
        request_id: "remove".to_owned(),
    };
    vec![
        (create("commerce", "create"), Code::AlreadyExists),
        (delete("late", 0, "delete"), Code::NotFound),
        (delete("commerce", commerce + 1, "delete-at"), Code::Aborted),
        (Ask::Schema(schema), Code::NotFound),
        (vschema("a", "vschema"), Code::NotFound),
        (Ask::Switchover(switchover), Code::FailedPrecondition),
        (Ask::Add(add), Code::FailedPrecondition),
        (Ask::Remove(remove), Code::NotFound),
    ]
}

/// Now there is a keyspace `late` and none `commerce`, and coordinator 4, nobody has the address, and another member leads.
async fn turn(group: &Group, admin: &mut Admin, moved: u64) -> Admin {
    for ask in [delete("commerce", 0, ""), create("late", "")] {
        ask.send(admin).await.unwrap();
    }
    let add = AddCoordinatorRequest {
        address: "127.0.0.1:1".to_owned(),
        request_id: String::new(),
    };
    let added = admin.add_coordinator(add).await.unwrap().into_inner();
    assert_eq!(added.id, 4);
    let leader = group.leader().await;
    let to = (1..=3).find(|id| ![leader, moved].contains(id)).unwrap();
    let transfer = TransferLeadershipRequest { to };
    admin.transfer_leadership(transfer).await.unwrap();
    let began = Instant::now();
    while !group.members[&to].1.status().borrow().is_leader {
        assert!(began.elapsed() < DEADLINE, "{to} does not lead");
        sleep(STEP).await;
    }
    // Who leads no more must not be asked: it would name the leader, and refuse nothing.
    let mut admin = AdminClient::new(group.channel(to).await);
    let address = wire::SetCoordinatorAddressRequest {
        id: moved,
        address: "127.0.0.1:2".to_owned(),
        request_id: String::new(),
    };
    admin.set_coordinator_address(address).await.unwrap();
    admin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_was_told_stays_when_an_earlier_attempt_arrives_late() {
    let (group, mut admin, commerce) = with_keyspace().await;
    let leader = group.leader().await;
    let moved = (1..=3).find(|id| *id != leader).unwrap();
    let mut told = Vec::new();
    for (ask, code) in late(commerce, &group.members[&moved].0) {
        let refused = ask.clone().send(&mut admin).await.unwrap_err();
        assert_eq!(refused.code(), code, "{ask:?}: {refused}");
        told.push((ask, refused));
    }
    let mut admin = turn(&group, &mut admin, moved).await;
    for (ask, refused) in told {
        let again = ask.clone().send(&mut admin).await;
        let again = again.expect_err(&format!("{ask:?} was refused before: {refused}"));
        let [told, again] = [&refused, &again].map(|it| (it.code(), it.message().to_owned()));
        assert_eq!(again, told, "{ask:?}");
    }
    let list = admin.list_keyspaces(ListKeyspacesRequest::default()).await;
    let list = list.unwrap().into_inner().keyspaces.into_iter();
    let names: Vec<_> = list.map(|view| view.keyspace.unwrap().name).collect();
    assert_eq!(names, ["late"]);
    let list = admin.list_coordinators(ListCoordinatorsRequest::default());
    let members = list.await.unwrap().into_inner().members.into_iter();
    let records = members.filter_map(|member| member.coordinator);
    let standing: Vec<_> = records.map(|it| (it.id, it.standing())).collect();
    let all = [1, 2, 3, 4].map(|id| (id, wire::Standing::Voter));
    assert_eq!(standing, all);
    // Under an id of its own each is a new request.
    vschema("a", "another").send(&mut admin).await.unwrap();
}

/// What the caller's own id makes too long is refused as such, whatever the state is: nothing could be remembered of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_too_long_to_be_remembered_is_malformed() {
    let (_group, mut admin, _) = with_keyspace().await;
    for (length, code) in [(126, Code::AlreadyExists), (127, Code::InvalidArgument)] {
        let refused = create("commerce", &"x".repeat(length)).send(&mut admin);
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}
