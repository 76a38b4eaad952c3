//! The first start of a member: finds out which group it belongs to before it may take part in any. What is to be done is decided
//! in the core; here the others are asked, and the outcome is brought to disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::info;
use vt_coordinator_core::{
    format,
    joining::{Answer, Decision, Group, Introduction, decide},
    state::State,
};
use vt_proto::{
    topology::Coordinator,
    wire::{
        self, DiscoverRequest, DiscoverResponse, JoinRequest,
        raft_transport_client::RaftTransportClient,
    },
};

use crate::{config::Config, dial::Dialer};

pub use vt_coordinator_core::joining::is_of;

/// The log index of the state that a group begins with.
pub const FIRST_INDEX: u64 = 1;
/// How long a member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two rounds of questions: the others may just be starting.
const PAUSE: Duration = Duration::from_millis(200);

/// The group of this member, as it was found.
#[derive(Debug)]
pub struct Found {
    pub cluster_id: String,
    /// What it begins with; None: a leader brings it.
    pub first: Option<State>,
    /// Where the members are.
    pub contacts: BTreeMap<u64, String>,
}

/// Who this member is.
pub fn introduction(config: &Config, directory_id: &str) -> Introduction {
    Introduction {
        cluster: config.cluster.clone(),
        member_id: config.member_id,
        directory_id: directory_id.to_owned(),
        members: config.members.clone(),
    }
}

/// Asks until it is clear to which group this member belongs. Says in the log what it waits for.
pub async fn find(me: &Introduction, dialer: &Dialer) -> anyhow::Result<Found> {
    let mut told = String::new();
    loop {
        let (answers, leaders) = ask_all(me, dialer).await;
        let why = match decide(me, format::NEWEST, &answers) {
            Decision::Begin {
                cluster_id,
                coordinators,
            } => {
                info!(cluster_id, "a new group begins");
                return Ok(Found {
                    first: Some(State::first(cluster_id.clone(), FIRST_INDEX, coordinators)),
                    cluster_id,
                    contacts: me.members.clone(),
                });
            }
            Decision::Follow { cluster_id } => {
                return Ok(follow(me, cluster_id, &answers));
            }
            Decision::Join { cluster_id } => match join(me, &cluster_id, &leaders, dialer).await {
                Ok(()) => return Ok(follow(me, cluster_id, &answers)),
                Err(why) => why,
            },
            Decision::Wait(why) => why,
            Decision::Refuse(why) => bail!(why),
        };
        if why != told {
            info!(why, "waiting for the group");
            told = why;
        }
        sleep(PAUSE).await;
    }
}

fn follow(me: &Introduction, cluster_id: String, answers: &BTreeMap<u64, Option<Answer>>) -> Found {
    info!(cluster_id, "this member joins its group");
    let mut contacts = me.members.clone();
    let groups = answers.values().flatten().filter_map(|a| a.group.as_ref());
    for coordinator in groups.flat_map(|group| &group.coordinators) {
        contacts.insert(coordinator.id, coordinator.address.clone());
    }
    Found {
        cluster_id,
        first: None,
        contacts,
    }
}

/// What every other member of the configuration says, and where leaders are said to be.
async fn ask_all(
    me: &Introduction,
    dialer: &Dialer,
) -> (BTreeMap<u64, Option<Answer>>, BTreeSet<String>) {
    let mut answers = BTreeMap::new();
    let mut leaders = BTreeSet::new();
    let others = me.members.iter().filter(|(id, _)| **id != me.member_id);
    for (id, address) in others {
        let asked = timeout(ANSWER_TIMEOUT, ask(address, dialer)).await;
        let answer = asked.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        let answer = answer.inspect_err(|error| {
            tracing::debug!(member = id, address, "not answered: {error:#}");
        });
        answers.insert(
            *id,
            answer.ok().map(|(answer, leader)| {
                leaders.extend(leader);
                answer
            }),
        );
    }
    (answers, leaders)
}

async fn ask(address: &str, dialer: &Dialer) -> anyhow::Result<(Answer, Option<String>)> {
    let channel = dialer.dial(address).await?;
    let mut client = RaftTransportClient::new(channel);
    let response = client.discover(DiscoverRequest {}).await?.into_inner();
    let leader = Some(response.leader_address.clone()).filter(|l| !l.is_empty());
    Ok((answer_from_wire(response)?, leader))
}

async fn join(
    me: &Introduction,
    cluster_id: &str,
    leaders: &BTreeSet<String>,
    dialer: &Dialer,
) -> Result<(), String> {
    let request = JoinRequest {
        cluster_id: cluster_id.to_owned(),
        member_id: me.member_id,
        directory_id: me.directory_id.clone(),
        formats: format::NEWEST,
    };
    let mut why = format!("{cluster_id} has no leader now");
    for leader in leaders {
        let asked = async {
            let channel = dialer
                .dial(leader)
                .await
                .map_err(|error| error.to_string())?;
            let mut client = RaftTransportClient::new(channel);
            let joined = client.join(request.clone()).await;
            joined.map_err(|status: Status| status.message().to_owned())
        };
        match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => why = format!("the leader at {leader} does not let it join: {error}"),
            Err(_) => why = format!("the leader at {leader} does not answer in time"),
        }
    }
    Err(why)
}

/// What this member answers to those who ask who it is.
pub fn answer_to_wire(
    me: &Introduction,
    group: Option<Group>,
    leader_address: Option<String>,
) -> DiscoverResponse {
    let from = wire::Introduction {
        cluster: me.cluster.clone(),
        member_id: me.member_id,
        directory_id: me.directory_id.clone(),
        members: me.members.clone().into_iter().collect(),
    };
    let mut response = DiscoverResponse {
        from: Some(from),
        leader_address: leader_address.unwrap_or_default(),
        ..DiscoverResponse::default()
    };
    if let Some(group) = group {
        response.cluster_id = group.cluster_id;
        response.next_coordinator = group.next_coordinator;
        let coordinators = group.coordinators.into_iter();
        response.coordinators = coordinators.map(Into::into).collect();
    }
    response
}

fn answer_from_wire(response: DiscoverResponse) -> anyhow::Result<Answer> {
    let from = response.from.context("it does not introduce itself")?;
    let group = if response.cluster_id.is_empty() {
        None
    } else {
        let coordinators = response.coordinators.into_iter();
        let coordinators = coordinators.map(Coordinator::try_from);
        Some(Group {
            cluster_id: response.cluster_id,
            coordinators: coordinators.collect::<Result<_, _>>()?,
            next_coordinator: response.next_coordinator,
        })
    };
    Ok(Answer {
        from: Introduction {
            cluster: from.cluster,
            member_id: from.member_id,
            directory_id: from.directory_id,
            members: from.members.into_iter().collect(),
        },
        group,
    })
}
