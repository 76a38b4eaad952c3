//! What an agent does when it registers its tablet: one report, and again until it is answered.

use std::time::Duration;

use anyhow::bail;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use vt_proto::wire::{self, agent_uplink_client::AgentUplinkClient};

/// An agent reports again when it was not answered: its registration may have lost against a neighbour's.
const REPORT_AGAIN: Duration = Duration::from_millis(300);
const REPORTS_MAX: usize = 100;
/// Tablets of one replica set.
pub const TABLETS_PER_SET: usize = 3;

/// The replica set of the tablet with this number.
pub fn replica_set(number: usize) -> String {
    format!("rs-{}", number / TABLETS_PER_SET)
}

/// Registers the tablet with this number; then its agent is gone.
pub async fn register(channel: Channel, number: usize) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(1);
    sender.send(first_report(number)).await?;
    let mut uplink = AgentUplinkClient::new(channel);
    let answers = uplink.attach(ReceiverStream::new(receiver)).await?;
    let mut answers = answers.into_inner();
    for _ in 0..REPORTS_MAX {
        // A desired state is sent to tablets that have a record.
        match timeout(REPORT_AGAIN, answers.message()).await {
            Ok(Ok(Some(_))) => return Ok(()),
            Ok(Ok(None)) => bail!("the stream has ended"),
            Ok(Err(status)) => return Err(status.into()),
            Err(_) => sender.send(first_report(number)).await?,
        }
    }
    bail!("no answer to {REPORTS_MAX} reports")
}

/// What the agent of the tablet with this number reports first.
pub fn first_report(number: usize) -> wire::AgentMessage {
    let port = 3306;
    let endpoint = |port| wire::Endpoint {
        host: format!("db{number}.example.net"),
        port,
    };
    let tablet = wire::Tablet {
        alias: format!("zone{}-{}", number % TABLETS_PER_SET + 1, number + 1),
        kind: wire::TabletKind::Replica.into(),
        replica_set: replica_set(number),
        mysql: Some(endpoint(port)),
        router: Some(endpoint(port + 1)),
    };
    let running = wire::mysqld_state::State::Running(wire::Running {});
    let report = wire::Report {
        tablet: Some(tablet),
        boot_id: "bench".to_owned(),
        mysqld: Some(wire::MysqldState {
            state: Some(running),
        }),
        incarnation: 1,
        ..wire::Report::default()
    };
    wire::AgentMessage {
        cluster_id: String::new(),
        report: Some(report),
        lost_answer: None,
    }
}
