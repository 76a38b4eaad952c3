//! What must be there before the first operation: a leader, a replica set, which comes from the first report of a tablet, and a
//! keyspace on it.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio_stream::{StreamExt, once, pending};
use tonic::{Code, Status};
use vt_proto::{
    epoch::{Epoch, Generation, Incarnation},
    report::{MysqldState, Report},
    topology::{Endpoint, Tablet, TabletKind},
    wire::{self, agent_uplink_client::AgentUplinkClient},
};

use super::{
    MEMBERS,
    register::{KEYSPACE, Register},
};

const REPLICA_SET: &str = "main";
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Asks one member after the other until there is a keyspace.
pub async fn prepare(agent: &Register, operator: &Register, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    for member in (0..MEMBERS).cycle() {
        let attempt = tokio::time::timeout(ATTEMPT, make_keyspace(agent, operator, member));
        match attempt.await {
            Ok(Ok(())) => return Ok(()),
            last if Instant::now() > deadline => bail!("no member makes a keyspace: {last:?}"),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
    Ok(())
}

async fn make_keyspace(agent: &Register, operator: &Register, member: usize) -> Result<(), Status> {
    let message = wire::AgentMessage {
        cluster_id: String::new(),
        report: Some(report().into()),
        lost_answer: None,
    };
    let mut uplink = AgentUplinkClient::new(agent.channel(member));
    // The stream stays open until there is an answer.
    let reports = once(message).chain(pending());
    let mut answers = uplink.attach(reports).await?.into_inner();
    if answers.message().await?.is_none() {
        return Err(Status::unavailable("the stream has ended"));
    }
    let request = wire::CreateKeyspaceRequest {
        name: KEYSPACE.to_owned(),
        replica_set: REPLICA_SET.to_owned(),
        // A refusal stands for its id, and this is asked until there is a replica set.
        request_id: String::new(),
    };
    match operator.admin(member).create_keyspace(request).await {
        Err(refused) if refused.code() != Code::AlreadyExists => Err(refused),
        _ => Ok(()),
    }
}

fn report() -> Report {
    Report {
        tablet: Tablet {
            alias: "zone1-100".parse().expect("an alias"),
            kind: TabletKind::Replica,
            replica_set: REPLICA_SET.parse().expect("a name"),
            mysql: Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 3306,
            },
            router: None,
        },
        boot_id: "boot".to_owned(),
        promised: Epoch::ZERO,
        generation: Generation::ZERO,
        mysqld: MysqldState::Starting,
        incarnation: Incarnation::ZERO,
        server_uuid: None,
        gtid: None,
        replication: None,
        super_read_only: None,
        semi_sync_source: None,
        semi_sync_replica: None,
        revoked: None,
        fenced: None,
        demoted: None,
        serving: None,
        amnesiac: false,
        schema_results: Vec::new(),
        blocked: None,
        disk_free_bytes: None,
        silent: None,
        confirmed: None,
        locked_out: None,
        prepared: None,
        write_probe: None,
        disk_probe: None,
        lost: Default::default(),
        stop_asked: false,
    }
}
