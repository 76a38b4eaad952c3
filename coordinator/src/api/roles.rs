//! Which role may call what: one table. Whatever stands in no row is not served.

use vt_tls::role::Role;

/// What a call does, which decides who may make it and whether it is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// An operator looks.
    Read,
    /// An operator changes something.
    Write,
    /// Members of the group among themselves.
    Member,
    /// An agent reports and learns what is desired.
    Agent,
    /// Whoever routes: what they hear has the hashes of passwords.
    Routing,
    /// Every holder of a certificate.
    Anybody,
}

impl Right {
    /// Who has it.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Right::Read => &[Role::Operator, Role::Viewer],
            Right::Write => &[Role::Operator],
            Right::Member => &[Role::Coordinator],
            Right::Agent => &[Role::Agent],
            Right::Routing => &[Role::Agent, Role::Coordinator],
            Right::Anybody => &Role::ALL,
        }
    }

    /// Whether each call is a line in the log.
    pub fn audited(self) -> bool {
        matches!(self, Right::Read | Right::Write)
    }
}

/// Every call of every service.
pub const TABLE: &[(&str, Right)] = &[
    ("vitrail.v1.Admin/GetCluster", Right::Read),
    ("vitrail.v1.Admin/ListKeyspaces", Right::Read),
    ("vitrail.v1.Admin/CreateKeyspace", Right::Write),
    ("vitrail.v1.Admin/DeleteKeyspace", Right::Write),
    ("vitrail.v1.Admin/ListReplicaSets", Right::Read),
    ("vitrail.v1.Admin/ListTablets", Right::Read),
    ("vitrail.v1.Admin/Switchover", Right::Write),
    ("vitrail.v1.Admin/SetDrained", Right::Write),
    ("vitrail.v1.Admin/SetDurability", Right::Write),
    // Rows of users.
    ("vitrail.v1.Admin/ReadLost", Right::Write),
    ("vitrail.v1.Admin/ForgetLost", Right::Write),
    ("vitrail.v1.Admin/ListEvents", Right::Read),
    ("vitrail.v1.Admin/ApplySchema", Right::Write),
    ("vitrail.v1.Admin/GetSchemaChange", Right::Read),
    ("vitrail.v1.Admin/GetVschema", Right::Read),
    ("vitrail.v1.Admin/ApplyVschema", Right::Write),
    ("vitrail.v1.Admin/ListUsers", Right::Read),
    ("vitrail.v1.Admin/CreateUser", Right::Write),
    ("vitrail.v1.Admin/ChangeUser", Right::Write),
    ("vitrail.v1.Admin/DropUser", Right::Write),
    ("vitrail.v1.Admin/ListCoordinators", Right::Read),
    ("vitrail.v1.Admin/AddCoordinator", Right::Write),
    ("vitrail.v1.Admin/RemoveCoordinator", Right::Write),
    ("vitrail.v1.Admin/ReplaceCoordinator", Right::Write),
    ("vitrail.v1.Admin/SetCoordinatorAddress", Right::Write),
    ("vitrail.v1.Admin/TransferLeadership", Right::Write),
    ("vitrail.v1.Maintenance/CoordinatorStatus", Right::Read),
    // Everything that operators see stands in it.
    ("vitrail.v1.Maintenance/BackupTopology", Right::Write),
    ("vitrail.v1.Maintenance/RestoreTopology", Right::Write),
    ("vitrail.v1.Records/Write", Right::Write),
    ("vitrail.v1.Records/Read", Right::Read),
    ("vitrail.v1.Records/Watch", Right::Read),
    ("vitrail.v1.AgentUplink/Attach", Right::Agent),
    ("vitrail.v1.Routing/Watch", Right::Routing),
    ("vitrail.v1.RaftTransport/Stream", Right::Member),
    ("vitrail.v1.RaftTransport/Discover", Right::Member),
    ("vitrail.v1.RaftTransport/Join", Right::Member),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Right::Anybody,
    ),
    ("grpc.health.v1.Health/Check", Right::Anybody),
    ("grpc.health.v1.Health/Watch", Right::Anybody),
];

/// The row of a call, as of `vitrail.v1.Admin/GetCluster`; None if there is none.
pub fn right(method: &str) -> Option<(&'static str, Right)> {
    TABLE.iter().find(|(name, _)| *name == method).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;
    use vt_proto::wire::FILE_DESCRIPTOR_SET;

    use super::*;

    #[test]
    fn every_call_stands_in_one_row() {
        let mut methods = BTreeSet::new();
        for set in [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                let package = file.package().to_owned();
                for service in &file.service {
                    for method in &service.method {
                        methods.insert(format!("{package}.{}/{}", service.name(), method.name()));
                    }
                }
            }
        }
        methods.insert("grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
        let rows: BTreeSet<_> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(rows.len(), TABLE.len(), "a row stands twice");
        assert_eq!(rows, methods, "give every call its row in TABLE");
        assert_eq!(right("vitrail.v1.Admin/Nothing"), None);
    }
}
